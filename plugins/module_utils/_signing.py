# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Signatures of a manifest: Ed25519 through the command openssl, or an HMAC with a shared secret.

A key is only ever a path. Its content stays in this process or in openssl; it is in no argument, log or result.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _names, _runner

PRIVATE = "Ed25519 private key"
PUBLIC = "Ed25519 public key"
SECRET = "HMAC secret"

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s+(.*?)-----END \1-----\s*\Z", re.DOTALL)
# DER of SubjectPublicKeyInfo and of PKCS#8 (version 1, and 2 with a public key behind) for Ed25519, RFC 8410.
_PUBLIC_DER = re.compile(rb"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00.{32}\Z", re.DOTALL)
_PRIVATE_DER = re.compile(rb"\x30.\x02\x01[\x00\x01]\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20.{32}", re.DOTALL)
_SHORTEST_SECRET = 32
_LARGEST = 65536
_ED25519_SIZE = 64
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Key:
    """A key file that was looked at: its path and what is in it, never the key."""

    path: str
    kind: str


def load(path: str, option: str) -> Key:
    """The key in a file. Raises StasisError for one that is no key, or that others than root could read or write."""
    _names.check_path(path, option)
    _names.check_owned(path, option)
    kind = _kind(_read(path, option), path, option)
    if kind != PUBLIC and os.lstat(path).st_mode & 0o077:
        raise _errors.StasisError(f"{option} {path} can be read by others than root.", f"Run chmod 600 {path}.")
    return Key(path, kind)


def _kind(content: bytes, path: str, option: str) -> str:
    if b"-----BEGIN" not in content:
        if len(content) < _SHORTEST_SECRET:
            raise _errors.StasisError(
                f"{option} {path} holds {len(content)} bytes, too few for a secret.",
                f"Make one of {_SHORTEST_SECRET} random bytes or more: openssl rand -out FILE {_SHORTEST_SECRET}.",
            )
        return SECRET
    found = _PEM.search(content)
    kind, der = found.group(1) if found else b"", b""
    if found:
        with contextlib.suppress(binascii.Error):
            der = base64.b64decode(b"".join(found.group(2).split()), validate=True)
    if kind == b"PUBLIC KEY" and _PUBLIC_DER.match(der):
        return PUBLIC
    if kind == b"PRIVATE KEY" and _PRIVATE_DER.match(der):
        return PRIVATE
    what = kind.decode() if kind in (b"ENCRYPTED PRIVATE KEY", b"OPENSSH PRIVATE KEY", b"RSA PRIVATE KEY") else ""
    raise _errors.StasisError(
        f"{option} {path} is no Ed25519 key in PEM{f', but: {what}' if what else ''}.",
        "Make one without a passphrase: openssl genpkey -algorithm ed25519 -out FILE; its public half: "
        "openssl pkey -in FILE -pubout.",
    )


def try_key(key: Key, runner: _runner.Runner) -> None:
    """Raise StasisError where a key cannot sign, before it is too late to find out."""
    # openssl does not sign what is empty.
    sign(b"stasis", key, runner)


def sign(data: bytes, key: Key, runner: _runner.Runner) -> bytes:
    """The signature of data. Raises StasisError where the key or openssl cannot make one."""
    if key.kind == SECRET:
        return _mac(data, key)
    if key.kind != PRIVATE:
        raise _errors.StasisError(
            f"sign_key {key.path} is an {key.kind}.", "Name the private key; the public one verifies."
        )
    with _memory(data) as text, _memory() as signature:
        done = _openssl(runner, "-sign", "-inkey", key.path, "-in", text.path, "-out", signature.path)
        made = signature.content()
    if done.rc != 0 or len(made) != _ED25519_SIZE:
        raise _errors.StasisError(
            f"openssl could not sign with {key.path}: {_reason(done)}",
            "OpenSSL 3.0 or newer signs with Ed25519; an HMAC secret needs none.",
        )
    return made


def problem(data: bytes, signature: bytes | None, key: Key, runner: _runner.Runner) -> str:
    """Why a signature does not show that the owner of the key has signed data; "" where it does.

    What kind of signature it has to be is the key's say, never the signature's.
    """
    if signature is None:
        return "It is not signed, and verify_key asks for a signature (manifest.sig)."
    wrong = f"Its signature manifest.sig was not made with {key.path}, or manifest.json was changed since."
    if key.kind == SECRET:
        return "" if hmac.compare_digest(_mac(data, key), signature) else wrong
    if len(signature) != _ED25519_SIZE:
        return wrong
    public = ("-pubin",) if key.kind == PUBLIC else ()
    with _memory(data) as text, _memory(signature) as given:
        argv = ("-verify", *public, "-inkey", key.path, "-in", text.path, "-sigfile", given.path)
        done = _openssl(runner, *argv)
    if done.rc == 0 and "Signature Verified Successfully" in done.stdout:
        return ""
    if "Signature Verification Failure" in done.stdout + done.stderr:
        return wrong
    raise _errors.StasisError(
        f"openssl could not verify with {key.path}: {_reason(done)}",
        "OpenSSL 3.0 or newer knows Ed25519; an HMAC secret needs none.",
    )


def _openssl(runner: _runner.Runner, *arguments: str) -> _runner.Completed:
    # An Ed25519 signature is over the bytes themselves (-rawin), not over a hash of them.
    return runner.run(["openssl", "pkeyutl", "-rawin", *arguments], timeout=_TIMEOUT)


def _reason(done: _runner.Completed) -> str:
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    return (lines[0] if lines else f"it ended with {done.rc}.")[:300]


def _mac(data: bytes, key: Key) -> bytes:
    return hmac.new(_read(key.path, "the key"), data, hashlib.sha256).digest()


def _read(path: str, option: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as exc:
        raise _errors.StasisError(f"{option} {path} cannot be read: {exc.strerror}.", "Correct the path.") from exc
    if len(content) > _LARGEST:
        raise _errors.StasisError(f"{option} {path} is too large for a key.", "Correct the path.")
    return content


class _Memory:
    """A file that is on no disk, and that a child of ours can open by its path: what is verified is what is parsed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.path = f"/proc/{os.getpid()}/fd/{descriptor}"

    def content(self) -> bytes:
        """What is in it, up to the size of a key."""
        return os.pread(self._descriptor, _LARGEST, 0)


@contextlib.contextmanager
def _memory(content: bytes = b"") -> t.Iterator[_Memory]:
    descriptor = os.memfd_create("stasis")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        yield _Memory(descriptor)
    finally:
        os.close(descriptor)

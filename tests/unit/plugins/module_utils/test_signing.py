# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import typing as t
from dataclasses import dataclass, field

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _signing
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._runner import Completed
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import StrictRunner

SEED = bytes(range(65, 97))
SECRET = b"s3cret-" * 5
SIGNATURE = bytes(range(64))
PUBLIC_DER = bytes.fromhex("302a300506032b6570032100") + SEED
PRIVATE_DER = bytes.fromhex("302e020100300506032b657004220420") + SEED
# The same with the public key behind, as RFC 8410 allows.
PRIVATE_2_DER = bytes.fromhex("3051020101300506032b657004220420") + SEED + bytes.fromhex("812100") + SEED
ED448_DER = bytes.fromhex("3047020100300506032b6571043b0439") + SEED + SEED[:25]


def pem(kind: str, der: bytes) -> bytes:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n".encode()


def key_file(directory: str, content: bytes, mode: int = 0o600) -> str:
    path = f"{directory}/key"
    with open(path, "wb") as stream:
        stream.write(content)
    os.chmod(path, mode)
    return path


@dataclass
class OpenSsl:
    """openssl's part: notes what it is called with and what is in the files it is given."""

    rc: int = 0
    stdout: str = ""
    stderr: str = ""
    signature: bytes = SIGNATURE
    argv: list[str] = field(default_factory=list)
    given: dict[str, bytes] = field(default_factory=dict)

    def run(self, argv: t.Sequence[str], *, timeout: float = 30.0, stdin: str = "") -> Completed:
        assert stdin == ""
        self.argv = list(argv)
        for option in ("-in", "-sigfile"):
            if option in argv:
                with open(argv[self.argv.index(option) + 1], "rb") as stream:
                    self.given[option] = stream.read()
        if "-out" in argv:
            with open(argv[self.argv.index("-out") + 1], "wb") as stream:
                stream.write(self.signature)
        return Completed(tuple(argv), self.rc, self.stdout, self.stderr, 0.0)


@pytest.mark.parametrize(
    ("content", "mode", "kind"),
    [
        (pem("PUBLIC KEY", PUBLIC_DER), 0o644, _signing.PUBLIC),
        (pem("PRIVATE KEY", PRIVATE_DER), 0o600, _signing.PRIVATE),
        (pem("PRIVATE KEY", PRIVATE_2_DER), 0o400, _signing.PRIVATE),
        (b"A comment\n" + pem("PUBLIC KEY", PUBLIC_DER), 0o644, _signing.PUBLIC),
        (b"x" * 32, 0o600, _signing.SECRET),
        (bytes(64), 0o400, _signing.SECRET),
    ],
)
def test_kind_of_a_key_comes_from_its_content(safe_dir: str, content: bytes, mode: int, kind: str) -> None:
    assert _signing.load(key_file(safe_dir, content, mode), "sign_key").kind == kind


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds 0 bytes, too few for a secret"),
        (b"x" * 31, "holds 31 bytes, too few"),
        (b"x" * 70000, "is too large for a key"),
        (pem("PRIVATE KEY", ED448_DER), "is no Ed25519 key in PEM"),
        (pem("PUBLIC KEY", PRIVATE_DER), "is no Ed25519 key in PEM"),
        (pem("PRIVATE KEY", PUBLIC_DER), "is no Ed25519 key in PEM"),
        (pem("ENCRYPTED PRIVATE KEY", PRIVATE_DER), "but: ENCRYPTED PRIVATE KEY"),
        (pem("OPENSSH PRIVATE KEY", PRIVATE_DER), "but: OPENSSH PRIVATE KEY"),
        (pem("PUBLIC KEY", PUBLIC_DER)[:-30], "is no Ed25519 key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n", "is no Ed25519 key in PEM"),
        (b"-----BEGIN PUBLIC KEY" + b"x" * 40, "is no Ed25519 key in PEM"),
    ],
)
def test_file_that_is_no_key_is_refused_without_showing_it(safe_dir: str, content: bytes, words: str) -> None:
    with pytest.raises(StasisError) as refusal:
        _signing.load(key_file(safe_dir, content), "sign_key")
    assert words in refusal.value.what
    assert refusal.value.remedy
    assert base64.b64encode(SEED).decode()[4:20] not in refusal.value.message
    assert SEED.decode() not in refusal.value.message


@pytest.mark.parametrize(
    ("content", "mode", "owner", "words"),
    [
        (SECRET, 0o640, 0, "can be read by others"),
        (SECRET, 0o604, 0, "can be read by others"),
        (pem("PRIVATE KEY", PRIVATE_DER), 0o644, 0, "can be read by others"),
        (pem("PUBLIC KEY", PUBLIC_DER), 0o664, 0, "could be changed by somebody other than root"),
        (pem("PUBLIC KEY", PUBLIC_DER), 0o644, 65534, "could be changed by somebody other than root"),
        (SECRET, 0o600, 65534, "could be changed by somebody other than root"),
    ],
)
def test_key_that_others_have_a_hand_in_is_refused(
    safe_dir: str, content: bytes, mode: int, owner: int, words: str
) -> None:
    path = key_file(safe_dir, content, mode)
    os.chown(path, owner, 0)
    with pytest.raises(StasisError, match=words):
        _signing.load(path, "verify_key")


def test_key_behind_a_link_or_missing_is_refused(safe_dir: str) -> None:
    os.symlink(key_file(safe_dir, SECRET), f"{safe_dir}/link")
    with pytest.raises(StasisError, match="is not a regular file"):
        _signing.load(f"{safe_dir}/link", "sign_key")
    with pytest.raises(StasisError, match="cannot be read"):
        _signing.load(f"{safe_dir}/none", "sign_key")


def test_secret_makes_an_hmac_without_openssl(safe_dir: str) -> None:
    key = _signing.load(key_file(safe_dir, SECRET), "sign_key")
    made = _signing.sign(b"data", key, StrictRunner())
    assert made == hmac.new(SECRET, b"data", hashlib.sha256).digest()
    assert _signing.problem(b"data", made, key, StrictRunner()) == ""
    assert "was not made with" in _signing.problem(b"Data", made, key, StrictRunner())
    assert "was not made with" in _signing.problem(b"data", made[:-1], key, StrictRunner())
    assert "was not made with" in _signing.problem(b"data", SIGNATURE, key, StrictRunner())
    assert "It is not signed" in _signing.problem(b"data", None, key, StrictRunner())


def test_private_key_signs_through_openssl_and_only_its_path_is_passed(safe_dir: str) -> None:
    key = _signing.load(key_file(safe_dir, pem("PRIVATE KEY", PRIVATE_DER)), "sign_key")
    openssl = OpenSsl()
    assert _signing.sign(b"the manifest\n", key, openssl) == SIGNATURE
    assert openssl.argv[:6] == ["openssl", "pkeyutl", "-rawin", "-sign", "-inkey", key.path]
    assert openssl.given == {"-in": b"the manifest\n"}
    assert not any(base64.b64encode(PRIVATE_DER).decode() in word for word in openssl.argv)


@pytest.mark.parametrize(
    "openssl",
    [
        OpenSsl(rc=1, stderr="pkeyutl: Option unknown option -rawin\nmore\n"),
        OpenSsl(signature=b""),
        OpenSsl(signature=b"x" * 63),
    ],
    ids=["openssl 1.1", "nothing", "too short"],
)
def test_signature_that_could_not_be_made_is_an_error(safe_dir: str, openssl: OpenSsl) -> None:
    key = _signing.load(key_file(safe_dir, pem("PRIVATE KEY", PRIVATE_DER)), "sign_key")
    with pytest.raises(StasisError, match="openssl could not sign") as failure:
        _signing.sign(b"data", key, openssl)
    assert "OpenSSL 3.0" in failure.value.remedy
    assert "\n" not in failure.value.message


def test_key_is_tried_with_something_that_openssl_signs(safe_dir: str) -> None:
    openssl = OpenSsl()
    _signing.try_key(_signing.load(key_file(safe_dir, pem("PRIVATE KEY", PRIVATE_DER)), "sign_key"), openssl)
    assert openssl.given["-in"]


def test_public_key_signs_nothing(safe_dir: str) -> None:
    key = _signing.load(key_file(safe_dir, pem("PUBLIC KEY", PUBLIC_DER), 0o644), "sign_key")
    with pytest.raises(StasisError, match="is an Ed25519 public key"):
        _signing.sign(b"data", key, StrictRunner())


@pytest.mark.parametrize(
    ("kind", "der", "public"), [("PUBLIC KEY", PUBLIC_DER, True), ("PRIVATE KEY", PRIVATE_DER, False)]
)
def test_either_half_verifies(safe_dir: str, kind: str, der: bytes, public: bool) -> None:
    key = _signing.load(key_file(safe_dir, pem(kind, der)), "verify_key")
    openssl = OpenSsl(stdout="Signature Verified Successfully\n")
    assert _signing.problem(b"data", SIGNATURE, key, openssl) == ""
    assert ("-pubin" in openssl.argv) is public
    assert openssl.given == {"-in": b"data", "-sigfile": SIGNATURE}


def test_wrong_signature_is_a_problem_and_a_broken_openssl_an_error(safe_dir: str) -> None:
    key = _signing.load(key_file(safe_dir, pem("PUBLIC KEY", PUBLIC_DER)), "verify_key")
    wrong = OpenSsl(rc=1, stdout="Signature Verification Failure\n")
    assert "was not made with" in _signing.problem(b"data", SIGNATURE, key, wrong)
    for said in (OpenSsl(rc=1, stderr="no such option\n"), OpenSsl(rc=0), OpenSsl(rc=1)):
        with pytest.raises(StasisError, match="openssl could not verify"):
            _signing.problem(b"data", SIGNATURE, key, said)


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65, hmac.new(PUBLIC_DER, b"data", "sha256").digest()])
def test_kind_of_signature_is_the_keys_say(safe_dir: str, signature: bytes) -> None:
    # A public key is known to everybody, so a mac with its bytes as the secret must never pass.
    content = pem("PUBLIC KEY", PUBLIC_DER)
    key = _signing.load(key_file(safe_dir, content), "verify_key")
    assert "was not made with" in _signing.problem(b"data", signature, key, StrictRunner())
    mac = hmac.new(content, b"data", "sha256").digest()
    assert "was not made with" in _signing.problem(b"data", mac, key, StrictRunner())

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint is accepted only from a host that signed it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Factory
from containers import run


@dataclass
class Keys:
    """Files of keys, each of root's alone."""

    private: str
    public: str
    other: str
    secret: str
    other_secret: str


@pytest.fixture(scope="module")
def keys(clean_host: Path) -> Keys:
    top = clean_host / "keys"
    top.mkdir(mode=0o700)
    for name in ("one", "two"):
        run("openssl", "genpkey", "-algorithm", "ed25519", "-out", f"{top}/{name}.pem")
        run("openssl", "pkey", "-in", f"{top}/{name}.pem", "-pubout", "-out", f"{top}/{name}.pub")
        (top / f"{name}.secret").write_bytes(os.urandom(40))
    for path in top.iterdir():
        path.chmod(0o600)
    return Keys(*(str(top / name) for name in ("one.pem", "one.pub", "two.pub", "one.secret", "two.secret")))


@pytest.mark.parametrize("kind", ["ed25519", "hmac"])
def test_signed_image_is_accepted_from_its_signer_only(lxc: Factory, keys: Keys, kind: str) -> None:
    sign, verify, other = (
        (keys.private, keys.public, keys.other) if kind == "ed25519" else (keys.secret, keys.secret, keys.other_secret)
    )
    checkpoint = lxc.start()
    answer = checkpoint.checkpointed(stop=True, sign_key=sign)
    shown = json.dumps(answer)
    for line in Path(keys.private).read_text().splitlines()[1:-1]:
        assert line not in shown
    signature = checkpoint.directory / "manifest.sig"
    whole = signature.read_bytes()
    assert signature.stat().st_mode & 0o777 == 0o600
    checkpoint.refused("restored", "untrusted", "was not made with", other, verify_key=other)
    cross = keys.secret if kind == "ed25519" else keys.public
    checkpoint.refused("restored", "untrusted", "was not made with", verify_key=cross)
    for changed in (whole[:-1], whole + b"\0", b"", bytes([whole[0] ^ 1]) + whole[1:]):
        signature.write_bytes(changed)
        checkpoint.refused("restored", "untrusted", "manifest.sig", verify_key=verify)
    signature.unlink()
    checkpoint.refused("restored", "untrusted", "not signed", verify_key=verify)
    signature.write_bytes(whole)
    signature.chmod(0o600)
    manifest = checkpoint.directory / "manifest.json"
    text = manifest.read_text()
    manifest.write_text("{ this would fail to parse")
    checkpoint.refused("restored", "untrusted", "was not made with", verify_key=verify)
    manifest.write_text(text)
    checkpoint.restored(verify_key=verify)
    checkpoint.container.assert_counts()


def test_signed_image_of_another_host_is_accepted_and_an_unsigned_one_only_where_allowed(
    lxc: Factory, keys: Keys
) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed(stop=True, sign_key=keys.private)
    # As on a host that has another key.
    (checkpoint.directory / "manifest.host").write_text("0" * 64 + "\n")
    checkpoint.refused("restored", "nothing proves that this host made it", "verify_key", "allow_unsigned: true")
    checkpoint.restored(verify_key=keys.public)
    checkpoint.container.assert_counts()
    checkpoint.checkpointed(stop=True)
    (checkpoint.directory / "manifest.host").unlink()
    checkpoint.refused("restored", "nothing proves that this host made it")
    checkpoint.restored(allow_unsigned=True)
    checkpoint.container.assert_counts()


def test_openssl_itself_verifies_the_signature(lxc: Factory, keys: Keys) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed(sign_key=keys.private)
    files = ("-in", f"{checkpoint.directory}/manifest.json", "-sigfile", f"{checkpoint.directory}/manifest.sig")
    assert (
        "Successfully" in run("openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", keys.public, *files).stdout
    )


def test_key_that_cannot_sign_is_refused_before_the_freeze(lxc: Factory, keys: Keys) -> None:
    checkpoint = lxc.start()
    bad = Path(keys.secret).with_name("short")
    bad.write_bytes(b"short")
    bad.chmod(0o600)
    open_key = Path(keys.secret).with_name("open")
    open_key.write_bytes(os.urandom(40))
    open_key.chmod(0o644)
    for key, words in (
        (str(bad), "too few"),
        (str(open_key), "read by others"),
        (keys.public, "public key"),
        ("/nowhere/key", "cannot be read"),
    ):
        checkpoint.refused("checkpointed", words, stop=True, sign_key=key)
    checkpoint.container.assert_counts()

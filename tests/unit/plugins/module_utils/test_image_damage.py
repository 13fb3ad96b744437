# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image that is not what was sealed is found out, with a reason."""

from __future__ import annotations

import json
import os
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _image, _manifest
from ansible_collections.stasis.lxc.tests.unit.support.images import published
from ansible_collections.stasis.lxc.tests.unit.support.make import draft, manifest, write


@pytest.fixture
def target(safe_dir: str) -> str:
    return f"{safe_dir}/checkpoints/web1"


def _tamper_other_size(path: str) -> None:
    write(f"{path}/pages-1.img", "m")


def _tamper_mode(path: str) -> None:
    os.chmod(f"{path}/pages-1.img", 0o666)


def _special_manifest(path: str) -> None:
    os.unlink(f"{path}/manifest.json")
    os.mkfifo(f"{path}/manifest.json")


TAMPERED: dict[str, tuple[t.Callable[[str], object], str]] = {
    "other size": (_tamper_other_size, "pages-1.img has 1 bytes, the manifest says 6."),
    "missing": (lambda path: os.unlink(f"{path}/pages-1.img"), "pages-1.img is missing."),
    "extra": (lambda path: write(f"{path}/extra.img", ""), "extra.img is not in the manifest."),
    "directory": (lambda path: os.mkdir(f"{path}/sub"), "sub is not in the manifest."),
    "writable": (_tamper_mode, "pages-1.img could have been changed by somebody other than root."),
    "owner": (lambda path: os.chown(f"{path}/pages-1.img", 7, 7), "pages-1.img could have been changed by somebody"),
    "symlink": (
        lambda path: (os.unlink(f"{path}/pages-1.img"), os.symlink("dump.log", f"{path}/pages-1.img")),
        "pages-1.img is not a regular file.",
    ),
    "symlinked record": (lambda path: os.symlink("dump.log", f"{path}/consumed"), "consumed is not a regular file."),
    "manifest is a fifo": (_special_manifest, "manifest.json is not a regular file that can be read"),
    "hard link": (lambda path: os.link(f"{path}/pages-1.img", f"{path}-other"), "pages-1.img has 2 names"),
    "parent": (lambda path: os.symlink("../x", f"{path}/parent"), "parent is not in the manifest."),
    "manifest cut": (lambda path: os.truncate(f"{path}/manifest.json", 10), "is not JSON"),
    "manifest empty": (lambda path: os.truncate(f"{path}/manifest.json", 0), "is not JSON"),
    "manifest of the future": (
        lambda path: write(f"{path}/manifest.json", _manifest.dump(manifest(format=2))),
        "has format '2'",
    ),
    "manifest with nonsense for a file": (
        lambda path: write(f"{path}/manifest.json", json.dumps(manifest(files={"pages-1.img": 3}))),
        "has no valid entry for pages-1.img",
    ),
}


@pytest.mark.parametrize("case", list(TAMPERED))
def test_image_that_was_tampered_with_is_damaged_with_a_reason(target: str, case: str) -> None:
    tamper, problem = TAMPERED[case]
    tamper(published(target))
    found = _image.look(target)
    assert found.state == _image.DAMAGED
    assert problem in found.problem
    assert _image.verify(found)


def test_other_content_of_the_same_size_is_found_by_verify_only(target: str) -> None:
    published(target)
    write(f"{target}/pages-1.img", "MEMORY")
    found = _image.look(target)
    assert found.state == _image.SEALED
    assert _image.verify(found) == ["pages-1.img has another content than the manifest says."]


def test_image_that_is_not_sealed_verifies_as_such(target: str) -> None:
    assert _image.verify(_image.look(_image.stage(target, draft()))) == ["It is not sealed."]


def test_fifo_for_a_manifest_is_damage_and_nobody_waits_for_its_writer(target: str) -> None:
    os.makedirs(target, 0o700)
    os.mkfifo(f"{target}/manifest.json")
    assert _image.look(target).state == _image.DAMAGED


@pytest.mark.parametrize("text", ["{", "", '{"format": 2}'])
def test_manifest_is_not_even_parsed_before_its_signature_is_right(target: str, text: str) -> None:
    write(f"{published(target)}/manifest.json", text)
    found = _image.look(target, lambda _data, signature: "It is not signed." if signature is None else "")
    assert found == _image.Image(target, _image.UNTRUSTED, problem="It is not signed.")
    assert not found.belongs_to("web1", "/var/lib/lxc")


def test_level_none_takes_what_is_damaged(target: str) -> None:
    os.unlink(f"{published(target)}/pages-1.img")
    assert _image.look(target).state == _image.DAMAGED
    assert _image.look(target, level="none").state == _image.SEALED

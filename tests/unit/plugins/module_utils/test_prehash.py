# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _integrity, _prehash
from ansible_collections.stasis.lxc.plugins.module_utils._prehash import Prehash

LARGE = "pages-1.img"


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A large file that counts as old enough to be believed, a small one, and what is no file."""
    monkeypatch.setattr(_integrity, "SETTLED_NS", -10_000_000_000)
    monkeypatch.setattr(_integrity, "PIECE", 4096)
    (tmp_path / LARGE).write_bytes(os.urandom(10_000))
    (tmp_path / "inventory.img").write_text("small")
    os.symlink(LARGE, tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    return str(tmp_path)


def children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as stream:
        return [int(word) for word in stream.read().split()]


def test_large_files_have_the_hashes_that_the_manifest_has(image: str) -> None:
    ahead = Prehash(image)
    assert ahead.entries() == _integrity.hash_files(image, [LARGE])
    assert children() == []


def test_file_that_was_written_since_is_not_believed(image: str) -> None:
    ahead = Prehash(image)
    # The child has looked at it once the pipe has its answer.
    with open(ahead._pipe, "rb", closefd=False) as stream:
        answer = stream.read()
    reader, writer = os.pipe()
    os.write(writer, answer)
    os.close(writer)
    os.dup2(reader, ahead._pipe)
    os.close(reader)
    with open(f"{image}/{LARGE}", "r+b") as stream:
        stream.write(b"C")
    assert ahead.entries() == {}


def test_file_that_has_just_been_written_is_left_out(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_integrity, "SETTLED_NS", 50_000_000)
    os.utime(f"{image}/{LARGE}", (1, 1))
    assert Prehash(image).entries() == {}


def test_nobody_is_started_for_small_files_or_none(image: str, tmp_path: Path) -> None:
    os.unlink(f"{image}/{LARGE}")
    for directory in (image, str(tmp_path / "gone"), "relative", "", f"{image}/inventory.img"):
        ahead = Prehash(directory)
        assert children() == []
        assert ahead.entries() == {}
        ahead.close()


def test_what_nobody_asks_for_is_ended(image: str) -> None:
    ahead = Prehash(image)
    assert len(children()) == 1
    ahead.close()
    assert children() == []
    ahead.close()
    assert ahead.entries() == {}


def test_child_that_dies_leaves_the_work_to_who_asks(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: t.Any) -> t.NoReturn:
        raise OSError("no")

    monkeypatch.setattr(_integrity, "hash_files", fail)
    assert Prehash(image).entries() == {}


@pytest.mark.parametrize(
    ("params", "begins"),
    [
        ({"state": "restored", "verify": None}, True),
        ({"state": "restored", "verify": "full"}, True),
        ({"state": "restored", "verify": "size"}, False),
        ({"state": "checkpointed", "verify": None}, False),
        ({"state": "absent", "verify": None}, False),
    ],
)
def test_it_begins_where_the_task_will_hash(image: str, params: dict[str, t.Any], begins: bool) -> None:
    ahead = _prehash.begin({**params, "directory": image})
    assert bool(children()) is begins
    ahead.close()


def test_verification_hashes_itself_what_was_not_hashed_before(image: str) -> None:
    listed = _integrity.hash_files(image, [LARGE, "inventory.img"])
    wrong = {**listed[LARGE], "sha256_pieces": "0" * 64}
    assert _integrity._content_faults(image, listed, {}) == []
    assert _integrity._content_faults(image, listed, {LARGE: wrong}) == [
        f"{LARGE} has another content than the manifest says."
    ]

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _ahead, _image, _integrity
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import draft, manifest, write

NAMES = ["inventory.img", "pages-1.img"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two files that count as old enough to be believed."""
    monkeypatch.setattr(_integrity, "SETTLED_NS", -10_000_000_000)
    for name in NAMES:
        (tmp_path / name).write_text(f"content of {name}")
    return str(tmp_path)


def test_hashes_are_those_that_the_manifest_would_have(files: str) -> None:
    assert _ahead.Ahead(files).entries() == _integrity.hash_files(files, NAMES)


def test_file_that_was_written_since_is_not_believed(files: str) -> None:
    ahead = _ahead.Ahead(files)
    ahead.entries()
    with open(f"{files}/pages-1.img", "r+", encoding="utf-8") as stream:
        stream.write("C")
    assert list(ahead.entries()) == ["inventory.img"]


def test_file_that_was_replaced_by_one_of_the_same_size_and_time_is_not_believed(files: str) -> None:
    ahead = _ahead.Ahead(files)
    ahead.entries()
    status = os.stat(f"{files}/pages-1.img")
    write(f"{files}/new", "another of pages-1.img!"[: status.st_size])
    os.utime(f"{files}/new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(f"{files}/new", f"{files}/pages-1.img")
    assert list(ahead.entries()) == ["inventory.img"]


def test_file_that_is_gone_is_left_out(files: str) -> None:
    ahead = _ahead.Ahead(files)
    ahead.entries()
    os.unlink(f"{files}/pages-1.img")
    assert list(ahead.entries()) == ["inventory.img"]


def test_file_that_has_just_been_written_could_change_unseen_and_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "pages-1.img").write_text("x")
    os.utime(tmp_path / "pages-1.img", (1, 1))
    assert _ahead.Ahead(str(tmp_path)).entries() == {}


def test_links_and_directories_are_nobodys_hashes(files: str) -> None:
    os.symlink("pages-1.img", f"{files}/link")
    os.mkdir(f"{files}/directory")
    os.mkfifo(f"{files}/fifo")
    assert sorted(_ahead.Ahead(files).entries()) == NAMES


def test_it_begins_when_what_it_waits_for_is_there(files: str) -> None:
    sign = f"{files}/ready"
    ahead = _ahead.Ahead(files, lambda: os.path.exists(sign))
    assert not ahead._hashed
    write(sign, "")
    deadline = time.monotonic() + 10
    while not ahead._hashed and time.monotonic() < deadline:
        time.sleep(0.005)
    assert set(NAMES) <= set(ahead._hashed)


def test_who_asks_for_the_hashes_does_not_wait_for_ever(files: str) -> None:
    assert sorted(_ahead.Ahead(files, lambda: False).entries()) == NAMES


def test_nothing_is_hashed_for_nobody(files: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise AssertionError("hashed for nobody")

    monkeypatch.setattr(_integrity, "hash_files", fail)
    ahead = _ahead.Ahead(files, lambda: False)
    ahead.cancel()
    assert ahead.entries() == {}


@pytest.mark.parametrize("missing", [OSError(5, "Input/output error"), None])
def test_failure_leaves_everything_to_whoever_needs_the_hashes(
    files: str, monkeypatch: pytest.MonkeyPatch, missing: OSError | None
) -> None:
    def fail(*_arguments: object) -> None:
        raise missing or StasisError("No regular file.", "")

    monkeypatch.setattr(_integrity, "hash_files", fail)
    assert _ahead.Ahead(files).entries() == {}


def test_directory_that_is_gone_is_no_failure_either(tmp_path: Path) -> None:
    assert _ahead.Ahead(str(tmp_path / "gone")).entries() == {}


def test_seal_hashes_only_what_is_not_known(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_integrity, "SETTLED_NS", -10_000_000_000)
    target = f"{safe_dir}/checkpoint"
    staging = _image.stage(target, draft())
    for name in NAMES:
        write(f"{staging}/{name}", name)
        os.chmod(f"{staging}/{name}", 0o600)
    write(f"{staging}/committed", "committed B 1\n")
    ahead = _ahead.Ahead(staging)
    ahead.entries()
    write(f"{staging}/inventory.img", "another")
    asked: list[list[str]] = []
    hash_files = _integrity.hash_files

    def watched(directory: str, names: list[str]) -> dict[str, _integrity.Entry]:
        asked.append(list(names))
        return hash_files(directory, names)

    monkeypatch.setattr(_integrity, "hash_files", watched)
    _image.seal(staging, manifest(), ahead=ahead)
    assert asked == [["inventory.img"]]
    _image.publish(target)
    assert _image.verify(_image.look(target)) == []

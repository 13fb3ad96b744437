# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _files
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import tree, write

pytestmark = pytest.mark.interpreter


def mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_durable_file_is_private_and_whole(safe_dir: str) -> None:
    old = os.umask(0)
    try:
        _files.write_durably(f"{safe_dir}/a", "ä\n")
    finally:
        os.umask(old)
    assert tree(safe_dir) == {"a": "100600 ä\n"}


def test_durable_file_replaces_a_longer_one(safe_dir: str) -> None:
    _files.write_durably(write(f"{safe_dir}/a", "long text"), "x")
    assert tree(safe_dir) == {"a": "100600 x"}


def test_durable_file_does_not_go_through_a_symlink(safe_dir: str) -> None:
    os.symlink(write(f"{safe_dir}/victim", "mine"), f"{safe_dir}/a")
    with pytest.raises(OSError):
        _files.write_durably(f"{safe_dir}/a", "x")
    assert tree(safe_dir)["victim"] == "100600 mine"


def test_replaced_file_is_a_new_one_with_owner_and_mode_of_the_old(safe_dir: str) -> None:
    path = write(f"{safe_dir}/a", "old", 0o644)
    os.chown(path, 7, 8)
    before = os.stat(path)
    _files.replace_file(path, "new")
    after = os.stat(path)
    assert tree(safe_dir) == {"a": "100644 new"}
    assert (after.st_uid, after.st_gid) == (7, 8)
    assert after.st_ino != before.st_ino


def test_failed_replacement_leaves_the_old_file_and_nothing_else(
    safe_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(f"{safe_dir}/a", "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        _files.replace_file(path, "new")
    assert tree(safe_dir) == {"a": "100600 old"}


def test_exchange_swaps_two_directories_that_are_not_empty(safe_dir: str) -> None:
    write(f"{safe_dir}/a/x", "1")
    write(f"{safe_dir}/b/y", "2")
    _files.exchange(f"{safe_dir}/a", f"{safe_dir}/b")
    assert sorted(tree(safe_dir)) == ["a", "a/y", "b", "b/x"]


def test_exchange_with_nothing_fails_and_says_with_what(safe_dir: str) -> None:
    write(f"{safe_dir}/a/x", "1")
    with pytest.raises(FileNotFoundError) as failure:
        _files.exchange(f"{safe_dir}/a", f"{safe_dir}/b")
    assert failure.value.filename == f"{safe_dir}/a"
    assert sorted(tree(safe_dir)) == ["a", "a/x"]


def test_directories_are_made_private_and_those_that_exist_left_alone(safe_dir: str) -> None:
    os.mkdir(f"{safe_dir}/a")
    os.chmod(f"{safe_dir}/a", 0o755)
    old = os.umask(0)
    try:
        _files.make_directories(f"{safe_dir}/a/b/c/d")
        _files.make_directories(f"{safe_dir}/a/b/c/d")
    finally:
        os.umask(old)
    assert [mode(f"{safe_dir}/{path}") for path in ("a", "a/b", "a/b/c", "a/b/c/d")] == [0o755, 0o700, 0o700, 0o700]


@pytest.mark.parametrize("path", ["file/below", "x" * 300, "new/" + "x" * 300])
def test_directory_that_cannot_be_made_is_a_clear_failure(safe_dir: str, path: str) -> None:
    write(f"{safe_dir}/file", "")
    with pytest.raises(StasisError, match="cannot be created: "):
        _files.make_directories(f"{safe_dir}/{path}")


def test_mount_points_are_those_of_the_kernel() -> None:
    found = _files.mount_points()
    assert {"/", "/proc"} <= found
    assert all(point.startswith("/") for point in found)


def test_tree_is_removed_with_its_symlinks_but_not_what_they_point_to(safe_dir: str) -> None:
    write(f"{safe_dir}/other/file", "mine")
    write(f"{safe_dir}/a/b/c", "x")
    os.symlink(f"{safe_dir}/other", f"{safe_dir}/a/link")
    _files.remove_tree(f"{safe_dir}/a")
    assert sorted(tree(safe_dir)) == ["other", "other/file"]


def test_tree_that_is_not_there_is_removed_already(safe_dir: str) -> None:
    _files.remove_tree(f"{safe_dir}/none")


@pytest.mark.parametrize("point", ["a", "a/b", "a/b/file"])
def test_tree_with_a_mount_in_it_is_refused_before_anything_is_removed(
    safe_dir: str, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    write(f"{safe_dir}/a/b/file", "x")
    write(f"{safe_dir}/a/first", "x")
    before = tree(safe_dir)
    # As a bind mount from the same file system, which has no other device number.
    monkeypatch.setattr(_files, "mount_points", lambda: {"/", "/proc", f"{safe_dir}/{point}"})
    with pytest.raises(StasisError, match=f"Something is mounted at {safe_dir}/{point}"):
        _files.remove_tree(f"{safe_dir}/a")
    assert tree(safe_dir) == before


def test_mount_beside_a_tree_does_not_matter(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"{safe_dir}/a/file", "x")
    monkeypatch.setattr(_files, "mount_points", lambda: {"/", safe_dir, f"{safe_dir}/ab"})
    _files.remove_tree(f"{safe_dir}/a")
    assert tree(safe_dir) == {}


def test_tree_that_cannot_be_removed_is_a_clear_failure(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"{safe_dir}/a/file", "x")

    def readonly(_path: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(_files.shutil, "rmtree", readonly)
    with pytest.raises(StasisError, match="could not be removed: Read-only file system") as failure:
        _files.remove_tree(f"{safe_dir}/a")
    assert failure.value.remedy == "Free space or remount the file system."

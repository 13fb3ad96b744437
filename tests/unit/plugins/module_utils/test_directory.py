# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _directory, _files
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import write


def refused(path: str, words: str) -> None:
    with pytest.raises(StasisError, match=words) as refusal:
        _directory.check(path)
    assert path in refusal.value.what
    assert refusal.value.remedy
    assert "\n" not in refusal.value.message


def test_absent_directory_is_taken_and_not_made(safe_dir: str) -> None:
    _directory.check(f"{safe_dir}/not/there/yet")
    assert os.listdir(safe_dir) == []


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_directory_of_root_is_taken(safe_dir: str, mode: int) -> None:
    os.mkdir(f"{safe_dir}/web1")
    os.chmod(f"{safe_dir}/web1", mode)
    _directory.check(f"{safe_dir}/web1")


def test_file_is_refused(safe_dir: str) -> None:
    refused(write(f"{safe_dir}/web1", ""), "is not a directory")


def test_symlink_is_refused_with_what_it_points_to(safe_dir: str) -> None:
    os.mkdir(f"{safe_dir}/real")
    os.symlink("real", f"{safe_dir}/web1")
    with pytest.raises(StasisError, match="is a symbolic link") as refusal:
        _directory.check(f"{safe_dir}/web1")
    assert refusal.value.remedy == f"Name what it points to: {safe_dir}/real."


def test_dangling_symlink_is_refused(safe_dir: str) -> None:
    os.symlink("nowhere", f"{safe_dir}/web1")
    refused(f"{safe_dir}/web1", "is a symbolic link")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707, 0o1777])
def test_directory_that_others_can_write_is_refused(safe_dir: str, mode: int) -> None:
    os.mkdir(f"{safe_dir}/web1")
    os.chmod(f"{safe_dir}/web1", mode)
    refused(f"{safe_dir}/web1", "can be written by others than root")


def test_directory_of_somebody_else_is_refused(safe_dir: str) -> None:
    os.mkdir(f"{safe_dir}/web1")
    os.chown(f"{safe_dir}/web1", 65534, -1)
    refused(f"{safe_dir}/web1", "belongs to uid 65534")


def test_directory_below_an_open_parent_is_refused(safe_dir: str) -> None:
    os.makedirs(f"{safe_dir}/open/web1")
    os.chmod(f"{safe_dir}/open", 0o777)
    refused(f"{safe_dir}/open/web1", "could be changed by somebody other than root")


def test_directory_below_tmp_is_refused() -> None:
    refused("/tmp/stasis-unit-web1", "/tmp, above directory")


def test_directory_below_a_file_is_refused(safe_dir: str) -> None:
    write(f"{safe_dir}/file", "")
    refused(f"{safe_dir}/file/web1", "is not a directory")


@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev"])
def test_mount_point_is_refused(path: str) -> None:
    refused(path, "is a mount point")


def test_bind_mount_on_the_same_file_system_is_a_mount_point(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(f"{safe_dir}/web1")
    monkeypatch.setattr(_files, "mount_points", lambda: {"/", f"{safe_dir}/web1"})
    assert not os.path.ismount(f"{safe_dir}/web1")
    refused(f"{safe_dir}/web1", "is a mount point")


def test_name_that_leaves_no_room_for_the_staging_directory_is_refused(safe_dir: str) -> None:
    _directory.check(f"{safe_dir}/{'x' * 200}")
    for length in (240, 255, 300):
        refused(f"{safe_dir}/{'x' * length}", "has too long a name")

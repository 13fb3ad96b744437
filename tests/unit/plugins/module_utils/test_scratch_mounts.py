# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _scratch_mounts
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import write

pytestmark = pytest.mark.interpreter

MOUNT = "90 80 0:61 / {} rw,nosuid - tmpfs none rw\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A container whose root is a directory of ours, as /proc/PID/root is a link to one."""
    (tmp_path / "rootfs" / "tmp").mkdir(parents=True)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "root").symlink_to(tmp_path / "rootfs")
    write(f"{tmp_path}/7/mountinfo", MOUNT.format("/dev"))
    return tmp_path


def found(proc: Path) -> list[str]:
    return _scratch_mounts.find(7, str(proc))


def test_a_directory_of_criu_is_found_in_both_places(proc: Path) -> None:
    (proc / "rootfs" / "tmp" / "cr-tmpfs.aB3dE6").mkdir()
    (proc / "rootfs" / "cr-tmpfs.000000").mkdir()
    assert found(proc) == ["/cr-tmpfs.000000", "/tmp/cr-tmpfs.aB3dE6"]


def test_a_mount_is_found_where_the_directory_is_hidden(proc: Path) -> None:
    write(f"{proc}/7/mountinfo", MOUNT.format("/dev") + MOUNT.format("/tmp/cr-tmpfs.aB3dE6"))
    assert found(proc) == ["/tmp/cr-tmpfs.aB3dE6"]


@pytest.mark.parametrize(
    "name", ["cr-tmpfs.abc", "cr-tmpfs.abcdefg", "my-cr-tmpfs.abcdef", "cr-tmpfs.abc/ef", "cr-tmpfs.ab-def"]
)
def test_another_name_is_not_criu_s(proc: Path, name: str) -> None:
    (proc / "rootfs" / "tmp" / name).mkdir(parents=True)
    write(f"{proc}/7/mountinfo", MOUNT.format(f"/tmp/{name}") + MOUNT.format("/srv/cr-tmpfs.abcdef"))
    assert found(proc) == []


def test_a_file_or_a_link_of_that_name_is_not_criu_s(proc: Path) -> None:
    write(f"{proc}/rootfs/tmp/cr-tmpfs.aaaaaa", "x")
    (proc / "rootfs" / "tmp" / "cr-tmpfs.bbbbbb").symlink_to(proc)
    assert found(proc) == []


def test_a_link_in_the_place_of_tmp_is_not_followed(proc: Path) -> None:
    (proc / "rootfs" / "tmp").rmdir()
    (proc / "outside" / "cr-tmpfs.aaaaaa").mkdir(parents=True)
    (proc / "rootfs" / "tmp").symlink_to(proc / "outside")
    assert found(proc) == []


def test_the_mounts_of_a_process_that_got_the_number_of_init_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cr-tmpfs.aaaaaa").mkdir()
    me = _container.process(os.getpid())
    assert me is not None
    with pytest.raises(StasisError, match="has ended"):
        _scratch_mounts.remove(me._replace(start=me.start - 1), f"{tmp_path}/cr-tmpfs.aaaaaa")
    assert (tmp_path / "cr-tmpfs.aaaaaa").exists()


def test_a_container_that_has_ended_has_none(tmp_path: Path) -> None:
    assert _scratch_mounts.find(7, str(tmp_path)) == []

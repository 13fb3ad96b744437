# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With real loop devices and file systems, where this host has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _block_device, _rootfs
from ansible_collections.stasis.lxc.plugins.module_utils._rootfs import Fingerprint

MKFS = {
    "ext2": ["mkfs.ext2", "-q"],
    "ext4": ["mkfs.ext4", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
SIZE = 128 << 20


def run(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout.strip()


class Disk:
    """A file system in a file, and in the loop device that it is attached to."""

    def __init__(self, top: str, kind: str) -> None:
        self.file = f"{top}/disk"
        self.mount_point = f"{top}/mnt"
        os.mkdir(self.mount_point)
        with open(self.file, "wb") as stream:
            stream.truncate(SIZE)
        run(*MKFS[kind], self.file)
        self.device = ""

    def attach(self, *options: str) -> None:
        self.device = run("losetup", "-f", "--show", *options, self.file)

    def mount(self, *options: str) -> None:
        run("mount", *options, self.device or self.file, self.mount_point)

    def unmount(self) -> None:
        run("umount", self.mount_point)

    def close(self) -> None:
        if os.path.ismount(self.mount_point):
            self.unmount()
        if self.device:
            run("losetup", "-d", self.device)


@pytest.fixture
def make(safe_dir: str) -> t.Iterator[t.Callable[[str], Disk]]:
    disks: list[Disk] = []

    def one(kind: str) -> Disk:
        if shutil.which(MKFS[kind][0]) is None:
            pytest.skip(f"no {MKFS[kind][0]}")
        if not os.path.exists("/dev/loop-control"):
            pytest.skip("no loop devices")
        disks.append(Disk(safe_dir, kind))
        return disks[-1]

    yield one
    for disk in disks:
        disk.close()


def taken(spec: str, settle: float = 5.0) -> Fingerprint:
    found = _rootfs.fingerprint(_rootfs.locate(spec), settle)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", list(MKFS))
def test_write_through_a_mount_of_a_block_device_shows(make: t.Callable[[str], Disk], kind: str) -> None:
    disk = make(kind)
    disk.attach()
    before = taken(f"lvm:{disk.device}")
    assert before.complete
    assert taken(f"lvm:{disk.device}") == before
    disk.mount()
    with open(f"{disk.mount_point}/file", "w", encoding="utf-8") as stream:
        stream.write("newer")
    disk.unmount()
    after = taken(f"lvm:{disk.device}")
    assert after.complete
    assert after.digest != before.digest


@pytest.mark.parametrize("kind", list(MKFS))
def test_reading_a_block_device_leaves_no_trace(make: t.Callable[[str], Disk], kind: str) -> None:
    disk = make(kind)
    disk.attach()
    before = taken(f"lvm:{disk.device}")
    disk.mount("-o", "ro")
    disk.unmount()
    assert taken(f"lvm:{disk.device}") == before


def test_last_write_of_ext4_is_told(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    disk.attach()
    found = taken(f"lvm:{disk.device}")
    assert abs(found.newest / 1e9 - time.time()) < 3600
    assert found.newest_path == disk.device


def test_mounted_block_device_proves_nothing(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    disk.attach()
    disk.mount()
    found = taken(f"lvm:{disk.device}", 0.0)
    assert (found.complete, found.incomplete_because) == (False, f"{disk.device} is mounted or in use")


def test_block_device_with_an_unknown_file_system_proves_nothing(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    run("dd", "if=/dev/zero", f"of={disk.file}", "bs=1M", "count=1", "conv=notrunc")
    disk.attach()
    found = taken(f"lvm:{disk.device}")
    assert not found.complete
    assert "only the superblocks of ext2, ext3, ext4 and btrfs" in found.incomplete_because


def test_identity_of_a_block_device_outlives_a_reboot(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    disk.attach()
    # /dev is made anew at each boot, with other inodes.
    assert _rootfs.locate(f"lvm:{disk.device}").identity() == {"backing": disk.device, "inode": 0}


def test_write_through_a_loop_device_shows_in_its_image_file(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    before = taken(f"loop:{disk.file}")
    assert before.complete
    disk.mount()
    with open(f"{disk.mount_point}/file", "w", encoding="utf-8") as stream:
        stream.write("newer")
    disk.unmount()
    after = taken(f"loop:{disk.file}")
    assert after.complete
    assert after.digest != before.digest


def test_image_file_that_is_still_attached_proves_nothing(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    disk.attach()
    found = taken(f"loop:{disk.file}", 0.0)
    assert (found.complete, found.incomplete_because) == (False, f"{disk.file} is still attached to {disk.device}")


def test_image_file_that_is_attached_read_only_is_no_obstacle(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    before = taken(f"loop:{disk.file}")
    disk.attach("-r")
    assert taken(f"loop:{disk.file}", 0.0) == before


def test_unmount_that_is_under_way_is_waited_for(make: t.Callable[[str], Disk]) -> None:
    disk = make("ext4")
    disk.attach()
    disk.mount()
    waiting = subprocess.Popen(["sh", "-c", f"sleep 0.5; exec umount {disk.mount_point}"])
    try:
        assert taken(f"lvm:{disk.device}", 60.0).complete
    finally:
        waiting.wait()


def test_truncated_device_is_an_unknown_file_system() -> None:
    with pytest.raises(_block_device.UnprovableError):
        _block_device.parse(b"\0" * 100)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds that differ in where their root file system is."""

from __future__ import annotations

import os
import shutil

from containers import remove_tree, run
from kind import Facts, Ground, Kind, Subject


class _Storage(Kind):
    """A root file system elsewhere than in a directory. Something is written to it between the generations."""

    file_system = ""
    looks = 0

    def facts(self, subject: Subject) -> Facts:
        kind = next(mount.split()[1] for mount in subject.mounts() if mount.startswith("/ "))
        assert kind == self.file_system, f"the root file system is {kind}, not {self.file_system}"
        with open(subject.root / "root/book", "a+", encoding="utf-8") as book:
            book.write("one line a look\n")
            book.seek(0)
            lines = len(book.readlines())
        # What was written before a dump is there after it, and is not a copy of older days.
        assert lines == self.looks + 1, f"it was looked at {self.looks + 1} times, and {lines} lines are there"
        self.looks = lines
        return super().facts(subject)


class Overlay(_Storage):
    title = "root file system: overlay of two directories"
    file_system = "overlay"

    def create(self, ground: Ground) -> Subject:
        subject = ground.subject()
        upper = subject.directory / "delta0"
        upper.mkdir()
        subject.set_config(f"lxc.rootfs.path = overlay:{subject.directory / 'rootfs'}:{upper}")
        return subject


class Loop(_Storage):
    title = "root file system: ext4 in a loop-mounted file"
    file_system = "ext4"

    def create(self, ground: Ground) -> Subject:
        ground.need("mkfs.ext4")
        subject = ground.subject()
        image = subject.directory / "rootdev"
        run("truncate", "-s", "64M", str(image))
        run("mkfs.ext4", "-q", "-d", str(subject.directory / "rootfs"), str(image))
        subject.set_config(f"lxc.rootfs.path = loop:{image}")
        return _emptied(subject)


class Btrfs(_Storage):
    title = "root file system: btrfs subvolume"
    file_system = "btrfs"

    def create(self, ground: Ground) -> Subject:
        ground.need("mkfs.btrfs", "btrfs")
        ground.need_module("btrfs", "/proc/filesystems btrfs")
        disk = ground.directory / "btrfs.img"
        run("truncate", "-s", "128M", str(disk))
        run("mkfs.btrfs", "-q", str(disk))
        ground.closing.callback(disk.unlink)
        ground.mount(ground.lxc_path, "-o", "loop", str(disk))
        subject = ground.subject()
        plain, volume = subject.directory / "rootfs", subject.directory / "volume"
        run("btrfs", "subvolume", "create", str(volume))
        run("cp", "-a", f"{plain}/.", str(volume))
        remove_tree(plain)
        volume.rename(plain)
        subject.set_config(f"lxc.rootfs.path = btrfs:{plain}")
        return subject


class Lvm(_Storage):
    title = "root file system: LVM volume"
    file_system = "ext4"

    def create(self, ground: Ground) -> Subject:
        ground.need_module("dm_mod", "/proc/misc device-mapper")
        ground.need("lvm", "losetup", "mkfs.ext4")
        group = f"stasis{os.getpid()}"
        disk = ground.directory / "lvm.img"
        run("truncate", "-s", "160M", str(disk))
        ground.closing.callback(disk.unlink)
        device = run("losetup", "-f", "--show", str(disk)).stdout.strip()
        ground.closing.callback(run, "losetup", "-d", device)
        run("lvm", "vgcreate", "-q", group, device)
        ground.closing.callback(run, "lvm", "vgremove", "-q", "-f", group)
        run("lvm", "lvcreate", "-q", "-y", "-L", "64M", "-n", "root", group)
        subject = ground.subject()
        volume = f"/dev/{group}/root"
        run("mkfs.ext4", "-q", "-d", str(subject.directory / "rootfs"), volume)
        subject.set_config(f"lxc.rootfs.path = lvm:{volume}")
        return _emptied(subject)


def _emptied(subject: Subject) -> Subject:
    """Without the directory, so that nobody looks at files which the container does not have."""
    shutil.rmtree(subject.directory / "rootfs")
    (subject.directory / "rootfs/tmp").mkdir(parents=True)
    return subject

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether a file system on a block device, or in a file behind a loop device, was written to.

Neither the times of a device node nor, while the file system is mounted, those of an image file show a write.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import time
import typing as t

# Superblocks, by the kernel's fs/ext4/ext4.h and include/uapi/linux/btrfs_tree.h. The kernel writes them at each mount
# that may write (ext4: s_mtime, s_mnt_count, s_wtime) or each transaction (btrfs: generation and checksum).
_EXT, _EXT_SIZE, _EXT_MAGIC = 1024, 1024, (0x38, b"\x53\xef")
_BTRFS, _BTRFS_SIZE, _BTRFS_MAGIC = 65536, 4096, (0x40, b"_BHRfS_M")
_EXT_WTIME, _EXT_WTIME_HIGH = 0x30, 0x274
# <linux/loop.h>: struct loop_info64 begins with the device and inode of the file behind, and has its flags at 52.
_LOOP_GET_STATUS64, _LOOP_INFO_SIZE, _LOOP_FLAGS, _LOOP_READ_ONLY = 0x4C05, 232, 52, 1
_LOOK_SECONDS = 0.05


class Superblock(t.NamedTuple):
    """The bytes that each write changes, and when the last write was, in ns since the epoch; -1 where that is not told."""

    content: bytes
    written: int


class UnprovableError(Exception):
    """Nothing shows whether it was written to; the text says why."""


def superblock(device: str, seconds: float) -> Superblock:
    """The superblock of the file system on a block device that nobody has mounted. Raises UnprovableError.

    seconds: how long to wait for an unmount that is under way.
    """
    descriptor = _claim(device, seconds)
    try:
        # btrfs does not write through the device's own cache, so read past that.
        with mmap.mmap(-1, _BTRFS + _BTRFS_SIZE) as buffer:
            length = os.preadv(descriptor, [buffer], 0)
            return parse(bytes(buffer[:length]))
    except OSError as exc:
        raise UnprovableError(f"{device} cannot be read: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


def parse(content: bytes) -> Superblock:
    """The superblock in the first 68 KiB of a device. Pure. Raises UnprovableError for an unknown file system."""
    btrfs = content[_BTRFS : _BTRFS + _BTRFS_SIZE]
    if btrfs[_BTRFS_MAGIC[0] :].startswith(_BTRFS_MAGIC[1]):
        return Superblock(btrfs, -1)
    ext = content[_EXT : _EXT + _EXT_SIZE]
    if ext[_EXT_MAGIC[0] :].startswith(_EXT_MAGIC[1]):
        seconds = struct.unpack_from("<I", ext, _EXT_WTIME)[0] | ext[_EXT_WTIME_HIGH] << 32
        # The kernel writes whole seconds.
        return Superblock(ext, seconds * 1_000_000_000)
    raise UnprovableError("only the superblocks of ext2, ext3, ext4 and btrfs tell of every write")


def _claim(device: str, seconds: float) -> int:
    """A descriptor of a block device; nobody can mount it until that is closed."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return os.open(device, os.O_RDONLY | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise UnprovableError(f"{device} cannot be read: {exc.strerror}") from exc
            if time.monotonic() > deadline:
                raise UnprovableError(f"{device} is mounted or in use") from exc
        time.sleep(_LOOK_SECONDS)


def wait_detached(path: str, status: os.stat_result, seconds: float) -> None:
    """Return when no loop device can write to a file. Raises UnprovableError where one still can after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        device = _attached(status)
        if not device:
            return
        if time.monotonic() > deadline:
            raise UnprovableError(f"{path} is still attached to {device}")
        time.sleep(_LOOK_SECONDS)


def _attached(status: os.stat_result) -> str:
    """The loop device that writes to a file, or ""."""
    for name in sorted(os.listdir("/sys/block")):
        # Without a file behind it, it has no such directory.
        if not os.path.isdir(f"/sys/block/{name}/loop"):
            continue
        try:
            descriptor = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            info = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO_SIZE))
        except OSError:
            continue
        finally:
            os.close(descriptor)
        flags = struct.unpack_from("=I", info, _LOOP_FLAGS)[0]
        if struct.unpack_from("=QQ", info) == (status.st_dev, status.st_ino) and not flags & _LOOP_READ_ONLY:
            return f"/dev/{name}"
    return ""

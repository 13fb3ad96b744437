# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What an inotify descriptor watches: by the file handles in its fdinfo, as CRIU looks for them."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
import typing as t
from dataclasses import dataclass

# open_by_handle_at(2), which Python has no function for.
_NUMBERS = {"x86_64": 304, "aarch64": 265, "riscv64": 265, "loongarch64": 265, "ppc64le": 352, "s390x": 336}
_WATCH = re.compile(
    r"^inotify wd:\S+ ino:([0-9a-f]+) sdev:([0-9a-f]+) .*?fhandle-bytes:([0-9a-f]+) fhandle-type:([0-9a-f]+) "
    r"f_handle:([0-9a-f]+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Watch:
    """One file that is watched. device: `MAJOR:MINOR` of its file system."""

    inode: int
    device: str
    kind: int
    handle: bytes


def watches(info: str) -> list[Watch]:
    """The watches in the fdinfo of an inotify descriptor."""
    found = []
    for inode, device, size, kind, handle in _WATCH.findall(info):
        number = int(device, 16)
        raw = bytes.fromhex(handle[: len(handle) // 2 * 2])[: int(size, 16)]
        # The kernel's own form here: 12 bits of major, 20 of minor.
        found.append(Watch(int(inode, 16), f"{number >> 20}:{number & 0xFFFFF}", int(kind, 16), raw))
    return found


@functools.cache
def _syscall() -> tuple[t.Callable[..., int], int] | None:
    number = _NUMBERS.get(os.uname().machine)
    if number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    return call, number


def path_of(watch: Watch, mount: str) -> str:
    """Where the kernel says that the watched file is, seen from the top of the file system's mount; "" where it cannot be opened.

    mount: a path on that mount. Nothing of the file is read or changed (O_PATH).
    """
    known = _syscall()
    if known is None:
        return ""
    call, number = known
    try:
        top = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        handle = len(watch.handle).to_bytes(4, sys.byteorder) + watch.kind.to_bytes(4, sys.byteorder) + watch.handle
        found = call(number, top, handle, os.O_PATH | os.O_CLOEXEC)
        if found < 0:
            return ""
        try:
            return os.readlink(f"/proc/self/fd/{found}")
        except OSError:
            return ""
        finally:
            os.close(found)
    finally:
        os.close(top)

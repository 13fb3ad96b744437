# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop a process where it opens a file, without changing it: fanotify's permission events.

The kernel asks us before the file is opened, and the process waits for the answer inside of its own open(). Nothing of
the code under test knows of it. While it waits it can be killed; any other signal comes when the answer does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import threading
import typing as t
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)

_CLASS_CONTENT = 0x04
_CLOEXEC = 0x01
_ADD = 0x01
_FILE_SYSTEM = 0x100
_OPEN_PERM = 0x10000
_ON_DIRECTORY = 0x40000000
_ALLOW = 1
_AT_FDCWD = -100
_EVENT = struct.Struct("IBBHQii")
_ANSWER = struct.Struct("iI")


@dataclass(frozen=True)
class Opening:
    """Somebody is about to open a file."""

    pid: int
    path: str

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


class Gate:
    """Holds the first opening that `which` says yes to, until it is let go; lets every other one pass.

    place: a mount point, of whose file system every file counts in every mount namespace, or one file.
    """

    def __init__(self, place: str, which: t.Callable[[Opening], bool]) -> None:
        self._which = which
        self._group = _check(
            _libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC, os.O_RDONLY | os.O_CLOEXEC | os.O_LARGEFILE),
            "fanotify_init",
        )
        flags, mask = (
            (_ADD | _FILE_SYSTEM, _OPEN_PERM | _ON_DIRECTORY)
            if os.path.ismount(place) and os.path.isdir(place)
            else (_ADD, _OPEN_PERM)
        )
        _check(
            _libc.fanotify_mark(
                self._group, ctypes.c_uint(flags), ctypes.c_uint64(mask), ctypes.c_int(_AT_FDCWD), os.fsencode(place)
            ),
            f"fanotify_mark {place}",
        )
        self.held = threading.Event()
        self.opening: Opening | None = None
        self._waiting = -1
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            ready, _writable, _other = select.select([self._group, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            data = os.read(self._group, 65536)
            while data:
                length, _version, _reserved, _metadata, _mask, descriptor, pid = _EVENT.unpack_from(data)
                data = data[length:]
                self._decide(descriptor, pid)

    def _decide(self, descriptor: int, pid: int) -> None:
        if not self.held.is_set():
            with contextlib.suppress(OSError):
                opening = Opening(pid, os.readlink(f"/proc/self/fd/{descriptor}"))
                if pid != os.getpid() and self._which(opening):
                    self.opening, self._waiting = opening, descriptor
                    self.held.set()
                    return
        self._allow(descriptor)

    def _allow(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            os.write(self._group, _ANSWER.pack(descriptor, _ALLOW))
        os.close(descriptor)

    def let_go(self) -> None:
        """The one that waits goes on."""
        with self._guard:
            if self._waiting >= 0:
                self._allow(self._waiting)
                self._waiting = -1

    def close(self) -> None:
        """Nothing is held any more, whatever comes."""
        self.let_go()
        os.write(self._wake_write, b"x")
        self._thread.join(5)
        for descriptor in (self._group, self._wake_read, self._wake_write):
            os.close(descriptor)


def _check(answer: int, what: str) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return answer

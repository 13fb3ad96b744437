# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""TCP sockets in repair mode: a CRIU that is killed while it holds tasks leaves theirs so, and they neither send nor
receive. Found and set free through duplicates of the tasks' own descriptors."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _pidfd

# From linux/tcp.h.
_TCP_REPAIR = 19
_OFF = 0

_SOCKET = re.compile(r"socket:\[(\d+)\]\Z")


class Repaired(t.NamedTuple):
    """A descriptor of a process that is a TCP socket in repair mode; inode: the socket's."""

    pid: int
    descriptor: int
    inode: int


def find(pids: t.Iterable[int], proc: str = "/proc") -> list[Repaired]:
    """Every socket in repair mode once, whoever of the processes holds it."""
    found: list[Repaired] = []
    seen: set[int] = set()
    for pid in pids:
        for descriptor, inode in _sockets(pid, proc):
            if inode in seen:
                continue
            seen.add(inode)
            with _duplicate(pid, descriptor) as ours:
                if ours is not None and _in_repair(ours):
                    found.append(Repaired(pid, descriptor, inode))
    return found


def release(one: Repaired) -> bool:
    """Switch its repair mode off, as CRIU does when it lets a task go; whether it is off."""
    with _duplicate(one.pid, one.descriptor) as ours:
        # Another process may have its pid by now, or another socket its number.
        if ours is None or os.fstat(ours.fileno()).st_ino != one.inode:
            return False
        with contextlib.suppress(OSError):
            ours.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _OFF)
        return not _in_repair(ours)


def _sockets(pid: int, proc: str) -> list[tuple[int, int]]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{proc}/{pid}/fd"):
            with contextlib.suppress(OSError):
                match = _SOCKET.match(os.readlink(f"{proc}/{pid}/fd/{name}"))
                if match:
                    found.append((int(name), int(match.group(1))))
    return sorted(found)


@contextlib.contextmanager
def _duplicate(pid: int, descriptor: int) -> t.Iterator[socket.socket | None]:
    """The process's socket as one of ours, or None where it cannot be had (the process is gone, or the kernel old)."""
    ours = None
    with contextlib.suppress(OSError), _pidfd.opened(pid) as handle:
        copied = _pidfd.copy(handle, descriptor)
        try:
            ours = socket.socket(fileno=copied)
        except OSError:
            os.close(copied)
    try:
        yield ours
    finally:
        if ours is not None:
            ours.close()


def _in_repair(ours: socket.socket) -> bool:
    if ours.family not in (socket.AF_INET, socket.AF_INET6) or ours.type & 0xF != socket.SOCK_STREAM:
        return False
    try:
        return ours.getsockopt(socket.IPPROTO_TCP, _TCP_REPAIR) != 0
    except OSError:
        return False

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""A handle of another process: its open files as descriptors of ours, and signals to it and to nobody else.

By the numbers of the system calls: os.pidfd_open is missing in a Python that was built with older kernel headers than the
kernel that it runs on, and pidfd_getfd is in none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import typing as t

# The same on every architecture: they came after the tables were unified (Linux 5.1, 5.3 and 5.6).
_PIDFD_SEND_SIGNAL = 424
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438


@contextlib.contextmanager
def opened(pid: int) -> t.Iterator[int]:
    """A handle of a process, which stays that process's whoever gets its number next. Raises OSError where there is none."""
    handle = _call(_PIDFD_OPEN, pid, 0)
    try:
        yield handle
    finally:
        os.close(handle)


def copy(handle: int, descriptor: int) -> int:
    """The process's open file, to be closed by the caller; it has FD_CLOEXEC. Raises OSError."""
    return _call(_PIDFD_GETFD, handle, descriptor, 0)


def send(handle: int, number: int) -> None:
    """Send the process a signal. Raises OSError, ProcessLookupError where it has gone."""
    _call(_PIDFD_SEND_SIGNAL, handle, number, 0, 0)


def libc() -> t.Any:
    """The C library, with errno kept for ctypes.get_errno()."""
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int) -> int:
    done = libc().syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(done)

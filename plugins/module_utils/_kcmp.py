# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Which processes share what the kernel's kcmp(2) compares; /proc does not tell."""

from __future__ import annotations

import ctypes
import functools
import os
import typing as t

# Of the kernel's include/uapi/linux/kcmp.h.
VM, FILES, FS = 1, 2, 3
_NUMBERS = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "loongarch64": 272, "ppc64le": 354, "s390x": 343}


class _Libc(t.NamedTuple):
    syscall: t.Callable[[int, int, int, int, int, int], int]
    number: int


@functools.cache
def _libc() -> _Libc | None:
    number = _NUMBERS.get(os.uname().machine)
    # A Python of 32 bits has other numbers.
    if number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    syscall.argtypes = [ctypes.c_long] + [ctypes.c_ulong] * 5
    return _Libc(syscall, number)


def compare(one: int, other: int, kind: int) -> int | None:
    """0 where both tasks share it, 1 or 2 for an order of the two, None where that cannot be told or one is gone."""
    libc = _libc()
    if libc is None:
        return None
    answer = libc.syscall(libc.number, one, other, kind, 0, 0)
    return answer if answer in (0, 1, 2) else None


def sharing(pids: t.Iterable[int], kind: int) -> list[tuple[int, ...]]:
    """Groups of two or more processes that share one thing of this kind, each in the order of its numbers."""
    known = sorted((pid for pid in pids if compare(pid, pid, kind) == 0), key=functools.cmp_to_key(_order(kind)))
    groups: list[list[int]] = []
    for pid in known:
        if groups and compare(groups[-1][-1], pid, kind) == 0:
            groups[-1].append(pid)
        else:
            groups.append([pid])
    return [tuple(sorted(group)) for group in groups if len(group) > 1]


def _order(kind: int) -> t.Callable[[int, int], int]:
    def order(one: int, other: int) -> int:
        answer = compare(one, other, kind)
        # One that ended meanwhile has no place; the pids give it some.
        return {0: 0, 1: -1, 2: 1}.get(3 if answer is None else answer, one - other)

    return order

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Versions, compared as numbers: liblxc compares them as text, and takes 10.0 for older than 2.4."""

from __future__ import annotations

import re

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

_LEADING = re.compile(r"\s*v?([0-9]+(?:\.[0-9]+)*)")

# Kernel from which on, and the oldest CRIU that works there; the role's default for criu_min_version says the same.
# 6.13 split the vDSO's data area, which CRIU before 4.1 refuses (`Unexpected rt vDSO area bounds`). 6.16 restricted
# SO_PASSCRED to Unix and netlink sockets, and CRIU before 4.2 dumps no IP socket there (`Can't get 1:16 opt`).
# First row that fits.
_MINIMUM = (
    ((6, 16, 0), "4.2"),
    ((6, 13, 0), "4.1"),
    ((0, 0, 0), "3.16"),
)


def parse(text: str) -> tuple[int, ...]:
    """The numbers that a version starts with, for comparing: "4.2.1-1" is (4, 2, 1).

    Zeros at the end count for nothing, so that "4.1" and "4.1.0" are equal.
    Raises StasisError where the text does not start with a number.
    """
    match = _LEADING.match(text)
    if not match:
        raise _errors.StasisError(f"{text!r} is not a version.", "A version starts with a number, such as 4.2.")
    numbers = [int(part) for part in match.group(1).split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def at_least(version: str, minimum: str) -> bool:
    """Whether version is minimum or newer. Raises StasisError where one of them is no version."""
    return parse(version) >= parse(minimum)


def kernel(release: str) -> tuple[int, int, int]:
    """The three numbers of a kernel release: "6.18.44-fc-v595" is (6, 18, 44), "6.13-rc1" is (6, 13, 0).

    Raises StasisError where the release does not start with a number.
    """
    numbers = (*parse(release), 0, 0)
    return numbers[0], numbers[1], numbers[2]


def minimum_criu(kernel_release: str) -> str:
    """The oldest CRIU that can work on this kernel. Raises StasisError where the release is none."""
    running = kernel(kernel_release)
    return next(criu for since, criu in _MINIMUM if running >= since)

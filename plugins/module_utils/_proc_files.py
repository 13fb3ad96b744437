# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Reading /proc, where everything may vanish at any moment: what is gone is empty."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _files, _proc


def entries(path: str | int) -> list[str]:
    """The names in a directory."""
    try:
        return os.listdir(path)
    except OSError:
        return []


# Below, a directory's descriptor instead of a path spares the kernel the way to it, which is most of the time here.


@contextlib.contextmanager
def directory(path: str) -> t.Iterator[int]:
    """A descriptor of the directory, -1 where it is gone."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield -1
        return
    try:
        yield number
    finally:
        os.close(number)


def link(path: str, top: int | None = None) -> str:
    """Where a symbolic link points."""
    try:
        return os.readlink(path, dir_fd=top)
    except OSError:
        return ""


def stat(path: str, top: int | None = None) -> os.stat_result | None:
    """What os.stat() says; None where it is gone."""
    try:
        return os.stat(path, dir_fd=top)
    except OSError:
        return None


def namespaces(top: str) -> dict[str, str]:
    """The namespaces of a process or thread, whose directory in /proc this is: name to `name:[inode]`."""
    with directory(f"{top}/ns") as links:
        found = {name: link(name, links) for name in _proc.NAMESPACES} if links >= 0 else {}
    return {name: target for name, target in found.items() if target}


def inode(path: str) -> int:
    """The number of a file, a symbolic link itself; 0 where it is gone."""
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


# A piece of a file in /proc ends with the last line that fits into a page, so that what is shorter than this is all.
_SMALL = 2048


def read(path: str, top: int | None = None, *, small: bool = False) -> str:
    """The text of a file. small: it has less than a page."""
    # Without Python's own layers, which cost more than the kernel's answer for files this small.
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=top)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(number, 65536):
            parts.append(part)
            if small and len(part) < _SMALL:
                break
    except OSError:
        return ""
    finally:
        os.close(number)
    return _files.decoded(b"".join(parts))

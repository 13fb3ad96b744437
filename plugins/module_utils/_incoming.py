# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Act: make the mount namespaces of several systemd services restorable.

systemd gives each service with a mount namespace a bind mount at /run/systemd/incoming, through which `systemctl bind`
hands mounts to it. They are slaves of one peer group with different roots, and CRIU's restore takes one of them as the
model for the others, which the kernel refuses (`Can't copy sharing from ...`). Unmounted before the dump they cost nothing
but `systemctl bind` and `mount-image` for a service until its next start; its sandbox stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _proc

TARGET = "/run/systemd/incoming"
_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


def unmount(init_pid: int, pids: t.Iterable[int]) -> list[str]:
    """Unmount it in every mount namespace of the container where there is more than one with it; returns what failed."""
    found = namespaces(init_pid, pids)
    if len(found) < 2:
        return []
    faults = []
    for pid in found.values():
        code = _unmount(pid)
        if code:
            faults.append(
                f"{TARGET} could not be unmounted in the mount namespace of process {pid} ({os.strerror(code)}), so a "
                "restore may fail."
            )
    return faults


def namespaces(init_pid: int, pids: t.Iterable[int]) -> dict[str, int]:
    """The mount namespaces other than init's that have it, each with one of its processes."""
    own = _namespace(init_pid)
    found: dict[str, int] = {}
    for pid in sorted(pids):
        name = _namespace(pid)
        if name and name != own and name not in found and any(one.target == TARGET for one in _mounts(pid)):
            found[name] = pid
    return found


def _unmount(pid: int) -> int:
    """In a child of ours, with no program of the container's; returns an error number, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0  # ended meanwhile
    child = os.fork()
    if child == 0:
        code = 0
        failed = libc.setns(namespace, _CLONE_NEWNS) or libc.umount2(TARGET.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW)
        if failed:
            code = ctypes.get_errno() or 1
        os._exit(code)
    os.close(namespace)
    _pid, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _mounts(pid: int) -> list[_proc.Mount]:
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
            return _proc.mounts(stream.read())
    except OSError:
        return []

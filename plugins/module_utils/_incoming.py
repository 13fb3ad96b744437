# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Act: make the mount namespaces of several systemd services restorable.

systemd gives each service with a mount namespace a bind mount at /run/systemd/incoming, through which `systemctl bind`
hands mounts to it. They are slaves of one peer group with different roots, and CRIU's restore takes one of them as the
model for the others, which the kernel refuses (`Can't copy sharing from ...`). So they are unmounted for the dump, and put
back where the container runs on. In a restored one they are gone, which costs nothing but `systemctl bind` and `mount-image`
for a service until its next start; its sandbox stays as it is.

The same is done with the copies that such a namespace has of LXC's terminals, where the container has a user namespace: CRIU
restores the container's own ones as what they are mapped to, but makes the copies of its devpts, and then cannot give them the
sharing of their originals (`Failed to copy sharing from ...`). Without a user namespace it makes the copies of the originals.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _files, _proc

TARGET = "/run/systemd/incoming"
_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
# System calls that glibc has no function for on every host; their numbers are the same on all architectures that LXC is built for.
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD = -100
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4


@contextlib.contextmanager
def unmounted(init_pid: int, pids: t.Iterable[int], terminals: t.Collection[str] = ()) -> t.Iterator[list[str]]:
    """For a dump: without these mounts, where there is more than one; afterwards, whatever came of it, they are there again.

    terminals: what else is to be unmounted in each service's namespace. Yields what could not be unmounted, as warnings. A
    child of ours in each service's namespace holds its mounts meanwhile; it lets go of them if we are killed.
    """
    found = namespaces(init_pid, pids, (TARGET, *terminals))
    single = sum(TARGET in targets for _pid, targets in found.values()) < 2
    holders = []
    for name, (pid, targets) in found.items():
        wanted = [one for one in targets if one != TARGET or not single]
        if wanted:
            holders.append(_Holder(pid, wanted, name))
    try:
        yield [
            f"{' '.join(holder.targets)} could not be unmounted in the mount namespace of process {holder.pid} "
            f"({os.strerror(holder.code)}), so a restore may fail."
            for holder in holders
            if holder.code
        ]
    finally:
        for holder in holders:
            holder.put_back()


class _Holder:
    """A child in one mount namespace, whose name is as in /proc/PID/ns. code: the error number of the unmount, 0 for none."""

    def __init__(self, pid: int, targets: t.Sequence[str], name: str) -> None:
        self.pid = pid
        self.targets = targets
        self.code = 0
        self._child = 0
        try:
            namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # ended meanwhile
        if os.readlink(f"/proc/self/fd/{namespace}") != name:
            # Another process has its number, and its mounts may be the host's.
            os.close(namespace)
            return
        answer, tell = os.pipe()
        asked, self._ask = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            # Nothing of the container's is run here, and nothing of Python's that another thread might have locked.
            os.close(self._ask)
            _hold(namespace, [os.fsencode(target) for target in targets], asked, tell)
        for descriptor in (namespace, tell, asked):
            os.close(descriptor)
        self.code = int.from_bytes(os.read(answer, 1) or b"\1", "big")
        os.close(answer)

    def put_back(self) -> None:
        if self._child:
            with contextlib.suppress(OSError):
                os.write(self._ask, b"p")
            os.close(self._ask)
            os.waitpid(self._child, 0)


def _hold(namespace: int, targets: t.Sequence[bytes], asked: int, tell: int) -> t.NoReturn:
    """In the child: keep copies of the mounts, unmount them, and put the copies in their places if that is what is asked for."""
    libc = ctypes.CDLL(None, use_errno=True)
    held = []
    code = 0
    if libc.setns(namespace, _CLONE_NEWNS):
        code = ctypes.get_errno() or 1
        targets = ()
    for target in targets:
        copy = libc.syscall(_OPEN_TREE, _AT_FDCWD, target, _OPEN_TREE_CLONE | os.O_CLOEXEC)
        # What could not be put back is not taken away.
        if copy < 0 or libc.umount2(target, _MNT_DETACH | _UMOUNT_NOFOLLOW):
            code = code or ctypes.get_errno() or 1
        else:
            held.append((copy, target))
    os.write(tell, bytes([min(code, 255)]))
    if os.read(asked, 1) == b"p":
        for copy, target in held:
            libc.syscall(_MOVE_MOUNT, copy, b"", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH)
    os._exit(0)


def namespaces(
    init_pid: int, pids: t.Iterable[int], wanted: t.Collection[str] = (TARGET,)
) -> dict[str, tuple[int, list[str]]]:
    """The mount namespaces other than init's that have mounts at these places: one of its processes, and the places."""
    own = _namespace(init_pid)
    found: dict[str, tuple[int, list[str]]] = {}
    for pid in sorted(pids):
        name = _namespace(pid)
        if name and name != own and name not in found:
            targets = [one.target for one in _mounts(pid) if one.target in wanted]
            if targets:
                found[name] = (pid, targets)
    return found


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _mounts(pid: int) -> list[_proc.Mount]:
    return _proc.mounts(_files.text_of(f"/proc/{pid}/mountinfo"))

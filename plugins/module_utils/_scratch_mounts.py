# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a CRIU that was killed during a dump leaves among the container's own mounts.

To read a tmpfs on which something else is mounted, it binds that to a new directory, opens this, and takes both away
(criu/mount.c of 4.2, get_clean_fd()). That is so in every container: LXC's /dev has /dev/pts in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat

from ansible_collections.stasis.lxc.plugins.module_utils import _container, _errors, _files

_NAME = re.compile(r"cr-tmpfs\.[A-Za-z0-9]{6}\Z")
_PLACES = ("/tmp", "/")
_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


def find(init_pid: int, proc: str = "/proc") -> list[str]:
    """The directories, as paths inside; mounted or not."""
    found = set()
    for line in _files.lines(_files.text_of(f"{proc}/{init_pid}/mountinfo")):
        found.add(line.split(" ")[4])
    found = {path for path in found if os.path.dirname(path) in _PLACES}
    for place in _PLACES:
        # A link there would lead out of the container.
        with contextlib.suppress(OSError):
            folder = os.open(
                f"{proc}/{init_pid}/root{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
            try:
                found |= {os.path.join(place, name) for name in os.listdir(folder) if _is_directory(folder, name)}
            finally:
                os.close(folder)
    return sorted(path for path in found if _NAME.match(os.path.basename(path)))


def _is_directory(folder: int, name: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def remove(init: _container.Process, path: str) -> None:
    """Unmount and remove one, in the container's mount namespace, where a path cannot lead out of it.

    Raises StasisError where it could not be removed: it is not empty, so it is not CRIU's; or init has ended.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    inside = os.fsencode(path)
    namespace = os.open(f"/proc/{init.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # After the opening: with another process of that number this would be done to the host's mounts.
        if not init.alive:
            raise _errors.StasisError(f"Process {init.pid} has ended.", "Run the task again.")
        child = os.fork()
        if child == 0:
            # Nothing of the container's is run here, and nothing of Python's that another thread might have locked.
            code = ctypes.get_errno() or 1 if libc.setns(namespace, _CLONE_NEWNS) else 0
            while not code and libc.umount2(inside, _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
                pass
            if not code and libc.rmdir(inside):
                code = ctypes.get_errno() or 1
            os._exit(min(code, 255))
    finally:
        os.close(namespace)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise _errors.StasisError(f"{os.strerror(code)}.", "Remove it by hand.")

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""CRIU's links in a root file system: `link_remap.N` beside a file that is open under a name it has lost.

A dump makes them, so that the restore finds the file. A CRIU that is killed leaves them where nobody wants them any
more (dump), or has removed them although the image still needs them (restore).
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _container, _errors, _tree

_DELETED = " (deleted)"
_GHOST = re.compile(r"\.cr\.[0-9a-f]+\.ghost\Z")
_LINK = re.compile(r"link_remap\.[0-9]+\Z")


def is_link(path: str) -> bool:
    """Whether CRIU gives such a name."""
    return bool(_LINK.match(os.path.basename(path)))


class Left(t.NamedTuple):
    """A superfluous link. path: in the root of the process. device, inode: of the file that it leads to."""

    path: str
    process: _container.Process
    device: int
    inode: int


def left(pids: t.Iterable[int], proc: str = "/proc") -> list[Left]:
    """The links to files that these processes have open without a name, each once, sorted by path.

    Only a link to the very file that is open counts, so none that the container made for itself is taken for ours.
    """
    found: dict[str, Left] = {}
    for pid in pids:
        process = _container.process(pid)
        if process is None:
            continue
        for where, status in _nameless(pid, proc):
            with contextlib.suppress(_errors.StasisError), _root(process) as tree:
                for name in filter(is_link, tree.names(where)):
                    path = os.path.join(where, name)
                    if tree.identity(path) == (status.st_dev, status.st_ino):
                        found[path] = Left(path, process, status.st_dev, status.st_ino)
    return [one for _path, one in sorted(found.items())]


def remove(link: Left) -> None:
    """Unlink it, unless it has gone. Raises StasisError where the process has ended or the name is another file's."""
    with _root(link.process) as tree:
        if not tree.unlink(link.path, (link.device, link.inode)):
            raise _errors.StasisError(f"{link.path} is another file by now.", "Look at it inside the container.")


@contextlib.contextmanager
def _root(process: _container.Process) -> t.Iterator[_tree.Tree]:
    """The root of a process. The container can exchange any directory in it for a link that leads anywhere, at any time."""
    tree = _tree.Tree(f"/proc/{process.pid}/root")
    try:
        # After the opening: the root that is open is this process's, whoever gets its number next.
        if not process.alive:
            raise _errors.StasisError(f"Process {process.pid} has ended.", "Run the task again.")
        yield tree
    finally:
        tree.close()


def _nameless(pid: int, proc: str) -> set[tuple[str, os.stat_result]]:
    """The directories of deleted files that have another name left, with what the descriptor leads to."""
    found = set()
    for kind in ("fd", "map_files"):
        with contextlib.suppress(OSError):
            for number in os.listdir(f"{proc}/{pid}/{kind}"):
                with contextlib.suppress(OSError):
                    link = os.readlink(f"{proc}/{pid}/{kind}/{number}")
                    if link.startswith("/") and link.endswith(_DELETED):
                        status = os.stat(f"{proc}/{pid}/{kind}/{number}")
                        if status.st_nlink > 0:
                            found.add((os.path.dirname(link), status))
    return found


def inodes(paths: t.Iterable[str], rootfs: str) -> dict[str, int]:
    """The inode of each link among paths that is there, below a root file system that is a directory."""
    found = {}
    for path in paths:
        if is_link(path) and os.path.isdir(rootfs):
            with contextlib.suppress(OSError):
                found[path] = os.lstat(rootfs + path).st_ino
    return found


def missing(links: t.Mapping[str, int], rootfs: str) -> dict[str, int]:
    """Those that are not there any more."""
    return {path: inode for path, inode in links.items() if not os.path.lexists(rootfs + path)}


def sources(wanted: t.Container[int], rootfs: str) -> dict[int, str]:
    """Another name of each inode, on the root file system's own device."""
    found: dict[int, str] = {}
    for path, status in _files(rootfs):
        if status.st_ino in wanted:
            found.setdefault(status.st_ino, path)
    return found


def ghosts(rootfs: str, since: float) -> list[str]:
    """The files that a restore makes for those which have no name at all, and removes once they are open.

    since: seconds since the epoch, when the restore began.
    """
    return sorted(path for path, status in _files(rootfs) if _GHOST.search(path) and status.st_ctime >= since)


def _files(rootfs: str) -> t.Iterator[tuple[str, os.stat_result]]:
    device = os.lstat(rootfs).st_dev
    for folder, folders, files in os.walk(rootfs):
        folders[:] = [name for name in folders if _device(os.path.join(folder, name)) == device]
        for name in files:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                yield path, os.lstat(path)


def _device(path: str) -> int:
    try:
        return os.lstat(path).st_dev
    except OSError:
        return -1

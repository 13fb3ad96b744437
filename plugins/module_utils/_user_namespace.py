# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Containers in a user namespace: let their restored tasks read a sealed image, and nobody else.

A task that CRIU restores in a user namespace opens images as the container's root, which is nobody on the host. The
image stays root's and 0600 all the same: CRIU gets a mount of its directory in which root's files belong to the
container's root, read-only, at no path of the host's, gone with the processes that have it open.

One image is opened at a moment when the task may not be the container's root yet, but is still the host's, without its
rights: the clocks, timens-N.img (criu/cr-restore.c, restore_task_with_children(): prepare_timens() does not wait for
prepare_userns()). So that one, and the directory, are open to the group root, which the mount leaves as it is, until the
restore has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat
import struct
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

# The numbers are the same on every architecture but alpha (include/uapi/asm-generic/unistd.h).
_OPEN_TREE, _MOUNT_SETATTR = 428, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE = 1
_READ_ONLY, _IDMAP = 0x1, 0x100000
_CLONE_NEWUSER = 0x10000000
REMEDY = (
    "A container in a user namespace is restored from a file system that knows idmapped mounts: ext4, xfs or btrfs with "
    "kernel 5.15 or newer, tmpfs with 6.3."
)
# Of a directory whose image is being restored.
_OPEN = 0o710
_CLOCKS = re.compile(r"timens-[0-9]+\.img\Z")


def mapped_root(idmaps: t.Sequence[str]) -> int | None:
    """The host's uid of the container's root, from the values of lxc.idmap; None without a user namespace.

    Pure. Raises StasisError where root is not mapped, as LXC starts no such container.
    """
    if not idmaps:
        return None
    for line in idmaps:
        fields = line.split()
        if len(fields) == 4 and fields[0] in ("u", "b") and fields[1] == "0" and fields[2].isdigit():
            return int(fields[2])
    raise _errors.StasisError(
        f"lxc.idmap maps no root of the container: {'; '.join(idmaps)}.", "Map uid 0 of the container."
    )


@contextlib.contextmanager
def view(directory: str, root: int | None) -> t.Iterator[str]:
    """A path at which the directory can be read by the mapped root; the directory itself where nothing is mapped.

    The path is good while this process lives and the context lasts; what was opened through it stays open. Raises
    StasisError where the kernel or the file system cannot do it.
    """
    if root is None:
        yield directory
        return
    try:
        try:
            let_group_in(directory)
            tree = mount(directory, root)
        except OSError as exc:
            raise _errors.StasisError(
                f"{directory} cannot be shown to the container's root alone: {exc.strerror}.", REMEDY
            ) from exc
        try:
            yield f"/proc/{os.getpid()}/fd/{tree}"
        finally:
            os.close(tree)
    finally:
        shut(directory)


def let_group_in(directory: str) -> None:
    """Open an image to the group root as far as needed, see above."""
    _set_modes(directory, _OPEN, 0o640)


def shut(directory: str) -> None:
    """Keep the group root out of an image again: nobody opens the clocks once the restore has ended."""
    with contextlib.suppress(OSError):
        if stat.S_IMODE(os.lstat(directory).st_mode) == _OPEN:
            _set_modes(directory, 0o700, 0o600)


def mount(directory: str, root: int) -> int:
    """A descriptor of a mount of the directory, at no path, in which root's files are the mapped root's."""
    tree = _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(directory), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        with _namespace(root) as namespace:
            attributes = struct.pack("=QQQQ", _READ_ONLY | _IDMAP, 0, 0, namespace)
            _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes))
    except OSError:
        os.close(tree)
        raise
    return tree


def _set_modes(directory: str, own: int, of_clocks: int) -> None:
    """Give a directory and the clocks in it to the group root, with these modes."""
    clocks = [entry.path for entry in os.scandir(directory) if _CLOCKS.match(entry.name)]
    for path, mode in [(directory, own), *((path, of_clocks) for path in clocks)]:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ELOOP, f"{path} is a symbolic link")
        if status.st_gid != 0:
            os.chown(path, -1, 0)
        if stat.S_IMODE(status.st_mode) != mode:
            os.chmod(path, mode)


@contextlib.contextmanager
def _namespace(root: int) -> t.Iterator[int]:
    """A descriptor of a user namespace in which uid 0 is `root` of the host; a child makes it, and ends."""
    ready, write_ready = os.pipe()
    hold, write_hold = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing here may raise: the child must never go on in the parent's place.
        with contextlib.suppress(BaseException):
            os.close(write_hold)
            word = b"y" if _libc().unshare(_CLONE_NEWUSER) == 0 else bytes([min(ctypes.get_errno(), 255)])
            os.write(write_ready, word)
            os.read(hold, 1)
        os._exit(0)
    try:
        os.close(write_ready)
        os.close(hold)
        word = os.read(ready, 1)
        if word != b"y":
            number = word[0] if word else 0
            raise OSError(number, os.strerror(number))
        for name, outside in (("uid_map", root), ("gid_map", 0)):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as stream:
                stream.write(f"0 {outside} 1\n")
        descriptor = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(write_hold)
        os.waitpid(child, 0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int | bytes) -> int:
    """syscall(2), as the C library of older hosts has no function for these."""
    passed = [ctypes.c_long(one) if isinstance(one, int) else ctypes.c_char_p(one) for one in arguments]
    result: int = _libc().syscall(ctypes.c_long(number), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Writing files so that they are whole or not there, also after a power cut."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SYNCS = 8
_OCTAL = re.compile(r"\\([0-7]{3})")


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    _sync(path, os.O_DIRECTORY)


def sync_files(directory: str) -> None:
    """Return when every regular file in a directory, and its name there, is on disk.

    Those that are already cost next to nothing. Of the others there may be a thousand, which a file system with a journal
    writes together where they are waited for together.
    """
    paths = [entry.path for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False)]
    with ThreadPoolExecutor(max_workers=_SYNCS) as pool:
        list(pool.map(lambda path: _sync(path, os.O_NOFOLLOW), paths))
    sync_directory(directory)


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def text_of(path: str) -> str:
    """What stands in a file of the kernel's or of LXC's, or nothing where it cannot be read: it may go away at any time.

    Bytes that are not UTF-8 are kept as Python keeps them in names (surrogateescape), and a carriage return stays one.
    """
    try:
        with open(path, "rb") as stream:
            return decoded(stream.read())
    except OSError:
        return ""


def decoded(data: bytes) -> str:
    """Text that names of files stand in: what os.fsencode() makes of a part of it is what stood there."""
    return data.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The bytes that decoded() made a text of."""
    return text.encode("utf-8", "surrogateescape")


def lines(text: str) -> list[str]:
    """The lines of a text of the kernel's. str.splitlines() also breaks at characters that a name may have in it."""
    found = text.split("\n")
    return found if found[-1] else found[:-1]


def write_durably(path: str, text: str | bytes, mode: int = 0o600) -> None:
    """Create or truncate a file, and return when it is on disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(encoded(text) if isinstance(text, str) else text)
        stream.flush()
        os.fsync(stream.fileno())


def replace_file(path: str, text: str) -> None:
    """Replace a file's content in one step, keeping owner and mode; a symbolic link stays one."""
    path = os.path.realpath(path)
    status = os.stat(path)
    directory = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix=".stasis-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            os.fchmod(stream.fileno(), stat.S_IMODE(status.st_mode))
            os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(directory)


def exchange(first: str, second: str) -> None:
    """Swap two directories in one step (renameat2 with RENAME_EXCHANGE, Linux 3.15).

    A plain rename onto a directory that is not empty fails. Raises OSError where the file system cannot exchange.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), first)


def make_directories(path: str) -> None:
    """Create a directory and those above it that are missing, 0700."""
    missing = []
    above = path
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    try:
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o700)
                sync_directory(os.path.dirname(directory))
    except OSError as exc:
        raise _errors.StasisError(
            f"{path} cannot be created: {exc.strerror}.", "Make its file system writable, or choose another directory."
        ) from exc


def mount_points() -> set[str]:
    """Where something is mounted on this host, bind mounts too, which os.path.ismount() does not see."""
    with open("/proc/self/mountinfo", "rb") as stream:
        fields = [line.split(" ", 5) for line in lines(decoded(stream.read()))]
    return {_OCTAL.sub(lambda match: chr(int(match.group(1), 8)), field[4]) for field in fields if len(field) > 5}


def refuse_mounts(path: str) -> None:
    """Raise StasisError where something is mounted at a directory or in it."""
    real = os.path.realpath(path)
    for point in sorted(mount_points()):
        if point == real or point.startswith(real + "/"):
            raise _errors.StasisError(f"Something is mounted at {point}.", "Unmount it, then run the task again.")


def remove_tree(path: str) -> None:
    """Remove a directory of ours; refuses where something is mounted in it.

    Raises StasisError with the mount point, before anything is removed.
    """
    if not os.path.lexists(path):
        return
    refuse_mounts(path)
    try:
        shutil.rmtree(path)
    except OSError as exc:
        hint = "Free space or remount the file system." if exc.errno in (errno.EROFS, errno.ENOSPC) else "Look into it."
        raise _errors.StasisError(f"{path} could not be removed: {exc.strerror}.", hint) from exc

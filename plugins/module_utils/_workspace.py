# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The private directory of one run, with its logs and what the hook and the launcher read and write; and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import re
import shutil
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files

LOGS = "/var/log/stasis"
LOCKS = "/run/stasis"
KEEP = 10


class Workspace:
    """A directory `/var/log/stasis/NAME/TIME-ACTION-PID`, 0700; the newest KEEP of a container stay, and all of this process."""

    def __init__(self, name: str, action: str, logs: str = LOGS) -> None:
        base = os.path.join(logs, name)
        _files.make_directories(base)
        _prune(base, KEEP - 1, os.getpid())
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self.path = _make(os.path.join(base, f"{stamp}-{action}-{os.getpid()}"))

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, name)

    def first(self, *names: str) -> str:
        """The path of the first of these files that has something in it, or of the last."""
        paths = [self.file(name) for name in names]
        return next((path for path in paths if os.path.exists(path) and os.path.getsize(path)), paths[-1])

    def read(self, name: str, limit: int = 1 << 20) -> str:
        """The first `limit` bytes of a file in it, or "" where there is none."""
        return read_text(self.file(name), limit)

    def write_lines(self, name: str, lines: t.Iterable[str]) -> str:
        """Write a file, one item a line; returns its path. Raises RecordError for an item that is more than one line."""
        with open(self.file(name), "w", encoding="utf-8", errors="surrogateescape") as stream:
            for line in lines:
                # The shell that reads it drops a NUL.
                if "\n" in line or "\0" in line:
                    raise _errors.RecordError(name, "line", line)
                stream.write(line + "\n")
        return self.file(name)

    def keep(self, path: str) -> None:
        """Copy a log into it, where there is one."""
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, self.file(os.path.basename(path)))


def read_text(path: str, limit: int = 64 << 20) -> str:
    """The first `limit` bytes of a text file, or "" where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return _files.decoded(stream.read(limit))
    except OSError:
        return ""


def read_ends(path: str, each: int = 16 << 20) -> str:
    """The first and the last `each` bytes of a log, in whole lines, or "" where it cannot be read.

    CRIU can fill a disk with one line that it repeats; what it says first and last tells what went wrong.
    """
    try:
        with open(path, "rb") as stream:
            first = stream.read(each)
            size = os.fstat(stream.fileno()).st_size
            start = max(len(first), size - each)
            stream.seek(start)
            last = stream.read(each)
    except OSError:
        return ""
    if start > len(first):
        # A line that is cut off could pass for another one.
        first, last = first.rpartition(b"\n")[0] + b"\n", last.partition(b"\n")[2]
    return (first + last).decode("utf-8", "replace")


def _make(path: str) -> str:
    """Make the directory; one of this run and second is there already where a try follows another at once."""
    for number in itertools.count(1):
        name = path if number == 1 else f"{path}-{number}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700)
            break
    return name


def _prune(base: str, keep: int, own: int) -> None:
    # The result names the logs of all tries, of which there may be more than `keep`; and a clock that was set back makes
    # new ones seem old.
    ours = re.compile(rf"-{own}(-[0-9]+)?\Z")
    runs = sorted(entry.name for entry in os.scandir(base) if entry.is_dir(follow_symlinks=False))
    for name in runs[: max(0, len(runs) - keep)]:
        if not ours.search(name):
            shutil.rmtree(os.path.join(base, name), ignore_errors=True)


def key(name: str, lxc_path: str) -> str:
    """A file name for a container: the same name may exist below several lxc_paths."""
    return f"{name}-{hashlib.sha256(os.fsencode(lxc_path)).hexdigest()[:8]}"


@contextlib.contextmanager
def locked(name: str, lxc_path: str, timeout: float, locks: str = LOCKS) -> t.Iterator[int]:
    """One run per container at a time, and with a directory's name and parent, one per checkpoint; gives the lock's
    file descriptor.

    timeout: seconds to wait for another run. A dump hands the descriptor to CRIU, so that the lock outlives a
    module that was killed for as long as its CRIU goes on.
    """
    _files.make_directories(locks)
    descriptor = os.open(
        os.path.join(locks, key(name, lxc_path) + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _errors.StasisError(
                        f"Another task is at work on {name} in {lxc_path}.", "Run this task again when it has ended."
                    ) from None
                time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)

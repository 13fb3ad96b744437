# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Read a log from anywhere, or the logs of an image directory, and say what went wrong. Reads, and changes nothing."""

from __future__ import annotations

import collections
import contextlib
import os
import stat
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis, _diagnosis_types, _errors, _log_lines

# In a directory, CRIU's own before what was said about it; a restore comes after its dump, so it is what failed last.
NAMES = ("restore.log", "dump.log", "pre-dump.log", "criu.err", "lxc.log", "lxc.err")

# CRIU can fill a disk with its log (it repeats itself for ever at a damaged image): first and last part count.
FIRST_BYTES = 16 << 20
LAST_BYTES = 16 << 20
MOST_ERRORS = 20
_CHUNK = 1 << 20
_LONGEST_LINE = 64 << 10

SUCCEEDED = "succeeded"
FAILED = "failed"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Log:
    """One log that was read. truncated: whether its middle was left out."""

    name: str
    outcome: str
    size: int
    truncated: bool
    diagnoses: tuple[_diagnosis_types.Diagnosis, ...]
    errors: tuple[str, ...]


@dataclass
class LogInfo:
    """What the module criu_log_info returns, under the same names. No `path`: Ansible adds owner and mode to such a result."""

    logs: list[dict[str, t.Any]] = field(default_factory=list)
    diagnoses: list[dict[str, t.Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    transient: bool = False


def gather(path: str) -> LogInfo:
    """Read the log at path, or those in the directory at path; raises StasisError where there is none."""
    _check(path)
    with contextlib.ExitStack() as stack:
        logs = [
            _read(name, descriptor, first_bytes=FIRST_BYTES, last_bytes=LAST_BYTES)
            for name, descriptor in _open(path, stack)
        ]
    return _combined(logs)


def _combined(logs: t.Sequence[Log]) -> LogInfo:
    info = LogInfo()
    found: dict[str, tuple[Log, _diagnosis_types.Diagnosis]] = {}
    for log in logs:
        info.logs.append({"name": log.name, "outcome": log.outcome, "size": log.size, "truncated": log.truncated})
        info.errors += [line for line in log.errors if line not in info.errors]
        for one in log.diagnoses:
            found.setdefault(one.id, (log, one))
    ranked = sorted(found.values(), key=lambda pair: pair[1].weight)
    telling = [pair for pair in ranked if pair[1].weight != _diagnosis_types.LAST] or ranked
    info.diagnoses = [{**one.as_dict(), "log": log.name} for log, one in telling[: _diagnosis.MOST_DIAGNOSES]]
    info.errors = info.errors[:MOST_ERRORS]
    info.transient = _diagnosis.is_transient([pair[1] for pair in telling])
    return info


def _check(path: str) -> None:
    if not os.path.isabs(path):
        raise _errors.StasisError(f"path {path!r} is not an absolute path.", "Give the whole path, from / on.")
    if not path.isprintable():
        raise _errors.StasisError(f"path {path!r} contains a character that cannot be printed.", "Correct the path.")


def _open(path: str, stack: contextlib.ExitStack) -> list[tuple[str, int]]:
    """Descriptors of the logs with their names. Nothing is read that is no regular file, and no link in a directory."""
    descriptor = _descriptor(path, stack)
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return [(os.path.basename(path), descriptor)]
    found = []
    for name in NAMES:
        with contextlib.suppress(FileNotFoundError):
            found.append((name, _descriptor(name, stack, os.O_NOFOLLOW, directory=descriptor, shown=f"{path}/{name}")))
    if not found:
        raise _errors.StasisError(
            f"There is no log in {path}.", f"Name a log, or a directory with one of these: {', '.join(NAMES)}."
        )
    return found


def _descriptor(
    path: str, stack: contextlib.ExitStack, flags: int = 0, *, directory: int | None = None, shown: str = ""
) -> int:
    shown = shown or path
    try:
        # Not to wait for ever at a pipe, nor to get a controlling terminal.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags, dir_fd=directory)
    except OSError as exc:
        if directory is not None and isinstance(exc, FileNotFoundError):
            raise
        raise _errors.StasisError(
            f"{shown} cannot be read: {exc.strerror}.", "Correct the path, or run as root."
        ) from exc
    stack.callback(os.close, descriptor)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and (directory is not None or not stat.S_ISDIR(mode)):
        raise _errors.StasisError(f"{shown} is neither a file nor a directory.", "Name a log of CRIU's or LXC's.")
    return descriptor


def _read(name: str, descriptor: int, *, first_bytes: int, last_bytes: int) -> Log:
    findings = _diagnosis.Findings()
    size = os.fstat(descriptor).st_size
    truncated = size > first_bytes + last_bytes

    def watched() -> t.Iterator[str]:
        for line in _lines(descriptor, 0, first_bytes if truncated else first_bytes + last_bytes):
            findings.add(line)
            yield line
        if truncated:
            for line in _lines(descriptor, size - last_bytes, last_bytes, whole=False):
                findings.add(line)
                yield line

    lines = watched()
    try:
        errors = _log_lines.errors(lines, MOST_ERRORS)
        # To the end, for the findings.
        collections.deque(lines, maxlen=0)
    except OSError as exc:
        raise _errors.StasisError(f"{name} cannot be read: {exc.strerror}.", "Look at its file system.") from exc
    outcome = SUCCEEDED if findings.succeeded else FAILED if findings.failed or errors else UNKNOWN
    return Log(name, outcome, size, truncated, tuple(findings.ranked()), tuple(errors))


def _lines(descriptor: int, start: int, most: int, *, whole: bool = True) -> t.Iterator[str]:
    """The lines from `start` on, `most` bytes of them; of a longer line its begin. whole: the first one begins there."""
    position, end = start, start + most
    rest = b""
    skip = not whole
    while position < end:
        chunk = os.pread(descriptor, min(_CHUNK, end - position), position)
        if not chunk:
            break
        position += len(chunk)
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if skip:
                skip = False
                continue
            yield line[:_LONGEST_LINE].decode("utf-8", "replace")
        # What follows in the same line is dropped, but for the newline that ends it.
        rest = rest[:_LONGEST_LINE]
    if rest and not skip:
        yield rest.decode("utf-8", "replace")

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The settings of IPv6 that the hook changes in the container's network for the time of a restore.

The hook writes each value into the directory of the run before it changes it, and empties that record once all are put
back. Where the hook or CRIU was killed before that, the container runs on without the detection of duplicate addresses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _container, _errors, _files, _pidfd

RECORD = "ipv6"
# Beside it, from the hook too: pid and start time of the restored init.
_INIT = "init"
_CLONE_NEWNET = 0x40000000
_FOLDER = "/proc/sys/net/ipv6/"
_LINE = re.compile(rf"({_FOLDER}(?:conf/[^/ \n]+/accept_dad|ip_nonlocal_bind)) ([0-9]+)\Z")
_DAD_OFF, _BIND_ANYWHERE = "0", "1"
_AS_RECORDED, _CHANGED, _FAILED = 0, 1, 2


class Changed(t.NamedTuple):
    """What is not put back: of which init, path and value of each file, and the record that says so."""

    init: _container.Process
    settings: tuple[tuple[str, str], ...]
    record: str

    @property
    def names(self) -> str:
        """For a message: an interface's name, which the container chooses, may have anything in it."""
        text = ", ".join(path[len(_FOLDER) :] for path, _value in self.settings)
        return "".join(one if one.isprintable() else "?" for one in text)


def find(work: str) -> Changed | None:
    """The settings that are still as the hook of this run has set them. None where there are none, or init has gone.

    A setting with another value has been set by the container since, and is left alone.
    """
    record = os.path.join(work, RECORD)
    settings = parse(_text(record))
    words = _files.text_of(os.path.join(work, _INIT)).split()
    if not settings or len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    init = _container.Process(int(words[0]), int(words[1]))
    try:
        states = _in_network(init, settings, write=False)
    except OSError:
        return None
    found = tuple(one for one, state in zip(settings, states) if state == _CHANGED)
    return Changed(init, found, record) if found else None


def put_back(changed: Changed) -> None:
    """Write the values of before. Raises StasisError where that fails."""
    states = _in_network(changed.init, changed.settings, write=True)
    failed = [path for (path, _value), state in zip(changed.settings, states) if state != _AS_RECORDED]
    if failed:
        left = changed._replace(settings=tuple(one for one in changed.settings if one[0] in failed)).names
        raise _errors.StasisError(f"{left} cannot be written.", f"Write the values of {changed.record} inside.")
    os.truncate(changed.record, 0)


def parse(text: str) -> tuple[tuple[str, str], ...]:
    """The record, as path and value, without settings that the hook did not have to change. Pure."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match and match.group(2) != _during(match.group(1)):
            # The first value is the one of before.
            found.setdefault(match.group(1), match.group(2))
    return tuple(found.items())


def _text(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return os.fsdecode(stream.read())
    except OSError:
        return ""


def _during(path: str) -> str:
    return _DAD_OFF if path.endswith("accept_dad") else _BIND_ANYWHERE


def _in_network(init: _container.Process, settings: t.Sequence[tuple[str, str]], *, write: bool) -> bytes:
    """The state of each setting, found out by a child of ours in init's network. Raises OSError."""
    namespace = os.open(f"/proc/{init.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # After the opening: what is open is this init's, whoever gets its number next.
        if not init.alive:
            raise ProcessLookupError
        answer, tell = os.pipe()
        child = os.fork()
        if child == 0:
            # Nothing of the container's is run here, and nothing of Python's that another thread might have locked.
            with contextlib.suppress(BaseException):
                if _pidfd.libc().setns(namespace, _CLONE_NEWNET):
                    os._exit(ctypes.get_errno() or 1)
                os.write(tell, bytes(_state(path, value, write=write) for path, value in settings))
                os._exit(0)
            os._exit(1)
        os.close(tell)
        with open(answer, "rb") as stream:
            states = stream.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(namespace)
    if code or len(states) != len(settings):
        raise OSError(code, os.strerror(code))
    return states


def _state(path: str, value: str, *, write: bool) -> int:
    """In the child. An interface that has gone has nothing to put back."""
    try:
        with open(path, "rb", buffering=0) as stream:
            now = stream.read(32).decode("ascii").strip()
    except OSError:
        return _AS_RECORDED
    if now != _during(path):
        return _AS_RECORDED
    if not write:
        return _CHANGED
    try:
        with open(path, "wb", buffering=0) as stream:
            stream.write(value.encode())
    except OSError:
        return _FAILED
    return _AS_RECORDED

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Act: arm the pressure triggers (PSI) of a restored container again.

A trigger belongs to an open file: who wants to be told of memory pressure writes `some 200000 2000000` into it and polls.
CRIU opens the file again, but the trigger is gone, and without one the kernel says at every poll that there is an event:
systemd runs at 100 % and ends no job. The very same open file is taken from the process (pidfd_getfd), the trigger written
into it, and the file taken out of the process's epoll set and put back, because an entry made without a trigger is never
woken.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ctypes
import fcntl
import os
import platform
import re
import select
import struct
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _files, _pidfd, _proc

_EPOLL_CTL_ADD = 1
_EPOLL_CTL_DEL = 2
# What sd-event asks for unless $MEMORY_PRESSURE_WRITE says otherwise: 200 ms in 2 s.
_DEFAULT = b"some 200000 2000000\0"
_PRESSURE = re.compile(r"(/proc/pressure/(cpu|io|irq|memory)|/(cpu|io|irq|memory)\.pressure)\Z")
_EPOLL_ENTRY = re.compile(r"^tfd:\s*(\d+)\s+events:\s*([0-9a-f]+)\s+data:\s*([0-9a-f]+)", re.MULTILINE)
# Out of the way of the numbers that the container's process uses.
_HIGH = 700


class Watch(t.NamedTuple):
    """A descriptor with a trigger. epolls: (descriptor of the epoll set, events, data) of each entry for it."""

    pid: int
    descriptor: int
    target: str
    trigger: bytes
    epolls: tuple[tuple[int, int, int], ...]


def arm(pids: t.Iterable[int]) -> list[str]:
    """Arm every trigger of these processes that is not armed; returns what could not be done, one sentence each."""
    faults = []
    for pid in sorted(pids):
        for watch in _watches(pid):
            try:
                _arm(watch)
            except OSError as exc:
                faults.append(
                    f"The pressure trigger of process {pid} on {watch.target} could not be armed again "
                    f"({exc.strerror or exc}); it may run at 100 %: restart it."
                )
    return faults


def trigger(environment: bytes) -> bytes:
    """What a process writes, from its environment: systemd tells its services in base64."""
    for word in environment.split(b"\0"):
        name, _equals, value = word.partition(b"=")
        if name == b"MEMORY_PRESSURE_WRITE":
            with contextlib.suppress(binascii.Error):
                return base64.b64decode(value, validate=True) or _DEFAULT
    return _DEFAULT


def entries(fdinfo: str, descriptor: int) -> list[tuple[int, int]]:
    """Events and data of an epoll set's entries for a descriptor, from the set's fdinfo."""
    return [
        (int(found[1], 16), int(found[2], 16)) for found in _EPOLL_ENTRY.findall(fdinfo) if int(found[0]) == descriptor
    ]


def _watches(pid: int) -> list[Watch]:
    found: list[Watch] = []
    targets: dict[int, str] = {}
    for name in _list(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            targets[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    for number, target in targets.items():
        if not _PRESSURE.search(target):
            continue
        flags = _proc.status(_files.text_of(f"/proc/{pid}/fdinfo/{number}")).get("flags", "0")
        if int(flags, 8) & os.O_ACCMODE == os.O_RDONLY:
            continue
        sets = [other for other, what in targets.items() if what == "anon_inode:[eventpoll]"]
        epolls = [
            (other, *entry)
            for other in sets
            for entry in entries(_files.text_of(f"/proc/{pid}/fdinfo/{other}"), number)
        ]
        environment = b""
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as stream:
            environment = stream.read()
        found.append(Watch(pid, number, target, trigger(environment), tuple(epolls)))
    return found


def _arm(watch: Watch) -> None:
    with contextlib.ExitStack() as held:
        try:
            process = held.enter_context(_pidfd.opened(watch.pid))
        except ProcessLookupError:
            return  # ended meanwhile
        taken = _take(process, watch.descriptor, held)
        if os.readlink(f"/proc/self/fd/{taken}") != watch.target:
            return  # closed meanwhile, or another process has its pid
        poll = select.poll()
        poll.register(taken, select.POLLPRI)
        if not any(events & select.POLLERR for _number, events in poll.poll(0)):
            return
        os.write(taken, watch.trigger)
        for number, events, data in watch.epolls:
            _enter_again(_take(process, number, held), taken, watch.descriptor, events, data)


def _take(process: int, descriptor: int, held: contextlib.ExitStack) -> int:
    """Another process's open file as a descriptor of ours."""
    taken = _pidfd.copy(process, descriptor)
    held.callback(os.close, taken)
    return taken


def _enter_again(epoll: int, taken: int, number: int, events: int, data: int) -> None:
    """The kernel knows an entry by its file and by its number in the process that made it, so this needs the same one;
    a child has no other use for it."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            spare = _HIGH if number != _HIGH else _HIGH + 1
            epoll = fcntl.fcntl(epoll, fcntl.F_DUPFD_CLOEXEC, spare)
            if taken != number:
                os.dup2(taken, number, inheritable=False)
            packed = struct.pack("<IQ" if platform.machine() == "x86_64" else "=IxxxxQ", events, data)
            buffer = ctypes.create_string_buffer(packed, len(packed))
            _pidfd.libc().epoll_ctl(epoll, _EPOLL_CTL_DEL, number, buffer)
            status = (
                0 if _pidfd.libc().epoll_ctl(epoll, _EPOLL_CTL_ADD, number, buffer) == 0 else ctypes.get_errno() or 1
            )
        os._exit(status)
    _pid, status = os.waitpid(child, 0)
    if status:
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
        raise OSError(code, os.strerror(code))


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []

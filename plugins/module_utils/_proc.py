# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What /proc says about processes, their descriptors, mappings and mounts: types, and parsers of its text. Pure."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _files

# How the kernel marks a file in /proc that has lost the name it was opened by.
DELETED = " (deleted)"
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "time_for_children", "user", "uts")

# What a thread may have for itself.
DESCRIPTORS, DIRECTORY, DIRECTORY_STATE, NETWORK, NAMESPACE = "descriptors", "directory", "state", "net", "namespace"

_OCTAL = re.compile(r"\\([0-7]{3})")
_PREFIX_TAG = re.compile(r"(shared|master):(\d+)\Z")


@dataclass(frozen=True)
class Descriptor:
    """One open descriptor. link: where /proc/PID/fd/NUMBER points. info: the text of its fdinfo where it matters.

    status: of what it points to, for paths only. protocol: the kernel's name for the protocol of a socket.
    visible: None unless it was asked whether its path still leads to it. file_system: its type, for paths on a known mount.
    astray: of inotify, watched files to which their path does not lead, each with the type of its file system.
    """

    number: int
    link: str
    info: str = ""
    status: os.stat_result | None = None
    protocol: str = ""
    visible: bool | None = None
    file_system: str = ""
    astray: tuple[tuple[str, str], ...] = ()

    @property
    def inode(self) -> int:
        """N of `socket:[N]`, `pipe:[N]` and their like; 0 for everything else."""
        match = re.search(r":\[(\d+)\]\Z", self.link)
        return int(match.group(1)) if match else 0

    @property
    def kind(self) -> str:
        """What a link means that is no path: `socket`, `pipe`, `net` ..., and for `anon_inode:[x]` the bare `x`."""
        before, _colon, after = self.link.partition(":")
        return after.strip("[]") if before == "anon_inode" else before


@dataclass(frozen=True)
class Mapping:
    """A mapping that is not a plain file or memory. status: of what is mapped, where that could be asked."""

    start: int
    path: str
    status: os.stat_result | None = None


@dataclass(frozen=True)
class Timer:
    """One POSIX timer. clock: the number of its clock. thread: the task it names with SIGEV_THREAD_ID, else 0."""

    clock: int
    thread: int = 0


@dataclass(frozen=True)
class Task:
    """One process. inside: its pid in the innermost namespace. session: its session there, 0 for one it cannot see.

    state: the letter in /proc/PID/stat. anonymous, shared: KiB. filters: how many seccomp filters it has; mode: of
    seccomp. pending: mask of its signals. namespaces: name to `name:[inode]`. users, groups: real, effective and saved id.
    size: of its address space in bytes. limits: the soft ones of setrlimit(), by their names in /proc/PID/limits. tids: its threads by their ids, and
    inside_tids by those in the innermost namespace; both only where it has POSIX timers. apart: what a thread has for itself,
    by one of the constants below. affinities: of its threads. personality, slack: of personality() and in ns, as /proc says.
    core_filter: what of it a core dump has.
    """

    pid: int
    inside: int
    name: str
    state: str
    threads: int = 1
    tracer: int = 0
    session: int = 1
    pending: int = 0
    mode: int = 0
    filters: int = 0
    anonymous: int = 0
    shared: int = 0
    namespaces: t.Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[Descriptor, ...] = ()
    mappings: tuple[Mapping, ...] = ()
    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    size: int = 0
    limits: t.Mapping[str, int] = field(default_factory=dict)
    timers: tuple[Timer, ...] = ()
    tids: frozenset[int] = frozenset()
    inside_tids: frozenset[int] = frozenset()
    apart: frozenset[str] = frozenset()
    affinities: frozenset[frozenset[int]] = frozenset()
    personality: int = 0
    slack: int | None = None
    core_filter: str = ""

    @property
    def label(self) -> str:
        """How a finding calls it."""
        return f"{self.name} (pid {self.pid}, {self.inside} inside)"


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo. device: `MAJOR:MINOR`. shared, master: peer groups, 0 for none. options: of the superblock.
    flags: of the mount itself."""

    number: int
    parent: int
    device: str
    root: str
    target: str
    shared: int
    master: int
    type: str
    source: str
    options: str
    flags: str = ""

    @property
    def base_type(self) -> str:
        """The type without what a FUSE file system calls itself: `fuse` for `fuse.lxcfs`."""
        return self.type.partition(".")[0]


def status(text: str) -> dict[str, str]:
    """The fields of /proc/PID/status or of an fdinfo; of a name that comes twice the first."""
    found: dict[str, str] = {}
    for line in _files.lines(text):
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name, value.strip(" \t"))
    return found


_MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)


def mount_id(info: str) -> int:
    """The mount that the text of an fdinfo names, or 0."""
    match = _MOUNT_ID.search(info)
    return int(match.group(1)) if match else 0


def task(pid: int, text: str) -> Task:
    """A process by the text of its /proc/PID/status."""
    fields = status(text)
    return Task(
        pid=pid,
        inside=_last(fields.get("NSpid", str(pid))),
        name=fields.get("Name", ""),
        state=fields.get("State", "?")[:1],
        threads=_number(fields, "Threads"),
        tracer=_number(fields, "TracerPid"),
        session=_last(fields.get("NSsid", "1")),
        pending=int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16),
        mode=_number(fields, "Seccomp"),
        filters=_number(fields, "Seccomp_filters"),
        anonymous=_number(fields, "RssAnon") + _number(fields, "VmSwap"),
        shared=_number(fields, "RssShmem"),
        users=_ids(fields, "Uid"),
        groups=_ids(fields, "Gid"),
        size=_number(fields, "VmSize") * 1024,
    )


_TIMER = re.compile(r"^notify: \w+/(\w+)\.(\d+)\nClockID: (-?\d+)$", re.MULTILINE)


def timers(text: str) -> tuple[Timer, ...]:
    """The POSIX timers in the text of /proc/PID/timers."""
    return tuple(Timer(int(clock), int(number) if kind == "tid" else 0) for kind, number, clock in _TIMER.findall(text))


_LIMIT = re.compile(r"^(Max [a-z -]+?)  +(\d+) ", re.MULTILINE)


def limits(text: str) -> dict[str, int]:
    """The soft limits in the text of /proc/PID/limits by the names there, such as `Max open files`; none that is unlimited."""
    return {name: int(number) for name, number in _LIMIT.findall(text)}


def mounts(text: str) -> list[Mount]:
    """The mounts in the text of a mountinfo."""
    found = []
    for line in _files.lines(text):
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 2:
            continue
        tags = {match.group(1): match.group(2) for match in map(_PREFIX_TAG.match, fields[6:]) if match}
        found.append(
            Mount(
                number=int(fields[0]),
                parent=int(fields[1]),
                device=fields[2],
                root=unescape(fields[3]),
                target=unescape(fields[4]),
                shared=int(tags.get("shared", 0)),
                master=int(tags.get("master", 0)),
                type=tail[0],
                source=unescape(tail[1]),
                options=tail[2] if len(tail) > 2 else "",
                flags=fields[5],
            )
        )
    return found


# What a line of maps contains where it is worth a look; most processes have no such line.
_UNUSUAL = re.compile(r"\(deleted\)|/dev/|anon_inode:|\[uprobes\]|/SYSV|hugepage|/secretmem|socket:\[")
# Shared memory without a name, System V memory, POSIX asynchronous I/O and memfd: the kernel's own, and CRIU's to keep.
_KERNEL_FILES = re.compile(r"/dev/zero \(deleted\)|/memfd:|/dev/shm/[^ ]*\Z|/\[aio\]")


def unusual_mappings(text: str) -> list[Mapping]:
    """The mappings in the text of /proc/PID/maps that may be more than memory and plain files; no status yet."""
    if not _UNUSUAL.search(text):
        return []
    found = []
    for line in _files.lines(text):
        fields = line.split(None, 5)
        if len(fields) == 6 and _UNUSUAL.search(fields[5]) and not _KERNEL_FILES.match(fields[5]):
            found.append(Mapping(int(fields[0].partition("-")[0], 16), fields[5]))
    return found


def map_file(text: str, start: int) -> str:
    """The name below /proc/PID/map_files of the mapping that begins at start; "" where there is none."""
    match = re.search(rf"^0*{start:x}-([0-9a-f]+) ", text, re.MULTILINE)
    return f"{start:x}-{int(match.group(1), 16):x}" if match else ""


def _number(fields: t.Mapping[str, str], name: str) -> int:
    words = fields.get(name, "").split()
    return int(words[0]) if words else 0


def _ids(fields: t.Mapping[str, str], name: str) -> frozenset[int]:
    # Real, effective, saved, and the one for file systems, which no check of the kernel's here looks at.
    return frozenset(int(word) for word in fields.get(name, "").split()[:3])


def _last(text: str) -> int:
    return int(text.split()[-1])


def unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text) if "\\" in text else text

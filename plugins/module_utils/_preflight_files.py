# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about open descriptors and mappings: what CRIU has no image for. Pure."""

from __future__ import annotations

import os
import re
import stat
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _preflight_watches, _proc, _versions

# Read: dump_one_file() in CRIU's files.c.
_KEPT = frozenset(("eventfd", "eventpoll", "signalfd", "timerfd", "inotify", "fanotify"))
_REMEDIES = {
    "bpf-prog": "Where it is systemd, set IPAddressAllow=, IPAddressDeny=, DevicePolicy=auto, DeviceAllow=, "
    "PrivateDevices=no and ProtectClock=no for its units; else stop the program.",
    "io_uring": "Configure the program not to use io_uring, or stop it first.",
    "perf_event": "End the profiler first.",
    "userfaultfd": "Stop the program first; virtual machines and CRIU's own lazy restore use it.",
}
_MEM, _MISC = 1, 10
_TUN, _AUTOFS = 200, 235
# NVIDIA's, graphics, and the majors that the kernel gives out itself (AMD's and NVIDIA's compute devices): CRIU has
# plugins for them, which may be there or not.
_PLUGIN_MAJORS = frozenset((195, 226, *range(234, 255)))
_FIRST_PIDFD = "4.1"
_GHOST_LIMIT = 1 << 20
_BLOCK = 512
_THREAD_FILE = re.compile(r"/(\d+)/task/(\d+)(?:/|\Z)")


def check(facts: _findings.Facts, options: _findings.Options) -> list[_findings.Finding]:
    """Every finding about descriptors and mappings but for sockets and terminals."""
    found: list[_findings.Finding] = []
    pids = frozenset(task.pid for task in facts.tasks)
    for task in facts.tasks:
        for one in task.descriptors:
            subject = f"{task.label}, descriptor {one.number}"
            found += _descriptor(facts, options, one, subject, pids)
        found += _mappings(facts, options, task)
        found += _session_files(facts, options, task)
    return found


def _descriptor(
    facts: _findings.Facts, options: _findings.Options, one: _proc.Descriptor, subject: str, pids: frozenset[int]
) -> t.Iterable[_findings.Finding]:
    if one.link.startswith("/"):
        return _path(facts, options, one, subject)
    if one.link.startswith("anon_inode:"):
        return _anonymous(facts, options, one, subject, pids)
    if one.kind == "pipe":
        return _pipe(facts, one, subject)
    if one.kind == "socket":
        return ()
    if one.inode:
        return _namespace_file(facts, one, subject)
    return [_unsupported(one.link, subject)]


def _unsupported(what: str, subject: str) -> _findings.Finding:
    return _findings.Finding(
        "descriptor",
        _findings.BLOCKS,
        subject,
        f"It is open on {what}, which CRIU cannot dump.",
        _REMEDIES.get(what, "Stop the program, or configure it not to use this."),
    )


def _anonymous(
    facts: _findings.Facts, options: _findings.Options, one: _proc.Descriptor, subject: str, pids: frozenset[int]
) -> t.Iterator[_findings.Finding]:
    kind = one.kind
    if kind in ("inotify", "fanotify"):
        yield from _preflight_watches.check(facts, options, one, subject)
    elif kind == "bpf-map":
        yield from _bpf_map(facts, one, subject)
    elif kind == "pidfd":
        yield from _pidfd(facts, one, subject, pids)
    elif kind not in _KEPT:
        yield _unsupported(kind, subject)


def _bpf_map(facts: _findings.Facts, one: _proc.Descriptor, subject: str) -> t.Iterator[_findings.Finding]:
    map_type = _proc.status(one.info).get("map_type", "")
    # Hash and array, the two that CRIU's bpfmap.c knows.
    if not facts.criu_bpf:
        yield _findings.Finding(
            "descriptor",
            _findings.BLOCKS,
            subject,
            "It is open on a BPF map, and this CRIU was built without libbpf.",
            "Stop the program, or use a CRIU that was built with libbpf.",
        )
    elif map_type not in ("1", "2"):
        yield _unsupported(f"a BPF map of type {map_type}", subject)


def _pidfd(
    facts: _findings.Facts, one: _proc.Descriptor, subject: str, pids: frozenset[int]
) -> t.Iterator[_findings.Finding]:
    fields = _proc.status(one.info)
    pid = int(fields.get("Pid", "-1"))
    if facts.criu_version and not _versions.at_least(facts.criu_version, _FIRST_PIDFD):
        yield _findings.Finding(
            "pidfd",
            _findings.BLOCKS,
            subject,
            f"It is a pidfd, which CRIU {facts.criu_version} cannot dump.",
            f"Use CRIU {_FIRST_PIDFD} or newer.",
        )
    elif int(fields.get("flags", "0"), 8) & os.O_EXCL:
        yield _findings.Finding(
            "pidfd",
            _findings.BLOCKS,
            subject,
            "It is a pidfd of a thread, which CRIU cannot dump.",
            "Stop the program first.",
        )
    elif pid != -1 and pid not in pids:
        yield _findings.Finding(
            "pidfd",
            _findings.BLOCKS,
            subject,
            f"It is a pidfd of process {pid}, which is not dumped with the container.",
            "End that process, or the one that watches it.",
        )


def _pipe(facts: _findings.Facts, one: _proc.Descriptor, subject: str) -> t.Iterator[_findings.Finding]:
    flags = int(_proc.status(one.info).get("flags", "0"), 8)
    autofs = any(
        f"pipe_ino={one.inode}" in mount.options.split(",") for mount in facts.mounts if mount.type == "autofs"
    )
    if flags & os.O_DIRECT and not autofs:
        yield _findings.Finding(
            "packet-pipe",
            _findings.BLOCKS,
            subject,
            "It is a pipe in packet mode (O_DIRECT), which CRIU cannot dump.",
            "Stop the program first.",
        )


def _namespace_file(facts: _findings.Facts, one: _proc.Descriptor, subject: str) -> t.Iterator[_findings.Finding]:
    known = {found for task in facts.tasks for found in task.namespaces.values()} | set(facts.own_namespaces.values())
    if one.link not in known:
        yield _findings.Finding(
            "namespace-file",
            _findings.BLOCKS,
            subject,
            f"It keeps a namespace open ({one.link}) in which no process of the container lives.",
            "Close it: for network namespaces, `ip netns delete` inside.",
        )


def _path(
    facts: _findings.Facts, options: _findings.Options, one: _proc.Descriptor, subject: str
) -> t.Iterator[_findings.Finding]:
    if one.link.startswith("/memfd:"):
        return
    number = _proc.mount_id(one.info)
    status = one.status
    if number and number not in facts.mount_ids:
        if not _given_terminal(one, options):
            yield _outside(one.link, subject)
        return
    if one.file_system == "proc":
        yield from _process_file(one, subject)
    if status is None:
        return
    if stat.S_ISCHR(status.st_mode):
        yield from _device_file(one, status, subject)
    elif stat.S_ISBLK(status.st_mode):
        yield _findings.Finding(
            "device",
            _findings.BLOCKS,
            subject,
            f"It is open on the block device {one.link}.",
            "Close it, or stop the program.",
        )
    else:
        yield from _name(options, one.link, status, subject, one.visible)


def _process_file(one: _proc.Descriptor, subject: str) -> t.Iterator[_findings.Finding]:
    match = _THREAD_FILE.search(one.link)
    # CRIU opens files before it makes any thread but the first.
    if match and match.group(1) != match.group(2):
        yield _findings.Finding(
            "thread-file",
            _findings.BLOCKS,
            subject,
            f"It keeps {one.link}, a file of a thread, which CRIU dumps and cannot restore.",
            "Stop the program first, mostly one that watches threads; files of /proc/PID itself are no trouble.",
        )


def _given_terminal(one: _proc.Descriptor, options: _findings.Options) -> bool:
    """Whether it is a terminal that CRIU takes from outside: any with --shell-job."""
    return one.status is not None and is_terminal(one.status.st_rdev) and options.allows.shell_job


def _outside(link: str, subject: str) -> _findings.Finding:
    if link.startswith("/secretmem"):
        return _unsupported("secret memory (memfd_secret)", subject)
    return _findings.Finding(
        "outside-file",
        _findings.BLOCKS,
        subject,
        f"It is open on {link}, which is on no file system that is mounted in the container.",
        "Close it: such a file comes from outside, from an unmounted file system or is a POSIX message queue.",
    )


def _device_file(one: _proc.Descriptor, status: os.stat_result, subject: str) -> t.Iterator[_findings.Finding]:
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if major == _MEM or (major, minor) in ((_MISC, _TUN), (_MISC, _AUTOFS)) or is_terminal(status.st_rdev):
        return
    plugin = major in _PLUGIN_MAJORS
    yield _findings.Finding(
        "device",
        _findings.MAY_FAIL if plugin else _findings.BLOCKS,
        subject,
        f"It is open on the device {one.link} ({major}:{minor}), which CRIU "
        + ("can dump only with a plugin." if plugin else "cannot dump."),
        "Stop the program first.",
    )


def is_terminal(rdev: int) -> bool:
    """Whether CRIU takes a character device for a terminal that it knows (read: get_tty_driver() in its tty.c)."""
    major, minor = os.major(rdev), os.minor(rdev)
    if major == 5:
        return minor < 3
    return (major == 4 and 1 <= minor <= 63) or major in (136, 188, 204) or 128 <= major <= 135


def _name(
    options: _findings.Options, path: str, status: os.stat_result, subject: str, visible: bool | None = True
) -> t.Iterator[_findings.Finding]:
    limit = _GHOST_LIMIT if options.criu.ghost_limit is None else options.criu.ghost_limit
    size = status.st_blocks * _BLOCK
    bare = path[: -len(_proc.DELETED)] if path.endswith(_proc.DELETED) else path
    if status.st_nlink == 0:
        if size > limit:
            yield _findings.Finding(
                "ghost-file",
                _findings.BLOCKS,
                subject,
                f"It keeps the deleted file {bare} of {size} bytes, and ghost_limit is {limit}.",
                f"Set ghost_limit to {size} or more, or restart the program.",
            )
    elif path.endswith(_proc.DELETED):
        # For the files of a process that has ended CRIU makes that process again.
        if not options.criu.link_remap and not path.startswith("/proc/"):
            yield _findings.Finding(
                "unlinked-file",
                _findings.BLOCKS,
                subject,
                f"It keeps {bare}, whose name was removed and which has another one.",
                "Set link_remap to true.",
            )
    elif visible is False:
        yield _findings.Finding(
            "hidden-file",
            _findings.BLOCKS,
            subject,
            f"It keeps {path}, and something else is mounted there by now.",
            "Unmount what hides it, or restart the program.",
        )


def _mappings(facts: _findings.Facts, options: _findings.Options, task: _proc.Task) -> t.Iterator[_findings.Finding]:
    for one in task.mappings:
        subject = f"{task.label}, mapping at {one.start:x}"
        if one.path.startswith("/SYSV"):
            if facts.init.namespaces.get("ipc") == facts.own_namespaces.get("ipc") != "":
                yield _findings.Finding(
                    "host-ipc",
                    _findings.BLOCKS,
                    subject,
                    "It uses System V shared memory, and the container shares the host's IPC namespace.",
                    "Leave out lxc.namespace.keep = ipc.",
                )
        elif one.path == "[uprobes]":
            if not options.allows.uprobes:
                yield _findings.Finding(
                    "uprobes",
                    _findings.BLOCKS,
                    subject,
                    "A tracer on the host has put uprobes into it.",
                    "End the tracer first.",
                )
        elif "hugepage" in one.path:
            yield _findings.Finding(
                "hugepages",
                _findings.NOTE,
                subject,
                "It uses huge pages; a restore needs as many free ones.",
                "Keep vm.nr_hugepages as it is until the restore, on the target of a move as well.",
            )
        elif one.path.startswith("/secretmem"):
            yield _unsupported("secret memory (memfd_secret)", subject)
        elif one.path.startswith("anon_inode:"):
            yield _unsupported(one.path[len("anon_inode:") :].strip("[]"), subject)
        elif one.status is not None and stat.S_ISREG(one.status.st_mode):
            yield from _name(options, one.path, one.status, subject)
        elif one.status is not None and one.status.st_rdev != os.makedev(1, 5):
            yield _findings.Finding(
                "device",
                _findings.BLOCKS,
                subject,
                f"It has mapped {one.path}, which CRIU cannot dump.",
                "Stop the program first.",
            )


def _session_files(
    facts: _findings.Facts, options: _findings.Options, task: _proc.Task
) -> t.Iterator[_findings.Finding]:
    if task.pid in facts.locks and not options.criu.file_locks:
        yield _findings.Finding(
            "file-locks",
            _findings.BLOCKS,
            task.label,
            "It holds file locks, and file_locks is false.",
            "Set file_locks to true.",
        )

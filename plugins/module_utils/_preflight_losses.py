# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about what a process has and CRIU does not keep, though dump and restore go well. Pure but for look()."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _files, _findings, _kcmp, _proc, _proc_files, _runner

# The kernel's for every task that has not asked for another one; real-time tasks have none.
_SLACK = 50_000
_SHM_DEST = 0o1000
_THREAD_NAMESPACES = ("net", "mnt", "uts", "ipc", "cgroup")
_APART = {
    _proc.DESCRIPTORS: "descriptors of its own",
    _proc.DIRECTORY: "a working or root directory of its own",
    _proc.NETWORK: "a network namespace of its own",
    _proc.NAMESPACE: "a namespace of its own",
}


def look(top: str, pid: int, namespaces: t.Mapping[str, str]) -> dict[str, t.Any]:
    """What CRIU does not keep of one process, as fields of _proc.Task. top: its directory in /proc."""
    tids = [int(name) for name in _proc_files.entries(f"{top}/task")]
    affinities = set()
    for tid in tids:
        with contextlib.suppress(OSError):
            affinities.add(frozenset(os.sched_getaffinity(tid)))
    with _proc_files.directory(top) as here:
        slack, domain, core_filter = (
            _proc_files.read(name, here).strip() if here >= 0 else ""
            for name in ("timerslack_ns", "personality", "coredump_filter")
        )
    return {
        "apart": frozenset(word for tid in tids if tid != pid for word in apart(top, pid, tid, namespaces)),
        "affinities": frozenset(affinities),
        "personality": int(domain or "0", 16),
        "slack": int(slack) if slack.isdigit() else None,
        "core_filter": core_filter,
    }


def apart(top: str, pid: int, tid: int, namespaces: t.Mapping[str, str]) -> list[str]:
    """What a thread has for itself. top: the directory of its process in /proc, whose namespaces these are."""
    found = []
    if _kcmp.compare(pid, tid, _kcmp.FILES) in (1, 2):
        found.append(_proc.DESCRIPTORS)
    if _kcmp.compare(pid, tid, _kcmp.FS) in (1, 2):
        places = [
            (_proc_files.link(f"{one}/cwd"), _proc_files.link(f"{one}/root")) for one in (top, f"{top}/task/{tid}")
        ]
        found.append(_proc.DIRECTORY_STATE if places[0] == places[1] else _proc.DIRECTORY)
    with _proc_files.directory(f"{top}/task/{tid}/ns") as links:
        for name in _THREAD_NAMESPACES if links >= 0 else ():
            own = _proc_files.link(name, links)
            if own and own != namespaces.get(name, own):
                found.append(_proc.NETWORK if name == "net" else _proc.NAMESPACE)
    return found


def removed_segments(runner: _runner.Runner, init: _proc.Task, own: str, *, proc: str = "/proc") -> int:
    """How many System V segments of the container's IPC namespace go with their last user. own: the namespace that is not asked."""
    if init.namespaces.get("ipc", own) == own:
        return 0
    text = runner.run(["nsenter", f"--ipc={proc}/{init.pid}/ns/ipc", "cat", "/proc/sysvipc/shm"]).stdout
    rows = [line.split() for line in _files.lines(text)[1:]]
    return sum(bool(int(row[2], 8) & _SHM_DEST) for row in rows if len(row) > 2)


def check_segments(number: int) -> list[_findings.Finding]:
    """The finding about so many segments that go with their last user."""
    if not number:
        return []
    return [
        _findings.lost(
            "removed-segment",
            "System V shared memory",
            f"{number} of its segments {'are' if number > 1 else 'is'} marked to go with the last user (IPC_RMID); after a restore "
            "they stay until they are removed again.",
            "Run `ipcrm --shmem-id ID` inside after the restore; ipcs -m lists them.",
        )
    ]


def check(facts: _findings.Facts, own_core_filter: str) -> list[_findings.Finding]:
    """Every finding about what a process has and does not get back. own_core_filter: of this host's tasks."""
    everywhere = frozenset().union(*facts.init.affinities)
    found: list[_findings.Finding] = []
    for task in facts.tasks:
        found += _threads(task)
        found += _attributes(task, everywhere, own_core_filter)
    return found


def _threads(task: _proc.Task) -> t.Iterator[_findings.Finding]:
    grave = [text for word, text in _APART.items() if word in task.apart]
    if grave:
        yield _findings.lost(
            "thread-apart",
            task.label,
            f"One of its threads has {' and '.join(grave)}; after a restore it has those of the first thread.",
            "Stop the program first, and start it again after the restore.",
            grave=True,
        )
    elif _proc.DIRECTORY_STATE in task.apart:
        yield _findings.lost(
            "thread-directory",
            task.label,
            "One of its threads may change its directory without the others (CLONE_FS); after a restore all change together.",
            "Restart the program after the restore.",
        )


def _attributes(task: _proc.Task, everywhere: frozenset[int], own_core_filter: str) -> t.Iterator[_findings.Finding]:
    if any(one < everywhere for one in task.affinities):
        narrow = min((one for one in task.affinities if one < everywhere), key=sorted)
        yield _findings.lost(
            "affinity",
            task.label,
            f"It is bound to CPU {','.join(map(str, sorted(narrow)[:8]))}; after a restore it runs on every CPU of the container.",
            "Bind it again with taskset after the restore, or restart its service.",
        )
    if task.personality:
        yield _findings.lost(
            "personality",
            task.label,
            f"Its execution domain is {task.personality:#x} (personality, setarch); after a restore it is the usual one.",
            "Restart it after the restore.",
        )
    if task.slack not in (None, 0, _SLACK):
        yield _findings.lost(
            "timer-slack",
            task.label,
            f"Its timer slack is {task.slack} ns; after a restore it is {_SLACK}.",
            f"Write {task.slack} into /proc/PID/timerslack_ns after the restore.",
        )
    if task.core_filter and own_core_filter and int(task.core_filter, 16) != int(own_core_filter, 16):
        yield _findings.lost(
            "core-filter",
            task.label,
            f"Its filter for core dumps is {task.core_filter}; after a restore it is {own_core_filter}.",
            f"Write 0x{task.core_filter} into /proc/PID/coredump_filter after the restore.",
        )

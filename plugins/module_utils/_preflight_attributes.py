# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about what a single process has: POSIX timers, limits, an owner, memory of its own. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _proc

# What CRIU maps into each process: its code and stacks, and 16 bytes for each page that may have to be dumped (read:
# compel_infect() and dump_pages_args_size()).
PARASITE = 128 << 10
PARASITE_SHARE = 256
# The socket that the parasite talks over, and a pipe for the memory.
PARASITE_FILES = 3


def check(facts: _findings.Facts) -> list[_findings.Finding]:
    """Every finding about the timers, limits, owners and memory of processes."""
    found: list[_findings.Finding] = []
    for task in facts.tasks:
        found += _timers(facts, task)
        found += _address_space(task)
        found += _open_files(task)
        found += _owner(facts, task)
    found += _sharing(facts)
    return found


def _timers(facts: _findings.Facts, task: _proc.Task) -> t.Iterator[_findings.Finding]:
    nested = task.namespaces.get("pid") != facts.own_namespaces.get("pid")
    processes = {one.inside for one in facts.tasks}
    for timer in task.timers:
        if timer.thread and timer.thread not in task.tids:
            what = "It has a POSIX timer for a thread that has ended (SIGEV_THREAD_ID), which CRIU cannot dump."
        elif timer.thread == task.pid and nested:
            # CRIU's encode_notify_thread_id() runs before the first thread's id in the namespace is filled in.
            # With one thread the dump goes well, and the restore fails; with more the dump fails.
            what = "It has a POSIX timer for its first thread (SIGEV_THREAD_ID), which CRIU cannot keep in a pid namespace."
        elif timer.clock < 0 and _clock_owner(timer) not in (task.inside_tids | processes | {0}):
            what = (
                "It has a POSIX timer on the CPU clock of a thread or process that has ended, which CRIU dumps and "
                "cannot restore."
            )
        else:
            continue
        yield _findings.Finding(
            "timer", _findings.BLOCKS, task.label, what, "Stop the program first; mostly it is a profiler."
        )


def _clock_owner(timer: _proc.Timer) -> int:
    # MAKE_PROCESS_CPUCLOCK() of the kernel: the complement of the pid above three bits of flags.
    return ~(timer.clock >> 3)


def _address_space(task: _proc.Task) -> t.Iterator[_findings.Finding]:
    most = task.limits.get("Max address space")
    if most is None or task.state == "Z":
        return
    needed = PARASITE + task.size // PARASITE_SHARE
    room = most - task.size
    if room < needed:
        yield _findings.Finding(
            "address-space",
            _findings.BLOCKS,
            task.label,
            f"Its limit of address space (RLIMIT_AS) is {most} bytes and {max(room, 0)} are free; CRIU needs {needed}.",
            f"Run `prlimit --pid {task.pid} --as=unlimited` for the time of the dump, or raise the limit of its service "
            "(LimitAS=).",
        )


def _open_files(task: _proc.Task) -> t.Iterator[_findings.Finding]:
    most = task.limits.get("Max open files")
    if most is None or task.state == "Z":
        return
    used = sum(one.number < most for one in task.descriptors)
    if most - used < PARASITE_FILES:
        yield _findings.Finding(
            "open-files",
            _findings.BLOCKS,
            task.label,
            f"It has {used} of {most} files open that it may (RLIMIT_NOFILE); CRIU needs {PARASITE_FILES} more in it.",
            f"Run `prlimit --pid {task.pid} --nofile={most + 16}:` for the time of the dump, or raise the limit of its service "
            "(LimitNOFILE=).",
        )


def _owner(facts: _findings.Facts, task: _proc.Task) -> t.Iterator[_findings.Finding]:
    # A user namespace that root has made grants root everything in it.
    if facts.resource or task.state == "Z" or task.namespaces.get("user") != facts.own_namespaces.get("user"):
        return
    if (task.users | task.groups) - {0}:
        yield _findings.Finding(
            "resource-capability",
            _findings.BLOCKS,
            task.label,
            "It runs as another user than root, whose limits CRIU cannot read, since this host's root lacks CAP_SYS_RESOURCE.",
            "Give the task CAP_SYS_RESOURCE, as root of the real host has it; or use a container with a user namespace (lxc.idmap).",
        )


def _sharing(facts: _findings.Facts) -> t.Iterator[_findings.Finding]:
    tasks = {task.pid: task for task in facts.tasks}
    for group in facts.sharing:
        # The parent waits in the kernel until its child runs a program (vfork): that is a finding of its own.
        if any(tasks[pid].state == "D" for pid in group):
            continue
        first, *others = (tasks[pid].label for pid in group)
        yield _findings.Finding(
            "shared-address-space",
            _findings.BLOCKS,
            first,
            f"It shares its memory with {', '.join(others[:3])} (clone with CLONE_VM), which CRIU cannot dump.",
            "Stop the program first; where one of them is just being started (vfork), run the task again.",
        )

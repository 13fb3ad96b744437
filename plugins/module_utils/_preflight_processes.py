# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about the processes themselves: state, session, tracer, namespaces, seccomp. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _preflight_mounts, _proc

# CRIU restores several mount and network namespaces, and one of each other kind (read: CLONE_SUBNS in its namespaces.h).
_ONE_ONLY = ("cgroup", "ipc", "pid", "time", "user", "uts")
_UNIT_REMEDY = {
    "uts": "ProtectHostname=no",
    "ipc": "PrivateIPC=no",
    "user": "PrivateUsers=no",
    "cgroup": "ProtectControlGroups=no",
    "pid": "PrivatePIDs=no",
}
_SIGTRAP = 1 << (5 - 1)


def check(facts: _findings.Facts) -> list[_findings.Finding]:
    """Every finding about the processes of a container."""
    found = [finding for task in facts.tasks for finding in _state(task)]
    found += _sessions(facts)
    found += _namespaces(facts)
    found += _seccomp(facts)
    return found


def _state(task: _proc.Task) -> t.Iterator[_findings.Finding]:
    if task.state == "Z" and task.threads > 1:
        yield _findings.Finding(
            "zombie-threads",
            _findings.BLOCKS,
            task.label,
            "Its first thread has ended and others go on, which CRIU cannot dump.",
            "End this process, or restart its service.",
        )
    elif task.state == "Z":
        yield _findings.Finding(
            "zombie", _findings.NOTE, task.label, "It is a zombie; CRIU keeps it as one.", "Nothing needs to be done."
        )
    if task.tracer:
        yield _findings.Finding(
            "traced",
            _findings.BLOCKS,
            task.label,
            f"It is traced by process {task.tracer}, and only one tracer is possible.",
            "End the debugger or strace first.",
        )
    elif task.state == "D":
        yield _findings.Finding(
            "uninterruptible",
            _findings.MAY_FAIL,
            task.label,
            "It is in uninterruptible sleep; CRIU waits ten seconds for it, and then fails.",
            "Wait until it is through; where it stays so, look at the disk or the network file system it waits for.",
        )
    if task.pending & _SIGTRAP:
        yield _findings.Finding(
            "pending-sigtrap",
            _findings.MAY_FAIL,
            task.label,
            "A SIGTRAP waits for it, with which CRIU cannot dump it.",
            "Run the task again; where it stays so, end the process.",
        )


def _sessions(facts: _findings.Facts) -> t.Iterator[_findings.Finding]:
    for task in facts.tasks:
        # In a pid namespace of its own a process may not see its session's leader, and that is another finding.
        same = task.namespaces.get("pid") == facts.init.namespaces.get("pid")
        if task.session == 0 and task.state != "Z" and same:
            yield _findings.Finding(
                "foreign-session",
                _findings.BLOCKS,
                task.label,
                "The leader of its session is outside of the container, as with a daemon started by lxc-attach.",
                "Restart it from inside, or start it with `setsid`.",
            )


def _namespaces(facts: _findings.Facts) -> t.Iterator[_findings.Finding]:
    init, own = facts.init, facts.own_namespaces
    for task in facts.tasks:
        # A zombie has left its namespaces, and /proc no longer tells them.
        for name in _ONE_ONLY:
            found = task.namespaces.get(name, "")
            if found and found not in (init.namespaces.get(name), own.get(name)):
                unit = _UNIT_REMEDY.get(name)
                service = (
                    f"Where it is a service of systemd, set {unit} in its unit; else" if unit else "Start it so that"
                )
                tail = "start it without a namespace of its own." if unit else "it has no time namespace of its own."
                yield _findings.Finding(
                    f"nested-{name}-namespace",
                    _findings.BLOCKS,
                    task.label,
                    f"It lives in a namespace of its own ({name}), of which CRIU can dump only the container's.",
                    f"{service} {tail}",
                )
        children = task.namespaces.get("time_for_children")
        if children and children != task.namespaces.get("time"):
            yield _findings.Finding(
                "nested-time-namespace",
                _findings.BLOCKS,
                task.label,
                "Its children would live in another time namespace, which CRIU cannot dump.",
                "Start it so that it has no time namespace of its own.",
            )
    yield from _partly_kept(facts)


def _partly_kept(facts: _findings.Facts) -> t.Iterator[_findings.Finding]:
    own = facts.own_namespaces
    unrestorable = _preflight_mounts.unrestorable(facts)
    groups: dict[tuple[str, str], list[_proc.Task]] = {}
    for task in facts.tasks:
        for name in ("mnt", "net"):
            found = task.namespaces.get(name, "")
            if found and found not in (facts.init.namespaces.get(name), own.get(name)):
                groups.setdefault((name, found), []).append(task)
    for (name, namespace), tasks in groups.items():
        more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
        if namespace in facts.cgroup_files:
            yield _findings.Finding(
                "cgroup-file-mount",
                _findings.BLOCKS,
                tasks[0].label + more,
                f"{facts.cgroup_files[namespace]} is mounted in its mount namespace, which CRIU would restore as the whole of cgroup2.",
                "Where it is a service of systemd, set MemoryPressureWatch=off in its unit; else unmount it there.",
            )
        if name == "mnt":
            if namespace in unrestorable:
                yield _findings.Finding(
                    "nested-mount-namespace",
                    _findings.MAY_FAIL,
                    tasks[0].label + more,
                    f"It lives in a mount namespace of its own, whose {unrestorable[namespace]} shares its mounts with another "
                    "directory of the same file system, which CRIU dumps but cannot restore.",
                    f"Run `mount --make-private {unrestorable[namespace]}` in that namespace; for a service of systemd set the "
                    "option that makes this mount to no.",
                )
        else:
            yield _findings.Finding(
                "nested-network-namespace",
                _findings.MAY_FAIL,
                tasks[0].label + more,
                "It lives in a network namespace of its own, which CRIU keeps only as far as it knows what is in it.",
                "In a unit of systemd set PrivateNetwork=no; try a restore before you rely on it.",
            )


def _seccomp(facts: _findings.Facts) -> t.Iterator[_findings.Finding]:
    more = [task for task in facts.tasks if task.mode and task.filters > facts.init.filters]
    if more:
        yield _findings.Finding(
            "seccomp",
            _findings.NOTE,
            f"{more[0].label}{f' and {len(more) - 1} more' if len(more) > 1 else ''}",
            "It has installed seccomp filters of its own; CRIU keeps them.",
            "Nothing needs to be done.",
        )

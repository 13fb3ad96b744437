# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The cgroups that a container made below its payload cgroup in the v2 hierarchy, recorded for the hook.

CRIU makes the v1 hierarchies again as they were. In v2 it makes only cgroups that hold tasks, hands no controllers down
in time, and knows none of the limits but pids.max and those of cpuset (read: cgroup-props.c of CRIU 4.2.1).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import typing as t
from collections import Counter
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups, _errors, _files

# The record's name in the image directory.
RECORD = "cgroup-tree"
# What a cgroup has where nobody has set anything; a file that is not here and not in _SETTABLE is never recorded.
_DEFAULTS = {
    "cgroup.max.depth": "max",
    "cgroup.max.descendants": "max",
    "cpu.idle": "0",
    "cpu.max": "max 100000",
    "cpu.max.burst": "0",
    "cpu.uclamp.max": "max",
    "cpu.uclamp.min": "0.00",
    "cpu.weight": "100",
    "cpuset.cpus": "",
    "cpuset.mems": "",
    "io.latency": "",
    "io.max": "",
    "io.weight": "default 100",
    "memory.high": "max",
    "memory.low": "0",
    "memory.max": "max",
    "memory.min": "0",
    "memory.oom.group": "0",
    "memory.swap.high": "max",
    "memory.swap.max": "max",
    "memory.zswap.max": "max",
    "memory.zswap.writeback": "1",
    "misc.max": "",
    "pids.max": "max",
}
_HUGETLB = re.compile(r"hugetlb\.[0-9A-Z]+(\.rsvd)?\.max\Z")
# Without a value of its own such a file is not written: the kernel takes only what it prints, less the "default".
_MANY_LINES = frozenset(("io.latency", "io.max", "io.weight", "misc.max"))
_WEIGHTS_OF_IDLE = frozenset(("0", "1"))


@dataclass(frozen=True)
class Group:
    """One cgroup. path: below the payload cgroup, "." for itself. settings: before tasks are in it. limits: file and
    value, written when the tasks are there. owner: "UID:GID", empty for root's. given: the files that belong to that owner
    with the directory, where not all do: systemd and LXC hand a cgroup over without the files that limit it. shared: the
    owner's group may write to it, which is how LXC hands over the payload cgroup of an unprivileged container.
    """

    path: str
    settings: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    given: tuple[str, ...] | None = None
    shared: bool = False


def unified(hierarchies: t.Iterable[_cgroups.Hierarchy]) -> _cgroups.Hierarchy | None:
    """The v2 hierarchy among them, or None."""
    return next((one for one in hierarchies if one.unified), None)


def observe(hierarchy: _cgroups.Hierarchy) -> list[Group]:
    """The payload cgroup of a running container in the v2 hierarchy and every one below, parents first.

    The limits of the payload cgroup are among them: LXC sets those of the configuration at a start, not at a restore.
    """
    top = hierarchy.directory
    found = []
    for directory, children, files in os.walk(top):
        children.sort()
        path = os.path.relpath(directory, top)
        if "\n" in path:
            raise _errors.StasisError(
                f"A cgroup of the container has a line break in its name: {path!r}.",
                "Remove it; it cannot be recorded.",
            )
        with contextlib.suppress(OSError):  # one that has just been removed
            found.append(_group(directory, path, files))
    return found


def _group(directory: str, path: str, files: t.Collection[str]) -> Group:
    settings = []
    if _read(directory, "cgroup.type") == "threaded":
        settings.append(("cgroup.type", "threaded"))
    controllers = _read(directory, "cgroup.subtree_control").split()
    if controllers:
        settings.append(("cgroup.subtree_control", " ".join(f"+{name}" for name in controllers)))
    values = {name: _read(directory, name) for name in files if name in _DEFAULTS or _HUGETLB.match(name)}
    for name in ("cpuset.cpus", "cpuset.mems"):
        # A task may not enter a cpuset that the recorded ones are outside of.
        if values.pop(name, ""):
            settings.append((name, _read(directory, name)))
    owner = _owner(directory)
    given, shared = None, False
    if owner:
        shared = bool(os.stat(directory).st_mode & stat.S_IWGRP)
        theirs = tuple(sorted(name for name in files if _owner(os.path.join(directory, name)) == owner))
        # The payload cgroup is not the container's as a whole: what limits the container stays the host's.
        given = theirs if path == "." or shared or len(theirs) < len(files) else None
    return Group(path, tuple(settings), tuple(limits(values)), owner, given, shared)


def _owner(path: str) -> str:
    status = os.stat(path)
    return f"{status.st_uid}:{status.st_gid}" if status.st_uid or status.st_gid else ""


def limits(values: t.Mapping[str, str]) -> list[tuple[str, str]]:
    """The limits among the values of a cgroup's files that somebody has set, in the order in which they can be written."""
    found = []
    for name, value in sorted(values.items()):
        default = _DEFAULTS.get(name, "max")
        if value in ("", default):
            continue
        if name == "cpu.weight" and value in _WEIGHTS_OF_IDLE and values.get("cpu.idle") == "1":
            continue  # what cpu.idle makes of it, and the kernel refuses it as a weight
        lines = value.splitlines() if name in _MANY_LINES else [value]
        found += [(name, line) for line in lines if line != default]
    return found


def record(groups: t.Sequence[Group]) -> str:
    """The text of the record, or "" where there is nothing to make or to set. Lines, each with its newline:

    `owner UID:GID` of most cgroups; then for each one `dir PATH`, and behind it `own UID:GID` where it is another's as a
    whole, `give UID:GID MODE FILE...` where it is with these files only (MODE: for chmod), `set FILE VALUE`,
    `limit FILE VALUE`.
    """
    made = [group for group in groups if group.path != "."]
    if not made and not any(group.settings or group.limits or group.owner for group in groups):
        return ""
    lines = []
    whole = Counter(group.owner for group in made if group.given is None)
    common = whole.most_common(1)[0][0] if whole else ""
    if common:
        lines.append(f"owner {common}")
    for group in groups:
        lines.append(f"dir {group.path}")
        if group.given is not None:
            lines.append(" ".join(("give", group.owner, "g=u" if group.shared else "g-w", *group.given)))
        elif group.path != "." and group.owner != common:
            lines.append(f"own {group.owner or '0:0'}")
        lines += [f"set {name} {value}" for name, value in group.settings]
        lines += [f"limit {name} {value}" for name, value in group.limits]
    return "".join(f"{line}\n" for line in lines)


_LINES = {
    "owner": re.compile(r"[0-9]+:[0-9]+\Z"),
    "own": re.compile(r"[0-9]+:[0-9]+\Z"),
    "give": re.compile(r"[0-9]+:[0-9]+ g(=u|-w)( [a-z]+\.[A-Za-z0-9_.]+)*\Z"),
    "set": re.compile(r"(cgroup\.(type|subtree_control)|cpuset\.(cpus|mems)) [^\n]+\Z"),
    "limit": re.compile(r"[a-z]+\.[A-Za-z0-9.]+ [^\n]+\Z"),
}


def check(text: str) -> None:
    """Raise StasisError for a record that would have the hook write anywhere but below the payload cgroup."""
    for line in _files.lines(text):
        verb, _space, rest = line.partition(" ")
        if verb == "dir":
            sound = bool(rest) and not rest.startswith("/") and ".." not in rest.split("/")
        else:
            sound = verb in _LINES and bool(_LINES[verb].match(rest))
        if not sound:
            raise _errors.StasisError(
                f"The cgroup record of the checkpoint is damaged: {line!r}.", "Use another checkpoint."
            )


def _read(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read().strip()
    except OSError:
        return ""

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The census: what the kernel shows of a container just before its dump is compared with what it shows after the restore.

It is taken from outside, while the container runs. So what changes by itself is left out, or is the same in two looks.
It never fails a task: what could not be seen is a warning.
"""

from __future__ import annotations

import contextlib
import functools
import os
import typing as t
from collections import Counter

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _census_compare,
    _census_network,
    _census_tasks,
    _cgroup_tree,
    _cgroups,
    _errors,
    _files,
    _integrity,
    _preflight_look,
    _proc,
    _proc_files,
    _runner,
)

_MOST_WARNINGS = 20
_ONLINE = "/sys/devices/system/cpu/online"
# Mounted when somebody looks, and unmounted when nobody does.
_BY_THEMSELVES = frozenset(("autofs",))
# What a sentence calls the namespaces that are looked into.
_PLACES = {"net": "network", "ipc": "IPC", "uts": "host name", "mnt": "mounts"}
_DEVICES = frozenset(("devpts", "devtmpfs"))


class Taken(t.NamedTuple):
    """A census, and why parts of it are missing."""

    census: _census_compare.Census
    missing: list[str]


def take(runner: _runner.Runner, init: int, *, proc: str = "/proc") -> Taken:
    """What the kernel shows of the running container whose init this is."""
    missing: list[str] = []
    found: dict[str, _census_compare.Subject] = {}
    hierarchies: list[_cgroups.Hierarchy] = []

    def attempt(what: str, look: t.Callable[[], _census_compare.Census]) -> dict[str, _census_compare.Subject]:
        try:
            return dict(look())
        except (OSError, ValueError, LookupError, TypeError, _errors.StasisError) as exc:
            missing.append(f"{what}: {exc.what if isinstance(exc, _errors.StasisError) else exc}")
            return {}

    try:
        hierarchies = _cgroups.observe(init)
    except (OSError, ValueError, _errors.StasisError) as exc:
        missing.append(f"cgroups: {exc}")
    every_cpu = _every_cpu(hierarchies)

    pids = _preflight_look.descendants(init, proc)

    def tasks(*, brief: bool) -> _census_compare.Census:
        return _census_tasks.look(init, pids, every_cpu, proc=proc, brief=brief)

    first = attempt("processes", functools.partial(tasks, brief=False))
    namespaces = _namespaces(init, pids, proc)
    for key, place in namespaces.items():
        if place[0] == "mnt":
            mounts = _proc.mounts(_proc_files.read(f"{proc}/{place[1]}/mountinfo"))
            found[key] = _census_compare.Subject(things={"mount": _mounts(mounts)})
        else:
            found.update(attempt(key, functools.partial(_census_network.look, runner, {key: place}, proc=proc)))
    found.update(attempt("cgroups", lambda: _limits(hierarchies)))
    # Some time later.
    return Taken(
        {**found, **_census_compare.stable(first, attempt("processes", functools.partial(tasks, brief=True)))}, missing
    )


def _every_cpu(hierarchies: t.Sequence[_cgroups.Hierarchy]) -> frozenset[int]:
    """The processors that a task runs on that is not bound to some."""
    unified = _cgroup_tree.unified(hierarchies)
    directory = unified.directory if unified else ""
    while len(directory) > 1:
        found = _census_tasks.cpus_of(_proc_files.read(f"{directory}/cpuset.cpus.effective"))
        if found:
            return found
        directory = os.path.dirname(directory)
    return _census_tasks.cpus_of(_proc_files.read(_ONLINE))


def _namespaces(init: int, pids: t.Iterable[int], proc: str) -> dict[str, tuple[str, int]]:
    """The namespaces that are the container's, by what a sentence calls them: kind, and the first process in each."""
    own = _proc_files.namespaces(f"{proc}/self")
    depth = len(_proc.status(_proc_files.read(f"{proc}/{init}/status")).get("NSpid", "").split()) - 1
    seen: set[str] = set()
    found: dict[str, tuple[str, int]] = {}
    for pid in pids:
        for kind, word in _PLACES.items():
            link = _proc_files.link(f"{proc}/{pid}/ns/{kind}")
            if not link or link == own.get(kind) or link in seen:
                continue
            seen.add(link)
            if pid != init:
                status = _proc.status(_proc_files.read(f"{proc}/{pid}/status"))
                word += f" of process {_census_tasks.inside(status, depth)} ({status.get('Name', '')})"
            found[word] = (kind, pid)
    return found


def _mounts(mounts: t.Iterable[_proc.Mount]) -> dict[str, str]:
    found: dict[str, str] = {}
    count: Counter[str] = Counter()
    for one in mounts:
        # Device nodes of the host's are bound one by one. LXC's terminals are among them, and a restore has others.
        if one.type in _BY_THEMSELVES or (one.type in _DEVICES and one.root != "/"):
            continue
        count[one.target] += 1
        number = f" ({count[one.target]})" if count[one.target] > 1 else ""
        kind = " ".join(["shared"] * bool(one.shared) + ["slave"] * bool(one.master)) or "private"
        found[f"at {one.target}{number}"] = f"{one.type}, {one.flags}, {kind}"
    return found


def _limits(hierarchies: t.Sequence[_cgroups.Hierarchy]) -> dict[str, _census_compare.Subject]:
    unified = _cgroup_tree.unified(hierarchies)
    found = {}
    for group in _cgroup_tree.observe(unified) if unified else ():
        limits: dict[str, str] = {}
        for name, value in group.limits:
            limits[name] = f"{limits[name]}, {value}" if name in limits else value
        key = "cgroup of the container" if group.path == "." else f"cgroup {group.path}"
        found[key] = _census_compare.Subject(things={"limit": limits})
    return found


def record(runner: _runner.Runner, init: int, staging: str) -> list[str]:
    """Take the census and write it into an image; returns warnings."""
    taken = take(runner, init)
    data = _census_compare.encode(taken.census)
    if len(data) > _census_compare.LARGEST:
        return [
            f"The census of the container is too large to be kept ({len(data)} bytes): a restore will not say what is lost."
        ]
    path = os.path.join(staging, _census_compare.NAME)
    try:
        _files.write_durably(path, data)
    except OSError as exc:
        # A part of one is none.
        with contextlib.suppress(OSError):
            os.unlink(path)
        return [
            f"The census of the container could not be written ({exc.strerror}): a restore will not say what is lost."
        ]
    return _unseen("before the dump", taken.missing)


def losses(runner: _runner.Runner, init: int, image: str) -> tuple[list[str], list[str]]:
    """What the container has lost since the census of an image, a sentence each; and warnings, one for each of these too."""
    path = os.path.join(image, _census_compare.NAME)
    if not os.path.lexists(path):
        return [], []
    data = _integrity.read_regular(path, _census_compare.LARGEST + 1)
    try:
        before = _census_compare.decode(data or b"")
    except _errors.RecordError as exc:
        return [], [f"What the container has lost cannot be said: {exc.what}"]
    taken = take(runner, init)
    lost = _census_compare.compare(before, taken.census)
    warnings = [f"Not as before the dump: {line}" for line in lost[:_MOST_WARNINGS]]
    if len(lost) > _MOST_WARNINGS:
        warnings.append(f"Not as before the dump: {len(lost) - _MOST_WARNINGS} things more, see `lost` in the result.")
    return lost, warnings + _unseen("after the restore", taken.missing)


def _unseen(when: str, missing: t.Sequence[str]) -> list[str]:
    if not missing:
        return []
    return [
        f"Not everything of the container could be seen {when}, so a loss there will not be said: {'; '.join(missing)[:500]}"
    ]

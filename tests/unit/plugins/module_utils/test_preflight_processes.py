# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight's pure check of processes and their namespaces, on what real containers said and what cannot be made everywhere."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import _preflight_processes, _proc
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.facts import INSIDE, facts, process, words


def test_ordinary_processes_have_nothing() -> None:
    assert _preflight_processes.check(facts(process())) == []


@each(
    ("changes", "expected"),
    [
        ({"state": "Z", "namespaces": {}}, [("zombie", "note")]),
        ({"state": "Z", "threads": 2, "namespaces": {}}, [("zombie-threads", "blocks")]),
        ({"state": "D"}, [("uninterruptible", "may fail")]),
        ({"state": "t", "tracer": 9}, [("traced", "blocks")]),
        ({"state": "T"}, []),
        ({"session": 0}, [("foreign-session", "blocks")]),
        ({"pending": 1 << 4}, [("pending-sigtrap", "may fail")]),
        ({"pending": 1 << 5}, []),
        ({"mode": 2, "filters": 1}, []),
        ({"mode": 2, "filters": 2}, [("seccomp", "note")]),
        ({"namespaces": {**INSIDE, "uts": "uts:[3]"}}, [("nested-uts-namespace", "blocks")]),
        ({"namespaces": {**INSIDE, "pid": "pid:[3]"}, "session": 0}, [("nested-pid-namespace", "blocks")]),
        ({"namespaces": {**INSIDE, "uts": "uts:[1]"}}, []),
        ({"namespaces": {**INSIDE, "mnt": "mnt:[3]"}}, []),
        ({"namespaces": {**INSIDE, "net": "net:[3]"}}, [("nested-network-namespace", "may fail")]),
        ({"namespaces": {**INSIDE, "time_for_children": "time:[3]"}}, [("nested-time-namespace", "blocks")]),
    ],
)
def test_state_of_a_process(changes: dict[str, t.Any], expected: list[tuple[str, str]]) -> None:
    one = process(**changes)
    assert words(_preflight_processes.check(facts(one))) == expected


# Two that receive from one file system, each in another directory of it: CRIU cannot restore them.
SHARING = {
    "mnt:[3]": tuple(_proc.mounts("401 1 0:80 /a /srv rw master:9 - tmpfs x rw\n")),
    "mnt:[4]": tuple(_proc.mounts("402 1 0:80 /b /srv rw master:9 - tmpfs x rw\n")),
}


def test_many_processes_in_one_nested_mount_namespace_are_one_finding() -> None:
    nested = {**INSIDE, "mnt": "mnt:[3]"}
    tasks = [replace(process(), pid=pid, namespaces=nested) for pid in (5, 6, 7)]
    [one] = _preflight_processes.check(facts(*tasks, nested_mounts=SHARING))
    assert words([one]) == [("nested-mount-namespace", "may fail")]
    assert one.subject.endswith("and 2 more")
    assert "/srv" in one.what
    assert "mount --make-private /srv" in one.remedy


def test_file_of_a_cgroup_that_is_mounted_for_a_service_blocks() -> None:
    nested = replace(process(), namespaces={**INSIDE, "mnt": "mnt:[3]"})
    target = "/sys/fs/cgroup/system.slice/systemd-logind.service/memory.pressure"
    found = _preflight_processes.check(facts(nested, cgroup_files={"mnt:[3]": target, "mnt:[4]": "/elsewhere"}))
    assert words(found) == [("cgroup-file-mount", "blocks")]
    assert target in found[0].what
    assert "MemoryPressureWatch=off" in found[0].remedy

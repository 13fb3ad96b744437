# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight's pure check of timers, limits, owners and shared memory."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _preflight_attributes
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Descriptor, Timer
from ansible_collections.stasis.lxc.tests.unit.support.facts import INSIDE, OWN, facts, process, words

MIB = 1 << 20


def clock(pid: int, *, thread: bool = True) -> int:
    return (~pid << 3) | 2 | (4 if thread else 0)


@pytest.mark.parametrize(
    ("timer", "blocks"),
    [
        (Timer(1), False),
        (Timer(1, 102), False),
        (Timer(1, 101), True),
        (Timer(1, 103), True),
        (Timer(clock(3)), False),
        (Timer(clock(0)), False),
        (Timer(clock(9)), True),
        (Timer(clock(1, thread=False)), False),
    ],
    ids=[
        "signal",
        "thread",
        "first",
        "ended",
        "clock",
        "own clock",
        "clock of one that ended",
        "clock of another process",
    ],
)
def test_timers(timer: Timer, blocks: bool) -> None:
    one = process(timers=(timer,), tids=frozenset((101, 102)), inside_tids=frozenset((2, 3)))
    assert words(_preflight_attributes.check(facts(one))) == [("timer", "blocks")] * blocks


def test_timer_for_the_first_thread_is_kept_where_there_is_no_pid_namespace() -> None:
    one = process(timers=(Timer(1, 101),), tids=frozenset((101,)), namespaces={**INSIDE, "pid": OWN["pid"]})
    assert _preflight_attributes.check(facts(one)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"size": MIB, "limits": {"Max address space": MIB}}, ["address-space"]),
        ({"size": MIB, "limits": {"Max address space": MIB - 1}}, ["address-space"]),
        ({"size": MIB, "limits": {"Max address space": 2 * MIB}}, []),
        # CRIU needs more in a larger process.
        ({"size": 1024 * MIB, "limits": {"Max address space": 1025 * MIB}}, ["address-space"]),
        ({"size": 1024 * MIB, "limits": {"Max address space": 1032 * MIB}}, []),
        ({"state": "Z", "size": 0, "limits": {"Max address space": 1}}, []),
        ({"limits": {"Max open files": 3}}, []),
        ({"limits": {"Max open files": 2}}, ["open-files"]),
        ({"limits": {"Max open files": 4}, "descriptors": (Descriptor(0, "x"), Descriptor(3, "x"))}, ["open-files"]),
        # A number above the limit leaves room below it.
        ({"limits": {"Max open files": 4}, "descriptors": (Descriptor(0, "x"), Descriptor(9, "x"))}, []),
    ],
)
def test_limits(changes: dict[str, t.Any], expected: list[str]) -> None:
    found = _preflight_attributes.check(facts(process(**changes)))
    assert words(found) == [(word, "blocks") for word in expected]


def test_remedy_for_a_limit_is_a_command() -> None:
    [one] = _preflight_attributes.check(facts(process(size=MIB, limits={"Max address space": MIB})))
    assert "`prlimit --pid 101 --as=unlimited`" in one.remedy


@pytest.mark.parametrize(
    ("changes", "resource", "blocks"),
    [
        ({"users": frozenset((0,)), "groups": frozenset((0,))}, False, False),
        ({"users": frozenset((0, 1000))}, False, True),
        ({"groups": frozenset((5,))}, False, True),
        ({"users": frozenset((1000,))}, True, False),
        ({"users": frozenset((1000,)), "state": "Z"}, False, False),
        ({"users": frozenset((1000,)), "namespaces": {**INSIDE, "user": "user:[7]"}}, False, False),
    ],
)
def test_other_users_without_the_capability(changes: dict[str, t.Any], resource: bool, blocks: bool) -> None:
    one = process(**{"namespaces": {**INSIDE, "user": OWN["user"]}, **changes})
    found = _preflight_attributes.check(facts(one, resource=resource))
    assert words(found) == [("resource-capability", "blocks")] * blocks


def test_shared_memory_names_all_processes() -> None:
    tasks = [process(pid=pid) for pid in (101, 102, 103)]
    [one] = _preflight_attributes.check(facts(*tasks, sharing=((101, 103),)))
    assert (one.id, one.severity) == ("shared-address-space", "blocks")
    assert "pid 101" in one.subject and "pid 103" in one.what and "pid 102" not in one.what


def test_parent_that_waits_for_its_child_to_run_a_program_is_no_finding_of_its_own() -> None:
    tasks = [process(pid=101, state="D"), process(pid=102)]
    assert _preflight_attributes.check(facts(*tasks, sharing=((101, 102),))) == []

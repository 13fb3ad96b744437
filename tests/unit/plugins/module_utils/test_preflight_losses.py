# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight's pure check of what goes well and does not come back as it was."""

from __future__ import annotations

import os
import threading
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _kcmp, _preflight_losses, _proc
from ansible_collections.stasis.lxc.tests.unit.support.facts import INIT, OWN, facts, process
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

CPUS = frozenset((0, 1, 2))


def found(**changes: t.Any) -> list[tuple[str, bool]]:
    init = replace(INIT, affinities=frozenset((CPUS,)))
    given = facts(process(**changes))
    known = _preflight_losses.check(replace(given, tasks=(init, *given.tasks[1:])), "00000033")
    assert all(one.severity == _findings.LOSES for one in known)
    return [(one.id, one.grave) for one in known]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"apart": frozenset((_proc.DESCRIPTORS,))}, [("thread-apart", True)]),
        ({"apart": frozenset((_proc.DIRECTORY, _proc.NETWORK))}, [("thread-apart", True)]),
        ({"apart": frozenset((_proc.DIRECTORY_STATE,))}, [("thread-directory", False)]),
        ({"apart": frozenset((_proc.DIRECTORY_STATE, _proc.NAMESPACE))}, [("thread-apart", True)]),
        ({"affinities": frozenset((CPUS,))}, []),
        ({"affinities": frozenset((CPUS, frozenset((1,))))}, [("affinity", False)]),
        # A task of another cpuset runs on what that allows.
        ({"affinities": frozenset((frozenset((7,)),))}, []),
        ({"personality": 0x40000}, [("personality", False)]),
        ({"slack": 50000}, []),
        ({"slack": 0}, []),
        ({"slack": 1}, [("timer-slack", False)]),
        ({"core_filter": "00000033"}, []),
        ({"core_filter": "33"}, []),
        ({"core_filter": "0000007f"}, [("core-filter", False)]),
    ],
)
def test_what_does_not_come_back(changes: dict[str, t.Any], expected: list[tuple[str, bool]]) -> None:
    assert found(**changes) == expected


def test_only_grave_losses_are_refused() -> None:
    grave = _findings.lost("a", "b", "c", "d", grave=True)
    other = _findings.lost("a", "b", "c", "d")
    assert (grave.refused, other.refused) == (True, False)
    assert (_findings.verdict([grave]), _findings.verdict([other])) == (_findings.BLOCKED, _findings.READY)


def test_process_whose_threads_share_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        top, pid = f"/proc/{os.getpid()}", os.getpid()
        assert _preflight_losses.look(top, pid, {})["apart"] == frozenset()
        assert _preflight_losses.look(top, pid, {"net": OWN["net"]})["apart"] == {_proc.NETWORK}
        monkeypatch.setattr(_kcmp, "compare", lambda _one, _other, kind: 1 if kind == _kcmp.FS else 0)
        assert _preflight_losses.look(top, pid, {})["apart"] == {_proc.DIRECTORY_STATE}
    finally:
        end.set()
        thread.join()


SEGMENTS = """       key      shmid perms                  size  cpid  lpid nattch   uid
         0          0  1600                  4096     4     4      1     0
         0          1   600                  4096     4     4      1     0
"""


def test_segments_that_go_with_their_last_user() -> None:
    runner = StrictRunner(Call(["nsenter", "--ipc=/proc/100/ns/ipc", "cat", "/proc/sysvipc/shm"], stdout=SEGMENTS))
    assert _preflight_losses.removed_segments(runner, INIT, OWN["ipc"]) == 1
    runner.assert_done()
    assert _preflight_losses.removed_segments(StrictRunner(), replace(INIT, namespaces=OWN), OWN["ipc"]) == 0
    assert [one.id for one in _preflight_losses.check_segments(1)] == ["removed-segment"]
    assert _preflight_losses.check_segments(0) == []

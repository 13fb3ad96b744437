# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _leftovers, _link_remaps, _mend, _pidfd
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.plugins.module_utils._journal import DUMP, Journal
from ansible_collections.stasis.lxc.plugins.module_utils._leftovers import Left
from ansible_collections.stasis.lxc.plugins.module_utils._rootfs import Rootfs
from ansible_collections.stasis.lxc.plugins.module_utils._tcp_repair import Repaired
from ansible_collections.stasis.lxc.tests.unit.support.make import container
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

TASK = Process(50, 1, "counter")
INSIDE = ("nsenter", "--net=/proc/4321/ns/net")
NOBODY = StrictRunner()


def test_nothing_left_is_nothing_to_do() -> None:
    assert _mend.decide(Left(), "web1") == []


def test_everything_that_was_found_is_mended_or_told() -> None:
    left = Left(
        detached=("eth0: is out.",),
        repair=(Repaired(1, 2, 3),),
        tables=("inet CRIU",),
        chains=("iptables",),
        links=(_link_remaps.Left("/tmp/link_remap.1", TASK, 5, 6),),
        scratch=("/tmp/cr-tmpfs.AAAAAA",),
        halted=(TASK,),
        half_restored=(TASK,),
        cgroups=("/sys/fs/cgroup/lxc.payload.web1",),
        missing=(("/tmp/link_remap.2", 9),),
        ghosts=("/r/a.cr.1.ghost",),
        temporary=("/tmp/.criu.mntns.AAAAAA",),
    )
    kinds = [one.kind for one in _mend.decide(left, "web1")]
    # Who is half restored dies before its cgroups go; the network comes back once nothing holds its packets back.
    assert kinds == [
        *(_mend.KILL, _mend.CGROUPS, _mend.TEMPORARY, _mend.GHOSTS, _mend.RELINK),
        *(_mend.TABLE, _mend.CHAIN, _mend.RELEASE, _mend.ATTACH, _mend.UNLINK, _mend.SCRATCH, _mend.TELL),
    ]


def test_what_runs_without_lxc_is_told_and_left_alone() -> None:
    assert [one.kind for one in _mend.decide(Left(unsupervised=(TASK,)), "web1")] == [_mend.TELL]


def test_what_cannot_be_done_is_told_with_its_reason_and_the_rest_is_done(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    repairs = [
        _mend.Repair(_mend.TEMPORARY, "removed full", (str(tmp_path / "full"),)),
        _mend.Repair(_mend.TEMPORARY, "removed empty", (str(empty),)),
    ]
    told = _mend.carry_out(repairs, None, container(), NOBODY)
    assert told == ["could not do this: removed full: Directory not empty", "removed empty"]
    assert not empty.exists()


def test_the_firewall_is_cleared_inside_the_container() -> None:
    runner = StrictRunner(
        Call([*INSIDE, "nft", "delete", "table", "inet", "CRIU"]),
        Call([*INSIDE, "iptables", "-w", "-D", "INPUT", "-j", "CRIU"]),
        Call([*INSIDE, "iptables", "-w", "-D", "OUTPUT", "-j", "CRIU"], rc=1),
        Call([*INSIDE, "iptables", "-w", "-F", "CRIU"]),
        Call([*INSIDE, "iptables", "-w", "-X", "CRIU"], rc=1, stderr="in use"),
    )
    repairs = _mend.decide(Left(tables=("inet CRIU",), chains=("iptables",)), "web1")
    told = _mend.carry_out(repairs, None, container(), runner)
    runner.assert_done()
    assert told[0] == repairs[0].line
    assert told[1].startswith(f"could not do this: {repairs[1].line}: ")
    assert told[1].endswith("in use")


def test_the_hook_is_asked_to_put_the_network_back_with_the_recorded_nics(tmp_path: Path) -> None:
    nic = {"index": 0, "kind": "veth", "name": "eth0", "veth": "v1", "bridge": "br0"}
    journal = Journal(DUMP, "/srv/a", str(tmp_path), hook="/hook", nics=(nic,))
    given = [
        "CRTOOLS_SCRIPT_ACTION=network-unlock",
        f"CRTOOLS_IMAGE_DIR={tmp_path}/nics-again",
        f"STASIS_WORK={tmp_path}",
        f"STASIS_NICS={tmp_path}/nics-again",
    ]
    runner = StrictRunner(Call(["env", *given, "/hook"]))
    _mend.attach(journal, runner)
    runner.assert_done()
    assert (tmp_path / "nics-again" / "veth0").read_text() == "v1"
    assert (tmp_path / "nics-again" / "bridge0").read_text() == "br0"


def rooted(tmp_path: Path) -> _container.Container:
    return container("STOPPED", rootfs=Rootfs(f"dir:{tmp_path}", str(tmp_path), 5, 77))


def test_a_link_that_the_image_needs_comes_back_from_the_files_other_name(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    other = tmp_path / "tmp" / "other"
    other.write_text("x")
    repairs = _mend.decide(Left(missing=(("/tmp/link_remap.1", other.stat().st_ino),)), "web1")
    assert _mend.carry_out(repairs, None, rooted(tmp_path), NOBODY) == [repairs[0].line]
    assert (tmp_path / "tmp" / "link_remap.1").samefile(other)


def test_a_link_is_not_made_behind_a_symbolic_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "tmp").symlink_to(outside)
    (root / "other").write_text("x")
    repairs = _mend.decide(Left(missing=(("/tmp/link_remap.1", (root / "other").stat().st_ino),)), "web1")
    told = _mend.carry_out(repairs, None, rooted(root), NOBODY)
    assert told[0].startswith("could not do this: ")
    assert list(outside.iterdir()) == []


def test_a_link_whose_file_has_no_other_name_is_told(tmp_path: Path) -> None:
    repairs = _mend.decide(Left(missing=(("/link_remap.1", 1),)), "web1")
    told = _mend.carry_out(repairs, None, rooted(tmp_path), NOBODY)
    assert told == [f"could not do this: {repairs[0].line}: No other name of /link_remap.1 is left."]


def test_only_the_very_process_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        found = _container.process(child.pid)
        assert found is not None
        assert _mend.kill([Process(child.pid, found.start + 1, found.command)])
        assert child.poll() is None
        assert _mend.kill([found])
        assert child.wait(10) == -9


def test_a_process_that_takes_the_pid_of_one_that_ends_meanwhile_is_not_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        found = _container.process(other.pid)
        assert found is not None
        old = Process(other.pid, found.start - 1)
        real, looked = _container.process, []

        def process(pid: int) -> Process | None:
            # At the first look it is still the old one.
            looked.append(pid)
            return old if len(looked) == 1 and pid == other.pid else real(pid)

        def opened(pid: int) -> t.Any:
            looked.append(pid)
            return real_opened(pid)

        real_opened = _pidfd.opened
        monkeypatch.setattr(_container, "process", process)
        monkeypatch.setattr(_pidfd, "opened", opened)
        assert _mend.kill([old])
        other.communicate(b"\n")
        assert other.returncode == 0


@pytest.mark.parametrize(
    ("commands", "runs", "left"),
    [
        (["lxc-checkpoint"], True, 0),
        (["lxc-checkpoint"], False, 1),
        (["lxc-checkpoint", "criu"], True, 2),
        (["criu"], True, 1),
    ],
)
def test_a_monitor_is_waited_for_only_until_lxc_says_that_the_container_runs(
    monkeypatch: pytest.MonkeyPatch, commands: list[str], runs: bool, left: int
) -> None:
    found = [Process(number, 1, command) for number, command in enumerate(commands, 90)]
    monkeypatch.setattr(_leftovers, "of_run", lambda _work: found)
    assert len(_mend.at_work(Journal(DUMP, "/srv/a", "/w"), lambda: runs)) == left


def test_settling_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_leftovers, "of_run", lambda _work: [TASK])
    assert _mend.settle(Journal(DUMP, "/srv/a", "/w"), 0.01, lambda: False) == [TASK]
    monkeypatch.setattr(_leftovers, "of_run", lambda _work: [])
    assert _mend.settle(Journal(DUMP, "/srv/a", "/w"), 60, lambda: False) == []


def test_cgroups_that_have_gone_meanwhile_are_no_error(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    _mend._remove_cgroups([str(there), str(tmp_path / "gone")])
    assert not os.path.exists(there)


def test_what_is_still_not_as_it_was_is_told_apart() -> None:
    left = Left(halted=(TASK,), detached=("eth0: the bridge is none.",))
    lines = [one.line for one in _mend.decide(left, "web1")]
    failed = f"{_mend.NOT_DONE}: {lines[0]}: no"
    assert _mend.unsettled(lines) == [lines[1]]
    assert _mend.unsettled([failed, lines[1]]) == [failed, lines[1]]

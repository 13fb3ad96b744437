# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import typing as t
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _autostart,
    _container,
    _image,
    _interrupted,
    _journal,
    _leftovers,
    _mend,
    _pressure,
    _restorable,
    _restore,
    _rootfs,
    _systemd,
    _trial_cgroups,
    _workspace,
)
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container, Process
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._journal import DUMP, RESTORE, Journal
from ansible_collections.stasis.lxc.plugins.module_utils._leftovers import Left
from ansible_collections.stasis.lxc.tests.unit.support.make import (
    BOOT,
    INIT,
    NAME,
    container,
    draft,
    manifest,
    tree,
    wanted,
    write,
)
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import StrictRunner

RAN = "(1) Running network-unlock scripts\n(2) 17 was trapped\n"


@dataclass
class Host:
    top: str
    found: Container
    left: Left

    @property
    def directory(self) -> str:
        return f"{self.top}/image"

    @property
    def lxc_path(self) -> str:
        return f"{self.top}/lxc"

    def begin(self, action: str, log: str = "", **more: t.Any) -> None:
        if log:
            write(f"{self.top}/work/restore.log", log)
        _journal.begin(NAME, self.lxc_path, Journal(action, self.directory, f"{self.top}/work", **more))

    def recover(self, *, act: bool = True) -> list[str]:
        return _interrupted.recover(
            wanted(directory=self.directory, lxc_path=self.lxc_path), StrictRunner(), None, act=act
        )[1]

    def seal(self, consumed: str = "") -> None:
        found = _rootfs.fingerprint(self.found.rootfs)
        assert found is not None
        staging = _image.stage(self.directory, draft(lxc_path=self.lxc_path))
        write(f"{staging}/committed", "committed B 1\n")
        _image.seal(staging, manifest(lxc_path=self.lxc_path, fingerprint=found.as_dict()))
        _image.publish(self.directory)
        if consumed:
            _image.add_record(self.directory, consumed)


@pytest.fixture
def host(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    write(f"{safe_dir}/lxc/web1/rootfs/etc/passwd", "x")
    rootfs = _rootfs.locate(f"dir:{safe_dir}/lxc/web1/rootfs")
    made = Host(safe_dir, container("STOPPED", lxc_path=f"{safe_dir}/lxc", rootfs=rootfs), Left())
    monkeypatch.setattr(_workspace, "LOCKS", f"{safe_dir}/run")
    monkeypatch.setattr(_container, "observe", lambda *_arguments: made.found)
    monkeypatch.setattr(_container, "query", lambda *_arguments: (made.found.state, 0))
    monkeypatch.setattr(_leftovers, "of_run", lambda _work: [])
    monkeypatch.setattr(_leftovers, "of_stopped", lambda *_arguments: made.left)
    monkeypatch.setattr(_leftovers, "of_running", lambda *_arguments: made.left)
    return made


def run_again(host: Host) -> None:
    host.found = replace(host.found, state="RUNNING", init=INIT)


def test_where_nothing_was_interrupted_nothing_is_said_nor_done(host: Host) -> None:
    assert host.recover() == []


@pytest.mark.parametrize(
    ("action", "init_alive", "act", "waits"),
    [
        (DUMP, False, True, True),
        (DUMP, True, True, False),
        (DUMP, False, False, False),
        (RESTORE, False, True, False),
    ],
    ids=["dumped and dead", "it runs on", "check mode", "restore"],
)
def test_the_end_of_a_dumped_containers_monitor_is_waited_for(
    host: Host, monkeypatch: pytest.MonkeyPatch, action: str, init_alive: bool, act: bool, waits: bool
) -> None:
    awaited: list[tuple[int, int]] = []
    monkeypatch.setattr(_container, "wait_gone", lambda one: awaited.append((one.pid, one.start)))
    me = _container.process(os.getpid())
    assert me is not None
    host.begin(action, init_pid=me.pid, init_start=me.start if init_alive else 1, monitor_pid=4711, monitor_start=17)
    host.recover(act=act)
    assert awaited == ([(4711, 17)] if waits else [])


@pytest.mark.parametrize("act", [True, False])
def test_check_mode_says_what_a_run_does_and_does_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, act: bool
) -> None:
    done: list[str] = []
    monkeypatch.setattr(_mend, "_do", lambda one, *_arguments: done.append(one.kind))
    run_again(host)
    host.begin(DUMP, init_pid=INIT.pid, init_start=INIT.start)
    host.left = Left(detached=("eth0: is out.",))
    before = tree(host.top)
    assert host.recover(act=act) == ["put the network of web1 back: eth0: is out."]
    assert done == ([_mend.ATTACH] if act else [])
    assert (tree(host.top) == before) is not act


def test_another_init_than_the_one_that_was_dumped_is_left_alone(host: Host) -> None:
    run_again(host)
    host.begin(DUMP, init_pid=INIT.pid, init_start=INIT.start - 1)
    host.left = Left(detached=("eth0: is out.",))
    assert host.recover() == []


def test_the_journal_ends_with_the_recovery_and_not_with_its_prediction(host: Host) -> None:
    host.begin(DUMP)
    host.recover(act=False)
    assert _journal.read(NAME, host.lxc_path) is not None
    host.recover()
    assert _journal.read(NAME, host.lxc_path) is None


def test_the_journal_stays_while_the_container_is_between_two_states(host: Host) -> None:
    host.begin(DUMP)
    host.found = replace(host.found, state="STOPPING")
    assert host.recover() == []
    assert _journal.read(NAME, host.lxc_path) is not None


def test_what_does_not_end_is_killed_and_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Process(2**22 + 1, 1, "criu")
    monkeypatch.setattr(_leftovers, "of_run", lambda _work: [stuck])
    monkeypatch.setattr(_mend, "settle", lambda *_arguments: [stuck])
    host.begin(DUMP)
    line = f"killed what an interrupted dump had left and did not end: criu (pid {stuck.pid})"
    assert host.recover() == [line]
    host.begin(DUMP)
    monkeypatch.setattr(_mend, "kill", lambda _left: False)
    with pytest.raises(StasisError, match="do not end"):
        host.recover()


@pytest.mark.parametrize("act", [True, False])
def test_a_container_that_runs_without_lxc_is_nobodys_to_kill_nor_to_double(host: Host, act: bool) -> None:
    host.begin(RESTORE)
    host.left = Left(unsupervised=(Process(7, 1, "init"),))
    with pytest.raises(StasisError, match=r"runs \(pid 7\) without LXC"):
        host.recover(act=act)
    assert _journal.read(NAME, host.lxc_path) is not None


def test_what_ends_by_itself_is_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [[Process(1, 1, "criu")]]
    monkeypatch.setattr(_leftovers, "of_run", lambda _work: found.pop() if found else [])
    host.begin(DUMP)
    assert host.recover() == ["waited for the dump that an interrupted run had begun"]


def test_a_restore_that_went_on_by_itself_is_completed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.seal(f"restored {BOOT} {INIT.pid} {INIT.start}")
    run_again(host)
    done: list[t.Any] = []
    monkeypatch.setattr(_restore, "remember", lambda _container, init, generation: done.append((init, generation)))
    monkeypatch.setattr(_pressure, "arm", lambda _processes: ["A trigger could not be armed again."])
    monkeypatch.setattr(_systemd, "reload", done.append)
    monkeypatch.setattr(_autostart, "allow", lambda units, *_arguments: done.append(units))
    host.begin(RESTORE, generation=3, units=("web1.service",))
    assert host.recover() == [
        f"completed the restore that an interrupted run had begun from {host.directory}",
        "A trigger could not be armed again.",
    ]
    assert done == [(INIT, 3), INIT, ["web1.service"]]


@pytest.mark.parametrize(
    ("log", "taken_back"),
    [("(1) Forking task\n", True), (RAN, False), ("", False)],
    ids=["nothing ran", "ran", "no log"],
)
def test_the_record_of_a_restore_is_taken_back_only_where_nothing_ran(host: Host, log: str, taken_back: bool) -> None:
    host.seal(f"restored {BOOT} 7777 1")
    host.begin(RESTORE, log, fresh=True)
    told = host.recover()
    assert (_image.look(host.directory).consumed == ()) is taken_back
    assert len(told) == 1
    assert ("took back" in told[0]) is taken_back


def test_a_record_that_cannot_be_taken_back_is_the_next_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.seal(f"restored {BOOT} 7777 1")
    host.begin(RESTORE, "(1) Forking task\n", fresh=True)

    def refuse(_path: str, _line: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(_image, "add_record", refuse)
        told = host.recover()
    assert len(told) == 1
    assert told[0].startswith(_mend.NOT_DONE)
    assert told[0].endswith(": Read-only file system")
    assert "took back" in host.recover()[0]
    assert _image.look(host.directory).consumed == ()
    assert host.recover() == []


def test_an_image_beside_which_nothing_can_be_written_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.seal()
    image = _image.look(host.directory)
    _restorable.check_writable(wanted(directory=host.directory), image)
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (image.path, os.W_OK))
    with pytest.raises(StasisError, match="cannot be written"):
        _restorable.check_writable(wanted(directory=host.directory), image)


def test_check_mode_plans_with_the_image_as_it_will_be(host: Host) -> None:
    host.seal(f"restored {BOOT} 7777 1")
    host.begin(RESTORE, "(1) Forking task\n", fresh=True)
    seen = _interrupted.foreseen(wanted(directory=host.directory, lxc_path=host.lxc_path), host.found, None, "size")
    assert seen.consumed == ()
    assert len(_image.look(host.directory).consumed) == 1


def test_a_staging_directory_elsewhere_is_recovered_too(host: Host) -> None:
    elsewhere = f"{host.top}/elsewhere"
    _image.stage(elsewhere, draft(lxc_path=host.lxc_path))
    write(f"{_image.staging_path(elsewhere)}/pages-1.img", "x")
    _journal.begin(NAME, host.lxc_path, Journal(DUMP, elsewhere, f"{host.top}/work"))
    assert host.recover() == [f"removed {_image.staging_path(elsewhere)}, left by an interrupted checkpoint"]
    assert not os.path.exists(_image.staging_path(elsewhere))


def test_an_autostart_that_a_dump_had_switched_off_is_switched_on_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[t.Any] = []
    monkeypatch.setattr(_autostart, "allow", lambda units, *_arguments: done.append(units))
    run_again(host)
    host.begin(DUMP, init_pid=INIT.pid, init_start=INIT.start, inhibit=True, units=("web1.service",))
    line = "switched the autostart of web1 on again, which an interrupted dump had switched off"
    assert host.recover(act=False) == [line]
    assert done == []
    assert host.recover() == [line]
    assert done == [["web1.service"]]


def test_links_that_recovery_puts_back_are_not_missed_by_check_mode(host: Host) -> None:
    target = wanted(directory=host.directory, lxc_path=host.lxc_path)
    assert _interrupted.awaited_links(target, host.found) == frozenset()
    host.begin(RESTORE, links={"/tmp/link_remap.1": 9, "/etc/passwd": 8})
    assert _interrupted.awaited_links(target, host.found) == {"/tmp/link_remap.1"}


@pytest.mark.parametrize(("act", "mode"), [(True, 0o700), (False, 0o710)])
def test_image_that_an_interrupted_restore_left_open_to_the_group_root_is_shut(
    host: Host, act: bool, mode: int
) -> None:
    host.seal()
    # As a restore of a container in a user namespace opens it.
    os.chmod(host.directory, 0o710)
    host.begin(RESTORE, "(1) nothing ran\n")
    host.recover(act=act)
    assert os.stat(host.directory).st_mode & 0o777 == mode


def test_what_was_done_before_a_refusal_is_told_with_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.begin(RESTORE)
    monkeypatch.setattr(_interrupted, "_wait", lambda *_arguments, **_more: ["waited for the restore"])
    host.left = Left(unsupervised=(Process(7, 1, "init"),))
    with pytest.raises(StasisError) as refusal:
        host.recover()
    assert (refusal.value.data["recovered"], refusal.value.data["changed"]) == (["waited for the restore"], True)


@pytest.mark.parametrize("act", [True, False])
def test_cgroups_of_a_trial_that_was_killed_are_removed_and_told(
    host: Host, monkeypatch: pytest.MonkeyPatch, act: bool
) -> None:
    there = Path(host.top, "cgroup/stasis.trial")
    (there / "system.slice").mkdir(parents=True)
    monkeypatch.setattr(_trial_cgroups._cgroups, "parse_mounts", lambda _text: {"": f"{host.top}/cgroup"})
    monkeypatch.setattr(_trial_cgroups, "_cgroup", lambda _key: "/stasis.trial")
    host.begin(DUMP)
    assert host.recover(act=act) == ["removed the cgroups of a trial restore that an interrupted run had left"]
    assert there.exists() is not act

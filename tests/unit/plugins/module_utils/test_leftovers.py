# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _leftovers, _nics
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.plugins.module_utils._journal import DUMP, RESTORE, Journal
from ansible_collections.stasis.lxc.plugins.module_utils._leftovers import Left
from ansible_collections.stasis.lxc.plugins.module_utils._rootfs import Rootfs
from ansible_collections.stasis.lxc.tests.unit.support.make import container, write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

UNLOCKED = "(00.1) Running network-unlock scripts\n"
TRAPPED = "(00.2) 17 was trapped\n"


@pytest.mark.parametrize(
    ("log", "ran"),
    [
        ("", False),
        ("(00.0) Forking task with 1 pid\n", False),
        (UNLOCKED, False),
        (TRAPPED, False),
        (UNLOCKED + TRAPPED, True),
        (UNLOCKED + TRAPPED + "(00.3) Error: Restoring FAILED.\n", False),
        (UNLOCKED + "(00.3) Restore finished successfully. Tasks resumed.\n", True),
    ],
)
def test_a_task_can_have_run_only_once_it_was_caught_after_the_unlock(log: str, ran: bool) -> None:
    assert _leftovers.may_have_run(log) is ran


@pytest.fixture
def begun() -> t.Iterator[t.Callable[..., int]]:
    """Starts a process that waits, and returns its pid when it is what was asked for."""
    made: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **more: t.Any) -> int:
        waits = ["/bin/sh", "-c", "echo ready; read word"]
        process = subprocess.Popen([*argv, *waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
        made.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return int(children[0]) if children else process.pid

    yield start
    for process in made:
        process.communicate(b"\n")


def found(work: object) -> list[int]:
    return [one.pid for one in _leftovers.of_run(str(work))]


def test_a_process_of_a_run_is_known_by_its_environment(tmp_path: Path, begun: t.Callable[..., int]) -> None:
    ours = begun(env={"A": "1", "STASIS_WORK": str(tmp_path)})
    begun(env={"STASIS_WORK": f"{tmp_path}0"})
    begun(env={"XSTASIS_WORK": str(tmp_path)})
    assert found(tmp_path) == [ours]


@pytest.mark.parametrize(
    "inside",
    [
        ("unshare", "--pid", "--fork"),
        ("unshare", "--user", "--map-root-user", "--pid", "--fork"),
        ("setpriv", "--reuid", "1234", "--clear-groups"),
    ],
    ids=["of a container", "of an unprivileged container", "of a user"],
)
def test_whoever_else_gives_himself_that_environment_is_not_taken_for_one(
    tmp_path: Path, begun: t.Callable[..., int], inside: tuple[str, ...]
) -> None:
    pid = begun(*inside, env={**os.environ, "STASIS_WORK": str(tmp_path)})
    assert f"STASIS_WORK={tmp_path}" in Path(f"/proc/{pid}/environ").read_text().split("\0")
    assert pid not in found(tmp_path)


def test_a_task_that_criu_is_restoring_is_one_unless_another_containers_monitor_is_above_it(
    tmp_path: Path, begun: t.Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "STASIS_WORK": str(tmp_path)}
    pid = begun("unshare", "--pid", "--fork", env=environment)
    write(f"{tmp_path}/argv.ran", f"{os.path.realpath(f'/proc/{pid}/exe')}\nrestore\n")
    assert pid in found(tmp_path)
    above = _container.parent(pid)
    monkeypatch.setattr(_leftovers, "_is_lxc", lambda one: one == above)
    assert pid in found(tmp_path), "its monitor is of this run"
    monkeypatch.setattr(_leftovers, "_is_marked", lambda one, _work: one == pid)
    assert pid not in found(tmp_path)


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup mount with an empty payload, a full one of the same name, and other containers'."""
    monkeypatch.setattr(_leftovers._cgroups, "parse_mounts", lambda _text: {"": str(tmp_path)})
    for name, pids in (
        ("lxc.payload.web1/init.scope", ""),
        ("lxc.payload.web1", ""),
        ("lxc.monitor.web1", f"{os.getpid()}\n"),
        ("lxc.payload.web10", ""),
        ("lxc.payload.web1-x", ""),
    ):
        write(f"{tmp_path}/{name}/cgroup.procs", pids)
    return tmp_path


def test_empty_cgroups_of_this_container_are_found_the_deepest_first(cgroups: Path) -> None:
    now = os.stat(cgroups / "lxc.payload.web1").st_ctime
    payload = f"{cgroups}/lxc.payload.web1"
    assert _leftovers.empty_cgroups(container(), 0.0, now) == [f"{payload}/init.scope", payload]
    assert _leftovers.empty_cgroups(container(), 60.0, now + 1) == []
    assert f"{cgroups}/lxc.monitor.web1" in _leftovers.empty_cgroups(container(), 0.0, now + 1, {os.getpid()})


def test_a_cgroup_in_which_only_a_zombie_is_listed_is_empty(cgroups: Path) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    write(f"{cgroups}/lxc.monitor.web1/cgroup.procs", f"{child.pid}\n")
    found = _leftovers.empty_cgroups(container(), 0.0, os.stat(cgroups).st_ctime + 60)
    child.wait()
    assert f"{cgroups}/lxc.monitor.web1" in found


def test_a_cgroup_with_a_task_of_another_pid_namespace_is_not_empty(cgroups: Path) -> None:
    write(f"{cgroups}/lxc.monitor.web1/cgroup.procs", "0\n")
    found = _leftovers.empty_cgroups(container(), 0.0, os.stat(cgroups).st_ctime + 60)
    assert f"{cgroups}/lxc.monitor.web1" not in found


def test_a_number_behind_the_name_is_lxcs_unless_it_is_the_name_of_another_container(
    cgroups: Path, tmp_path: Path
) -> None:
    write(f"{cgroups}/lxc.payload.web1-1/cgroup.procs", "")
    write(f"{cgroups}/lxc.payload.web1-2/cgroup.procs", "")
    write(f"{tmp_path}/lxc/web1-2/config", "")
    found = _leftovers.empty_cgroups(container(lxc_path=f"{tmp_path}/lxc"), 0.0, os.stat(cgroups).st_ctime + 60)
    assert [path for path in found if "web1-" in path] == [f"{cgroups}/lxc.payload.web1-1"]


def test_tasks_without_a_monitor_are_half_restored(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"{cgroups}/lxc.payload.web1/cgroup.procs", "21\n22\n31\n")
    above = {21: 1, 22: 21, 31: 30}
    monkeypatch.setattr(_container, "parent", lambda pid: above[pid])
    monkeypatch.setattr(_container, "process", lambda pid: Process(pid, 1, "task"))
    monkeypatch.setattr(_leftovers, "_is_lxc", lambda pid: pid == 30)
    assert [one.pid for one in _leftovers.half_restored(container())] == [21, 22]


def test_a_restored_container_that_has_lost_its_monitor_is_no_leftover(
    cgroups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"{cgroups}/lxc.payload.web1/cgroup.procs", "21\n")
    monkeypatch.setattr(_container, "parent", lambda _pid: 1)
    monkeypatch.setattr(_container, "process", lambda pid: Process(pid, 1, "task"))
    monkeypatch.setattr(_leftovers, "_is_lxc", lambda _pid: False)
    journal = interrupted(tmp_path, UNLOCKED + "Restore finished successfully. Tasks resumed.\n")
    left = _leftovers.of_stopped(journal, stopped(tmp_path), 0.0)
    assert [one.pid for one in left.unsupervised] == [21]
    assert left.half_restored == ()
    assert not [path for path in left.cgroups if "payload" in path]


def stopped(tmp_path: Path, **changes: t.Any) -> t.Any:
    root = str(tmp_path / "rootfs")
    return container("STOPPED", rootfs=Rootfs(f"dir:{root}", root, 5, 77), **changes)


def interrupted(tmp_path: Path, log: str, **changes: t.Any) -> Journal:
    work = tmp_path / "work"
    work.mkdir()
    (work / "argv").write_text("")
    if log:
        (work / "restore.log").write_text(log)
    return Journal(RESTORE, "/srv/a", str(work), links={"/tmp/link_remap.1": 99}, **changes)


@pytest.mark.parametrize(
    ("log", "touched"), [("(00.0) Forking task\n", True), (UNLOCKED + TRAPPED, False), ("", False)]
)
def test_the_root_file_system_is_mended_only_where_the_log_shows_that_nothing_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, touched: bool
) -> None:
    monkeypatch.setattr(_leftovers, "_folders", lambda _container: [])
    journal = interrupted(tmp_path, log)
    ghost = write(f"{tmp_path}/rootfs/tmp/a.cr.1.ghost", "x")
    left = _leftovers.of_stopped(journal, stopped(tmp_path), 0.0)
    assert left.ghosts == ((ghost,) if touched else ())
    assert left.missing == (("/tmp/link_remap.1", 99),)


def test_a_ghost_file_is_known_also_where_the_hook_has_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_leftovers, "_folders", lambda _container: [])
    journal = interrupted(tmp_path, "(00.0) Forking task\n")
    ghost = write(f"{tmp_path}/rootfs/tmp/a.cr.1.ghost", "x")
    later = os.stat(ghost).st_ctime + 5
    os.utime(journal.work, (later, later))
    assert _leftovers.of_stopped(journal, stopped(tmp_path), 0.0).ghosts == (ghost,)


def test_a_work_directory_that_somebody_has_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_leftovers, "_folders", lambda _container: [])
    (tmp_path / "rootfs").mkdir()
    journal = Journal(RESTORE, "/srv/a", str(tmp_path / "gone"))
    assert _leftovers.of_stopped(journal, stopped(tmp_path), 0.0) == Left()


def test_without_a_journal_only_old_empty_cgroups_are_looked_for(cgroups: Path, tmp_path: Path) -> None:
    now = os.stat(cgroups / "lxc.payload.web1").st_ctime
    assert _leftovers.of_stopped(None, stopped(tmp_path), now) == Left()
    found = _leftovers.of_stopped(None, stopped(tmp_path), now + 61)
    assert found == Left(cgroups=(f"{cgroups}/lxc.payload.web1/init.scope", f"{cgroups}/lxc.payload.web1"))


def test_only_temporary_directories_that_the_log_names_and_that_are_there_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: path != "/tmp/cr-tmpfs.BBBBBB")
    log = "root is /tmp/.criu.mntns.AAAAAA\n/tmp/cr-tmpfs.BBBBBB\n/tmp/.criu.mntns.AAAAAA/11\n/tmp/mine.CCCCCC\n"
    assert _leftovers.temporary(log) == ("/tmp/.criu.mntns.AAAAAA",)


def test_firewall_and_network_are_looked_at_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nics, "attached", lambda *_arguments: ["eth0: is out of its bridge."])
    monkeypatch.setattr(_leftovers._tcp_repair, "find", lambda _pids: [])
    inside = ["nsenter", "--net=/proc/4321/ns/net"]
    runner = StrictRunner(
        Call(
            [*inside, "nft", "list", "tables"],
            stdout="table inet CRIU\ntable ip filter\ntable inet CRIU-7\ntable ip CRIU;x\n",
        ),
        Call([*inside, "iptables", "-w", "-S", "CRIU"], stdout="-N CRIU\n"),
        Call([*inside, "ip6tables", "-w", "-S", "CRIU"], rc=1),
    )
    left = _leftovers.of_running(Journal(DUMP, "/srv/a", "/w"), container(), runner)
    runner.assert_done()
    assert left.tables == ("inet CRIU", "inet CRIU-7")
    assert left.chains == ("iptables",)
    assert left.detached == ("eth0: is out of its bridge.",)


def test_sysctls_of_the_host_side_that_the_hook_has_not_put_back_are_told(tmp_path: Path) -> None:
    write(f"{tmp_path}/sys/net/ipv4/conf/v1/rp_filter", "1\n")
    nic = _nics.Nic(0, "veth", "eth0", veth="v1", sysctls={"ipv4 rp_filter": "0", "ipv6 disable_ipv6": "0"})
    found = _leftovers._switched([nic], str(tmp_path))
    assert found == ["eth0: rp_filter of its host side v1 is 1, not 0."]


UNLOCKED = "(00.2) Running network-unlock scripts\n"
TRAPPED = "(00.3) 4321 was trapped\n"
RESUMED = "(00.4) Restore finished successfully. Tasks resumed.\n"
GAVE_UP = "(00.5) Error (criu/cr-restore.c:2536): Restoring FAILED.\n"
# More than was ever read of a log at once.
NOISE = "(00.1) Preadv returned 0 " + "." * 65_000 + "\n"


def long_log(top: Path, *lines: str) -> str:
    """A log of 72 MB with the lines behind most of it."""
    with open(top / "restore.log", "w", encoding="utf-8") as stream:
        stream.write("(00.0) Version: 4.2.1\n")
        stream.writelines(NOISE for _number in range(1050))
        for line in lines:
            stream.writelines([line, *[NOISE] * 20])
    return str(top / "restore.log")


@pytest.mark.parametrize(
    ("lines", "ran", "resumed"),
    [
        ((UNLOCKED, TRAPPED), True, False),
        ((UNLOCKED, GAVE_UP), False, False),
        ((UNLOCKED, "(00.3) x\n", TRAPPED, GAVE_UP), False, False),
        ((UNLOCKED, "(00.3) x\n", RESUMED), True, True),
        ((TRAPPED, UNLOCKED), False, False),
        ((GAVE_UP, TRAPPED), False, False),
    ],
)
def test_whole_of_a_long_log_is_judged(tmp_path: Path, lines: tuple[str, ...], ran: bool, resumed: bool) -> None:
    found = _leftovers.telling_lines(long_log(tmp_path, *lines))
    assert (_leftovers.may_have_run(found), _leftovers.resumed(found)) == (ran, resumed)
    assert len(found) < 10_000


def test_directories_are_told_wherever_a_long_log_names_them(tmp_path: Path) -> None:
    made = "/tmp/.criu.mntns.AAAAAA"
    found = _leftovers.telling_lines(long_log(tmp_path, UNLOCKED, "(00.3) x\n", f"(00.4) mnt: {made}\n"))
    assert made in found


def test_log_that_tells_nothing_is_a_log_all_the_same_and_none_is_not(tmp_path: Path) -> None:
    assert _leftovers.telling_lines(write(str(tmp_path / "restore.log"), "(00.0) Version: 4.2.1\n"))
    assert _leftovers.telling_lines(str(tmp_path / "none.log")) == ""


def test_many_names_of_a_log_do_not_fill_the_memory(tmp_path: Path) -> None:
    names = "".join(f"(00.4) /tmp/.criu.mntns.{number:06}\n" for number in range(5000))
    found = _leftovers.telling_lines(write(str(tmp_path / "restore.log"), names + UNLOCKED + TRAPPED))
    assert len(found.splitlines()) < 1100
    assert _leftovers.may_have_run(found)


def test_only_what_did_not_stand_still_before_the_run_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    sleepers = [subprocess.Popen(["sleep", "100"]) for _number in range(2)]
    try:
        for one in sleepers:
            os.kill(one.pid, signal.SIGSTOP)
            os.waitpid(one.pid, os.WUNTRACED)
        pids = [one.pid for one in sleepers]
        assert [one.pid for one in _leftovers.standing([*pids, os.getpid()])] == pids
        assert _leftovers.inside(os.getpid()) == os.getpid()
        for name, found in (("detached", ()), ("_firewall", ((), ()))):
            monkeypatch.setattr(_leftovers, name, lambda *_arguments, found=found: found)
        monkeypatch.setattr(_leftovers._cgroups, "processes", lambda _cgroups: set(pids))
        monkeypatch.setattr(_leftovers, "_shares_pids", lambda _pid: False)
        monkeypatch.setattr(_leftovers._tcp_repair, "find", lambda _pids: [])
        before = tuple(map(_leftovers.inside, pids[:1]))
        for action in (DUMP, RESTORE):
            journal = Journal(action, "/srv/a", "/w", halted=before)
            left = _leftovers.of_running(journal, container(init=Process(os.getpid(), 1)), StrictRunner())
            assert [one.pid for one in left.halted] == pids[1:]
    finally:
        for one in sleepers:
            one.kill()
            one.wait()

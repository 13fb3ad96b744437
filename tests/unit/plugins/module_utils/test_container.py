# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import time
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups, _container, _nics, _proc, _sockets
from ansible_collections.stasis.lxc.plugins.module_utils._cgroups import Hierarchy
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import MountMap
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import container, write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

pytestmark = pytest.mark.interpreter


def info(stdout: str, **more: t.Any) -> Call:
    return Call(["lxc-info", "-P", "/var/lib/lxc", "-n", "web1", "-s", "-p"], stdout=stdout, timeout=20, **more)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes only by sleeping."""
    slept: list[float] = []
    began = time.monotonic()
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: began + sum(slept))
    return slept


@pytest.fixture
def child() -> t.Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield started
    started.kill()
    started.wait()
    assert started.stdin is not None
    started.stdin.close()


def test_process_has_the_start_time_of_the_kernel() -> None:
    found = _container.process(os.getpid())
    assert found is not None
    with open("/proc/self/stat", encoding="utf-8") as stream:
        assert found.start == int(stream.read().rsplit(")", 1)[1].split()[19])
    assert found.alive
    assert not Process(found.pid, found.start + 1).alive, "a later process under the same pid"


def test_process_that_is_not_there_is_none() -> None:
    assert _container.process(2**22 + 1) is None
    assert _container.parent(2**22 + 1) == 0


@pytest.mark.parametrize(
    ("state", "flags", "pending", "killed"),
    [
        ("S", 0x400100, 0, False),
        ("T", 0x400100, 1 << 14, False),
        ("Z", 0x400100, 0, True),
        ("R", 0x400104, 0, True),
        ("S", 0x400100, 1 << 8, True),
    ],
    ids=["sleeps", "stopped with SIGTERM before it", "zombie", "frees its memory", "was sent SIGKILL"],
)
def test_what_was_killed_is_known_before_it_is_gone(state: str, flags: int, pending: int, killed: bool) -> None:
    fields = ["1"] * 50
    fields[0], fields[6], fields[28] = state, str(flags), str(pending)
    assert _container.is_killed(f"7 (a (b) c) {' '.join(fields)}\n") == killed
    assert _container.is_killed("")


def test_zombie_is_not_alive(child: subprocess.Popen[bytes]) -> None:
    found = _container.process(child.pid)
    assert found is not None
    assert found.alive
    child.kill()
    for _try in range(500):
        if not found.alive:
            break
        time.sleep(0.01)
    assert _container.process(child.pid) is None
    assert os.path.exists(f"/proc/{child.pid}"), "it has not been waited for"


def test_program_name_with_a_parenthesis_does_not_confuse(safe_dir: str) -> None:
    program = f"{safe_dir}/a) R (b"
    os.symlink("/bin/sleep", program)
    started = subprocess.Popen([program, "30"])
    try:
        for _try in range(500):
            found = _container.process(started.pid)
            if found is not None and found.command == "a) R (b":
                break
            time.sleep(0.01)
        assert found is not None
        assert (found.command, found.alive) == ("a) R (b", True)
    finally:
        started.kill()
        started.wait()


def test_parent_is_who_started_it(child: subprocess.Popen[bytes]) -> None:
    assert _container.parent(child.pid) == os.getpid()


@pytest.mark.parametrize(
    ("stdout", "found"),
    [
        ("State:          RUNNING\nPID:            4321\n", ("RUNNING", 4321)),
        ("State:          STOPPED\n", ("STOPPED", 0)),
        ("PID:            4321\nState:          FROZEN\n", ("FROZEN", 4321)),
    ],
)
def test_query_reads_state_and_pid(stdout: str, found: tuple[str, int]) -> None:
    runner = StrictRunner(info(stdout))
    assert _container.query(runner, "web1", "/var/lib/lxc") == found
    runner.assert_done()


def test_query_asks_again_while_the_monitor_does_not_answer(no_waiting: list[float]) -> None:
    runner = StrictRunner(info("", rc=1), info(""), info("State: STOPPED\n"))
    assert _container.query(runner, "web1", "/var/lib/lxc") == ("STOPPED", 0)
    runner.assert_done()


def test_query_gives_up_and_says_what_lxc_said(no_waiting: list[float]) -> None:
    runner = StrictRunner(*[info("", rc=1, stderr="web1 doesn't exist\n") for _try in range(22)])
    with pytest.raises(StasisError, match="lxc-info does not know the state of web1: web1 doesn't exist") as failure:
        _container.query(runner, "web1", "/var/lib/lxc")
    assert failure.value.data == {"rc": 1}
    assert 2.0 <= sum(no_waiting) < 2.3


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("/lib lib none ro,bind 0 0", [MountMap("lib", "/lib")]),
        ("/srv/data /var/lib/lxc/web1/rootfs/srv/data none bind,create=dir 0 0", [MountMap("srv/data", "/srv/data")]),
        ("/srv/data /srv/data/ none rbind 0 0", [MountMap("srv/data", "/srv/data")]),
        ("/dev/null dev/x none bind,optional,create=file", [MountMap("dev/x", "/dev/null")]),
        ("proc proc proc nodev,noexec 0 0", []),
        ("tmpfs run tmpfs defaults,nobind 0 0", []),
        ("/lib lib none", []),
        ("", []),
    ],
)
def test_bind_mounts_of_the_configuration_as_liblxc_maps_them(entry: str, found: list[MountMap]) -> None:
    assert _container.bind_mounts([entry], "/var/lib/lxc/web1/rootfs") == found


def test_bind_mounts_keep_their_order() -> None:
    entries = ["/b b none bind", "tmpfs t tmpfs rw", "/a a none bind"]
    assert [one.target for one in _container.bind_mounts(entries, "")] == ["b", "a"]


def test_terminals_are_the_parts_of_a_devpts_that_are_mounted_but_for_ptmx() -> None:
    text = (
        "72 65 0:45 / /dev/pts rw - devpts devpts rw\n"
        "73 65 0:45 /ptmx /dev/ptmx rw - devpts devpts rw\n"
        "74 65 0:45 /0 /dev/console rw - devpts devpts rw\n"
        "75 65 0:45 /1 /dev/lxc/tty1 rw - devpts devpts rw\n"
        "76 65 0:40 /0 /srv rw - tmpfs none rw\n"
    )
    assert _container.terminals(_proc.mounts(text)) == ["dev/console", "dev/lxc/tty1"]


def test_process_that_is_gone_has_no_terminals() -> None:
    assert _container._terminals(2**22 + 1) == []


def test_descendants_of_init_are_no_outsiders_and_others_in_its_cgroup_are(child: subprocess.Popen[bytes]) -> None:
    me = os.getpid()
    assert _container._outsiders(me, {me, child.pid}) == []
    found = _container._outsiders(child.pid, {me, child.pid})
    assert [one.pid for one in found] == [me]


def test_process_of_another_pid_namespace_is_no_outsider(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_container, "_namespace", lambda pid: "pid:[1]" if pid == child.pid else "pid:[2]")
    assert _container._outsiders(child.pid, {os.getpid(), child.pid}) == []


def test_process_that_ends_meanwhile_is_no_outsider(child: subprocess.Popen[bytes]) -> None:
    assert _container._outsiders(child.pid, {child.pid, 2**22 + 1}) == []


def test_stopped_container_is_observed_without_asking_the_kernel(safe_dir: str) -> None:
    write(
        f"{safe_dir}/web1/config",
        f"lxc.rootfs.path = dir:{safe_dir}/web1/rootfs\nlxc.start.auto = 1\nlxc.ephemeral = 1\n"
        "lxc.mount.entry = /lib lib none ro,bind 0 0\n",
    )
    os.mkdir(f"{safe_dir}/web1/rootfs")
    runner = StrictRunner(Call(["lxc-info", "-P", safe_dir, "-n", "web1", "-s", "-p"], stdout="State: STOPPED\n"))
    found = _container.observe(runner, "web1", safe_dir)
    runner.assert_done()
    assert (found.state, found.init, found.monitor, found.nics, found.cgroups) == ("STOPPED", None, None, (), ())
    assert (found.ephemeral, found.autostart.config) == (True, True)
    assert found.mounts == (MountMap("lib", "/lib"),)
    assert found.rootfs.inode == os.stat(f"{safe_dir}/web1/rootfs").st_ino
    assert found.config_path == f"{safe_dir}/web1/config"


def test_container_that_lxc_does_not_have_is_refused_before_it_is_asked(safe_dir: str) -> None:
    runner = StrictRunner()
    with pytest.raises(StasisError, match=f"There is no container web1 in {safe_dir}"):
        _container.observe(runner, "web1", safe_dir)
    runner.assert_done()


@pytest.mark.parametrize(("frozen", "state"), [(False, "RUNNING"), (True, "FROZEN")])
def test_running_container_is_observed_from_the_kernel(
    safe_dir: str, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, frozen: bool, state: str
) -> None:
    write(f"{safe_dir}/web1/config", "lxc.console.path = none\n")
    hierarchy = Hierarchy(("pids",), "/sys/fs/cgroup", "/lxc.payload.web1", True)
    monkeypatch.setattr(_cgroups, "observe", lambda pid: [hierarchy] if pid == child.pid else [])
    monkeypatch.setattr(_cgroups, "frozen", lambda _hierarchies: frozen)
    monkeypatch.setattr(_cgroups, "processes", lambda _hierarchies: {child.pid})
    monkeypatch.setattr(_nics, "observe", lambda *_arguments: [_nics.Nic(0, "veth")])
    monkeypatch.setattr(_sockets, "established", lambda _pid: [])
    runner = StrictRunner(
        Call(["lxc-info", "-P", safe_dir, "-n", "web1", "-s", "-p"], stdout=f"State: RUNNING\nPID: {child.pid}\n")
    )
    found = _container.observe(runner, "web1", safe_dir)
    runner.assert_done()
    assert found.init is not None
    assert found.monitor is not None
    assert (found.state, found.init.pid, found.monitor.pid) == (state, child.pid, os.getpid())
    assert (found.cgroups, found.outsiders, found.terminals) == ((hierarchy,), (), ())
    assert [nic.kind for nic in found.nics] == ["veth"]


def test_stopped_means_that_the_monitor_has_gone_and_lxc_says_so(no_waiting: list[float]) -> None:
    gone = Process(2**22 + 1, 1)
    runner = StrictRunner(info("State: STOPPING\n"), info("State: STOPPED\n"))
    assert _container.wait_stopped(runner, container(monitor=gone), 10)
    runner.assert_done()


def test_monitor_that_stays_is_waited_for_until_the_time_is_over(no_waiting: list[float]) -> None:
    me = _container.process(os.getpid())
    runner = StrictRunner()
    assert not _container.wait_stopped(runner, container(monitor=me), 0.5)
    runner.assert_done()
    assert sum(no_waiting) >= 0.5


def test_container_that_does_not_stop_is_told(no_waiting: list[float]) -> None:
    runner = StrictRunner(*[info("State: RUNNING\nPID: 4321\n") for _try in range(7)])
    assert not _container.wait_stopped(runner, container(monitor=None), 0.1)
    assert len(runner.calls) in (6, 7)

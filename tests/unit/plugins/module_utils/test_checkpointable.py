# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointable, _checkpointable_units, _lxc_config
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable import Report
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_plan import FILE
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_units import Running
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support import root as roots
from ansible_collections.stasis.lxc.tests.unit.support.checkpointable import LOGIND, OURS, PLACE, Host
from ansible_collections.stasis.lxc.tests.unit.support.make import tree as everything
from ansible_collections.stasis.lxc.tests.unit.support.make import write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

LINES = ("lxc.include = /usr/share/lxc/config/common.conf", "lxc.tty.max = 4", "lxc.mount.auto = sys:mixed proc:mixed")


@pytest.fixture(autouse=True)
def unified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpointable_units, "unified", lambda: True)
    monkeypatch.setattr(_checkpointable_units, "has_memory_v2", lambda: True)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.12.1-amd64", "#1", "x86_64")))


@pytest.fixture
def host(safe_dir: str) -> Host:
    return Host(safe_dir)


@pytest.fixture
def running(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The container runs, and what runs in it began an hour ago."""
    began = time.time() - 3600
    made = Host(safe_dir, Running(4321, since={LOGIND: began, "plain.service": began}))
    monkeypatch.setattr(_checkpointable_units, "look", lambda _init, *, frozen: made.running)
    monkeypatch.setattr(_checkpointable, "root_of", lambda _config, _init: made.root)
    return made


def relaxed(report: Report) -> set[tuple[str, str]]:
    return {(one["unit"], one["relaxation"]) for one in report.relaxations}


def attach(host: Host, *argv: str, rc: int = 0) -> Call:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Call(["lxc-attach", "-P", host.lxc_path, "-n", "web1", "--clear-env", "-v", path, "--", *argv], rc=rc)


def test_check_mode_says_what_the_real_run_does_and_writes_nothing(host: Host) -> None:
    before = everything(host.root)
    predicted = host.run(check=True)
    assert everything(host.root) == before
    done = host.run()
    assert predicted == done
    assert done.changed and {f"/{OURS}", f"/{PLACE}/console-getty.service.d/{FILE}"} <= set(done.files)
    assert {one["after_header"] for one in done.diff} == set(done.files)
    assert next(one["after"] for one in done.diff if LOGIND in one["after_header"]) == host.text(OURS)


def test_the_second_run_changes_nothing(host: Host) -> None:
    first = host.run()
    inode = os.stat(f"{host.root}/{OURS}").st_ino
    second = host.run()
    assert (second.changed, second.diff, second.files) == (False, [], first.files)
    assert second.relaxations == first.relaxations
    assert os.stat(f"{host.root}/{OURS}").st_ino == inode


def test_absent_leaves_the_root_as_it_was(host: Host) -> None:
    os.makedirs(f"{host.root}/{PLACE}/console-getty.service.d")
    roots.unit(host.root, f"{LOGIND}.d/override.conf", "[Service]\nRestart=always\n", PLACE)
    roots.unit(host.root, "gone.service.d/own.conf", "[Service]\n", PLACE)
    before = everything(host.root)
    host.run()
    assert everything(host.root) != before
    predicted = host.run(state="absent", check=True)
    done = host.run(state="absent")
    assert everything(host.root) == before
    assert predicted == done
    assert (done.changed, done.files) == (True, [])
    assert f"/{OURS}" in done.removed
    assert host.run(state="absent") == Report(
        container_state="stopped", rootfs=host.root, summary=["web1 needs nothing of this."]
    )


def test_absent_removes_etc_systemd_where_it_was_made(host: Host) -> None:
    for directory, _directories, files in os.walk(f"{host.root}/etc", topdown=False):
        for name in [*files, *_directories]:
            path = os.path.join(directory, name)
            os.unlink(path) if os.path.islink(path) or name in files else os.rmdir(path)
    before = everything(host.root)
    host.run(relax=["console"])
    host.run()
    host.run(relax=["hostname"])
    assert os.listdir(f"{host.root}/{PLACE}") != []
    host.run(state="absent")
    assert everything(host.root) == before


def test_a_unit_that_went_away_takes_its_drop_in_with_it(host: Host) -> None:
    host.run()
    os.unlink(f"{host.root}/{roots.UNITS}/{LOGIND}")
    done = host.run()
    assert done.removed == [f"/{OURS}"]
    assert not os.path.exists(f"{host.root}/{PLACE}/{LOGIND}.d")


def test_a_file_of_the_same_name_that_is_not_ours_is_not_touched(host: Host) -> None:
    roots.unit(host.root, f"{LOGIND}.d/{FILE}", "[Service]\n# theirs\n", PLACE)
    before = everything(host.root)
    for check in (True, False):
        with pytest.raises(StasisError, match="was not made by this collection"):
            host.run(check=check)
    assert everything(host.root) == before
    assert not host.run(state="absent").changed
    os.unlink(f"{host.root}/{OURS}")
    write(f"{host.lxc_path}/elsewhere", "# Made by stasis.lxc.checkpointable\n")
    os.symlink("/etc/elsewhere", f"{host.root}/{OURS}")
    with pytest.raises(StasisError, match="was not made by this collection"):
        host.run()


def test_what_relax_does_not_allow_is_said_to_block(host: Host) -> None:
    done = host.run(relax=["hostname", "none.service"])
    assert {(one["unit"], one["relaxation"]) for one in done.relaxations} == {(LOGIND, "hostname")}
    assert {one["relaxation"] for one in done.blocked} == {"ip-filter", "device-filter", "clock", "console", "users"}
    assert {one["problem"] for one in done.blocked} == {"relax does not allow it."}
    assert any("STILL BLOCKS" in line for line in done.summary)
    assert done.notes == ["relax names none.service, which is no unit that web1 would start."]


def test_each_relaxation_says_what_is_lost_and_why(host: Host) -> None:
    done = host.run()
    hostname = next(one for one in done.relaxations if one["relaxation"] == "hostname")
    assert hostname["directives"] == [f"ProtectHostname=yes ({roots.UNITS}/{LOGIND})"]
    assert "ProtectHostname=no" in hostname["settings"]
    assert hostname["evidence"] == "Can't dump nested uts namespace for N"
    assert hostname["path"] == f"/{OURS}"
    line = next(line for line in done.summary if line.startswith(f"{LOGIND}: hostname relaxed."))
    assert hostname["lost"] in line and hostname["evidence"] in line
    assert done.brief == ["nightly.service"]


def test_a_container_without_systemd_is_left_alone_and_told_so(host: Host) -> None:
    os.rename(f"{host.root}/usr", f"{host.root}/away")
    os.rename(f"{host.root}/etc", f"{host.root}/gone")
    done = host.run()
    assert (done.changed, done.notes) == (
        False,
        ["web1 has no systemd, so there was nothing to look for in its units."],
    )


def test_files_of_an_unprivileged_container_are_its_roots(host: Host) -> None:
    host.configure("lxc.idmap = u 0 200000 65536", "lxc.idmap = g 0 300000 65536")
    done = host.run()
    status = os.stat(f"{host.root}/{OURS}")
    assert (status.st_uid, status.st_gid) == (200000, 300000)
    assert {one["relaxation"] for one in done.relaxations} == {"hostname", "console", "users"}, "it can load no BPF"


def test_files_below_a_mount_that_maps_ids_are_roots(host: Host) -> None:
    host.configure("lxc.idmap = b 0 200000 65536", "lxc.rootfs.options = idmap=container")
    host.run()
    assert os.stat(f"{host.root}/{OURS}").st_uid == 0


def test_a_stopped_container_on_anything_but_a_directory_has_to_be_started(host: Host) -> None:
    for spec in (f"overlay:{host.root}:{host.lxc_path}", f"loop:{host.lxc_path}/image", ""):
        write(f"{host.lxc_path}/web1/config", f"lxc.rootfs.path = {spec}\n")
        with pytest.raises(StasisError, match="while the container is stopped") as failure:
            host.run()
        assert failure.value.remedy == "Start the container, and run the task again."


def test_the_root_of_the_host_is_never_taken_for_a_containers(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where init has ended, and its number is another process's."""
    monkeypatch.setattr(_checkpointable, "root_of", lambda _config, _init: "/proc/self/root")
    config = _lxc_config.read(host.lxc_path, "web1")
    with pytest.raises(StasisError, match="has ended"), _checkpointable._root_tree(config, None):
        pass


def test_the_root_of_a_running_container_is_what_its_init_sees(host: Host) -> None:
    def root(init: int) -> str:
        return _checkpointable.root_of(_lxc_config.read(host.lxc_path, "web1"), init)

    assert (root(0), root(99)) == (host.root, "/proc/99/root")
    host.configure("lxc.rootfs.options = idmap=container")
    assert root(99) == host.root


def test_a_container_between_two_states_is_not_touched(host: Host) -> None:
    runner = StrictRunner(Call(["lxc-info", "-P", host.lxc_path, "-n", "web1", "-s", "-p"], stdout="State: STOPPING\n"))
    given = {key: one.get("default") for key, one in _checkpointable.argument_spec().items()}
    with pytest.raises(StasisError, match="web1 is STOPPING"):
        _checkpointable.run({**given, "name": "web1", "lxc_path": host.lxc_path}, runner, check_mode=False)


def test_what_has_to_be_restarted_is_said_until_it_is(running: Host) -> None:
    predicted = running.run(check=True)
    first = running.run()
    assert predicted == first
    assert (first.restart_needed, first.reload_needed) == ([LOGIND], True)
    second = running.run()
    assert (second.changed, second.restart_needed, second.reload_needed) == (False, [LOGIND], True)
    assert f"try-restart {LOGIND}` in web1" in second.summary[-1]
    running.running = Running(4321, since={LOGIND: time.time() + 1})
    third = running.run()
    assert (third.changed, third.restart_needed, third.reload_needed) == (False, [], False)


def test_restart_lets_it_take_effect_once(running: Host) -> None:
    predicted = running.run(restart=True, check=True)
    done = running.run(
        attach(running, "systemctl", "daemon-reload"), attach(running, "systemctl", "try-restart", LOGIND), restart=True
    )
    assert (done.changed, done.restarted, done.restart_needed, done.reload_needed) == (True, [LOGIND], [], False)
    assert predicted.changed and predicted.restart_needed == []
    running.running = Running(4321, since={LOGIND: time.time() + 1})
    assert not running.run(restart=True).changed


def test_a_service_that_no_longer_starts_gets_its_old_settings_back(running: Host) -> None:
    running.run(relax=["users"])
    before = everything(running.root)
    with pytest.raises(StasisError, match="as before, and the services run with them again") as failure:
        running.run(
            attach(running, "systemctl", "daemon-reload"),
            attach(running, "systemctl", "try-restart", LOGIND, rc=1),
            attach(running, "systemctl", "daemon-reload"),
            attach(running, "systemctl", "reset-failed", LOGIND),
            attach(running, "systemctl", "restart", LOGIND),
            restart=True,
        )
    assert failure.value.data == {"rc": 1}
    assert everything(running.root) == before


def test_what_cannot_be_put_back_is_said(running: Host) -> None:
    with pytest.raises(StasisError, match="The files are as before, but systemctl daemon-reload in web1 failed"):
        running.run(
            attach(running, "systemctl", "daemon-reload", rc=1),
            attach(running, "systemctl", "daemon-reload", rc=1),
            restart=True,
        )


def test_nothing_is_written_where_a_restart_is_asked_for_and_impossible(running: Host) -> None:
    running.running = Running(4321, frozen=True, since={LOGIND: 0.0})
    before = everything(running.root)
    for check in (True, False):
        with pytest.raises(StasisError, match="web1 is frozen"):
            running.run(restart=True, check=check)
    assert everything(running.root) == before
    assert running.run().changed, "without a restart it does not matter"


def test_restart_makes_up_for_a_run_without(running: Host) -> None:
    running.run()
    done = running.run(
        attach(running, "systemctl", "daemon-reload"), attach(running, "systemctl", "try-restart", LOGIND), restart=True
    )
    assert (done.changed, done.diff, done.restarted) == (True, [], [LOGIND])


def test_taking_back_needs_a_restart_as_well(running: Host) -> None:
    running.run()
    assert running.run(state="absent", check=True).restart_needed == [LOGIND]
    done = running.run(
        attach(running, "systemctl", "daemon-reload"),
        attach(running, "systemctl", "try-restart", LOGIND),
        state="absent",
        restart=True,
    )
    assert done.restarted == [LOGIND]


def test_credentials_in_a_ramfs_are_unmounted_where_the_unit_is_to_have_none(running: Host) -> None:
    roots.unit(
        running.root, "sysctl.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nLoadCredential=sysctl.extra\n"
    )
    roots.link(running.root, f"{roots.UNITS}/multi-user.target.wants/sysctl.service", "../sysctl.service")
    assert ("sysctl.service", "credentials") not in relaxed(running.run(check=True)), "no ramfs with a newer systemd"
    roots.unit(running.root, "libsystemd-shared-252.so", "", "usr/lib/x86_64-linux-gnu/systemd")
    running.running = Running(4321, credentials=("other.service", "sysctl.service"))
    first = running.run()
    assert ("sysctl.service", "credentials") in relaxed(first)
    assert (first.unmount_needed, first.restart_needed) == (["/run/credentials/sysctl.service"], [])
    assert "`umount /run/credentials/sysctl.service` in web1" in first.summary[-1]
    calls = (
        attach(running, "systemctl", "daemon-reload"),
        attach(running, "umount", "/run/credentials/sysctl.service"),
    )
    done = running.run(*calls, restart=True)
    assert (done.changed, done.unmount_needed) == (True, [])
    running.running = Running(4321)
    assert not running.run(restart=True).changed


def test_what_runs_without_being_enabled_is_looked_at(running: Host) -> None:
    running.running = Running(4321, since={"off.service": time.time()})
    assert "off.service" in {one["unit"] for one in running.run(check=True).relaxations}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "../web1"}, "is not a container name"),
        ({"lxc_path": "lxc"}, "not an absolute path"),
        ({"relax": ["everything"]}, "neither a relaxation nor a unit"),
        ({"name": "web2"}, "There is no container web2"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_asked(
    host: Host, params: dict[str, t.Any], message: str
) -> None:
    given = {key: one.get("default") for key, one in _checkpointable.argument_spec().items()}
    with pytest.raises(StasisError, match=message):
        _checkpointable.run(
            {**given, "name": "web1", "lxc_path": host.lxc_path, **params}, StrictRunner(), check_mode=False
        )


@pytest.mark.parametrize("seconds", [0, 3_000_000])
def test_timeout_out_of_bounds_is_refused_before_anything_is_read(seconds: int) -> None:
    params = {"name": "web1", "lxc_path": "/var/lib/lxc", "relax": ["all"], "timeout": seconds}
    with pytest.raises(StasisError, match=f"timeout is {seconds}"):
        # Nobody asks the runner for anything.
        _checkpointable.run(params, t.cast(t.Any, None), check_mode=True)


@pytest.fixture
def holding(running: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Prepared, and its systemd holds BPF programs all the same."""
    running.run(*restarts(running), restart=True)
    assert running.running is not None
    began = time.time() + 60
    running.running = Running(4321, since={LOGIND: began, "plain.service": began})
    monkeypatch.setattr(_checkpointable_units, "held_programs", lambda _init: 2)
    return running


def restarts(host: Host) -> list[Call]:
    return [
        attach(host, "systemctl", "daemon-reload"),
        attach(host, "systemctl", "try-restart", LOGIND),
    ]


def test_programs_that_systemd_holds_are_said(holding: Host) -> None:
    for check in (True, False):
        report = holding.run(check=check, restart=True)
        assert (report.changed, report.stop_needed, report.container_restarted) == (False, True, False)
        assert "restart_container: true" in report.summary[-1]


def test_container_is_stopped_and_started_where_that_is_asked_for(
    holding: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(_checkpointable_units, "_start", lambda name, _path, _timeout: (started.append(name) or 0, ""))
    predicted = holding.run(check=True, restart_container=True)
    assert started == []
    stop = Call(["lxc-stop", "-P", holding.lxc_path, "-n", "web1", "-t", "120"])
    done = holding.run(stop, restart_container=True)
    assert (done.changed, done.stop_needed, done.container_restarted, started) == (True, False, True, ["web1"])
    assert predicted == done


def test_container_that_does_not_start_again_fails_the_task(holding: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpointable_units, "_start", lambda _name, _path, _timeout: (1, "no bridge"))
    stop = Call(["lxc-stop", "-P", holding.lxc_path, "-n", "web1", "-t", "120"])
    with pytest.raises(StasisError, match="could not be started again: no bridge"):
        holding.run(stop, restart_container=True)


def test_programs_of_a_setting_that_stays_are_held_for_a_reason(running: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpointable_units, "held_programs", lambda _init: 2)
    roots.unit(running.root, LOGIND, "[Service]\nIPAddressDeny=any\nExecStart=/bin/x\n")
    report = running.run(relax=["hostname"])
    assert {one["relaxation"] for one in report.blocked} >= {"ip-filter"}
    assert not report.stop_needed


def test_nothing_is_held_by_a_process_without_programs() -> None:
    assert _checkpointable_units.held_programs(os.getpid()) == 0
    assert _checkpointable_units.held_programs(2**22 + 1) == 0

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups, _checkpointable_units
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_units import Inside, Running
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

SOME = Running(
    7, since={"a.service": 100.0, "getty@tty1.service": 100.0, "getty@tty2.service": 300.0, "b.service": 300.0}
)


def attach(*argv: str, rc: int = 0, stderr: str = "", timed_out: bool = False) -> Call:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    command = ["lxc-attach", "-P", "/var/lib/lxc", "-n", "web1", "--clear-env", "-v", path, "--", *argv]
    return Call(command, rc=rc, stderr=stderr, timed_out=timed_out)


def inside(runner: StrictRunner) -> Inside:
    return Inside(runner, "web1", "/var/lib/lxc", 60)


def test_services_of_a_unit_and_of_a_template() -> None:
    assert SOME.services("a.service") == ["a.service"]
    assert SOME.services("getty@.service") == ["getty@tty1.service", "getty@tty2.service"]
    assert SOME.services("none.service") == SOME.services("a.slice") == SOME.services("system.slice") == []


def test_what_began_before_the_file_was_written_is_older() -> None:
    assert SOME.older("getty@.service", 200.0) == ["getty@tty1.service"]
    assert SOME.older("a.service", 0.0) == []


def test_services_and_their_age_come_from_the_cgroups(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = f"{os.getpid()}\n"
    for path in (
        "system.slice/a.service",
        "system.slice/b.service/below/c.service",
        "user.slice/user@0.service/app.slice",
    ):
        write(f"{safe_dir}/payload/{path}/cgroup.procs", own)
    write(f"{safe_dir}/payload/system.slice/empty.service/cgroup.procs", "")
    write(f"{safe_dir}/payload/system.slice/gone.service/cgroup.procs", "4194303\n")
    write(f"{safe_dir}/payload/system.slice/not a service.service x/cgroup.procs", own)
    hierarchy = _cgroups.Hierarchy((), safe_dir, "/payload", True)
    monkeypatch.setattr(_cgroups, "observe", lambda _init: [hierarchy, hierarchy])
    found = _checkpointable_units.look(1)
    assert found.active == ("a.service", "b.service", "user@0.service")
    assert time.time() - 600 < found.since["a.service"] <= time.time()


def test_only_a_ramfs_right_below_run_credentials_counts(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = (
        ("/run/credentials/a.service", "ramfs"),
        ("/run/credentials/b.service", "tmpfs"),
        ("/run/credentials/c.service/d.service", "ramfs"),
        ("/srv/e.service", "ramfs"),
        ("/run/credentials/not\\040one.service", "ramfs"),
    )
    lines = [f"{number} 1 0:{number} / {at} rw - {kind} {kind} rw" for number, (at, kind) in enumerate(mounts, 10)]
    text = "".join(f"{line}\n" for line in lines)
    path = write(f"{safe_dir}/mountinfo", text)
    real = open
    monkeypatch.setattr(
        "builtins.open", lambda name, *rest, **more: real(path if name == "/proc/7/mountinfo" else name, *rest, **more)
    )
    monkeypatch.setattr(_cgroups, "observe", lambda _init: [])
    assert _checkpointable_units.look(7).credentials == ("a.service",)


def test_restart_reads_the_units_again_first() -> None:
    runner = StrictRunner(
        attach("systemctl", "daemon-reload"),
        attach("systemctl", "try-restart", "a.service", "b.service"),
        attach("umount", "/run/credentials/c.service"),
    )
    unmount = ["/run/credentials/c.service"]
    services = ["a.service", "b.service"]
    assert SOME.restart(inside(runner), services, unmount) == services
    runner.assert_done()


def test_without_services_units_are_only_read_again() -> None:
    runner = StrictRunner(attach("systemctl", "daemon-reload"))
    assert SOME.restart(inside(runner), [], []) == []
    runner.assert_done()


def test_a_restart_that_fails_says_what_to_do_by_hand() -> None:
    runner = StrictRunner(attach("systemctl", "daemon-reload", rc=1, stderr="Failed to connect to bus\n"))
    with pytest.raises(StasisError, match=r"systemctl daemon-reload in web1 failed: Failed to connect") as failure:
        SOME.restart(inside(runner), ["a.service"], [])
    assert failure.value.remedy == "Run lxc-attach -n web1 -- systemctl daemon-reload by hand."


def test_nothing_is_restarted_in_a_frozen_container() -> None:
    with pytest.raises(StasisError, match="web1 is frozen"):
        Running(7, frozen=True).check_restart("web1")
    SOME.check_restart("web1")


def test_after_a_failure_what_ran_is_started_again() -> None:
    runner = StrictRunner(
        attach("systemctl", "daemon-reload"),
        attach("systemctl", "reset-failed", "a.service"),
        attach("systemctl", "restart", "a.service"),
    )
    SOME.resume(inside(runner), ["a.service"])
    runner.assert_done()


def test_programs_share_one_deadline() -> None:
    runner = StrictRunner(attach("true", rc=-9, timed_out=True))
    spent = Inside(runner, "web1", "/var/lib/lxc", 60, began=time.monotonic() - 100)
    with pytest.raises(StasisError, match="true in web1 did not end within 60 s"):
        spent.run("true")
    assert 59 < Inside(runner, "web1", "/var/lib/lxc", 60).began + 60 - time.monotonic() <= 60

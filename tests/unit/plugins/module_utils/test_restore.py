# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _restore
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import CriuOptions
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._runner import Completed
from ansible_collections.stasis.lxc.plugins.module_utils._workspace import Workspace
from ansible_collections.stasis.lxc.tests.unit.support.make import container, wanted, write

UNKNOWN = "(00.1)      1: Error (criu/new.c:467): Nobody has seen this yet\n(00.2) Error (criu/cr-restore.c:2331): Restoring FAILED.\n"
EXITED = "lxc-checkpoint: web1: ../src/lxc/criu.c: do_restore: 1070 criu process exited 1, output:\n"
# What a process of CRIU's says whose CRIU is gone.
ORPHANED = "(00.1) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory\n"
KILLED = "lxc-checkpoint: web1: ../src/lxc/criu.c: do_restore: 1098 CRIU was killed with signal 9\n"


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace("web1", "restore", str(tmp_path / "logs"))


def failure(work: Workspace, log: str, stderr: str) -> StasisError:
    if log:
        write(work.file("restore.log"), log)
    done = Completed(("lxc-checkpoint",), 1, "", stderr, 0.1)
    return _restore._failure(
        done, container("STOPPED"), wanted(state="restored"), work, ["criu"], "STOPPED", nothing_ran=True
    )


def test_an_error_that_no_rule_knows_is_said_and_not_that_there_is_no_log(work: Workspace) -> None:
    found = failure(work, UNKNOWN, EXITED)
    assert "Nobody has seen this yet" in found.what
    assert "log is missing" not in found.what


def test_without_any_log_of_criu_that_is_what_is_said(work: Workspace) -> None:
    assert "log is missing" in failure(work, "", EXITED).what


def test_a_killed_criu_is_told_as_such_though_its_helpers_complain(work: Workspace) -> None:
    assert "CRIU crashed or was killed" in failure(work, ORPHANED, KILLED).what


def test_what_cuts_off_a_lost_container_comes_before_its_own_hooks(tmp_path: Path, work: Workspace) -> None:
    write(f"{tmp_path}/web1/config", "lxc.hook.stop = /bin/mine\nlxc.uts.name = web1\n")
    order = _restore.RestoreOrder("/criu", CriuOptions(), lambda _work, _images: [], (), 1)
    subject = container("STOPPED", lxc_path=str(tmp_path))
    with open(_restore._write_rcfile(subject, order, work, "/my hooks/restore-net"), encoding="utf-8") as stream:
        hooks = [line.strip() for line in stream if line.startswith("lxc.hook.stop")]
    assert hooks == [
        """lxc.hook.stop = /bin/sh -c 'test ! -x "$0" || "$0" --lost; exit 0' '/my hooks/restore-net'""",
        "lxc.hook.stop = /bin/mine",
    ]

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _autostart,
    _container,
    _criu_run,
    _image,
    _journal,
    _leftovers,
    _mend,
    _orphan_veths,
    _pressure,
    _restore,
    _runner,
    _systemd,
    _workspace,
)
from ansible_collections.stasis.lxc.plugins.module_utils._attempts import RunError
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import CriuOptions
from ansible_collections.stasis.lxc.plugins.module_utils._runner import Completed
from ansible_collections.stasis.lxc.plugins.module_utils._workspace import Workspace
from ansible_collections.stasis.lxc.tests.unit.support.house import RECORD, RESTORED
from ansible_collections.stasis.lxc.tests.unit.support.make import BOOT, container, draft, manifest, wanted, write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import StrictRunner

UNKNOWN = "(00.1)      1: Error (criu/new.c:467): Nobody has seen this yet\n(00.2) Error (criu/cr-restore.c:2331): Restoring FAILED.\n"
EXITED = "lxc-checkpoint: web1: ../src/lxc/criu.c: do_restore: 1070 criu process exited 1, output:\n"
# What a process of CRIU's says whose CRIU is gone.
ORPHANED = "(00.1) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory\n"
KILLED = "lxc-checkpoint: web1: ../src/lxc/criu.c: do_restore: 1098 CRIU was killed with signal 9\n"


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace("web1", "restore", str(tmp_path / "logs"))


def failure(work: Workspace, log: str, stderr: str) -> RunError:
    if log:
        write(work.file("restore.log"), log)
    done = Completed(("lxc-checkpoint",), 1, "", stderr, 0.1)
    found = _restore._failure(
        done, container("STOPPED"), wanted(state="restored"), work, ["criu"], "STOPPED", nothing_ran=True
    )
    assert isinstance(found, RunError)
    return found


def test_an_error_that_no_rule_knows_is_said_and_not_that_there_is_no_log(work: Workspace) -> None:
    found = failure(work, UNKNOWN, EXITED)
    assert "Nobody has seen this yet" in found.what
    assert "log is missing" not in found.what


def test_without_any_log_of_criu_that_is_what_is_said(work: Workspace) -> None:
    assert "log is missing" in failure(work, "", EXITED).what


def test_a_killed_criu_is_told_as_such_though_its_helpers_complain(work: Workspace) -> None:
    assert "CRIU crashed or was killed" in failure(work, ORPHANED, KILLED).what


TRANSIENT = "(00.1) Error (criu/sk-netlink.c:77): netlink: The socket has data to read\n"
IGNORED = "(00.2) Error (criu/action-scripts.c:128): Script /usr/libexec/hook exited with 1\n"


def test_only_a_refusal_is_called_what_stopped_it_and_switches_retries_off(work: Workspace) -> None:
    write(work.file("hook.refused"), "post-restore: eth0: the bridge br0 does not exist.\n")
    found = failure(work, TRANSIENT, EXITED)
    assert "The hook stopped it: post-restore: eth0: the bridge br0 does not exist." in found.what
    assert not found.as_before
    assert found.data["log_errors"][0] == "post-restore: eth0: the bridge br0 does not exist."
    assert found.data["warnings"] == []


@pytest.mark.parametrize("log", [TRANSIENT, IGNORED + TRANSIENT])
def test_what_the_hook_went_on_without_is_a_warning_of_the_failed_run_and_not_its_cause(
    work: Workspace, log: str
) -> None:
    write(work.file("hook.warnings"), "post-restore: the cgroup /c could not be given memory.max = 9.\n")
    found = failure(work, log, EXITED)
    assert "hook" not in found.what
    assert found.as_before
    assert [one.id for one in found.diagnoses] == ["netlink_unread"]
    assert found.data["warnings"] == [
        "The hook could not do everything: post-restore: the cgroup /c could not be given memory.max = 9."
    ]


def test_many_warnings_of_the_hook_are_counted_and_a_hostile_name_is_made_harmless(work: Workspace) -> None:
    with open(work.file("hook.warnings"), "wb") as stream:
        stream.write(b"post-restore: the cgroup /c/\xff\x1b[2J\n" + b"".join(b"line %d\n" % one for one in range(20)))
    said = _criu_run.hook_said(work.path)
    assert said.warnings[0] == "The hook could not do everything: post-restore: the cgroup /c/??[2J"
    assert said.warnings[-1] == f"11 more of these are in {work.path}/hook.warnings."
    assert len(said.warnings) == 11


@dataclass
class Stage:
    """A restore whose lxc-checkpoint is a double. said: what LXC says afterwards; revives: the hook records this init."""

    top: str
    said: tuple[str, int] = ("RUNNING", RESTORED.pid)
    revives: bool = True
    rc: int = 1
    done: list[t.Any] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)

    def run(self) -> _restore.Restored:
        subject = container("STOPPED", lxc_path=f"{self.top}/lxc")
        # Nothing is run by this one: what it asks for is double.
        order = _restore.RestoreOrder("/criu", CriuOptions(), lambda _work, _images: ["-o"], (), 3)
        image = _image.look(f"{self.top}/image")
        target = wanted(state="restored", directory=image.path, lxc_path=f"{self.top}/lxc")
        return _restore.restore(StrictRunner(), subject, image, target, RECORD, order)

    def checkpoint(self, *_argv: t.Any, **_more: t.Any) -> Completed:
        if self.revives:
            _image.add_record(f"{self.top}/image", f"restored {BOOT} {RESTORED.pid} {RESTORED.start} 5")
        return Completed(("lxc-checkpoint",), self.rc, "", "", 0.1)

    @property
    def journal(self) -> _journal.Journal | None:
        return _journal.read("web1", f"{self.top}/lxc")


@pytest.fixture
def stage(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(safe_dir)
    write(f"{safe_dir}/lxc/web1/config", "lxc.uts.name = web1\n")
    staging = _image.stage(f"{safe_dir}/image", draft(lxc_path=f"{safe_dir}/lxc"))
    write(f"{staging}/committed", "committed B 1\n")
    _image.seal(staging, manifest(lxc_path=f"{safe_dir}/lxc", autostart_units=["lxc@web1.service"]))
    _image.publish(f"{safe_dir}/image")
    own = _workspace.Workspace
    monkeypatch.setattr(_workspace, "Workspace", lambda name, action: own(name, action, f"{safe_dir}/logs"))
    monkeypatch.setattr(_workspace, "LOCKS", f"{safe_dir}/run")
    monkeypatch.setattr(_runner, "run_to_files", made.checkpoint)
    monkeypatch.setattr(_container, "query", lambda *_arguments: made.said)
    monkeypatch.setattr(_container, "process", lambda pid: RESTORED if pid == RESTORED.pid else None)
    monkeypatch.setattr(_orphan_veths, "remove", lambda *_arguments: None)
    monkeypatch.setattr(_leftovers, "detached", lambda *_arguments: [])
    monkeypatch.setattr(_mend, "settle", lambda *_arguments: [])
    monkeypatch.setattr(_mend, "after_restore", lambda *_arguments: made.mended)
    monkeypatch.setattr(_restore, "take_back", lambda *_arguments, **_more: [])
    monkeypatch.setattr(_pressure, "arm", lambda _pids: made.done.append("triggers") or [])
    monkeypatch.setattr(_systemd, "reload", lambda _init: made.done.append("reload"))
    monkeypatch.setattr(_autostart, "allow", lambda units, *_arguments: made.done.append(units))
    return made


@pytest.mark.parametrize("rc", [0, 1, -9])
def test_what_follows_a_restore_is_done_wherever_the_restored_container_runs(stage: Stage, rc: int) -> None:
    stage.rc = rc
    restored = stage.run()
    assert restored.init == RESTORED
    assert stage.done == ["triggers", "reload", ["lxc@web1.service"]]
    assert _restore.running_generation(container(init=RESTORED, lxc_path=f"{stage.top}/lxc")) == 3
    assert stage.journal is None
    assert any(f"lxc-checkpoint ended with {rc}" in line for line in restored.warnings) is (rc != 0)


@pytest.mark.parametrize(
    ("said", "revives"),
    [(("RUNNING", RESTORED.pid), False), (("STOPPING", 0), True)],
    ids=["another one runs", "between two states"],
)
def test_the_journal_of_a_failed_restore_stays_where_something_may_still_run(
    stage: Stage, said: tuple[str, int], revives: bool
) -> None:
    stage.said, stage.revives = said, revives
    with pytest.raises(RunError):
        stage.run()
    assert stage.done == []
    assert stage.journal is not None


@pytest.mark.parametrize("undone", [False, True])
def test_the_journal_of_a_failed_restore_ends_when_all_is_mended(stage: Stage, undone: bool) -> None:
    stage.said = ("STOPPED", 0)
    stage.mended = ["could not do this: removed empty cgroups: a: Device or resource busy"] if undone else ["removed a"]
    with pytest.raises(RunError) as failed:
        stage.run()
    assert failed.value.data["recovered"] == stage.mended
    assert (stage.journal is not None) is undone
    assert failed.value.as_before is not undone, "another try would write its journal over this one"


def test_what_cannot_be_completed_is_left_to_the_next_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: t.Any) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(_autostart, "allow", fail)
    with pytest.raises(OSError, match="read-only"):
        stage.run()
    assert stage.journal is not None


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

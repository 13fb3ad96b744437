# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_command, _proof, _trial, _trial_cgroups
from ansible_collections.stasis.lxc.plugins.module_utils._cgroups import Hierarchy
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.tests.unit.support.make import wanted

BY_HANDLE = "(00.1) 1: Error (criu/fsnotify.c:566): fsnotify: Can't open file handle for 0x12\n"
NO_ROOM = "(00.1) 1: Error (criu/files-reg.c:1): Can't open file /var/log/x: No space left on device\n"
LINK = "(00.1) 5: Error (criu/files-reg.c:2258): Can't link tmp/link_remap.13 -> tmp/name1: No such file or directory\n"
TIMER = "(00.1) 7: Error (criu/pie/restorer.c:1): Can't restore posix timers -22\n"


def test_image_that_was_restored_whole_is_proven_whatever_the_log_says() -> None:
    assert _proof.judge(True, TIMER, running=False) == (_proof.PROVEN, "")


@pytest.mark.parametrize("log", [BY_HANDLE, NO_ROOM])
def test_what_the_overlay_alone_causes_does_not_refuse_an_image(log: str) -> None:
    verdict, why = _proof.judge(False, log, running=False)
    assert verdict == _proof.PARTIAL
    assert why.endswith(".")


def test_any_other_error_refuses_it_with_the_line_that_says_so() -> None:
    assert _proof.judge(False, TIMER, running=False) == (_proof.REFUSED, TIMER.strip())
    assert _proof.judge(False, "", running=False)[0] == _proof.REFUSED


def test_bind_mounts_of_one_file_system_that_a_trial_keeps_apart_do_not_refuse_an_image() -> None:
    log = (
        "(00.1) 1: Error (criu/mount-v2.c:897): mnt-v2: Failed to copy sharing from -1:/srv/a to 27: Invalid argument\n"
    )
    assert _proof.judge(False, log, running=False, binds=["/srv/a", "/srv/b"])[0] == _proof.PARTIAL
    assert _proof.judge(False, log, running=False, binds=["/srv/b"])[0] == _proof.REFUSED


def test_names_that_criu_removes_when_the_container_goes_on_count_only_while_it_stands_still() -> None:
    assert _proof.judge(False, LINK, running=False)[0] == _proof.REFUSED
    assert _proof.judge(False, LINK, running=True)[0] == _proof.PARTIAL


def test_container_that_cannot_be_restored_beside_itself_is_known_before() -> None:
    hybrid = [Hierarchy(("memory",), "/m", "/lxc.payload.web1", False), Hierarchy((), "/u", "/lxc.payload.web1", True)]
    assert "network" in _proof.hindrance([Nic(index=0, kind="none", name="")], [], hybrid)
    assert "criu_args" in _proof.hindrance([], ["-x"], hybrid)
    assert "cgroup v2" in _proof.hindrance([], [], hybrid[1:])
    assert _proof.hindrance([Nic(index=0, kind="veth", name="eth0")], ["--skip-mnt", "/x"], hybrid) == ""


@pytest.mark.parametrize(
    ("given", "proves"),
    [({"stop": True}, True), ({}, False), ({"stop": True, "prove": False}, False), ({"prove": True}, True)],
)
def test_a_stop_is_proven_unless_the_task_says_no(given: dict[str, t.Any], proves: bool) -> None:
    assert wanted(state="checkpointed", **given).proves is proves


def test_trial_has_cgroups_of_its_own_in_the_root_of_each_hierarchy() -> None:
    source = (
        Hierarchy(("memory",), "/sys/fs/cgroup/memory", "/lxc.payload.web1", False),
        Hierarchy((), "/sys/fs/cgroup/unified", "/lxc.payload.web1", True),
    )
    assert [one.directory for one in _trial_cgroups.of(source, "web1-abc")] == [
        "/sys/fs/cgroup/memory/stasis.trial.web1-abc",
        "/sys/fs/cgroup/unified/stasis.trial.web1-abc",
    ]


def test_command_of_a_trial_has_no_lxc_above_it_and_reads_memory_lazily_where_it_can() -> None:
    facts = _criu_command.RestoreFacts("/images", "/work", "/hook", supervised=False, lazy=True)
    argv = _criu_command.trial("/criu", "/root", ["memory:/stasis.trial.x"], _criu_command.CriuOptions(), facts)
    assert argv[:6] == ["/criu", "restore", "--root", "/root", "--cgroup-root", "memory:/stasis.trial.x"]
    assert "--lazy-pages" in argv
    assert not {"--restore-sibling", "--restore-detached"} & set(argv)


def test_process_that_ends_without_a_verdict_refuses_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prover = object.__new__(_proof.Prover)
    prover._order = order(tmp_path)
    prover._child, prover._fault = 0, ""
    assert prover.verdict().verdict == _proof.REFUSED
    (tmp_path / "verdict").write_text(json.dumps(_proof.Verdict(_proof.PROVEN, 0.2).as_dict()))
    assert prover.verdict() == _proof.Verdict(_proof.PROVEN, 0.2)


def test_without_the_program_that_waits_there_is_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_proof.shutil, "which", lambda *_arguments, **_more: None)
    prover = _proof.Prover(order(tmp_path / "work"), 1.0)
    assert prover.environment == {}
    assert prover.verdict().verdict == _proof.SKIPPED


def test_stand_in_has_the_size_the_mode_and_no_content(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * _trial._STAND_IN_BYTES)
    os.chmod(big, 0o640)
    small = tmp_path / "small"
    small.write_bytes(b"x")
    for path in (big, small):
        _trial._stand_in_for(str(path))
    status = big.stat()
    assert (status.st_size, status.st_mode & 0o7777, status.st_blocks) == (_trial._STAND_IN_BYTES, 0o640, 0)
    assert small.read_bytes() == b"x"


def test_propagation_is_that_of_the_innermost_mount() -> None:
    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "23 22 0:9 / /srv rw,relatime - tmpfs tmpfs rw\n"
        "24 22 0:10 / /srv/with\\040space rw,relatime shared:7 master:3 - tmpfs tmpfs rw\n"
    )
    found = [_trial._propagation(mounts, path) for path in ("/var/lib", "/srv/a", "/srvx", "/srv/with space/b", "/")]
    assert found == ["shared:1", "", "shared:1", "shared:7 master:3", "shared:1"]


def order(work: Path) -> _trial.Order:
    return _trial.Order(
        criu="/criu",
        hook="/hook",
        images="/images",
        work=str(work),
        init_pid=1,
        options=_criu_command.CriuOptions(),
        nics=(),
        mounts=(),
        terminals=(),
        cgroups=(),
        key="web1-none",
    )

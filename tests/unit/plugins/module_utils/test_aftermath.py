# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A failed or refused task tells how container and checkpoint are, not how they were planned to be."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _dump, _image, _restore, _result
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.house import (
    BPF,
    RISKS,
    House,
    acts_are_faked,
    build,
    checkpointed,
    stop,
)
from ansible_collections.stasis.lxc.tests.unit.support.make import INIT, write


@pytest.fixture
def house(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(safe_dir, monkeypatch)


def refused(house: House, *, check_mode: bool = True, **options: t.Any) -> dict[str, t.Any]:
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=check_mode, **options)
    assert {"state", "container_state", "init_pid", "checkpoint", "diff", "changed"} <= set(refusal.value.data)
    return refusal.value.data


@pytest.mark.parametrize("check_mode", [True, False])
def test_refusal_beside_a_checkpoint_tells_both(house: House, check_mode: bool) -> None:
    checkpointed(house)
    house.findings = [BPF]
    acts_are_faked(house.monkeypatch, house)
    found = refused(house, check_mode=check_mode, overwrite=True)
    assert (found["state"], found["container_state"], found["init_pid"]) == ("sealed", "running", INIT.pid)
    assert found["checkpoint"] == _image.look(house.directory).manifest
    same = {"container": "running", "checkpoint": "sealed"}
    assert (found["changed"], found["diff"]) == (False, {"before": same, "after": same})


def test_refusal_without_a_checkpoint_tells_that_there_is_none(house: House) -> None:
    house.findings = [BPF]
    found = refused(house)
    assert (found["state"], found["checkpoint"], found["container_state"]) == ("absent", {}, "running")


def test_refusal_about_a_container_that_does_not_exist(house: House) -> None:
    checkpointed(house)
    os.unlink(f"{house.top}/lxc/web1/config")

    def gone(*_arguments: t.Any) -> t.NoReturn:
        raise StasisError("There is no container web1.")

    house.monkeypatch.setattr(_container, "observe", gone)
    found = refused(house)
    assert (found["container_state"], found["init_pid"], found["state"]) == ("absent", 0, "sealed")


def test_failure_after_the_container_has_died_tells_that_it_is_stopped(house: House) -> None:
    acts_are_faked(house.monkeypatch, house)

    def dump(*_arguments: t.Any) -> t.NoReturn:
        stop(house)
        raise StasisError("It could not be put in its place.", recovered=["did this"])

    house.monkeypatch.setattr(_dump, "dump", dump)
    house.findings = RISKS
    found = refused(house, check_mode=False, stop=True)
    assert (found["state"], found["container_state"], found["init_pid"]) == ("absent", "stopped", 0)
    assert found["diff"] == {
        "before": {"container": "running", "checkpoint": "absent"},
        "after": {"container": "stopped", "checkpoint": "absent"},
    }
    assert found["changed"] is True
    assert found["recovered"] == ["did this"]
    assert len(found["findings"]) == len(RISKS)
    assert found["command"]
    assert any("fanotify" in line for line in found["warnings"])


def test_failed_restore_of_a_container_that_was_stopped_for_it_has_changed_something(house: House) -> None:
    checkpointed(house)
    acts_are_faked(house.monkeypatch, house)

    def restore(*_arguments: t.Any) -> t.NoReturn:
        raise StasisError("CRIU failed.")

    house.monkeypatch.setattr(_restore, "stop", lambda *_arguments: stop(house))
    house.monkeypatch.setattr(_restore, "restore", restore)
    found = refused(house, check_mode=False, state="restored", force=True, allow_stale=True)
    assert (found["container_state"], found["init_pid"], found["state"], found["changed"]) == (
        "stopped",
        0,
        "sealed",
        True,
    )


@pytest.mark.parametrize("known", [True, False])
def test_what_cannot_be_found_out_is_said_to_be_unknown(house: House, known: bool) -> None:
    acts_are_faked(house.monkeypatch, house)

    def unseen(*_arguments: t.Any) -> t.NoReturn:
        raise StasisError("lxc-info does not answer.")

    def dump(*_arguments: t.Any) -> t.NoReturn:
        house.monkeypatch.setattr(_container, "observe", unseen)
        house.monkeypatch.setattr(_container, "query", (lambda *_a: ("RUNNING", 42)) if known else unseen)
        raise StasisError("CRIU failed.")

    house.monkeypatch.setattr(_dump, "dump", dump)
    found = refused(house, check_mode=False)
    if known:
        assert (found["container_state"], found["init_pid"], found["warnings"]) == ("running", 42, [])
    else:
        assert (found["container_state"], found["init_pid"]) == (_result.UNKNOWN, _result.NO_PID)
        assert any("could not be found out: lxc-info does not answer." in line for line in found["warnings"])


def test_checkpoint_that_cannot_be_looked_at_is_unknown(house: House) -> None:
    checkpointed(house)
    acts_are_faked(house.monkeypatch, house)

    def unread(*_arguments: t.Any) -> t.NoReturn:
        raise OSError(5, "Input/output error")

    def dump(*_arguments: t.Any) -> t.NoReturn:
        house.monkeypatch.setattr(_image, "look", unread)
        raise StasisError("CRIU failed.")

    house.monkeypatch.setattr(_dump, "dump", dump)
    found = refused(house, check_mode=False, overwrite=True)
    assert (found["state"], found["checkpoint"]) == (_result.UNKNOWN, {})
    assert any("Input/output error" in line for line in found["warnings"])


def test_damaged_checkpoint_is_called_damaged(house: House) -> None:
    stop(house)
    checkpointed(house)
    write(f"{house.directory}/pages-1.img", "half")
    found = refused(house, state="restored", verify="size")
    assert (found["state"], found["container_state"], found["init_pid"]) == ("damaged", "stopped", 0)


def test_key_that_cannot_be_read_leaves_nothing_of_a_manifest_believed(house: House) -> None:
    stop(house)
    checkpointed(house)
    found = refused(house, state="restored", verify_key=f"{house.top}/no-key.pub")
    assert (found["state"], found["checkpoint"], found["container_state"]) == ("untrusted", {}, "stopped")


def test_stale_reasons_of_a_failure_are_those_of_now(house: House) -> None:
    stop(house)
    checkpointed(house)
    acts_are_faked(house.monkeypatch, house)

    def restore(*_arguments: t.Any) -> t.NoReturn:
        write(f"{house.found.rootfs.backing}/etc/passwd", "y")
        raise StasisError("CRIU failed.")

    house.monkeypatch.setattr(_restore, "restore", restore)
    assert refused(house, check_mode=False, state="restored")["stale_reasons"]


def test_check_mode_and_the_run_predict_the_same_container_state(house: House) -> None:
    assert house.run(check_mode=True, stop=True).container_state == "stopped"
    assert house.run(check_mode=True, stop=True).init_pid == 0
    assert house.run(check_mode=True).container_state == "running"
    assert house.run(check_mode=True).init_pid == INIT.pid
    checkpointed(house)
    house.found = replace(house.found, state="STOPPED", init=None, monitor=None, nics=())
    assert house.run(check_mode=True, state="absent", force=True).container_state == "stopped"

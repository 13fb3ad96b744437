# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import time
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _host, _image, _recover, _rootfs
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container, Process
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import (
    BOOT,
    INIT,
    LXC_PATH,
    NAME,
    container,
    draft,
    image,
    manifest,
    tree,
    write,
)
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import StrictRunner

STATS = Path(__file__).parents[2] / "fixtures" / "criu_stats" / "stats-dump"
OLD, NEW = "2026-11-22T22:00:00.000000Z", "2026-11-22T23:00:00.000000Z"
OTHER_INIT = Process(5555, 111111, "init")
SAME_PID = Process(INIT.pid, INIT.start + 1, "init")

ABSENT = image(_image.ABSENT)
STAGING = image(_image.STAGING)
COMMITTED = image(_image.COMMITTED)
ELSEWHEN = {"pid": INIT.pid, "start": INIT.start, "boot_id": "another"}
OTHER_BOOT = image(_image.COMMITTED, draft=draft(init=ELSEWHEN))
LEFT_RUNNING = image(_image.COMMITTED, draft=draft(stopped=False))
LEFT_AT_BOOT = image(_image.COMMITTED, draft=draft(stopped=False, init=ELSEWHEN))
SEALED_OLD = image(_image.SEALED, manifest=manifest(created=OLD))
SEALED_NEW = image(_image.SEALED, manifest=manifest(created=NEW))
# The clock was set back between two dumps.
FIRST_LATE = image(_image.SEALED, manifest=manifest(created=NEW, sequence=1))
SECOND_EARLY = image(_image.SEALED, manifest=manifest(created=OLD, sequence=2))
OTHERS = image(_image.SEALED, manifest=manifest(created=OLD, container="web2"))

# What is staged, what stands at the target, LXC's state, init, and what is done.
DECISIONS: list[tuple[str, _image.Image, _image.Image, str, Process | None, str]] = [
    ("never completed, dumped one alive", STAGING, ABSENT, "RUNNING", INIT, _recover.DISCARD),
    ("never completed, dumped one frozen", STAGING, ABSENT, "FROZEN", INIT, _recover.DISCARD),
    ("never completed, another runs", STAGING, ABSENT, "RUNNING", OTHER_INIT, _recover.DISCARD),
    ("never completed, stopped", STAGING, ABSENT, "STOPPED", None, _recover.DISCARD),
    ("never completed, state unclear", STAGING, ABSENT, "STOPPING", None, _recover.LEAVE),
    ("never completed over an older one", STAGING, SEALED_OLD, "RUNNING", INIT, _recover.DISCARD),
    ("committed, dumped one alive after a veto", COMMITTED, ABSENT, "RUNNING", INIT, _recover.DISCARD),
    ("committed, dumped one frozen", COMMITTED, ABSENT, "FROZEN", INIT, _recover.DISCARD),
    ("committed, stopped", COMMITTED, ABSENT, "STOPPED", None, _recover.ROLL_FORWARD),
    ("committed, stopped, older one there", COMMITTED, SEALED_OLD, "STOPPED", None, _recover.ROLL_FORWARD),
    ("committed, started again since", COMMITTED, ABSENT, "RUNNING", OTHER_INIT, _recover.ROLL_FORWARD),
    ("committed, another one under the same pid", COMMITTED, ABSENT, "RUNNING", SAME_PID, _recover.ROLL_FORWARD),
    ("committed, teardown goes on", COMMITTED, ABSENT, "STOPPING", None, _recover.ROLL_FORWARD),
    ("committed, stopped, of another boot", OTHER_BOOT, ABSENT, "STOPPED", None, _recover.ROLL_FORWARD),
    ("committed, of another boot under the same pid", OTHER_BOOT, ABSENT, "RUNNING", INIT, _recover.ROLL_FORWARD),
    ("committed, left running", LEFT_RUNNING, SEALED_OLD, "STOPPED", None, _recover.ROLL_FORWARD),
    ("committed, left running, of another boot", LEFT_AT_BOOT, SEALED_OLD, "STOPPED", None, _recover.DISCARD),
    ("committed, left running, of another boot, runs", LEFT_AT_BOOT, ABSENT, "RUNNING", OTHER_INIT, _recover.DISCARD),
    ("sealed, not published", SEALED_NEW, ABSENT, "STOPPED", None, _recover.PUBLISH),
    ("sealed, not exchanged", SEALED_NEW, SEALED_OLD, "STOPPED", None, _recover.PUBLISH),
    ("sealed, left running", SEALED_NEW, SEALED_OLD, "RUNNING", INIT, _recover.PUBLISH),
    ("exchanged, older one not removed", SEALED_OLD, SEALED_NEW, "STOPPED", None, _recover.DISCARD),
    ("exchanged, older one not removed, running", SEALED_OLD, SEALED_NEW, "RUNNING", INIT, _recover.DISCARD),
    ("sealed after the clock was set back", SECOND_EARLY, FIRST_LATE, "STOPPED", None, _recover.PUBLISH),
    ("exchanged after the clock was set back", FIRST_LATE, SECOND_EARLY, "STOPPED", None, _recover.DISCARD),
    ("sealed over one of an older version", SECOND_EARLY, SEALED_NEW, "STOPPED", None, _recover.PUBLISH),
    ("exchanged for one of an older version", SEALED_NEW, SECOND_EARLY, "STOPPED", None, _recover.DISCARD),
    ("sealed, target unreadable", SEALED_NEW, replace(ABSENT, state=_image.DAMAGED), "STOPPED", None, _recover.PUBLISH),
    ("sealed, target is somebody's directory", SEALED_NEW, image(_image.FOREIGN), "STOPPED", None, _recover.LEAVE),
    ("committed, target is somebody's directory", COMMITTED, image(_image.FOREIGN), "STOPPED", None, _recover.LEAVE),
    ("sealed, target is another container's", SEALED_NEW, OTHERS, "STOPPED", None, _recover.LEAVE),
    ("committed, target is another container's", COMMITTED, OTHERS, "STOPPED", None, _recover.LEAVE),
]


@each(
    ("staged", "target", "state", "init", "choice"),
    [case[1:] for case in DECISIONS],
    ids=[case[0] for case in DECISIONS],
)
def test_what_an_interrupted_run_left_decides(
    staged: _image.Image, target: _image.Image, state: str, init: Process | None, choice: str
) -> None:
    assert _recover.decide(staged, target, state, init, BOOT) == choice


@pytest.fixture(autouse=True)
def _boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_host, "boot_id", lambda: BOOT)


@pytest.fixture
def target(safe_dir: str) -> str:
    return f"{safe_dir}/checkpoints/web1"


@pytest.fixture
def stopped(safe_dir: str) -> Container:
    write(f"{safe_dir}/rootfs/etc/passwd", "x")
    return container("STOPPED", rootfs=_rootfs.locate(f"dir:{safe_dir}/rootfs"))


@pytest.fixture
def running(stopped: Container) -> Container:
    return replace(stopped, state="RUNNING", init=INIT)


def committed(target: str, created: str = OLD, **changes: t.Any) -> str:
    """The staging directory of a run that was killed after the hook's commit."""
    staging = _image.stage(target, draft(created=created, **changes))
    write(f"{staging}/pages-1.img", f"memory {created}")
    shutil.copyfile(STATS, f"{staging}/stats-dump")
    write(f"{staging}/committed", f"committed {BOOT} {int(time.clock_gettime(time.CLOCK_BOOTTIME))}\n")
    return staging


def published(target: str, created: str) -> None:
    _image.seal(committed(target, created), manifest(created=created))
    _image.publish(target)


def recovered(target: str, found: Container | None) -> list[str]:
    """recover(), after it has been asked without acting and has left all as it was."""
    above = os.path.dirname(target)
    before = names(above)
    told = _recover.recover(target, NAME, LXC_PATH, found, act=False, runner=StrictRunner())
    assert names(above) == before, "check mode writes nothing"
    done = _recover.recover(target, NAME, LXC_PATH, found, act=True, runner=StrictRunner())
    assert done == told, "check mode predicts what is done"
    assert _recover.recover(target, NAME, LXC_PATH, found, act=True, runner=StrictRunner()) == [], (
        "nothing is left to do"
    )
    return done


def names(above: str) -> dict[str, float]:
    return {
        os.path.join(directory, name): os.lstat(os.path.join(directory, name)).st_mtime
        for directory, children, files in os.walk(above)
        for name in children + files
    }


def beside(target: str) -> list[str]:
    return sorted(os.listdir(os.path.dirname(target)))


def test_nothing_left_is_nothing_to_do(target: str, stopped: Container) -> None:
    assert recovered(target, stopped) == []


@pytest.mark.parametrize("half", [None, "", '{"container": "we'], ids=["no draft", "empty draft", "half a draft"])
def test_killed_while_staging_began_is_removed(target: str, running: Container, half: str | None) -> None:
    os.makedirs(_image.staging_path(target))
    if half is not None:
        write(f"{_image.staging_path(target)}/draft.json", half)
    assert recovered(target, running) == [f"removed {_image.staging_path(target)}, left by an interrupted checkpoint"]
    assert beside(target) == []


def test_killed_before_the_commit_is_removed_and_the_older_image_stays(target: str, running: Container) -> None:
    published(target, OLD)
    before = tree(target)
    os.unlink(f"{committed(target, NEW)}/committed")
    assert recovered(target, running) == [f"removed {_image.staging_path(target)}, left by an interrupted checkpoint"]
    assert (beside(target), tree(target)) == (["web1"], before)


def test_killed_after_the_commit_of_a_stopped_container_is_completed_and_fresh(target: str, stopped: Container) -> None:
    committed(target)
    assert recovered(target, stopped) == [f"completed the checkpoint that an interrupted run had committed in {target}"]
    found = _image.look(target)
    assert (beside(target), found.state, _image.verify(found)) == (["web1"], _image.SEALED, [])
    now = _rootfs.fingerprint(stopped.rootfs)
    assert now is not None
    assert found.fingerprint == now.as_dict()
    assert found.manifest is not None
    assert found.manifest["stats"]["frozen_time"] > 0


def test_completed_image_of_a_rootfs_written_to_since_is_not_fresh(target: str, stopped: Container) -> None:
    staging = committed(target)
    long_ago = time.time() - 60
    os.utime(f"{staging}/committed", (long_ago, long_ago))
    recovered(target, stopped)
    found = _image.look(target)
    assert (found.state, found.fingerprint) == (_image.SEALED, None)


@pytest.mark.parametrize(
    ("boot", "seconds", "fresh"),
    [
        (BOOT, 0, True),
        # The clock says that less time has passed since the commit than the uptime does.
        (BOOT, -3600, False),
        (BOOT, 3600, True),
        # A later boot cannot have begun before the commit.
        ("another", 0, False),
    ],
    ids=["same boot", "set back", "set forward", "set back before another boot"],
)
def test_clock_that_was_set_back_since_the_commit_proves_nothing(
    target: str, stopped: Container, boot: str, seconds: int, fresh: bool
) -> None:
    staging = committed(target)
    uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME)) + seconds
    now = time.time()
    write(f"{staging}/committed", f"committed {boot} {uptime}\n")
    os.utime(f"{staging}/committed", (now, now))
    recovered(target, stopped)
    assert (_image.look(target).fingerprint is not None) == fresh


def test_file_system_that_does_not_tell_its_last_write_proves_nothing_after_an_interruption(
    target: str, stopped: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(target)
    untold = _rootfs.Fingerprint("d", 1, -1, "/dev/vg/web1", True)
    monkeypatch.setattr(_rootfs, "fingerprint", lambda _rootfs: untold)
    recovered(target, stopped)
    assert _image.look(target).fingerprint is None


def test_commit_before_another_boot_can_be_fresh(target: str) -> None:
    staging = committed(target)
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    write(f"{staging}/committed", "committed another 77\n")
    assert _recover._clock_kept(staging, int((booted - 60) * 1e9))
    assert not _recover._clock_kept(staging, int((booted + 60) * 1e9))


def test_completed_image_of_a_container_started_since_is_not_fresh(target: str, running: Container) -> None:
    committed(target)
    recovered(target, replace(running, init=OTHER_INIT))
    found = _image.look(target)
    assert (found.state, found.fingerprint) == (_image.SEALED, None)


def test_completed_image_of_a_container_destroyed_since_is_not_fresh(target: str) -> None:
    committed(target)
    recovered(target, None)
    assert _image.look(target).fingerprint is None


def test_commit_of_a_container_that_lives_on_is_removed(target: str, running: Container) -> None:
    committed(target)
    assert recovered(target, running) == [f"removed {_image.staging_path(target)}, left by an interrupted checkpoint"]
    assert beside(target) == []


def test_killed_while_the_manifest_was_written_is_completed(target: str, stopped: Container) -> None:
    write(f"{committed(target)}/manifest.new", '{"format": 1, "cont')
    recovered(target, stopped)
    assert _image.verify(_image.look(target)) == []


def test_killed_between_seal_and_publish_is_published(target: str, stopped: Container) -> None:
    published(target, OLD)
    _image.seal(committed(target, NEW), manifest(created=NEW))
    assert recovered(target, stopped) == [f"published the checkpoint that an interrupted run had sealed in {target}"]
    found = _image.look(target)
    assert found.manifest is not None
    assert (beside(target), found.manifest["created"]) == (["web1"], NEW)


def test_killed_after_the_exchange_removes_the_older_one(target: str, stopped: Container) -> None:
    published(target, OLD)
    os.rename(target, f"{target}.old")
    published(target, NEW)
    os.rename(f"{target}.old", _image.staging_path(target))
    assert recovered(target, stopped) == [f"removed {_image.staging_path(target)}, left by an interrupted checkpoint"]
    found = _image.look(target)
    assert found.manifest is not None
    assert (beside(target), found.manifest["created"]) == (["web1"], NEW)


def test_killed_while_removing_is_removed(target: str, stopped: Container) -> None:
    write(f"{_image.trash_path(target)}/pages-1.img", "old")
    assert recovered(target, stopped) == [f"removed {_image.trash_path(target)}, left by an interrupted removal"]
    assert beside(target) == []


def test_two_leftovers_are_put_right_at_once(target: str, stopped: Container) -> None:
    write(f"{_image.trash_path(target)}/pages-1.img", "old")
    committed(target)
    assert len(recovered(target, stopped)) == 2
    assert beside(target) == ["web1"]


@pytest.mark.parametrize("sealed", [False, True], ids=["committed", "sealed"])
def test_directory_that_somebody_put_at_the_target_is_not_removed(
    target: str, stopped: Container, sealed: bool
) -> None:
    staging = committed(target)
    if sealed:
        _image.seal(staging, manifest())
    write(f"{target}/thesis.tex", "years of work")
    assert recovered(target, stopped) == []
    assert tree(target) == {"thesis.tex": "100600 years of work"}
    assert os.path.isdir(staging)


def test_staging_of_another_container_is_left_alone(target: str, stopped: Container) -> None:
    staging = committed(target)
    assert _recover.recover(target, "web2", LXC_PATH, stopped, act=True, runner=StrictRunner()) == []
    assert _recover.recover(target, NAME, "/srv/lxc", stopped, act=True, runner=StrictRunner()) == []
    assert _image.look(staging).state == _image.COMMITTED


def test_what_is_not_ours_in_the_place_of_staging_is_left_alone(target: str, stopped: Container) -> None:
    write(f"{_image.staging_path(target)}/thesis.tex", "years of work")
    assert recovered(target, stopped) == []
    assert beside(target) == [".web1.stasis-staging"]


@pytest.mark.parametrize(("secret", "signed"), [(b"x" * 32, True), (b"short", False), (None, False)])
def test_completed_image_is_signed_with_the_key_that_its_run_had_or_not_at_all(
    safe_dir: str, target: str, stopped: Container, secret: bytes | None, signed: bool
) -> None:
    key = f"{safe_dir}/secret"
    if secret is not None:
        write(key, secret.decode())
    committed(target, sign_key=key)
    done = recovered(target, stopped)
    assert done[0].startswith("completed the checkpoint")
    assert [line.startswith("left that checkpoint unsigned: sign_key") for line in done[1:]] == [True] * (not signed)
    found = _image.look(target)
    assert found.state == _image.SEALED
    assert found.manifest is not None
    assert "sign_key" not in found.manifest
    assert os.path.exists(f"{target}/manifest.sig") is signed


def test_untrusted_image_is_left_alone(target: str, stopped: Container) -> None:
    published(target, OLD)
    _image.seal(committed(target, NEW), manifest(created=NEW))
    before = names(os.path.dirname(target))
    told = _recover.recover(
        target,
        NAME,
        LXC_PATH,
        stopped,
        act=True,
        runner=StrictRunner(),
        trust=lambda _data, _signature: "It is not signed.",
    )
    assert (told, names(os.path.dirname(target))) == ([], before)


def test_check_mode_foresees_what_a_completed_image_is_worth_to_a_verifier(target: str, stopped: Container) -> None:
    def trust(_data: bytes, signature: bytes | None) -> str:
        return "" if signature else "It is not signed."

    committed(target)
    found = _recover.foreseen(target, NAME, LXC_PATH, stopped, trust)
    assert (found.state, found.problem) == (_image.UNTRUSTED, "It is not signed.")
    _image.discard(target)
    committed(target, sign_key="/key")
    assert _recover.foreseen(target, NAME, LXC_PATH, stopped, trust).state == _image.SEALED

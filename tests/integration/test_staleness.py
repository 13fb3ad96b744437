# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint whose container has moved on is refused with its reasons, and restored only when that is allowed."""

from __future__ import annotations

import shutil
import typing as t

import pytest
from conftest import Factory
from module import Checkpoint


def cold_start(lxc: Factory, checkpoint: Checkpoint) -> None:
    """Started from the beginning after the dump, then stopped."""
    checkpoint.stopped()
    checkpoint.container.start()
    checkpoint.container.stop()


def create_anew(lxc: Factory, checkpoint: Checkpoint) -> None:
    """Destroyed, and another one created under its name, with the same content."""
    checkpoint.stopped()
    container = checkpoint.container
    config = container.config.read_text()
    container.lxc("destroy")
    container.create(lxc.programs, ["counter 7000"], [])
    container.config.write_text(config)


def write_after_restore(lxc: Factory, checkpoint: Checkpoint) -> None:
    """Restored, written to, then stopped."""
    checkpoint.stopped()
    checkpoint.resumed()
    checkpoint.container.assert_counts()
    checkpoint.container.stop()


def leave_running_then_stop(lxc: Factory, checkpoint: Checkpoint) -> None:
    """Dumped while it ran on, then stopped."""
    checkpoint.checkpointed()
    checkpoint.container.stop()


def change_configuration(lxc: Factory, checkpoint: Checkpoint) -> None:
    """Its configuration changed after the dump."""
    checkpoint.stopped()
    with open(checkpoint.container.config, "a", encoding="utf-8") as stream:
        stream.write("lxc.environment = NEW=1\n")


def write_from_outside(lxc: Factory, checkpoint: Checkpoint) -> None:
    """A file in its root file system changed after the dump."""
    checkpoint.stopped()
    (checkpoint.container.root / "etc/motd").write_text("changed\n")


def remove_from_outside(lxc: Factory, checkpoint: Checkpoint) -> None:
    """A file in its root file system went after the dump."""
    (checkpoint.container.root / "etc/motd").write_text("there\n")
    checkpoint.stopped()
    (checkpoint.container.root / "etc/motd").unlink()


Ways = t.Callable[[Factory, Checkpoint], None]
WAYS: dict[Ways, tuple[str, ...]] = {
    cold_start: ("written to after the dump",),
    create_anew: ("root file system",),
    write_after_restore: ("already resumed",),
    leave_running_then_stop: ("left running",),
    change_configuration: ("configuration", "changed"),
    write_from_outside: ("written to after the dump", "etc/motd"),
    remove_from_outside: ("root file system", "etc"),
}


@pytest.mark.parametrize(("way", "words"), WAYS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_stale_checkpoint_is_refused_with_its_reasons(lxc: Factory, way: Ways, words: tuple[str, ...]) -> None:
    checkpoint = lxc.start()
    way(lxc, checkpoint)
    answer = checkpoint.refused("restored", "not fresh", "allow_stale", *words)
    assert answer["stale_reasons"]
    assert checkpoint.container.state == "STOPPED"


@pytest.mark.parametrize("way", [cold_start, write_after_restore, leave_running_then_stop, write_from_outside])
def test_stale_checkpoint_is_restored_where_that_is_allowed(lxc: Factory, way: Ways) -> None:
    checkpoint = lxc.start()
    way(lxc, checkpoint)
    answer = checkpoint.restored(allow_stale=True)
    assert answer["stale_reasons"], "it does not say what was overlooked"
    checkpoint.container.assert_counts()


@pytest.mark.parametrize("way", [cold_start, write_after_restore, leave_running_then_stop])
def test_stale_checkpoint_does_not_pass_for_what_stopped_the_container(lxc: Factory, way: Ways) -> None:
    checkpoint = lxc.start()
    way(lxc, checkpoint)
    assert checkpoint.refused("checkpointed", "stale", stop=True)["stale_reasons"]


def test_every_reason_is_given(lxc: Factory) -> None:
    checkpoint = lxc.start()
    write_after_restore(lxc, checkpoint)
    with open(checkpoint.container.config, "a", encoding="utf-8") as stream:
        stream.write("lxc.environment = NEW=1\n")
    answer = checkpoint.refused("restored", "already resumed", "configuration", "written to")
    assert len(answer["stale_reasons"]) == 3


def test_untouched_container_stays_fresh(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    # Reading is not running.
    for path in checkpoint.container.root.rglob("*"):
        if path.is_file():
            path.read_bytes()
    checkpoint.container.lxc("info")
    checkpoint.restored()
    checkpoint.container.assert_counts()


def test_older_snapshot_does_not_become_fresh_when_the_container_is_dumped_elsewhere(lxc: Factory) -> None:
    checkpoint = lxc.start()
    snapshot = lxc.checkpoint(checkpoint.container, "elsewhere")
    snapshot.checkpointed()
    checkpoint.stopped()
    snapshot.refused("restored", "left running")
    checkpoint.resumed()


def test_checkpoint_moved_to_another_directory_can_be_restored(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    moved = lxc.checkpoint(checkpoint.container, "moved")
    moved.directory.parent.mkdir(parents=True)
    shutil.move(checkpoint.directory, moved.directory)
    moved.resumed()
    moved.container.assert_counts()

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every state with every situation: what is done, what it answers, and what check mode said before."""

from __future__ import annotations

import shutil

import pytest
from conftest import Factory
from containers import PREFIX
from module import Checkpoint


def damage(checkpoint: Checkpoint) -> None:
    """Turn one bit in an image file, whose size stays."""
    victim = next(iter(sorted(checkpoint.directory.glob("pages-*.img"))))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


# state=checkpointed


def test_running_with_stop_is_dumped_and_stopped(lxc: Factory) -> None:
    checkpoint = lxc.start()
    answer = checkpoint.checkpointed(stop=True)
    assert (answer["changed"], answer["action"], answer["state"]) == (True, "dump", "sealed")
    assert answer["diff"] == {
        "before": {"container": "running", "checkpoint": "absent"},
        "after": {"container": "stopped", "checkpoint": "sealed"},
    }
    assert checkpoint.container.state == "STOPPED"
    assert checkpoint.beside() == set()


def test_stopped_means_that_lxc_has_torn_down(lxc: Factory) -> None:
    checkpoint = lxc.start()
    container = checkpoint.container
    host_side = container.veth()
    checkpoint.stopped()
    assert container.state == "STOPPED"
    assert container._processes() == []
    assert container.cgroups() == []
    assert host_side not in lxc.bridge.ports()


def test_running_with_stop_replaces_an_older_checkpoint(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    older = checkpoint.manifest["created"]
    answer = checkpoint.checkpointed(stop=True)
    assert answer["action"] == "dump"
    assert checkpoint.manifest["created"] > older
    assert checkpoint.beside() == set()
    checkpoint.restored()
    checkpoint.container.assert_counts()


def test_running_without_stop_is_dumped_and_runs_on(lxc: Factory) -> None:
    checkpoint = lxc.start()
    init = checkpoint.container.init_pid
    talker = lxc.talker(checkpoint.container)
    answer = checkpoint.checkpointed()
    assert (answer["changed"], answer["action"], answer["state"]) == (True, "dump", "sealed")
    assert checkpoint.manifest["stopped"] is False
    assert checkpoint.container.init_pid == init
    checkpoint.container.assert_counts()
    assert talker.ask()[1] == 1


def test_running_without_stop_keeps_a_checkpoint_that_is_there(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    before = checkpoint.manifest
    answer = checkpoint.checkpointed()
    assert (answer["changed"], answer["action"]) == (False, "none")
    assert answer["diff"]["before"] == answer["diff"]["after"]
    assert checkpoint.manifest == before


def test_running_with_overwrite_is_dumped_anew(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    older = checkpoint.manifest["created"]
    answer = checkpoint.checkpointed(overwrite=True)
    assert answer["changed"]
    assert checkpoint.manifest["created"] > older
    assert checkpoint.beside() == set()
    checkpoint.container.assert_counts()


def test_stopped_with_its_fresh_checkpoint_is_ok(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    before = checkpoint.world()
    answer = checkpoint.checkpointed(stop=True)
    assert (answer["changed"], answer["action"], answer["stale_reasons"]) == (False, "none", [])
    assert checkpoint.world() == before


def test_stopped_with_a_stale_checkpoint_fails_with_its_age(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    checkpoint.container.stop()
    created = checkpoint.manifest["created"]
    answer = checkpoint.refused("checkpointed", "stale", created, "left running", stop=True)
    assert answer["stale_reasons"]


def test_stopped_without_a_checkpoint_fails(lxc: Factory) -> None:
    checkpoint = lxc.checkpoint(lxc.create())
    checkpoint.refused("checkpointed", "not running", "no checkpoint", stop=True)
    checkpoint.refused("checkpointed", "not running", "no checkpoint")


def test_stopped_without_stop_keeps_the_checkpoint_that_is_there(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    checkpoint.container.stop()
    assert checkpoint.checkpointed()["action"] == "none"


def test_stopped_with_overwrite_cannot_be_dumped_anew(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    checkpoint.refused("checkpointed", "not running", "overwrite", overwrite=True)


def test_frozen_is_refused(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.container.lxc("freeze")
    checkpoint.refused("checkpointed", "frozen", "lxc-unfreeze", stop=True)
    checkpoint.container.lxc("unfreeze")
    checkpoint.container.assert_counts()


def test_damaged_checkpoint_is_replaced_only_with_overwrite(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    (checkpoint.directory / "core-1.img").unlink()
    checkpoint.refused("checkpointed", "damaged", "overwrite")
    checkpoint.checkpointed(overwrite=True)
    assert (checkpoint.directory / "core-1.img").exists()


def test_checkpoint_of_another_container_is_not_overwritten(lxc: Factory) -> None:
    one = lxc.start()
    other = lxc.start()
    one.checkpointed()
    other.directory = one.directory
    other.refused("checkpointed", one.container.name, overwrite=True)


def test_foreign_directory_is_not_overwritten(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.directory.mkdir(parents=True, mode=0o700)
    (checkpoint.directory / "holiday.jpg").touch()
    checkpoint.refused("checkpointed", "not a checkpoint", stop=True)
    checkpoint.refused("checkpointed", "not a checkpoint", overwrite=True)


def test_ephemeral_container_is_not_stopped_but_may_be_dumped(lxc: Factory) -> None:
    checkpoint = lxc.start(config=["lxc.ephemeral = 1"])
    checkpoint.refused("checkpointed", "ephemeral", stop=True)
    checkpoint.checkpointed()
    checkpoint.container.assert_counts()


# state=restored


@pytest.mark.core
def test_stopped_and_fresh_is_restored(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    answer = checkpoint.restored()
    assert (answer["changed"], answer["action"], answer["state"]) == (True, "restore", "sealed")
    assert answer["diff"] == {
        "before": {"container": "stopped", "checkpoint": "sealed"},
        "after": {"container": "running", "checkpoint": "sealed"},
    }
    assert answer["init_pid"] == checkpoint.container.init_pid
    checkpoint.container.assert_counts()


def test_restored_from_it_and_running_is_ok(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    checkpoint.resumed()
    init = checkpoint.container.init_pid
    answer = checkpoint.restored()
    assert (answer["changed"], answer["action"]) == (False, "none")
    assert checkpoint.container.init_pid == init


def test_restored_from_it_but_frozen_does_not_pass_for_running(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    checkpoint.resumed()
    checkpoint.container.lxc("freeze")
    answer = checkpoint.module.run(**checkpoint.options("restored"))
    checkpoint.container.lxc("unfreeze")
    assert answer.get("failed"), answer


def test_running_otherwise_is_refused(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    checkpoint.refused("restored", "RUNNING", "was not restored from", "force")
    checkpoint.container.assert_counts()


def test_force_alone_does_not_make_a_stale_checkpoint_good(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    answer = checkpoint.refused("restored", "left running", "allow_stale", force=True)
    assert answer["stale_reasons"]
    checkpoint.container.assert_counts()


def test_allow_stale_alone_does_not_stop_a_running_container(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    checkpoint.refused("restored", "RUNNING", "force", allow_stale=True)


def test_force_and_allow_stale_roll_a_running_container_back(lxc: Factory) -> None:
    checkpoint = lxc.start()
    container = checkpoint.container
    checkpoint.checkpointed()
    then = container.count()
    while container.count() < then + 40:
        container.assert_counts()
    answer = checkpoint.restored(force=True, allow_stale=True)
    assert answer["action"] == "restore"
    assert answer["diff"]["before"]["container"] == "running"
    assert answer["stale_reasons"]
    container.assert_counts()
    assert container.count() < then + 40, "it was not rolled back"


def test_restore_without_a_checkpoint_is_refused(lxc: Factory) -> None:
    checkpoint = lxc.checkpoint(lxc.create())
    checkpoint.refused("restored", "no checkpoint")


def test_damaged_checkpoint_is_not_restored(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    damage(checkpoint)
    checkpoint.refused("restored", "pages-1.img")
    assert checkpoint.container.state == "STOPPED"


def test_checkpoint_with_a_missing_file_is_not_restored(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    (checkpoint.directory / "pstree.img").unlink()
    checkpoint.refused("restored", "damaged", "pstree.img", verify="size")


def test_checkpoint_of_another_name_is_not_restored(lxc: Factory) -> None:
    one = lxc.start()
    other = lxc.checkpoint(lxc.create())
    one.stopped()
    other.directory = one.directory
    other.refused("restored", one.container.name, other.container.name)
    other.refused("restored", one.container.name, allow_stale=True)


def test_checkpoint_of_another_lxc_path_is_not_restored(lxc: Factory) -> None:
    one = lxc.start()
    twin = lxc.create(name=one.container.name, lxc_path=lxc.session / "lxc2")
    one.stopped()
    other = lxc.checkpoint(twin)
    other.directory = one.directory
    other.refused("restored", str(one.container.lxc_path), str(twin.lxc_path))


def test_foreign_directory_is_not_restored(lxc: Factory) -> None:
    checkpoint = lxc.checkpoint(lxc.create())
    checkpoint.directory.mkdir(parents=True, mode=0o700)
    (checkpoint.directory / "pstree.img").touch()
    checkpoint.refused("restored", "not a checkpoint")


# state=absent


def test_absent_checkpoint_stays_absent(lxc: Factory) -> None:
    checkpoint = lxc.checkpoint(lxc.create())
    answer = checkpoint.absent()
    assert (answer["changed"], answer["action"], answer["state"]) == (False, "none", "absent")


def test_checkpoint_of_a_running_container_is_removed(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    answer = checkpoint.absent()
    assert (answer["changed"], answer["action"], answer["state"]) == (True, "remove", "absent")
    assert answer["diff"]["after"]["checkpoint"] == "absent"
    assert list(checkpoint.directory.parent.iterdir()) == []
    checkpoint.container.assert_counts()


def test_only_fresh_checkpoint_of_a_stopped_container_is_kept(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    checkpoint.refused("absent", "only fresh checkpoint", "force")
    checkpoint.resumed()
    checkpoint.container.assert_counts()


def test_only_fresh_checkpoint_is_removed_with_force(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    assert checkpoint.absent(force=True)["action"] == "remove"
    assert not checkpoint.directory.exists()


def test_stale_checkpoint_of_a_stopped_container_is_removed(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed()
    checkpoint.container.stop()
    assert checkpoint.absent()["action"] == "remove"


def test_directory_that_is_no_checkpoint_is_not_removed(lxc: Factory) -> None:
    checkpoint = lxc.checkpoint(lxc.create())
    checkpoint.directory.mkdir(parents=True, mode=0o700)
    (checkpoint.directory / "thesis.tex").touch()
    checkpoint.refused("absent", "not a checkpoint")
    checkpoint.refused("absent", "not a checkpoint", force=True)
    assert (checkpoint.directory / "thesis.tex").exists()


def test_empty_directory_that_is_no_checkpoint_is_not_removed(lxc: Factory) -> None:
    checkpoint = lxc.checkpoint(lxc.create())
    checkpoint.directory.mkdir(parents=True, mode=0o700)
    checkpoint.refused("absent", "not a checkpoint")


def test_checkpoint_of_another_container_is_not_removed(lxc: Factory) -> None:
    one = lxc.start()
    other = lxc.checkpoint(lxc.create())
    one.checkpointed()
    other.directory = one.directory
    other.refused("absent", one.container.name)


def test_checkpoint_of_a_container_that_is_gone_is_removed(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    shutil.rmtree(checkpoint.container.directory)
    assert checkpoint.absent()["action"] == "remove"
    assert not checkpoint.directory.exists()


def test_names_of_the_tests_containers_are_ours(lxc: Factory) -> None:
    assert lxc.create().name.startswith(PREFIX)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container is stopped only by an image that was restored on trial."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Factory
from containers import PORT, Container, Nic, cgroup_roots, run
from module import Answer, Checkpoint

# Leaves an image that CRIU can read only in part.
BREAK = """
[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0
for image in "$CRTOOLS_IMAGE_DIR"/core-*.img; do
    printf broken >"$image"
done"""
# Kills what is to vote: it holds a lock of this file.
KILL = """
[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0
for file in /proc/[0-9]*/fd/*; do
    case $(readlink "$file") in
        */vote.lock) pid=${file#/proc/}; kill -9 "${pid%%/*}" ;;
    esac
done"""


def nothing_is_left(container: Container) -> None:
    """Of a trial: no cgroup, no process in another network namespace than this host's or the container's."""
    left = [str(path) for top in cgroup_roots() for path in Path(top).glob(f"stasis.trial.{container.name}-*")]
    assert not left
    assert "/run/stasis" not in [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]


def is_unproven(answer: Answer, container: Container, life: tuple[str, int, int]) -> None:
    assert answer.get("failed")
    assert "could not be restored on trial" in answer["msg"]
    assert answer["proof"]["verdict"] == "refused"
    assert not answer["log_path"] or Path(answer["log_path"]).is_file()
    assert container.life() == life
    nothing_is_left(container)


@pytest.mark.core
def test_image_that_stops_a_container_was_restored_on_trial_in_each_generation(lxc: Factory) -> None:
    checkpoint = lxc.start(f"counter {PORT}", "files", "memory 8")
    talker = lxc.talker(checkpoint.container)
    talker.ask()
    for _generation in range(2):
        assert checkpoint.stopped()["proof"]["verdict"] == "proven"
        nothing_is_left(checkpoint.container)
        checkpoint.resumed()
        talker.ask()
    checkpoint.container.assert_counts()


def test_large_memory_is_not_read_for_the_proof(lxc: Factory) -> None:
    checkpoint = lxc.start(f"counter {PORT}", "memory 96")
    answer = checkpoint.stopped()
    assert answer["proof"]["verdict"] == "proven"
    assert list(Path("/var/log/stasis", checkpoint.container.name).glob("*-dump-*/trial/lazy-pages.log"))
    checkpoint.resumed()
    assert checkpoint.container.ask("memory") == "ok"


def test_container_goes_on_with_its_connections_where_the_image_cannot_be_restored(lxc: Factory) -> None:
    checkpoint = lxc.start(f"counter {PORT}", "memory 8")
    container = checkpoint.container
    talker = lxc.talker(container)
    number, accepts = talker.ask()
    life = container.life()
    older = Checkpoint._good(checkpoint.module.run(**checkpoint.options("checkpointed")))["checkpoint"]["created"]

    script = lxc.script("break", BREAK)
    answer = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, action_scripts=[script]))

    is_unproven(answer, container, life)
    later, still = talker.ask()
    assert later >= number
    assert still == accepts
    assert container.ask("memory") == "ok"
    assert checkpoint.manifest["created"] == older
    assert checkpoint.beside() == set()


def test_rehearsal_that_fails_publishes_nothing(lxc: Factory) -> None:
    checkpoint = lxc.start()
    life = checkpoint.container.life()
    script = lxc.script("break", BREAK)
    answer = checkpoint.module.run(**checkpoint.options("checkpointed", prove=True, action_scripts=[script]))
    is_unproven(answer, checkpoint.container, life)
    assert not checkpoint.directory.exists()


def test_rehearsal_of_a_container_that_runs_on_is_told(lxc: Factory) -> None:
    checkpoint = lxc.start()
    assert checkpoint.checkpointed(prove=True)["proof"]["verdict"] == "proven"
    nothing_is_left(checkpoint.container)


def test_vote_that_is_killed_is_no_vote_for_the_image(lxc: Factory) -> None:
    checkpoint = lxc.start()
    life = checkpoint.container.life()
    script = lxc.script("kill", KILL)
    answer = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, action_scripts=[script]))
    is_unproven(answer, checkpoint.container, life)
    checkpoint.stopped()
    checkpoint.resumed()


def test_without_proof_nothing_is_tried(lxc: Factory) -> None:
    checkpoint = lxc.start()
    assert checkpoint.stopped(prove=False)["proof"] == {}
    checkpoint.resumed()


def test_container_in_the_network_of_the_host_is_not_tried_and_that_is_said(lxc: Factory) -> None:
    checkpoint = lxc.start("files", nics=[Nic("none")])
    answer = checkpoint.stopped(prove=True)
    assert answer["proof"]["verdict"] == "skipped"
    assert "host's network" in answer["proof"]["why"]
    assert any(answer["proof"]["why"] in warning for warning in answer["warnings"])
    checkpoint.resumed()


def test_trial_writes_nothing_to_the_files_of_the_container(lxc: Factory) -> None:
    # A socket that is bound to a path is bound anew by a restore, which removes what stands there.
    checkpoint = lxc.start("files")
    checkpoint.stopped(
        action_scripts=[
            lxc.script(
                "list",
                f'find {checkpoint.container.root}/tmp -printf "%p %i %T@ %s\\n" | sort >"{checkpoint.container.directory}/$CRTOOLS_SCRIPT_ACTION"',
            )
        ]
    )
    after = run("find", f"{checkpoint.container.root}/tmp", "-printf", "%p %i %T@ %s\n").stdout
    assert sorted(after.splitlines()) == (checkpoint.container.directory / "post-dump").read_text().splitlines()
    checkpoint.resumed()

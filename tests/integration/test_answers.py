# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed task answers is so: the state after the repair, and nothing told of the run that was there before it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from conftest import Factory
from containers import Container, until
from module import Answer, Checkpoint
from test_failures import children, dumping, hold


def stopped_process(container: Container) -> int:
    """Stop the one of its processes that holds memory (SIGSTOP); returns its pid on the host."""
    found = max(members(container), key=lambda pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]))
    os.kill(found, signal.SIGSTOP)
    until(lambda: state_of(found) == "T", 30, "it stands still")
    return found


def members(container: Container) -> set[int]:
    """The pids of its processes on the host."""
    payload = [folder for folder in container.cgroups() if "lxc.payload." in str(folder)]
    return {int(pid) for folder in payload for pid in (folder / "cgroup.procs").read_text().split()}


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def said(answer: Answer) -> str:
    return " ".join([answer.get("msg", ""), *answer["recovered"], *answer["warnings"]])


def criu_is_killed(checkpoint: Checkpoint, lxc: Factory, event: str) -> Answer:
    """A dump whose CRIU is killed at an event."""
    script, there, let_go = hold(lxc, event)
    task = checkpoint.module.start(**checkpoint.options("checkpointed", stop=True, action_scripts=[script]))
    until(there, 60)
    for pid in dumping(task.pid):
        os.kill(pid, signal.SIGKILL)
    let_go()
    return checkpoint.module.answer(task)


def test_after_a_killed_criu_the_state_after_the_repair_is_told(lxc: Factory) -> None:
    checkpoint = lxc.start("counter 7000", "memory 8")
    container = checkpoint.container
    stopped = stopped_process(container)
    answer = criu_is_killed(checkpoint, lxc, "network-lock")
    assert answer.get("failed")
    checkpoint.assert_true(answer)
    assert any("put the network" in line for line in answer["recovered"]), answer
    assert "The container runs on as before." in answer["msg"]
    assert "not as before" not in answer["msg"]
    assert "stands still" not in said(answer)
    assert state_of(stopped) == "T"
    container.assert_counts()


def test_a_process_that_stood_still_before_an_interrupted_dump_is_not_told_of(lxc: Factory) -> None:
    checkpoint = lxc.start("counter 7000", "memory 8")
    stopped_process(checkpoint.container)
    script, there, let_go = hold(lxc, "network-lock")
    task = checkpoint.module.start(**checkpoint.options("checkpointed", stop=True, action_scripts=[script]))
    until(there, 60)
    for pid in [task.pid, *children(task.pid)]:
        os.kill(pid, signal.SIGKILL)
    task.communicate()
    let_go()
    answer = checkpoint.checkpointed(stop=False)
    assert answer["recovered"]
    assert "stands still" not in said(answer)


def test_a_process_that_stood_still_in_the_image_is_not_told_of_after_an_interrupted_restore(lxc: Factory) -> None:
    checkpoint = lxc.start("counter 7000", "memory 8")
    stopped_process(checkpoint.container)
    checkpoint.stopped()
    script, there, let_go = hold(lxc, "post-resume")
    task = checkpoint.module.start(**checkpoint.options("restored", action_scripts=[script]))
    until(there, 60)
    os.kill(task.pid, signal.SIGKILL)
    task.communicate()
    let_go()
    answer = checkpoint.resumed()
    assert any("restore" in line for line in answer["recovered"]), answer
    assert "stands still" not in said(answer)
    assert "T" in {state_of(pid) for pid in members(checkpoint.container)}


def test_a_failed_dump_beside_a_checkpoint_tells_both(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.checkpointed(stop=False)
    script = lxc.script("veto", 'test "$CRTOOLS_SCRIPT_ACTION" != post-dump')
    answer = checkpoint.module.run(
        **checkpoint.options("checkpointed", stop=True, overwrite=True, action_scripts=[script])
    )
    assert answer.get("failed")
    assert (answer["state"], answer["container_state"], answer["changed"]) == ("sealed", "running", False)
    checkpoint.assert_true(answer)

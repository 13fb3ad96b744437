# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LXC supervises a restored container as any other, and its limits hold."""

from __future__ import annotations

import os
from pathlib import Path

from conftest import Factory
from containers import PORT, cgroup_is_v2, until
from module import Checkpoint


def restored(lxc: Factory, *workload: str, config: tuple[str, ...] = ()) -> Checkpoint:
    checkpoint = lxc.start(*workload, config=config)
    checkpoint.stopped()
    checkpoint.resumed()
    return checkpoint


def test_lxc_info_knows_state_and_pid(lxc: Factory) -> None:
    checkpoint = restored(lxc)
    assert checkpoint.container.info("State") == ["RUNNING"]
    pid = int(checkpoint.container.info("PID")[0])
    assert os.readlink(f"/proc/{pid}/exe").endswith("/bin/workload")


def test_lxc_attach_runs_a_command(lxc: Factory) -> None:
    checkpoint = restored(lxc)
    assert checkpoint.container.lxc("attach", "--", "/bin/hostname").stdout.strip() == checkpoint.container.name


def test_lxc_freeze_and_unfreeze_work(lxc: Factory) -> None:
    container = restored(lxc).container
    container.lxc("freeze")
    assert container.state == "FROZEN"
    frozen_at = container.count()
    os.sched_yield()
    assert container.count() <= frozen_at + 1
    container.lxc("unfreeze")
    container.assert_counts()


def test_lxc_stop_ends_it_politely(lxc: Factory) -> None:
    container = restored(lxc).container
    container.lxc("stop", "-t", "20")
    until(lambda: container.state == "STOPPED", 10)
    until(lambda: not container._processes(), 10)
    assert container.cgroups() == []


def test_lxc_start_works_after_a_restored_life(lxc: Factory) -> None:
    container = restored(lxc).container
    container.stop()
    container.start()
    container.assert_counts()


def test_started_container_can_be_checkpointed_again(lxc: Factory) -> None:
    checkpoint = restored(lxc)
    checkpoint.container.stop()
    checkpoint.container.start()
    answer = checkpoint.checkpointed(stop=True)
    assert answer["checkpoint"]["generation"] == 1, "a container that was started anew begins a new line"
    checkpoint.restored()
    checkpoint.container.assert_counts()


def limit(checkpoint: Checkpoint, controller: str, v1: str, v2: str) -> str:
    """A limit of the running container, in the cgroup that its init is in."""
    for line in Path(f"/proc/{checkpoint.container.init_pid}/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}/{v1}").read_text().strip()
        if not controllers and cgroup_is_v2(controller):
            return Path(f"/sys/fs/cgroup{path}/{v2}").read_text().strip()
    raise AssertionError(f"no cgroup of {controller}")


def test_memory_and_pids_limits_hold_after_a_restore(lxc: Factory) -> None:
    config = [
        "lxc.cgroup2.memory.max = 268435456"
        if cgroup_is_v2("memory")
        else "lxc.cgroup.memory.limit_in_bytes = 268435456",
        "lxc.cgroup2.pids.max = 40" if cgroup_is_v2("pids") else "lxc.cgroup.pids.max = 40",
    ]
    checkpoint = restored(lxc, f"counter {PORT}", "memory 16", config=tuple(config))
    for _generation in range(2):
        assert limit(checkpoint, "memory", "memory.limit_in_bytes", "memory.max") == "268435456"
        assert limit(checkpoint, "pids", "pids.max", "pids.max") == "40"
        checkpoint.stopped()
        checkpoint.resumed()


def test_limit_that_was_changed_while_running_survives(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.container.lxc("cgroup", "pids.max", "33")
    checkpoint.stopped()
    checkpoint.resumed()
    assert limit(checkpoint, "pids", "pids.max", "pids.max") == "33"


def test_pids_limit_is_enforced_after_a_restore(lxc: Factory) -> None:
    key = "lxc.cgroup2.pids.max" if cgroup_is_v2("pids") else "lxc.cgroup.pids.max"
    checkpoint = restored(lxc, "forker", config=(f"{key} = 6",))
    until(lambda: checkpoint.container.numbers("forker")[1] > 0, 10, "fork fails at the limit")


def test_session_of_lxc_attach_stands_in_the_way_of_a_stop(lxc: Factory) -> None:
    import subprocess

    checkpoint = lxc.start()
    container = checkpoint.container
    session = subprocess.Popen(
        ["lxc-attach", "-P", str(container.lxc_path), "-n", container.name, "--", "/bin/sleep", "600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: "sleep" in str(checkpoint.predicted("checkpointed", stop=True).get("msg", "")), 5)
        checkpoint.refused("checkpointed", "lxc-attach", "sleep", stop=True)
        container.assert_counts()
    finally:
        session.kill()
        session.wait()


def test_result_says_that_a_reboot_inside_stops_it(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    assert any("reboot" in note for note in checkpoint.resumed()["notes"])


def test_container_with_terminals_is_restored_without_them_and_still_supervised(lxc: Factory) -> None:
    # Its init has LXC's console as standard input, which cannot be kept; so only the ttys, which nobody has opened.
    checkpoint = restored(lxc, config=("lxc.tty.max = 4", "lxc.tty.dir ="))
    container = checkpoint.container
    for _generation in range(2):
        mounted = Path(f"/proc/{container.init_pid}/mountinfo").read_text()
        assert mounted.count(" /null /dev/tty") == 4, "a restored container has /dev/null in their places"
        assert container.state == "RUNNING", "liblxc's monitor has not died"
        container.assert_counts()
        checkpoint.stopped()
        checkpoint.resumed()
    container.stop()
    container.start()
    mounted = Path(f"/proc/{container.init_pid}/mountinfo").read_text()
    assert " /null /dev/tty" not in mounted, "a start gives it its terminals again"

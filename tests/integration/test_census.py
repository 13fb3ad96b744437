# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container has lost after a restore is said, and nothing else."""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import GATEWAY, NETWORK, Container, run
from module import Answer, Checkpoint
from preflight import Pre

WORKLOAD = ["counter", "memory 8", "files"]


@pytest.fixture
def pre(lxc: Factory, trouble: Path) -> Pre:
    return Pre(lxc, trouble)


def inside(container: Container, *command: str) -> None:
    run("nsenter", f"--net=/proc/{container.init_pid}/ns/net", *command)


def come_back(checkpoint: Checkpoint) -> Answer:
    """Checkpoint with stop and restore, whatever the preflight thinks of losses; returns the answer of the restore."""
    assert checkpoint.stopped(preflight="warn")["lost"] == []
    assert "census.json" in checkpoint.manifest["files"]
    answer = checkpoint.resumed()
    said = [one for one in answer["warnings"] if "Not as before" in one]
    assert said == [f"Not as before the dump: {line}" for line in answer["lost"]]
    return answer


# In a program of its own, as the modules run.
TWICE = """\
import sys, time
from ansible_collections.stasis.lxc.plugins.module_utils import _census, _census_compare, _runner
one = _census.take(_runner.SystemRunner(), int(sys.argv[1]))
time.sleep(3)
other = _census.take(_runner.SystemRunner(), int(sys.argv[1]))
print(one.missing + other.missing + _census_compare.compare(one.census, other.census))
print(sum(key.startswith("process ") for key in one.census))
"""


def test_container_that_runs_on_has_lost_nothing(lxc: Factory) -> None:
    container = lxc.start(*WORKLOAD).container
    place = f"PYTHONPATH={lxc.module.collections}"
    lost, processes = run("env", place, sys.executable, "-c", TWICE, str(container.init_pid)).stdout.splitlines()
    assert lost == "[]"
    assert int(processes) > len(WORKLOAD)
    container.assert_counts()


def test_container_that_comes_back_whole_has_lost_nothing(lxc: Factory) -> None:
    checkpoint = lxc.start(*WORKLOAD)
    assert come_back(checkpoint)["lost"] == []
    # What came back is as good as what was started.
    assert come_back(checkpoint)["lost"] == []


def test_checkpoint_without_a_census_has_nothing_to_say(lxc: Factory) -> None:
    checkpoint = lxc.start("counter")
    checkpoint.stopped()
    census = checkpoint.directory / "census.json"
    census.write_text(census.read_text().replace("subjects", "objects"))
    answer = checkpoint.resumed(verify="none")
    assert answer["lost"] == []
    assert [one for one in answer["warnings"] if "census.json" in one], answer["warnings"]


@pytest.mark.parametrize(
    ("what", "change"),
    {
        "timer-slack": "timer slack was 123456, and is 50000",
        "affinity": r"affinity was CPU \d+, and is every CPU",
        "personality": "personality was 00040000, and is 00000000",
        "core-filter": r"filter of core dumps was 0000007f, and is 000000\d\d",
    }.items(),
)
def test_attribute_of_a_process_that_is_lost_is_said(pre: Pre, what: str, change: str) -> None:
    container = pre.start("attribute", what)
    lost = come_back(pre.lxc.checkpoint(container))["lost"]
    assert len(lost) == 1, lost
    assert re.fullmatch(rf"process \d+ \(attribute\): {change}\.", lost[0]), lost


NETWORKS: dict[str, tuple[t.Sequence[str], str]] = {
    "route of a table": (
        ["ip", "route", "add", "10.89.0.0/16", "via", GATEWAY, "table", "123"],
        f"network: route 10.89.0.0/16 via {GATEWAY} dev eth0 table 123 is gone.",
    ),
    "permanent neighbour": (
        ["ip", "neigh", "add", f"{NETWORK}.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0", "nud", "permanent"],
        f"network: neighbour {NETWORK}.77 at 02:00:00:00:00:77 on eth0 is gone.",
    ),
    # Our /proc shows the network of who opens the file.
    "sysctl": (
        ["sh", "-c", "echo 55 >/proc/sys/net/ipv4/tcp_keepalive_time"],
        "network: sysctl net.ipv4.tcp_keepalive_time was 55, and is 7200.",
    ),
}


@pytest.mark.parametrize(("command", "expected"), NETWORKS.values(), ids=NETWORKS)
def test_setting_of_a_network_that_is_lost_is_said(lxc: Factory, command: t.Sequence[str], expected: str) -> None:
    checkpoint = lxc.start("counter")
    inside(checkpoint.container, *command)
    assert come_back(checkpoint)["lost"] == [expected]

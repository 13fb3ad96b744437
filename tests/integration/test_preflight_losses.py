# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight and what goes well but does not come back as it was: said before, and true."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import GATEWAY, NETWORK, Container, run
from preflight import Pre, named, only


@pytest.fixture
def pre(lxc: Factory, trouble: Path) -> Pre:
    return Pre(lxc, trouble)


def child(container: Container) -> Path:
    """What /proc says of the process with the situation."""
    init = container.init_pid
    [pid] = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return Path(f"/proc/{pid}")


def threads(container: Container) -> list[Path]:
    return sorted(child(container).glob("task/*"), key=lambda one: int(one.name))


def inside(container: Container, *command: str) -> str:
    return run("nsenter", f"--net=/proc/{container.init_pid}/ns/net", *command).stdout


def round_trip(pre: Pre, container: Container, lost: int = 1, **options: t.Any) -> list[str]:
    """Checkpoint with stop and restore; returns the warnings of the dump. lost: how many things the restore says are lost."""
    checkpoint = pre.lxc.checkpoint(container)
    done = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, **options))
    assert not done.get("failed"), done
    warnings: list[str] = done["warnings"]
    assert len(checkpoint.restored()["lost"]) == lost
    return warnings


APART: dict[str, t.Callable[[Path], str]] = {
    "descriptors": lambda one: ",".join(sorted(os.listdir(one / "fd"))),
    "directory": lambda one: os.readlink(one / "cwd"),
    "net": lambda one: os.readlink(one / "ns/net"),
}


@pytest.mark.parametrize("what", APART)
def test_thread_with_a_thing_of_its_own_is_refused(pre: Pre, what: str) -> None:
    look = APART[what]
    container = pre.start("thread-apart", what, config=["lxc.cap.drop ="])
    answer = pre.ask(container)
    assert answer["verdict"] == "blocked"
    assert only(answer, "loses") == ["thread-apart"]
    assert named(answer, "thread-apart")["grave"] is True
    checkpoint = pre.lxc.checkpoint(container)
    refused = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True))
    assert refused["failed"]
    assert container.running
    first, other = threads(container)
    assert look(first) != look(other)
    round_trip(pre, container, preflight="warn")
    first, other = threads(container)
    assert look(first) == look(other), "it is kept, so that nothing needs to be refused"


def test_thread_that_may_change_its_directory_is_said(pre: Pre) -> None:
    container = pre.start("thread-apart", "state")
    answer = pre.ask(container)
    assert answer["verdict"] == "ready"
    assert only(answer, "loses") == ["thread-directory"]
    assert any("thread-directory, loses" in one for one in round_trip(pre, container))


def status(container: Container, name: str) -> str:
    lines = (child(container) / "status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


ATTRIBUTES: dict[str, t.Callable[[Container], str]] = {
    "affinity": lambda container: status(container, "Cpus_allowed"),
    "personality": lambda container: (child(container) / "personality").read_text(),
    "timer-slack": lambda container: (child(container) / "timerslack_ns").read_text(),
    "core-filter": lambda container: (child(container) / "coredump_filter").read_text(),
}


@pytest.mark.parametrize("what", ATTRIBUTES)
def test_attribute_that_is_not_kept_is_said(pre: Pre, what: str) -> None:
    container = pre.start("attribute", what)
    answer = pre.ask(container)
    assert answer["verdict"] == "ready"
    assert only(answer, "loses") == [what]
    before = ATTRIBUTES[what](container)
    warnings = round_trip(pre, container)
    assert [one for one in warnings if f"{what}, loses" in one]
    assert ATTRIBUTES[what](container) != before, "it is kept, so that nothing needs to be said"


NETWORKS = {
    "table of its own": ("routing-table", f"route add 10.89.0.0/16 via {GATEWAY} table 123", "route show table all"),
    "permanent neighbour": (
        "neighbour",
        f"neigh add {NETWORK}.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
        "neigh show nud permanent",
    ),
    "nexthop object": ("nexthop", f"nexthop add id 42 via {GATEWAY} dev eth0", "nexthop show"),
}


@pytest.mark.parametrize(("word", "command", "look"), NETWORKS.values(), ids=NETWORKS)
def test_network_that_is_not_kept_is_said(pre: Pre, word: str, command: str, look: str) -> None:
    container = pre.start("nothing", network=True)
    clean = inside(container, "ip", *look.split())
    inside(container, "ip", *command.split())
    assert inside(container, "ip", *look.split()) != clean
    answer = pre.ask(container)
    assert answer["verdict"] == "ready"
    assert only(answer, "loses") == [word]
    assert [one for one in round_trip(pre, container) if f"{word}, loses" in one]
    distinct = command.split()[2]
    assert distinct not in inside(container, "ip", *look.split()) or word == "nexthop"


def test_table_of_iptables_that_it_would_not_accept_is_said(pre: Pre) -> None:
    container = pre.start("nothing", network=True)
    rule = "-A PREROUTING -p tcp --dport 81 -j REDIRECT --to-port 80"
    inside(container, "iptables-nft", "-t", "nat", *rule.split())
    assert only(pre.ask(container), "loses") == ["iptables-table"]
    round_trip(pre, container)
    assert "incompatible" in inside(container, "iptables-nft-save")


def test_table_of_iptables_that_it_accepts_is_nothing(pre: Pre) -> None:
    container = pre.start("nothing", network=True)
    rule = "-A INPUT -p tcp --dport 22 -j DROP"
    inside(container, "iptables-nft", *rule.split())
    assert only(pre.ask(container), "loses") == []
    round_trip(pre, container, lost=0)
    assert "--dport 22" in inside(container, "iptables-nft-save")


def test_renamed_unix_socket_is_said(pre: Pre) -> None:
    container = pre.start("unix-name", "renamed")
    answer = pre.ask(container)
    assert only(answer, "loses") == ["unix-renamed"]
    assert "`mv /tmp/service.new /tmp/service`" in named(answer, "unix-renamed")["remedy"]
    round_trip(pre, container, lost=0)
    assert (container.root / "tmp/service.new").exists()


def test_unix_socket_without_a_name_is_nothing(pre: Pre) -> None:
    container = pre.start("unix-name", "unlinked")
    assert only(pre.ask(container), "loses") == []
    round_trip(pre, container, lost=0)


def test_sysctl_of_the_configuration_is_said(pre: Pre) -> None:
    kept = "lxc.sysctl.net.ipv4.conf.lo.forwarding = 1"
    container = pre.start("nothing", network=True, config=["lxc.sysctl.net.core.somaxconn = 777", kept])
    value = ("cat", "/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/conf/lo/forwarding")
    assert inside(container, *value).split() == ["777", "1"]
    answer = pre.ask(container)
    assert only(answer, "loses") == ["sysctl"]
    assert "conf" not in named(answer, "sysctl")["what"]
    round_trip(pre, container)
    somaxconn, forwarding = inside(container, *value).split()
    assert somaxconn != "777", "it is kept, so that nothing needs to be said"
    assert forwarding == "1"


def test_segment_that_goes_with_its_last_user_is_said(pre: Pre) -> None:
    container = pre.start("removed-segment")
    assert only(pre.ask(container), "loses") == ["removed-segment"]
    round_trip(pre, container)
    assert only(pre.ask(container), "loses") == [], "it is kept, so that nothing needs to be said"


def test_segment_that_stays_is_nothing(pre: Pre) -> None:
    assert only(pre.ask(pre.start("shared-memory")), "loses") == []


def test_encryption_is_refused(pre: Pre) -> None:
    container = pre.start("nothing", network=True)
    rule = f"xfrm policy add dir out src {container.address} dst {GATEWAY}"
    try:
        inside(container, "ip", *rule.split())
    except AssertionError as exc:
        pytest.skip(f"NOT TESTED on this host: {exc}")
    answer = pre.ask(container)
    assert answer["verdict"] == "blocked"
    assert named(answer, "xfrm")["grave"] is True
    checkpoint = pre.lxc.checkpoint(container)
    assert checkpoint.module.run(**checkpoint.options("checkpointed", stop=True))["failed"]
    assert container.running
    round_trip(pre, container, preflight="warn")
    assert inside(container, "ip", "xfrm", "policy") == "", "it is kept, so that nothing needs to be refused"

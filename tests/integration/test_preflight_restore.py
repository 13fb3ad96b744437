# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight and what CRIU dumps but cannot restore: refused before the freeze, and its harmless neighbours come back."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import GATEWAY, Container, run
from preflight import Pre, back, lost, only, ready


@pytest.fixture
def pre(lxc: Factory, trouble: Path) -> Pre:
    return Pre(lxc, trouble)


LOST = {
    "timer for the only thread": ("timer", ["only"], "timer", "Can't create posix timer", "posix_timer_restore"),
    "timer on the clock of an ended thread": (
        "timer",
        ["clock-ended"],
        "timer",
        "Can't create posix timer",
        "posix_timer_restore",
    ),
    "TCP over a link-local address": (
        "link-local",
        ["connected"],
        "tcp-link-local",
        "Can't bind inet socket back",
        "tcp_link_local",
    ),
    "TCP begun over a link-local address": (
        "link-local",
        ["connecting"],
        "tcp-link-local",
        "Can't bind inet socket back",
        "tcp_link_local",
    ),
    **{
        f"{name} of another thread": ("file-of-a-thread", [f"other/{name}"], "thread-file", "on restore", "thread_file")
        for name in ("schedstat", "comm")
    },
}


@pytest.mark.parametrize(("what", "arguments", "word", "log", "cause"), LOST.values(), ids=LOST)
def test_what_cannot_be_restored_is_refused(
    pre: Pre, what: str, arguments: list[str], word: str, log: str, cause: str
) -> None:
    lost(pre, pre.start(what, *arguments, network=what == "link-local"), word, log, cause)


NEIGHBOURS = {
    "timer for another thread": ("timer", ["thread"]),
    "timer with a signal": ("timer", ["signal"]),
    "timer on the clock of a thread": ("timer", ["clock"]),
    "file of the first thread": ("file-of-a-thread", ["first/schedstat"]),
    "address space with some room": ("little-address-space", ["192"]),
    "listener on a link-local address": ("link-local", ["listening"]),
    "UDP on a link-local address": ("link-local", ["udp"]),
    "quiet Unix connection that is not accepted": ("unix-queue", ["quiet"]),
    "three descriptors left": ("few-descriptors", ["3"]),
}


@pytest.mark.parametrize(("what", "arguments"), NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_harmless_neighbours_are_ready_and_come_back(pre: Pre, what: str, arguments: list[str]) -> None:
    container = pre.start(what, *arguments, network=what == "link-local")
    ready(pre, container)
    back(pre, container)


@pytest.fixture
def btrfs(lxc: Factory) -> t.Iterator[Path]:
    """A btrfs file system in a file; what is on it is gone afterwards."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("NOT TESTED on this host: it has no mkfs.btrfs")
    image, top = lxc.session / "btrfs.img", lxc.session / "btrfs"
    top.mkdir()
    run("truncate", "-s", "300M", str(image))
    run("mkfs.btrfs", "-q", "-f", str(image))
    try:
        run("mount", "-o", "loop", str(image), str(top))
        yield top
    finally:
        while lxc.made:
            lxc.made.pop().destroy()
        run("umount", str(top), check=False)
        top.rmdir()
        image.unlink()


def test_symbolic_link_watched_on_btrfs_needs_the_option_that_is_named(pre: Pre, lxc: Factory, btrfs: Path) -> None:
    config = ["lxc.init.cmd = /bin/trouble watched-link /etc/link"]
    container = lxc.create("trouble", nics=[], config=config, lxc_path=btrfs / "lxc")
    shutil.copy(pre.program, container.root / "bin/trouble")
    pre.begin(container)
    checkpoint = lxc.checkpoint(container)
    refused = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True))
    assert [one["id"] for one in refused["findings"]] == ["watched-link"]
    assert "force_irmap: false" in refused["msg"]
    failed = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, preflight="warn"))
    assert [one["id"] for one in failed["diagnoses"]] == ["watch_link"]
    checkpoint.checkpointed(stop=True, force_irmap=False)
    checkpoint.restored()
    init = container.init_pid
    [pid] = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    watched = f"ino:{(container.root / 'etc/link').lstat().st_ino:x} "
    assert any(watched in one.read_text() for one in Path(f"/proc/{pid}/fdinfo").iterdir())


def inside(container: Container, *commands: str) -> None:
    """Run ip, iptables and nft of the host's in the network of the container."""
    for one in commands:
        run("nsenter", f"--net=/proc/{container.init_pid}/ns/net", *one.split())


NETWORKS = {
    "route to a nexthop object": (
        [f"ip nexthop add id 42 via {GATEWAY} dev eth0", "ip route add 10.91.0.0/16 nhid 42"],
        "nexthop-route",
        "Nexthop specification and nexthop id",
        "nexthop_route",
    ),
    "IPv6 route to a nexthop object": (
        [
            "ip -6 address add fd77::2/64 dev eth0 nodad",
            "ip nexthop add id 43 via fd77::1 dev eth0",
            "ip -6 route add fd78::/64 nhid 43",
        ],
        "nexthop-route",
        "Nexthop specification and nexthop id",
        "nexthop_route",
    ),
    "match that nft does not know": (
        ["iptables-nft -A INPUT -p tcp --dport 22 -m hashlimit --hashlimit-name s --hashlimit-above 3/min -j DROP"],
        "firewall-rules",
        "unsupported xtables compat expression",
        "firewall_foreign_match",
    ),
    "target that nft does not know": (
        ["ip6tables-nft -t mangle -A POSTROUTING -p udp -j CHECKSUM --checksum-fill"],
        "firewall-rules",
        "unsupported xtables compat expression",
        "firewall_foreign_match",
    ),
}


@pytest.mark.parametrize(("commands", "word", "log", "cause"), NETWORKS.values(), ids=NETWORKS)
def test_network_that_cannot_be_restored_is_refused(
    pre: Pre, commands: list[str], word: str, log: str, cause: str
) -> None:
    container = pre.start("nothing", network=True)
    inside(container, *commands)
    lost(pre, container, word, log, cause)


NETWORK_NEIGHBOURS = {
    "route with its gateway": [f"ip route add 10.91.0.0/16 via {GATEWAY}"],
    "rules of nft": [
        "nft add table inet x",
        "nft add chain inet x c { type filter hook input priority 0 ; }",
        "nft add rule inet x c tcp dport 22 limit rate 3/minute accept",
    ],
    "rules of nft for a device": [
        "nft add table netdev x",
        "nft add chain netdev x c { type filter hook ingress device eth0 priority 0 ; }",
    ],
    "match that nft knows": ["iptables-nft -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -j DROP"],
    "match of iptables-legacy": [
        "iptables-legacy -A INPUT -p tcp --dport 22 -m hashlimit --hashlimit-name s --hashlimit-above 3/min -j DROP"
    ],
}


@pytest.mark.parametrize("commands", NETWORK_NEIGHBOURS.values(), ids=NETWORK_NEIGHBOURS)
def test_harmless_neighbours_in_the_network_are_ready_and_come_back(pre: Pre, commands: list[str]) -> None:
    container = pre.start("nothing", network=True)
    inside(container, *commands)
    assert only(pre.ask(container), "blocks") == []
    back(pre, container)


def test_connection_over_a_link_local_address_can_be_closed_by_the_restore(pre: Pre) -> None:
    container = pre.start("link-local", "connected", network=True)
    checkpoint = pre.lxc.checkpoint(container)
    # The trial keeps the connection, which this restore closes.
    done = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, preflight="warn", prove=False))
    assert not done.get("failed"), done
    checkpoint.restored(tcp_close=True)

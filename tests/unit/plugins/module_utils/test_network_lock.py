# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _network_lock
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._network_lock import BRIDGE, SKIP, Lock
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.plugins.module_utils._sockets import Connection
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

CRIU = "/opt/criu/sbin/criu"
VETH = Nic(0, "veth", name="eth0", veth="vethA", bridge="br0")
LOOSE = Nic(1, "veth", name="eth1", veth="vethB")
MACVLAN = Nic(1, "macvlan", name="eth1", link="enp1s0")
EMPTY = Nic(2, "empty")
OUT = Connection(ipaddress.ip_address("10.0.3.2"), 4000, ipaddress.ip_address("10.0.3.1"), 80, 1)
LOOP = Connection(ipaddress.ip_address("127.0.0.1"), 4000, ipaddress.ip_address("127.0.0.1"), 80, 1)
NFTABLES = Lock("nftables", False, "nftables")
IPTABLES = Lock("iptables", False, "iptables")


def nft(rc: int) -> Call:
    return Call([CRIU, "check", "--feature", "network_lock_nftables"], rc=rc, timeout=20)


def ipt(rc: int) -> Call:
    return Call(["iptables-restore", "--version"], rc=rc, timeout=20)


def choose(option: str, nics: list[Nic], connections: list[Connection], *calls: Call, proc: str = "/nowhere") -> Lock:
    runner = StrictRunner(*calls)
    try:
        return _network_lock.choose(option, nics, connections, runner, CRIU, proc=proc)
    finally:
        runner.assert_done()


def test_hooks_lock_needs_no_lock_of_criu() -> None:
    assert (BRIDGE.by_hook, BRIDGE.criu) == (True, "skip")
    assert (SKIP.by_hook, SKIP.criu) == (False, "skip")


@each("nics", [[], [VETH], [LOOSE, MACVLAN]], ids=["none", "veth", "others"])
@each(("option", "lock"), [("skip", SKIP), ("nftables", NFTABLES), ("iptables", IPTABLES)])
def test_what_the_task_names_is_taken_without_asking(option: str, lock: Lock, nics: list[Nic]) -> None:
    assert choose(option, nics, [OUT, LOOP]) == lock


@pytest.mark.parametrize("nics", [[VETH], [VETH, EMPTY], [VETH, MACVLAN]], ids=["one", "with empty", "with macvlan"])
def test_bridge_by_name(nics: list[Nic]) -> None:
    assert choose("bridge", nics, [LOOP]) == BRIDGE


@pytest.mark.parametrize(
    ("nics", "words"),
    [
        ([], "no network device is not a veth"),
        ([VETH, LOOSE], "eth1 is not a veth in a bridge"),
        ([MACVLAN], "no network"),
    ],
    ids=["none", "loose", "macvlan"],
)
def test_bridge_by_name_is_refused_where_it_cannot_be(nics: list[Nic], words: str) -> None:
    with pytest.raises(StasisError, match=words):
        choose("bridge", nics, [])


@pytest.mark.parametrize("connections", [[], [OUT]], ids=["idle", "connected"])
def test_auto_takes_the_bridge_where_everything_goes_over_it(connections: list[Connection]) -> None:
    assert choose("auto", [VETH], connections) == BRIDGE
    assert choose("auto", [VETH, EMPTY], connections) == BRIDGE


def test_auto_takes_nothing_where_there_is_nothing_to_hold() -> None:
    assert choose("auto", [], []) == SKIP
    assert choose("auto", [EMPTY], []) == SKIP


NEEDS_CRIU = {
    "loopback": ([VETH], [OUT, LOOP]),
    "veth without a bridge": ([LOOSE], []),
    "macvlan beside": ([VETH, MACVLAN], []),
    "loopback without a NIC": ([], [LOOP]),
}


@pytest.mark.parametrize("case", list(NEEDS_CRIU))
def test_auto_otherwise_takes_a_lock_of_criu_that_works(case: str) -> None:
    nics, connections = NEEDS_CRIU[case]
    assert choose("auto", nics, connections, nft(0)) == NFTABLES
    assert choose("auto", nics, connections, nft(1), ipt(0)) == IPTABLES


def test_auto_is_refused_before_the_freeze_where_none_works() -> None:
    with pytest.raises(StasisError, match="neither nftables nor iptables works here") as refusal:
        choose("auto", [VETH], [LOOP], nft(1), ipt(1))
    assert "set network_lock: bridge or skip" in refusal.value.remedy


def test_host_without_iptables_is_no_crash() -> None:
    missing = ipt(0)
    missing.raises = StasisError("iptables-restore could not be started: No such file or directory.")
    with pytest.raises(StasisError, match="neither nftables nor iptables works here"):
        choose("auto", [VETH], [LOOP], nft(1), missing)


@pytest.fixture
def loose(tmp_path: Path) -> str:
    """A host whose rp_filter is 2 for all interfaces, so that the hook cannot shut a veth off."""
    file = tmp_path / "sys/net/ipv4/conf/all/rp_filter"
    file.parent.mkdir(parents=True)
    file.write_text("2\n")
    return str(tmp_path)


def test_auto_leaves_it_to_criu_where_the_host_would_take_packets_of_a_detached_veth(loose: str) -> None:
    assert choose("auto", [VETH], [OUT], nft(0), proc=loose) == NFTABLES


def test_bridge_by_name_is_refused_where_the_host_would_take_packets_of_a_detached_veth(loose: str) -> None:
    with pytest.raises(StasisError, match="rp_filter is 2"):
        choose("bridge", [VETH], [], proc=loose)

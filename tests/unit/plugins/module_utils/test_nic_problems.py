# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What about a NIC a checkpoint would lose, and the task is told."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _nics
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.tests.unit.support.captured_nics import Captured


def problems(nics: t.Sequence[Nic], name: str) -> str:
    return "\n".join(next(nic for nic in nics if nic.name == name).problems)


class TestProblems:
    @pytest.mark.parametrize(
        "words",
        [
            "alternative name snicalt",
            "alias",
            "group 7",
            "port attribute locked",
            "address 10.213.20.200/32",
            "static forwarding entries 02:00:00:00:00:07 ",
            "multicast groups 239.1.1.1 ",
            "traffic control (tbf, ingress)",
        ],
    )
    def test_what_a_new_veth_would_not_have_is_named(self, tmp_path: Path, words: str) -> None:
        assert words in problems(Captured("spoilt", tmp_path).observe(), "eth0")

    def test_what_the_kernel_does_by_itself_is_no_problem(self, tmp_path: Path) -> None:
        nics = Captured("spoilt", tmp_path).observe()
        # Own MACs, learned entries, joined groups and link-local addresses are in the captured answers too.
        assert "33:33" not in problems(nics, "eth0")
        assert "fe80" not in problems(nics, "eth0")
        assert problems(nics, "late0") == ""

    def test_a_host_side_that_is_down_would_come_up(self, tmp_path: Path) -> None:
        assert "host side snicsecond down" in problems(Captured("spoilt", tmp_path).observe(), "lan")

    def test_routes_of_the_host_through_a_routed_veth_would_be_lost(self, tmp_path: Path) -> None:
        assert "routes to 10.213.20.66 through snicrouter" in problems(Captured("spoilt", tmp_path).observe(), "wan0")

    def test_a_queueing_discipline_inside_would_be_lost(self, tmp_path: Path) -> None:
        assert "discipline tbf inside" in problems(Captured("spoilt", tmp_path).observe(), "wan0")

    def test_interfaces_that_criu_knows_are_noted_without_a_problem(self, tmp_path: Path) -> None:
        nics = {nic.name: nic for nic in Captured("spoilt", tmp_path).observe()}
        for name, kind in (("inner0", "bridge"), ("in0", "inner veth"), ("in1", "inner veth"), ("tap7", "tun")):
            assert (nics[name].kind, nics[name].problems) == (kind, ())

    def test_interfaces_that_criu_does_not_know_are_refused_by_name_and_kind(self, tmp_path: Path) -> None:
        nics = Captured("spoilt", tmp_path).observe()
        assert "ifb7 is of kind ifb, which CRIU cannot dump" in problems(nics, "ifb7")
        assert "mac7 is a macvlan whose parent is not on the host" in problems(nics, "mac7")

    def test_a_veth_that_was_moved_in_gets_the_next_free_number(self, tmp_path: Path) -> None:
        nics = Captured("spoilt", tmp_path).observe()
        late = next(nic for nic in nics if nic.name == "late0")
        assert (late.kind, late.veth, late.bridge) == ("veth", "snicmoved", "snicbr0")
        assert late.index > 3

    @pytest.mark.parametrize(("kind", "master"), [("openvswitch", "ovs-system"), ("bond", "bond0"), ("vrf", "red")])
    def test_a_master_that_is_no_linux_bridge_is_refused_by_name(self, tmp_path: Path, kind: str, master: str) -> None:
        captured = Captured("gap_restored", tmp_path)
        captured.change(
            "ip -j -d addr", "veth2pUGIs", master=master, linkinfo={"info_kind": "veth", "info_slave_kind": kind}
        )
        # Only of a Linux bridge are its forwarding tables asked.
        captured.forget("bridge -j fdb show brport veth2pUGIs")
        captured.forget("bridge -j mdb show dev snicbr0")
        found = problems(captured.observe(), "eth0")
        assert f"attached to {master}, which is not a Linux bridge but {kind}" in found

    def test_xdp_on_either_side_is_refused(self, tmp_path: Path) -> None:
        captured = Captured("gap_restored", tmp_path)
        captured.change("ip -j -d addr", "veth2pUGIs", xdp={"mode": 1})
        captured.change("nsenter", "back", xdp={"mode": 2})
        nics = captured.observe()
        assert "XDP program" in problems(nics, "eth0")
        assert "XDP program inside" in problems(nics, "back")

    def test_a_missing_tc_leaves_the_root_discipline_that_ip_shows(self, tmp_path: Path) -> None:
        captured = Captured("gap_restored", tmp_path)
        captured.change("ip -j -d addr", "veth2pUGIs", qdisc="htb")
        for number, (argv, _stdout) in enumerate(captured.answers):
            if argv[0] == "tc":
                captured.answers[number] = (argv, "no JSON, as little as from a tc that is not there")
        nics = captured.observe()
        assert "traffic control (htb)" in problems(nics, "eth0")
        assert problems(nics, "back") == ""

    def test_a_veth_whose_other_end_is_not_on_the_host_is_refused(self, tmp_path: Path) -> None:
        captured = Captured("gap_restored", tmp_path)
        captured.change("nsenter", "eth0", link_index=4242)
        captured.forget("bridge -j fdb show brport veth2pUGIs")
        captured.forget("bridge -j mdb show dev snicbr0")
        captured.forget("tc -j qdisc show dev veth2pUGIs")
        nics = captured.observe()
        assert "whose other end is not on the host" in problems(nics, "eth0")
        assert _nics.criu_externals(nics) == ["veth[back]:snicback"]

    def test_a_peer_index_of_another_namespace_is_not_taken_for_one_of_the_host(self, tmp_path: Path) -> None:
        nics = Captured("spoilt", tmp_path).observe()
        # in0 and in1 are each other's peers inside; the host has interfaces with the same indices.
        assert all(not nic.veth for nic in nics if nic.name in ("in0", "in1"))

    @pytest.mark.parametrize("name", ["a#b", "a]b", "q'x", "-lead", "a@b"])
    def test_names_that_ip_or_criu_would_misread_are_refused(self, tmp_path: Path, name: str) -> None:
        captured = Captured("macvlan", tmp_path)
        captured.change("nsenter", "eth0", ifname=name)
        assert "has a name that CRIU and ip cannot be told" in problems(captured.observe(), name)

    def test_fallback_tunnels_of_the_kernel_come_with_the_sysctl_that_avoids_them(self, tmp_path: Path) -> None:
        captured = Captured("macvlan", tmp_path)
        captured.configured = []
        captured.change("nsenter", "eth0", ifname="tunl0", linkinfo={"info_kind": "ipip"})
        assert "fb_tunnels_only_for_init_net" in problems(captured.observe(), "tunl0")

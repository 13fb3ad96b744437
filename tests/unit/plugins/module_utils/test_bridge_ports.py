# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _bridge_ports

FRESH_VLAN = {"vlan": 1, "flags": ["PVID", "Egress Untagged"]}


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """One port as the kernel makes it, in a bridge with STP off and default_pvid 1."""
    port = tmp_path / "class" / "net" / "vethA" / "brport"
    port.mkdir(parents=True)
    for attribute, value in _bridge_ports.FRESH_PORT.items():
        (port / attribute).write_text(f"{value}\n")
    bridge = tmp_path / "class" / "net" / "br0" / "bridge"
    bridge.mkdir(parents=True)
    (bridge / "stp_state").write_text("0\n")
    (bridge / "default_pvid").write_text("1\n")
    return tmp_path


def link(state: str, *flags: str) -> dict[str, t.Any]:
    return {"ifname": "vethA", "master": "br0", "flags": flags, "linkinfo": {"info_slave_data": {"state": state}}}


class TestAttributes:
    def test_a_fresh_port_has_nothing_to_record(self, sysfs: Path) -> None:
        assert _bridge_ports.read_port("vethA", str(sysfs)) == {}

    @pytest.mark.parametrize("attribute", sorted(_bridge_ports.FRESH_PORT))
    def test_every_attribute_that_differs_is_recorded(self, sysfs: Path, attribute: str) -> None:
        (sysfs / "class" / "net" / "vethA" / "brport" / attribute).write_text("9\n")
        assert _bridge_ports.read_port("vethA", str(sysfs)) == {attribute: "9"}

    def test_attributes_that_this_kernel_has_not_are_left_out(self, sysfs: Path) -> None:
        for attribute in ("isolated", "backup_port"):
            (sysfs / "class" / "net" / "vethA" / "brport" / attribute).unlink()
        assert _bridge_ports.read_port("vethA", str(sysfs)) == {}

    def test_a_veth_in_no_bridge_has_no_port(self, sysfs: Path) -> None:
        assert _bridge_ports.read_port("vethB", str(sysfs)) == {}

    @pytest.mark.parametrize("name", ["locked", "mab", "vlan_tunnel", "neigh_vlan_suppress", "mcast_max_groups"])
    def test_what_only_netlink_can_set_is_named(self, name: str) -> None:
        found = link("forwarding", "UP")
        assert _bridge_ports.unkept_attributes(found) == []
        found["linkinfo"]["info_slave_data"][name] = True
        assert _bridge_ports.unkept_attributes(found) == [name]


class TestState:
    def test_a_port_that_somebody_disabled_is_recorded(self, sysfs: Path) -> None:
        assert _bridge_ports.port_state(link("disabled", "UP", "LOWER_UP"), str(sysfs)) == "disabled"

    def test_a_port_without_carrier_is_disabled_by_the_kernel(self, sysfs: Path) -> None:
        assert _bridge_ports.port_state(link("disabled", "UP", "NO-CARRIER"), str(sysfs)) == ""

    @pytest.mark.parametrize("state", ["forwarding", "learning", "listening", "blocking"])
    def test_every_other_state_is_the_kernels_own(self, sysfs: Path, state: str) -> None:
        assert _bridge_ports.port_state(link(state, "UP", "LOWER_UP"), str(sysfs)) == ""

    def test_a_daemon_that_runs_stp_sets_the_state_itself(self, sysfs: Path) -> None:
        (sysfs / "class" / "net" / "br0" / "bridge" / "stp_state").write_text("2\n")
        assert _bridge_ports.port_state(link("disabled", "UP", "LOWER_UP"), str(sysfs)) == ""


class TestVlans:
    """The JSON is written by hand after iproute2's bridge/vlan.c: the kernel at hand has no VLAN filtering."""

    @pytest.mark.parametrize(
        ("entries", "lines"),
        [
            ([FRESH_VLAN], ()),
            ([], ("del vid 1",)),
            ([{"vlan": 10, "flags": ["PVID", "Egress Untagged"]}], ("del vid 1", "add vid 10 pvid untagged")),
            ([FRESH_VLAN, {"vlan": 20}], ("add vid 20",)),
            ([FRESH_VLAN, {"vlan": 100, "vlanEnd": 110}], ("add vid 100-110",)),
            (
                [{"vlan": 1, "flags": ["Egress Untagged"]}, {"vlan": 5, "flags": ["PVID"]}],
                ("add vid 1 untagged", "add vid 5 pvid"),
            ),
            ([{"vlan": 1, "vlanEnd": 4}], ("add vid 1-4",)),
        ],
    )
    def test_lines_turn_a_fresh_port_into_this_one(
        self, sysfs: Path, entries: list[dict[str, t.Any]], lines: tuple[str, ...]
    ) -> None:
        assert _bridge_ports.vlan_lines(entries, "br0", str(sysfs)) == lines

    def test_a_bridge_without_a_default_pvid_gives_a_fresh_port_none(self, sysfs: Path) -> None:
        (sysfs / "class" / "net" / "br0" / "bridge" / "default_pvid").write_text("0\n")
        assert _bridge_ports.vlan_lines([], "br0", str(sysfs)) == ()
        assert _bridge_ports.vlan_lines([FRESH_VLAN], "br0", str(sysfs)) == ("add vid 1 pvid untagged",)

    def test_a_kernel_without_vlan_filtering_has_no_vlans(self, tmp_path: Path) -> None:
        assert _bridge_ports.vlan_lines([], "br0", str(tmp_path)) == ()

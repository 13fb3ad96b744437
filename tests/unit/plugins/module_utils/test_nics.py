# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _nics
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._lxc_config import ConfiguredNic
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.tests.unit.support.captured_nics import Captured
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner


def configured(index: int, kind: str, name: str = "", link: str = "") -> ConfiguredNic:
    return ConfiguredNic(index, kind, name, link)


def link(ifindex: int, name: str, kind: str = "veth") -> dict[str, t.Any]:
    return {"ifindex": ifindex, "ifname": name, "linkinfo": {"info_kind": kind}}


class TestObserve:
    def test_a_restored_container_with_a_gap_and_everything_that_is_recorded(self, tmp_path: Path) -> None:
        assert Captured("gap_restored", tmp_path).observe() == [
            Nic(
                0,
                "veth",
                "eth0",
                veth="veth2pUGIs",
                bridge="snicbr0",
                mac="fe:b2:d6:93:51:63",
                mtu=1500,
                port={"path_cost": "77", "isolated": "1", "group_fwd_mask": "0x8"},
            ),
            Nic(
                2,
                "veth",
                "back",
                veth="snicback",
                bridge="snicbr1",
                mac="fe:88:5c:a2:4d:5f",
                mtu=1400,
                port={"hairpin_mode": "1"},
                state="disabled",
            ),
            Nic(4, "empty"),
        ]

    def test_a_macvlan_has_the_hosts_name_of_its_parent(self, tmp_path: Path) -> None:
        assert Captured("macvlan", tmp_path).observe() == [Nic(0, "macvlan", "eth0", link="snicbr0")]

    def test_a_phys_is_refused_by_name_even_where_it_is_a_veth(self, tmp_path: Path) -> None:
        (nic,) = Captured("phys", tmp_path).observe()
        assert (nic.kind, nic.name, nic.link) == ("phys", "snicph0", "snicph0")
        assert "snicph0 is of type phys" in nic.problems[0]

    def test_the_hosts_own_network_is_one_nic_of_kind_none_and_asks_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "self" / "ns").mkdir(parents=True)
        (tmp_path / "self" / "ns" / "net").touch()
        (tmp_path / "7").symlink_to("self")
        runner = StrictRunner()
        assert _nics.observe(7, [configured(2, "none")], runner, proc=str(tmp_path)) == [Nic(2, "none")]

    def test_a_container_that_is_gone_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(StasisError, match="init 7 is gone"):
            _nics.observe(7, [], StrictRunner(), proc=str(tmp_path))

    def test_a_failing_ip_is_an_error_with_its_words(self, tmp_path: Path) -> None:
        captured = Captured("macvlan", tmp_path)
        argv = [word.replace("/proc/PID", f"{tmp_path}/proc/7") for word in captured.answers[0][0]]
        runner = StrictRunner(Call(argv, rc=1, stderr="setting the network namespace failed\n"))
        with pytest.raises(StasisError, match="setting the network namespace failed"):
            _nics.observe(7, [], runner, proc=str(tmp_path / "proc"))

    def test_an_ip_without_json_is_an_error_that_names_the_version(self, tmp_path: Path) -> None:
        captured = Captured("macvlan", tmp_path)
        captured.answers = [(captured.answers[0][0], "1: lo: <LOOPBACK>")]
        with pytest.raises(StasisError) as caught:
            captured.observe()
        assert "4.18" in caught.value.remedy


class TestCorrelate:
    def numbers(self, inside: list[dict[str, t.Any]], nics: list[ConfiguredNic]) -> dict[str, int]:
        return {found["ifname"]: number for number, found in _nics.correlate(inside, nics)}

    def test_configured_names_first_then_the_lowest_free_ethn_in_order(self) -> None:
        nics = [configured(0, "veth"), configured(1, "veth", "eth0"), configured(5, "veth"), configured(6, "none")]
        inside = [link(1, "lo", ""), link(2, "eth0"), link(3, "eth1"), link(4, "eth2")]
        assert self.numbers(inside, nics) == {"eth1": 0, "eth0": 1, "eth2": 5}

    def test_a_phys_without_a_name_keeps_that_of_its_link(self) -> None:
        nics = [configured(0, "phys", link="enp3s0"), configured(1, "veth")]
        assert self.numbers([link(3, "eth0"), link(2, "enp3s0", "")], nics) == {"enp3s0": 0, "eth0": 1}

    def test_renamed_interfaces_are_told_by_kind_and_age(self) -> None:
        nics = [configured(0, "veth"), configured(1, "macvlan"), configured(2, "veth")]
        inside = [link(9, "new2"), link(4, "mac", "macvlan"), link(3, "new0")]
        assert self.numbers(inside, nics) == {"new0": 0, "mac": 1, "new2": 2}

    def test_an_interface_deleted_inside_leaves_a_gap(self) -> None:
        assert self.numbers([link(3, "eth1")], [configured(0, "veth"), configured(1, "veth")]) == {"eth1": 1}

    def test_unconfigured_interfaces_come_after_the_last_number(self) -> None:
        nics = [configured(0, "veth"), configured(7, "none")]
        assert self.numbers([link(2, "eth0"), link(9, "b"), link(5, "a")], nics) == {"eth0": 0, "a": 8, "b": 9}

    def test_without_any_configuration_there_is_only_what_is_inside(self) -> None:
        assert self.numbers([link(1, "lo", "")], []) == {}


VETHS = [
    Nic(0, "veth", "eth0", veth="vethA", bridge="br0", mac="fe:00:00:00:00:01", mtu=1500),
    Nic(1, "empty"),
    Nic(2, "veth", "lan", veth="vethB", mac="fe:00:00:00:00:02", mtu=1400),
]


class TestExternals:
    def test_each_kind_in_crius_own_form_and_never_a_bridge(self) -> None:
        nics = [*VETHS, Nic(3, "macvlan", "m0", link="eno1"), Nic(4, "phys", "p0", link="eno2"), Nic(5, "tun", "tap0")]
        assert _nics.criu_externals(nics) == [
            "veth[eth0]:vethA",
            "veth[lan]:vethB",
            "macvlan[m0]:eno1",
            "netdev[p0]:eno2",
        ]

    def test_the_hosts_network_needs_none(self) -> None:
        assert _nics.criu_externals([Nic(0, "none")]) == []


class TestRetarget:
    def test_bridge_and_veth_are_changed_and_all_else_is_kept(self) -> None:
        changed = _nics.retarget(VETHS, [{"name": "eth0", "bridge": "br9", "veth": None}, {"name": "lan", "veth": "v"}])
        assert changed == [
            dataclasses.replace(VETHS[0], bridge="br9"),
            VETHS[1],
            dataclasses.replace(VETHS[2], veth="v"),
        ]

    def test_two_veths_may_swap_their_names(self) -> None:
        changed = _nics.retarget(VETHS, [{"name": "eth0", "veth": "vethB"}, {"name": "lan", "veth": "vethA"}])
        assert [nic.veth for nic in changed] == ["vethB", "", "vethA"]

    def test_nothing_wanted_changes_nothing(self) -> None:
        assert _nics.retarget(VETHS, []) == VETHS

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            ([{"name": "eth7", "bridge": "br1"}], "no veth 'eth7' inside; it has eth0, lan"),
            ([{"name": "", "bridge": "br1"}], "no veth ''"),
            ([{"name": "eth0", "veth": "a"}, {"name": "eth0", "veth": "b"}], "eth0 is given twice"),
            ([{"name": "eth0", "veth": "vethB"}], "vethB would be the host side of two NICs"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, wanted: list[dict[str, str | None]], words: str) -> None:
        with pytest.raises(StasisError) as caught:
            _nics.retarget(VETHS, wanted)
        assert words in caught.value.what

    @each("option", ["bridge", "veth"])
    @each("name", ["", "x" * 16, "a b", "a/b", "..", "-a", "a\n", "a@b", "a;b", "é"])
    def test_names_that_no_interface_can_have_are_refused(self, option: str, name: str) -> None:
        with pytest.raises(StasisError, match="cannot be the"):
            _nics.retarget(VETHS, [{"name": "eth0", option: name}])


class TestAttached:
    """Verified with what `ip -j -d link` says; only the fields that are looked at."""

    def link(self, nic: Nic, **more: object) -> dict[str, object]:
        found: dict[str, object] = {
            "ifname": nic.veth,
            "address": nic.mac,
            "mtu": nic.mtu,
            "flags": ["BROADCAST", "UP", "LOWER_UP"],
        }
        if nic.bridge:
            found["master"] = nic.bridge
        return {**found, **more}

    def faults(self, nics: list[Nic], links: list[dict[str, object]], sysfs: Path, *more: Call) -> list[str]:
        runner = StrictRunner(Call(["ip", "-j", "-d", "link"], stdout=json.dumps(links)), *more)
        found = _nics.attached(nics, runner, sysfs=str(sysfs))
        runner.assert_done()
        return found

    def test_all_is_well(self, tmp_path: Path) -> None:
        assert self.faults(VETHS, [self.link(VETHS[0]), self.link(VETHS[2])], tmp_path) == []

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"master": "br1"}, "eth0: the bridge of its host side vethA is br1, not br0."),
            ({"mtu": 1280}, "eth0: the MTU of its host side vethA is 1280, not 1500."),
            (
                {"address": "ba:0:0:0:0:1"},
                "eth0: the MAC of its host side vethA is ba:0:0:0:0:1, not fe:00:00:00:00:01.",
            ),
            ({"flags": ["BROADCAST"]}, "eth0: the state of its host side vethA is down, not up."),
        ],
    )
    def test_each_difference_is_one_line(self, tmp_path: Path, change: dict[str, object], fault: str) -> None:
        assert self.faults(VETHS[:1], [self.link(VETHS[0], **change)], tmp_path) == [fault]

    def test_a_veth_that_is_in_no_bridge_any_more(self, tmp_path: Path) -> None:
        found = self.link(VETHS[0])
        del found["master"]
        assert self.faults(VETHS[:1], [found], tmp_path) == [
            "eth0: the bridge of its host side vethA is none, not br0."
        ]

    def test_a_veth_that_is_not_there(self, tmp_path: Path) -> None:
        assert self.faults(VETHS[:1], [], tmp_path) == ["eth0: its host side vethA does not exist."]

    def test_a_port_attribute_that_was_not_put_back(self, tmp_path: Path) -> None:
        port = tmp_path / "class" / "net" / "vethA" / "brport"
        port.mkdir(parents=True)
        (port / "isolated").write_text("0\n")
        nic = dataclasses.replace(VETHS[0], port={"isolated": "1"})
        assert self.faults([nic], [self.link(nic)], tmp_path) == [
            "eth0: the port attribute isolated of its host side vethA is 0, not 1."
        ]
        (port / "isolated").write_text("1\n")
        assert self.faults([nic], [self.link(nic)], tmp_path) == []

    def test_vlans_that_were_not_put_back(self, tmp_path: Path) -> None:
        bridge = tmp_path / "class" / "net" / "br0" / "bridge"
        bridge.mkdir(parents=True)
        (bridge / "default_pvid").write_text("1\n")
        nic = dataclasses.replace(VETHS[0], vlans=("del vid 1", "add vid 10 pvid untagged"))
        asked = ["bridge", "-j", "vlan", "show"]
        fresh = [{"ifname": "vethA", "vlans": [{"vlan": 1, "flags": ["PVID", "Egress Untagged"]}]}]
        (fault,) = self.faults([nic], [self.link(nic)], tmp_path, Call(asked, stdout=json.dumps(fresh)))
        assert "VLANs" in fault
        done = [{"ifname": "vethA", "vlans": [{"vlan": 10, "flags": ["PVID", "Egress Untagged"]}]}]
        assert self.faults([nic], [self.link(nic)], tmp_path, Call(asked, stdout=json.dumps(done))) == []


class TestFreeNames:
    def faults(self, nics: list[Nic], links: list[dict[str, object]], sysfs: Path) -> list[str]:
        runner = StrictRunner(Call(["ip", "-j", "-d", "link"], stdout=json.dumps(links)))
        found = _nics.free_names(nics, runner, sysfs=str(sysfs))
        runner.assert_done()
        return found

    @pytest.fixture
    def sysfs(self, tmp_path: Path) -> Path:
        (tmp_path / "class" / "net" / "br0" / "bridge").mkdir(parents=True)
        return tmp_path

    def test_all_is_free(self, sysfs: Path) -> None:
        assert self.faults(VETHS, [{"ifname": "lo"}, {"ifname": "br0"}], sysfs) == []

    @pytest.mark.parametrize("other", [{"ifname": "vethA"}, {"ifname": "x", "altnames": ["vethA"]}])
    def test_a_name_that_is_taken_also_as_an_alternative_name(self, sysfs: Path, other: dict[str, object]) -> None:
        (fault,) = self.faults(VETHS, [other], sysfs)
        assert "an interface vethA exists already" in fault

    def test_a_bridge_that_is_missing_or_is_none(self, sysfs: Path) -> None:
        nics = [dataclasses.replace(VETHS[0], bridge="br7"), dataclasses.replace(VETHS[2], bridge="eno1")]
        assert self.faults(nics, [{"ifname": "eno1"}], sysfs) == [
            "eth0: the bridge br7 does not exist; name another one in the option nics.",
            "lan: the bridge eno1 is not a Linux bridge; name another one in the option nics.",
        ]

    def test_a_parent_that_is_missing(self, sysfs: Path) -> None:
        (fault,) = self.faults([Nic(0, "macvlan", "eth0", link="eno9")], [{"ifname": "lo"}], sysfs)
        assert "the interface eno9, which this macvlan needs, does not exist" in fault

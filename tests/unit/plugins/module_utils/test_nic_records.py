# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _nic_records
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

NICS = [
    Nic(
        0,
        "veth",
        "eth0",
        veth="vethA",
        bridge="br0",
        mac="fe:00:00:00:00:01",
        mtu=1500,
        port={"path_cost": "77", "isolated": "1"},
        vlans=("del vid 1", "add vid 10 pvid untagged"),
        state="disabled",
        sysctls={"ipv4 rp_filter": "2", "ipv6 disable_ipv6": "0"},
    ),
    Nic(1, "empty"),
    Nic(2, "macvlan", "m0", link="eno1"),
    Nic(12, "veth", "lan", veth="vethB", mac="fe:00:00:00:00:02", mtu=1400),
]


def test_one_word_files_have_no_newline_and_line_files_end_with_one(tmp_path: Path) -> None:
    _nic_records.write_records(str(tmp_path), NICS)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "eth0": "eth0",
        "veth0": "vethA",
        "bridge0": "br0",
        "mac0": "fe:00:00:00:00:01",
        "mtu0": "1500",
        "port0": "path_cost 77\nisolated 1\n",
        "sysctl0": "ipv4 rp_filter 2\nipv6 disable_ipv6 0\n",
        "vlan0": "del vid 1\nadd vid 10 pvid untagged\n",
        "state0": "disabled",
        "eth12": "lan",
        "veth12": "vethB",
        "mac12": "fe:00:00:00:00:02",
        "mtu12": "1400",
    }


def test_records_are_for_root_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        _nic_records.write_records(str(tmp_path), NICS)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_what_was_written_is_read_back_but_for_what_is_no_veth(tmp_path: Path) -> None:
    _nic_records.write_records(str(tmp_path), NICS)
    assert _nic_records.read_records(str(tmp_path)) == [NICS[0], NICS[3]]


def test_records_that_lxc_wrote_in_2014_are_read(tmp_path: Path) -> None:
    for name, text in (("eth0", "eth0"), ("veth0", "vethX\n"), ("bridge0", ""), ("vethold", "x"), ("vethN", "x")):
        (tmp_path / name).write_text(text)
    assert _nic_records.read_records(str(tmp_path)) == [Nic(0, "veth", "eth0", veth="vethX")]


def test_a_directory_without_records_has_no_nics(tmp_path: Path) -> None:
    assert _nic_records.read_records(str(tmp_path)) == []


@pytest.mark.parametrize(
    "damage", [{"eth0": ""}, {"veth0": ""}, {"mtu0": "many"}, {"port0": "isolated\n"}], ids=lambda one: next(iter(one))
)
def test_a_damaged_record_is_an_error_not_a_guess(tmp_path: Path, damage: dict[str, str]) -> None:
    for name, text in {"eth0": "eth0", "veth0": "vethX", **damage}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(StasisError, match="damaged"):
        _nic_records.read_records(str(tmp_path))


def test_an_older_record_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "veth0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        _nic_records.write_records(str(tmp_path), NICS)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["two words", "x" * 128, "line\nfeed"])
def test_what_is_not_one_short_word_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StasisError, match="cannot be recorded"):
        _nic_records.write_records(str(tmp_path), [Nic(0, "veth", "eth0", veth=name)])


def test_a_veth_that_the_hook_makes_has_the_name_of_its_inner_end_beside_it(tmp_path: Path) -> None:
    _nic_records.write_peers(str(tmp_path), NICS)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(found) == {"peer0", "peer12"}
    assert len({*found.values()}) == 2
    assert all(len(name) <= 15 for name in found.values())


def test_veths_that_the_hook_made_go_with_a_restore_that_ran_nothing(tmp_path: Path) -> None:
    _nic_records.write_records(str(tmp_path), NICS)
    _nic_records.write_peers(str(tmp_path), NICS)
    runner = StrictRunner(Call(["ip", "link", "delete", "vethA"]), Call(["ip", "link", "delete", "vethB"], rc=1))
    _nic_records.remove_peers(str(tmp_path), runner)
    runner.assert_done()


def test_veths_that_criu_made_are_left_to_it(tmp_path: Path) -> None:
    _nic_records.write_records(str(tmp_path), NICS)
    _nic_records.remove_peers(str(tmp_path), StrictRunner())

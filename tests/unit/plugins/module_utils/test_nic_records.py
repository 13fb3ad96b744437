# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _bridge_ports, _nic_records
from ansible_collections.stasis.lxc.plugins.module_utils._errors import RecordError, StasisError
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


HOSTILE = {
    "eth0": [
        "",
        "two words",
        "x" * 16,
        "../x",
        "a\n\nb",
        "-batch",
        "a]",
        "eth0\nveth9",
        "\u0665",
        "a\0b",
        " eth0",
        "eth0\r",
    ],
    "veth0": ["", "x\nlxc.hook.pre-start = /x", "../../../../etc", "a/b", "..", "v #", 'v"', "v\t", "*"],
    "bridge0": ["b r", "../lo", "br0 master x", "br0\nlink del dev eth0", "b;c", "br0\n\n"],
    "mac0": ["fe:00:00:00:00", "fe:00:00:00:00:01 down", "FE:00:00:00:00:01", "$(id)", "fe:00:00:00:00:01\n\n"],
    "mtu0": ["many", "-1", "1500 up", "0x10", "9" * 11, "\u0661", "1500\n1"],
    "state0": ["enabled", "disabled learning off", "3", "disabled\nx"],
    "port0": [
        "isolated\n",
        "isolated 1",
        "../../../../../proc/sys/kernel/core_pattern |/x\n",
        "isolated  1\n",
        " isolated 1\n",
        "isolated 1 \n",
        "isolated 1\r\n",
        "isolated -1\n",
        "isolated 1\nisolated 0\n",
        "flush 1\n",
        "state 0\n",
        "group_fwd_mask 1\n",
        "backup_port ../x\n",
        "isolated 1\n\n",
        "isolated\t1\n",
    ],
    "vlan0": [
        "add vid 1 dev lo\n",
        "add vid 1",
        "add  vid 1\n",
        "add vid 1\tmaster\n",
        "set vid 1\n",
        "add vid 99999\n",
        "add vid 1 pvid\rdel\n",
        "show\n",
        "\n",
    ],
    "sysctl0": [
        "ipv4 ../../../../kernel/x 1\n",
        "../../kernel rp_filter 1\n",
        "ipv4 forwarding 1\n",
        "ipv4 rp_filter\n",
        "ipv4 rp_filter 1",
        "ipv4 rp_filter 1 2\n",
        "ipv4  rp_filter 1\n",
        "ipv4 rp_filter 1\nipv4 rp_filter 2\n",
    ],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in HOSTILE.items() for text in texts], ids=ascii
)
def test_record_that_no_dump_writes_is_an_error_that_names_it(tmp_path: Path, name: str, text: str) -> None:
    for file, content in {"eth0": "eth0", "veth0": "vethX", name: text}.items():
        (tmp_path / file).write_bytes(os.fsencode(content))
    with pytest.raises(RecordError) as refusal:
        _nic_records.read_records(str(tmp_path))
    assert refusal.value.file == name
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize("number", ["00", "007", "9" * 30])
def test_number_that_is_not_as_it_is_written_is_an_error(tmp_path: Path, number: str) -> None:
    (tmp_path / f"veth{number}").write_text("vethX")
    (tmp_path / f"eth{number}").write_text("eth0")
    with pytest.raises(RecordError, match=r"'number'|'index'"):
        _nic_records.read_records(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "eth 0"},
        {"veth": "v\nlxc.hook.pre-start = /x"},
        {"bridge": "../x"},
        {"mac": "x"},
        {"port": {"../x": "1"}},
        {"vlans": ("add vid 1 dev lo",)},
        {"sysctls": {"ipv4 ../x": "1"}},
        {"state": "x y"},
        {"mtu": -1},
        {"link": "eno1]"},
        {"addresses": ("10.0.0.1/24 dev lo",)},
        {"kind": "veth\n"},
    ],
    ids=repr,
)
def test_nothing_is_written_of_a_nic_that_could_not_be_read_back(tmp_path: Path, change: dict[str, object]) -> None:
    nic = dataclasses.replace(NICS[0], **change)
    if nic.kind == "veth":
        with pytest.raises(StasisError, match="cannot be recorded"):
            _nic_records.write_records(str(tmp_path), [nic])
    assert _nic_records.fault(nic) is not None
    assert list(tmp_path.iterdir()) == []


def test_every_attribute_of_a_port_can_be_recorded(tmp_path: Path) -> None:
    values = {"group_fwd_mask": "0xfff8", "backup_port": "vethC"}
    port = {name: values.get(name, "7") for name in _bridge_ports.FRESH_PORT}
    nic = dataclasses.replace(NICS[0], port=port)
    _nic_records.write_records(str(tmp_path), [nic])
    assert _nic_records.read_records(str(tmp_path)) == [nic]


def test_interface_that_nothing_is_told_of_may_have_any_name_of_one_word() -> None:
    assert _nic_records.fault(Nic(3, "bridge", "br@0#")) is None
    assert _nic_records.fault(Nic(3, "sit", "sit0")) is None
    assert _nic_records.fault(Nic(3, "inner veth", "é")) is None
    for name in ("a b", "a/b", "\x1b[2J", "a\nb", "é" * 8, "a\udcff"):
        assert _nic_records.fault(Nic(3, "bridge", name)) == ("name", name)


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

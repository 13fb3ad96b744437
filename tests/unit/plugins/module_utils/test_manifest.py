# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import typing as t
from dataclasses import asdict, fields

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _manifest, _nics
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import FINGERPRINT, draft, manifest

DIGEST = "0123456789abcdef" * 4


def entry(text: str) -> dict[str, t.Any]:
    return {"size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def test_manifest_is_read_back_as_it_was_written() -> None:
    about = _manifest.with_checksum(manifest(files={"a": entry("x")}, size=1))
    assert _manifest.parse(_manifest.dump(about), "m") == about
    assert _manifest.dump(_manifest.with_checksum(about)) == _manifest.dump(about)


def test_manifest_text_is_steady() -> None:
    checksum = hashlib.sha256(b'{\n "a": [\n  2\n ],\n "b": 1\n}\n').hexdigest()
    assert _manifest.dump({"b": 1, "a": [2]}) == f'{{\n "a": [\n  2\n ],\n "b": 1,\n "checksum": "{checksum}"\n}}\n'


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"format": 1,}', "\x00"])
def test_text_that_is_no_json_is_damage(text: str) -> None:
    with pytest.raises(StasisError, match="is not JSON"):
        _manifest.parse(text, "/srv/x/manifest.json")


@pytest.mark.parametrize("text", ["[]", "1", "null", '"x"'])
def test_json_that_is_no_object_is_damage(text: str) -> None:
    with pytest.raises(StasisError, match="is not a manifest"):
        _manifest.parse(text, "m")


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0, [1]])
def test_other_format_says_which_version_to_use(version: object) -> None:
    with pytest.raises(StasisError, match=r"this version of stasis\.lxc knows 1") as refusal:
        _manifest.parse(json.dumps(manifest(format=version)), "m")
    assert "version of the collection" in refusal.value.remedy


@each("key", sorted(set(_manifest._REQUIRED) - {"format"}))
@each("value", [None, 1.5], ids=["null", "other type"])
def test_each_key_has_to_be_there_with_its_type(key: str, value: object) -> None:
    with pytest.raises(StasisError, match=f"has no valid '{key}'"):
        _manifest.parse(json.dumps(manifest(**{key: value})), "m")
    missing = manifest()
    del missing[key]
    with pytest.raises(StasisError, match=f"has no valid '{key}'"):
        _manifest.parse(json.dumps(missing), "m")


@each(
    "one",
    [
        3,
        None,
        [],
        {},
        {"size": 1},
        {"sha256": "x"},
        {"size": "1", "sha256": DIGEST},
        {"size": 1, "sha256": 2},
        {"size": 1, "sha256": "x"},
        {"size": True, "sha256": DIGEST},
        {"size": -1, "sha256": DIGEST},
        {"size": 1, "sha256": DIGEST + "\n"},
        {"size": 1, "sha256": DIGEST, "sha256_pieces": DIGEST},
    ],
    ids=str,
)
def test_file_entry_that_is_none_is_damage(one: object) -> None:
    with pytest.raises(StasisError, match=r"has no valid entry for core-1\.img"):
        _manifest.parse(json.dumps(manifest(files={"core-1.img": one})), "m")


@pytest.mark.parametrize("one", [3, "x", {}, {"digest": "x"}, {**FINGERPRINT, "newest": "1"}], ids=str)
def test_fingerprint_that_is_none_is_damage(one: object) -> None:
    with pytest.raises(StasisError, match="has no valid 'fingerprint'"):
        _manifest.parse(json.dumps(manifest(fingerprint=one)), "m")


def test_manifest_without_a_fingerprint_is_whole() -> None:
    assert _manifest.parse(_manifest.dump(manifest(fingerprint=None)), "m")["fingerprint"] is None


@each(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "sub/x",
        "a\nb",
        "a\x1b[2J",
        "a\x7f",
        "\udcff",
        "x" * 256,
        "parent",
        *sorted(_manifest.BESIDE),
    ],
    ids=repr,
)
def test_name_that_is_no_file_of_an_image_is_refused(name: str) -> None:
    with pytest.raises(StasisError, match="is not the name of a file of an image") as refusal:
        _manifest.parse(_manifest.dump(manifest(files={name: entry("x")}, size=1)), "m")
    assert refusal.value.message.isprintable()


def test_size_has_to_be_the_sum(safe_dir: str) -> None:
    with pytest.raises(StasisError, match="not the sum of its files"):
        _manifest.parse(_manifest.dump(manifest(files={"a": entry("xy")}, size=3)), "m")


def test_every_flipped_bit_of_a_manifest_is_found() -> None:
    text = _manifest.dump(manifest(files={"a": entry("x")}, size=1)).encode()
    for position in range(len(text)):
        changed = bytearray(text)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(StasisError):
            _manifest.parse(changed.decode("utf-8", "replace"), "m")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("web1", "web2"),
        lambda text: text.replace(" ", "  ", 1),
        lambda text: text + "\n",
        lambda text: text[:-1],
        lambda text: text.replace('"generation": 1,', '"generation": 2,\n "generation": 1,'),
        lambda text: text.replace('"generation": 1,', '"generation": 1.0,'),
    ],
    ids=["value", "space", "line more", "line less", "key twice", "other number"],
)
def test_edited_manifest_is_refused(change: t.Callable[[str], str]) -> None:
    with pytest.raises(StasisError, match=r"m was changed since it was written|has no valid 'generation'"):
        _manifest.parse(change(_manifest.dump(manifest())), "m")


def test_deeply_nested_text_is_damage() -> None:
    with pytest.raises(StasisError, match="is not JSON"):
        _manifest.parse("[" * 200_000, "m")


NIC = {"index": 0, "kind": "veth", "name": "eth0", "port": {"isolated": "1"}, "vlans": ["add vid 1"]}


@each(
    ("key", "value"),
    [
        ("nics", [1]),
        ("nics", [{"kind": "veth"}]),
        ("nics", [{**NIC, "index": "0"}]),
        ("nics", [{**NIC, "unheard": "of"}]),
        ("nics", [{**NIC, "port": {"isolated": 1}}]),
        ("versions", {"criu": 4}),
        ("command", ["criu", 1]),
        ("stats", {"frozen_time": "1"}),
        ("init", {"pid": 1}),
        ("cgroups", [{"controllers": "cpu", "mount": "", "path": "", "unified": False}]),
        ("autostart_units", "lxc@web1.service"),
        ("autostart_units", ["sshd.service"]),
        ("autostart_units", ["lxc@../x.service"]),
        ("lsm", {"kind": "apparmor"}),
        ("addresses", [{"nic": "eth0", "address": 1}]),
        ("open_files", {"/bin/sh": [1, "2", 3]}),
        ("open_files", {"/bin/sh": [1, 2]}),
        ("parent", "../web0"),
        ("parent", {"link": "../web0"}),
    ],
    ids=repr,
)
def test_value_of_another_kind_deep_inside_is_damage(key: str, value: object) -> None:
    with pytest.raises(StasisError, match=f"m has no valid '{key}'"):
        _manifest.parse(_manifest.dump(manifest(**{key: value})), "m")


@pytest.mark.parametrize(
    ("option", "value"),
    [("tcp_established", 1), ("manage_cgroups", None), ("external_mounts", [{"target": "x"}]), ("link_remap", "yes")],
)
def test_option_of_another_kind_is_damage(option: str, value: object) -> None:
    with pytest.raises(StasisError, match=f"has no valid '{option}' among the options"):
        _manifest.parse(_manifest.dump(manifest(options={option: value})), "m")


def test_every_nic_that_can_be_observed_can_be_recorded() -> None:
    full = {one.name: {"a": "b"} if "Mapping" in str(one.type) else ("x",) for one in fields(_nics.Nic)}
    full = {name: 1 if name in ("index", "mtu") else value for name, value in full.items()}
    texts = {one.name: "x" for one in fields(_nics.Nic) if one.type == "str"}
    for nic in (_nics.Nic(0, "veth"), _nics.Nic(**{**full, **texts})):
        about = _manifest.parse(_manifest.dump(manifest(nics=[asdict(nic)])), "m")
        assert _nics.Nic(**about["nics"][0]).name == nic.name


def test_draft_that_nobody_could_read_later_is_refused_before_the_freeze() -> None:
    _manifest.check_draft(draft(nics=[asdict(_nics.Nic(0, "veth", vlans=("x",)))]))
    for changes in ({"nics": [{"kind": "veth"}]}, {"autostart_units": ["x"]}, {"container": None}):
        with pytest.raises(StasisError, match="The draft of the manifest has no valid"):
            _manifest.check_draft(draft(**changes))


def test_whole_manifest_is_taken() -> None:
    about = manifest(
        nics=[NIC],
        autostart_units=["lxc@web1.service"],
        lsm={"kind": "none", "label": ""},
        addresses=[{"nic": "eth0", "address": "10.0.0.1"}],
        open_files={"/bin/sh": [1, 2, 3]},
        parent={"link": "../web0", "sha256": DIGEST},
        options={"tcp_established": True, "external_mounts": [{"target": "a", "source": "/b"}], "ghost_limit": None},
    )
    assert _manifest.parse(_manifest.dump(about), "m")["nics"] == [NIC]

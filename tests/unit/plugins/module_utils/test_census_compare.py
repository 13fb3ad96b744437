# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _census_compare
from ansible_collections.stasis.lxc.plugins.module_utils._census_compare import Subject
from ansible_collections.stasis.lxc.plugins.module_utils._errors import RecordError

BEFORE = {
    "process 17": Subject("worker", {"nice value": "5", "affinity": "CPU 0"}, {"POSIX timer": {"0": "signal 14"}}),
    "network": Subject(things={"route": {"10.0.0.0/8 via 10.1.1.1": ""}, "nftables table": {"ip nat": "sha256:aa"}}),
}


def lost(**changes: Subject) -> list[str]:
    return _census_compare.compare(BEFORE, {**BEFORE, **{key.replace("_", " "): one for key, one in changes.items()}})


def network(**changes: t.Mapping[str, str]) -> Subject:
    things = {**BEFORE["network"].things, **{key.replace("_", " "): one for key, one in changes.items()}}
    return Subject(things=things)


def test_the_same_census_has_lost_nothing() -> None:
    assert lost() == []


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (
            {
                "process_17": Subject(
                    "worker", {"nice value": "0", "affinity": "CPU 0"}, {"POSIX timer": {"0": "signal 14"}}
                )
            },
            ["process 17 (worker): nice value was 5, and is 0."],
        ),
        (
            {"process_17": Subject("worker", {"affinity": "every CPU"}, {"POSIX timer": {}})},
            [
                "process 17 (worker): affinity was CPU 0, and is every CPU.",
                "process 17 (worker): POSIX timer 0 is gone (signal 14).",
            ],
        ),
        ({"network": network(route={})}, ["network: route 10.0.0.0/8 via 10.1.1.1 is gone."]),
        ({"network": network(nftables_table={})}, ["network: nftables table ip nat is gone."]),
        ({"network": network(nftables_table={"ip nat": "sha256:bb"})}, ["network: nftables table ip nat has changed."]),
    ],
)
def test_each_loss_is_one_sentence(after: dict[str, Subject], expected: list[str]) -> None:
    assert lost(**after) == expected


@pytest.mark.parametrize(
    "after",
    [
        # It has ended, or runs another program.
        {"process_17": Subject("other", {"nice value": "0"}, {"POSIX timer": {}})},
        # Nobody could see them.
        {"process_17": Subject("worker"), "network": Subject()},
        # What came is not lost.
        {"network": network(route={**BEFORE["network"].things["route"], "default via 10.1.1.1": ""})},
    ],
)
def test_what_cannot_be_called_lost_is_not(after: dict[str, Subject]) -> None:
    assert lost(**after) == []


def test_subject_that_is_gone_has_ended() -> None:
    assert _census_compare.compare(BEFORE, {}) == []


def test_long_values_are_cut() -> None:
    before, after = {"a": Subject("", {"b": "x" * 5000})}, {"a": Subject("", {"b": "y" * 5000})}
    assert [len(one) < 500 for one in _census_compare.compare(before, after)] == [True]


def test_what_changes_between_two_looks_is_left_out() -> None:
    first = {
        "process 1": Subject("a", {"x": "1", "y": "1", "z": "1"}, {"timer": {"0": "s"}}),
        "process 2": Subject("b", {"x": "1"}),
        "process 3": Subject("c", {"x": "1"}),
    }
    later = {
        "process 1": Subject("a", {"x": "1", "y": "2"}),
        "process 2": Subject("another", {"x": "1"}),
        "process 4": Subject("d"),
    }
    assert _census_compare.stable(first, later) == {
        "process 1": Subject("a", {"x": "1", "z": "1"}, {"timer": {"0": "s"}})
    }
    assert _census_compare.stable(first, first) == first


def test_census_comes_back_from_its_file() -> None:
    census = {**BEFORE, "process \udcff": Subject("a\nb\udcfe", {"x": "ü"})}
    assert _census_compare.decode(_census_compare.encode(census)) == census


def text(**subject: t.Any) -> bytes:
    return json.dumps({"format": 1, "subjects": {"a": {"name": "", "values": {}, "things": {}, **subject}}}).encode()


def test_what_a_later_version_adds_is_ignored() -> None:
    assert _census_compare.decode(text(more=[1])) == {"a": Subject()}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"format": 2, "subjects": {}}',
        b'{"format": 1, "subjects": []}',
        b'{"format": 1, "subjects": {"a": []}}',
        text(name=1),
        text(values={"a": 1}),
        text(values=[]),
        text(things={"a": {"b": None}}),
        text(things={"a": "b"}),
        b" " * (_census_compare.LARGEST + 1),
    ],
    ids=lambda data: ascii(data[:60]),
)
def test_file_that_no_dump_writes_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError) as refusal:
        _census_compare.decode(data)
    assert refusal.value.file == "census.json"

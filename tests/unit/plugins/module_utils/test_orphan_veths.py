# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _orphan_veths
from ansible_collections.stasis.lxc.tests.unit.support.make import write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

VETH: dict[str, t.Any] = {
    "ifname": "vethA",
    "ifindex": 30,
    "link_index": 2,
    "link_netnsid": 4,
    "linkinfo": {"info_kind": "veth"},
}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """This process in the namespace 1; another in 2, which holds 3 open; and a mount of 4."""
    for path, target in (
        ("self/ns/net", "net:[1]"),
        ("10/task/10/ns/net", "net:[1]"),
        ("20/task/20/ns/net", "net:[2]"),
        ("20/task/21/ns/net", "net:[2]"),
        ("20/fd/3", "net:[3]"),
        ("20/fd/4", "/dev/null"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(target)
    write(f"{tmp_path}/self/mountinfo", "30 20 0:4 net:[4] /run/netns/my\\040net rw shared:1 - nsfs nsfs rw\n")
    return tmp_path


def look(path: str, *pairs: tuple[int, int], rc: int = 0) -> Call:
    links = [{"ifname": "eth0", "link_index": other, "ifindex": own} for other, own in pairs]
    return Call(["nsenter", f"--net={path}", "ip", "-j", "link"], rc=rc, stdout=json.dumps([{"ifname": "lo"}, *links]))


def all_places(proc: Path) -> list[str]:
    return [f"{proc}/20/task/20/ns/net", f"{proc}/20/fd/3", "/run/netns/my net"]


def among(proc: Path, *calls: Call, links: t.Sequence[t.Mapping[str, t.Any]] = (VETH,)) -> list[str]:
    runner = StrictRunner(*calls)
    found = _orphan_veths.among({"vethA"}, [dict(one) for one in links], runner, proc=str(proc))
    runner.assert_done()
    return found


def test_a_veth_whose_other_end_is_in_no_namespace_that_is_held_is_an_orphan(proc: Path) -> None:
    # The same index of the other end is nothing where its own is another.
    assert among(proc, *(look(path, (30, 3), (31, 2)) for path in all_places(proc))) == ["vethA"]


@pytest.mark.parametrize("holder", [0, 1, 2], ids=["a task", "an open file", "a name"])
def test_whoever_holds_the_namespace_keeps_the_veth(proc: Path, holder: int) -> None:
    places = all_places(proc)
    calls = [look(path, *([(30, 2)] if path == places[holder] else [])) for path in places]
    assert among(proc, *calls) == []


def test_a_namespace_that_cannot_be_looked_into_keeps_it(proc: Path) -> None:
    assert among(proc, look(all_places(proc)[0], rc=1)) == []


def test_a_namespace_that_ended_meanwhile_does_not(proc: Path) -> None:
    first, *others = all_places(proc)
    gone = Call(["nsenter", f"--net={first}", "ip", "-j", "link"], rc=1, effect=lambda: Path(first).unlink())
    assert among(proc, gone, *(look(path) for path in others)) == ["vethA"]


@pytest.mark.parametrize(
    "link",
    [
        {**VETH, "ifname": "vethB"},
        {**VETH, "linkinfo": {"info_kind": "macvlan"}},
        {key: value for key, value in VETH.items() if key != "link_netnsid"},
    ],
    ids=["another name", "no veth", "other end on this host"],
)
def test_what_cannot_be_one_is_not_asked_about(proc: Path, link: dict[str, t.Any]) -> None:
    assert among(proc, links=[link]) == []


def test_only_what_exists_and_is_an_orphan_is_removed(proc: Path) -> None:
    sysfs = proc / "sys"
    (sysfs / "class" / "net" / "vethA").mkdir(parents=True)
    runner = StrictRunner(
        Call(["ip", "-j", "-d", "link"], stdout=json.dumps([VETH])),
        *(look(path) for path in all_places(proc)),
        Call(["ip", "link", "del", "dev", "vethA"], rc=1, stderr="Cannot find device"),
    )
    assert _orphan_veths.remove(["vethA", "", "vethB"], runner, sysfs=str(sysfs), proc=str(proc)) == ["vethA"]
    runner.assert_done()


def test_where_no_such_interface_exists_nothing_is_run(tmp_path: Path) -> None:
    assert _orphan_veths.remove(["vethA", ""], StrictRunner(), sysfs=str(tmp_path)) == []

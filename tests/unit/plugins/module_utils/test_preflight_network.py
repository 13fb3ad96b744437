# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight's look at routes and firewall rules, and the pure check of them."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _preflight_network
from ansible_collections.stasis.lxc.plugins.module_utils._preflight_network import Network
from ansible_collections.stasis.lxc.tests.unit.support.facts import INIT, OWN, process, words
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

NOTHING = "[ ]\n[ ]\n[ ]\n\t SAD count 0\n\t SPD IN  0 OUT 0 FWD 0\n"
ENTER = ["nsenter", "--net=/proc/100/ns/net"]
FOREIGN = "table ip filter {\n\tchain INPUT {\n\t\tmeta l4proto tcp xt match hashlimit counter drop\n\t}\n}\n"
PLAIN = "table ip filter {\n}\n"
WARNING = "# Warning: table ip filter is managed by iptables-nft, do not touch!\n"


@pytest.fixture(autouse=True)
def _nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_preflight_network.shutil, "which", lambda name, path: f"/usr/sbin/{name}")


def ip(said: str = NOTHING) -> Call:
    return Call([*ENTER, "ip", "-j", "-batch", "-"], stdin=_preflight_network._BATCH, stdout=said)


def nft(said: str = "", **more: t.Any) -> Call:
    return Call([*ENTER, "nft", "list", "ruleset"], stdout=said, **more)


def load(rules: str, rc: int = 0, said: str = "") -> Call:
    return Call(["unshare", "--net", "nft", "-f", "-"], stdin=rules, rc=rc, stderr=said)


def look(*calls: Call) -> list[Network]:
    runner = StrictRunner(*calls)
    found = _preflight_network.look(runner, [INIT, process()], OWN["net"])
    runner.assert_done()
    return found


def test_namespace_that_several_processes_share_is_looked_at_once() -> None:
    assert look(ip(), nft()) == [Network("network")]


def test_network_of_the_host_is_not_looked_at() -> None:
    assert _preflight_network.look(StrictRunner(), [replace(INIT, namespaces=OWN)], OWN["net"]) == []


def test_everything_that_ip_says() -> None:
    routes = [{"dst": "10.91.0.0/16", "nhid": 42}, {"dst": "10.1.0.0/16", "table": "local"}]
    said = json.dumps([{"id": 42}]) + json.dumps(routes) + json.dumps([{"dst": "10.1.1.7"}])
    [one] = look(ip(f"{said}\n\t SAD count 2\n\t SPD IN  1 OUT 1 FWD 0\n"), nft())
    assert (one.nexthops, one.routes, one.neighbours, one.encrypted) == ((42,), tuple(routes), ("10.1.1.7",), 4)


def test_answer_that_is_cut_off_is_nothing() -> None:
    assert look(ip('[{"id": 42}][{"dst"'), nft()) == [Network("network", nexthops=(42,))]


def test_rules_are_loaded_where_they_harm_nobody() -> None:
    [one] = look(ip(), nft(WARNING + PLAIN), load(WARNING + PLAIN))
    assert (one.rules, one.managed, one.refused) == (WARNING + PLAIN, ("ip filter",), "")
    [one] = look(ip(), nft(FOREIGN), load(FOREIGN, 1, "/dev/stdin:4:2-3: Error: unsupported xtables\nxt match"))
    assert one.refused == "unsupported xtables"


def test_device_that_is_not_where_rules_are_tried_is_no_fault_of_theirs() -> None:
    rules = 'table netdev x {\n chain c { type filter hook ingress device "eth0" priority 0; }\n}\n'
    [one] = look(ip(), nft(rules), load(rules, 1, "x: Error: Could not process rule: No such file or directory\n"))
    assert one.refused == ""


def test_host_without_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_preflight_network.shutil, "which", lambda _name, path: None)
    assert look(ip()) == [Network("network")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"routes": ({"dst": "default", "gateway": "10.1.1.1"}, {"dst": "10.1.1.1", "table": "local"})}, []),
        ({"nexthops": (42,), "routes": ({"dst": "x", "nhid": 42},)}, [("nexthop-route", "blocks")]),
        ({"nexthops": (42,), "routes": ({"dst": "x"},)}, [("nexthop", "loses")]),
        (
            {"nexthops": (42,), "routes": ({"dst": "x", "nhid": 42, "table": "77"},)},
            [("routing-table", "loses"), ("nexthop", "loses")],
        ),
        ({"neighbours": ("10.1.1.7",)}, [("neighbour", "loses")]),
        ({"encrypted": 1}, [("xfrm", "loses")]),
        ({"rules": PLAIN}, []),
        ({"rules": FOREIGN}, [("firewall-rules", "blocks")]),
        ({"rules": PLAIN, "refused": "syntax error"}, [("firewall-rules", "blocks")]),
    ],
)
def test_check(changes: dict[str, t.Any], expected: list[tuple[str, str]]) -> None:
    assert words(_preflight_network.check([Network("network", **changes)])) == expected


def test_lost_encryption_is_refused() -> None:
    [one] = _preflight_network.check([Network("network", encrypted=1)])
    assert one.refused
    [one] = _preflight_network.check([Network("network", neighbours=("10.1.1.7",))])
    assert not one.refused

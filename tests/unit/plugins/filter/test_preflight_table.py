# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import yaml
from ansible_collections.stasis.lxc.plugins.filter import preflight_table as plugin

table = plugin.FilterModule().filters()["preflight_table"]


def finding(container: str, severity: str = "blocks") -> dict[str, str]:
    return {
        "container": container,
        "id": "descriptor",
        "severity": severity,
        "subject": "postgres (pid 7)",
        "what": "It is open on io_uring.",
        "remedy": "Stop it.",
    }


def answer(*containers: tuple[str, str], findings: t.Sequence[dict[str, str]] = ()) -> dict[str, t.Any]:
    counts = {"blocks": 0, "may fail": 0, "loses": 0, "note": 0}
    return {
        "verdict": "ready",
        "counts": counts,
        "findings": list(findings),
        "containers": [{"name": name, "verdict": verdict, "counts": counts} for name, verdict in containers],
    }


def test_containers_of_all_hosts_are_aligned() -> None:
    lines = table([["h1", answer(("web1", "ready"))], ["host-two", answer(("db", "ready"), ("longer-name", "ready"))]])
    assert lines == [
        "HOST      CONTAINER    VERDICT  BLOCKS  MAY FAIL  LOSES  NOTES",
        "h1        web1         ready    0       0         0      0",
        "host-two  db           ready    0       0         0      0",
        "host-two  longer-name  ready    0       0         0      0",
    ]


def test_findings_follow_in_a_table_of_their_own() -> None:
    lines = table([("h1", answer(("web1", "blocked"), findings=[finding("web1"), finding("web1", "may fail")]))])
    assert lines[2:] == [
        "",
        "HOST  CONTAINER  SEVERITY  FINDING     WHAT TO DO ABOUT IT",
        "h1    web1       blocks    descriptor  postgres (pid 7): It is open on io_uring. Stop it.",
        "h1    web1       may fail  descriptor  postgres (pid 7): It is open on io_uring. Stop it.",
    ]


def test_host_that_does_not_answer_has_its_row() -> None:
    lines = table([("h1", {"unreachable": True, "msg": "no\nroute"}), ("h2", {"msg": "No LXC."}), ("h3", {})])
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["h1", "-", "unreachable"],
        ["h2", "-", "unknown"],
        ["h3", "-", "unknown"],
    ]
    assert [line.split("  ")[-1].strip() for line in lines[6:]] == ["no route", "No LXC.", "It gave no answer."]


def test_host_where_nothing_runs_and_one_without_criu_are_told_apart() -> None:
    bare = {**answer(findings=[finding("")]), "verdict": "blocked"}
    lines = table([("h1", answer()), ("h2", bare)])
    assert "none runs" in lines[1]
    assert "blocked" in lines[2]
    assert lines[5].split()[:3] == ["h2", "-", "blocks"]


def test_it_is_documented() -> None:
    about = yaml.safe_load(plugin.DOCUMENTATION)
    assert about["name"] == "preflight_table"
    assert yaml.safe_load(plugin.EXAMPLES)
    assert yaml.safe_load(plugin.RETURN)["_value"]["type"] == "list"

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib.util
import signal
import sys
import typing as t
from pathlib import Path

import pytest

FAULTS = Path(__file__).resolve().parents[2] / "faults"


def load(name: str) -> t.Any:
    """A module of the suite, which is no package: its files are found by their own directory."""
    spec = importlib.util.spec_from_file_location(name, FAULTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


cells = load("cells")
report = load("report")


def test_no_cell_of_the_table_is_empty() -> None:
    there = {(one.way, one.step.name, one.actor, one.signal) for one in cells.cells()}
    for way in cells.WAYS:
        for step in cells.STEPS[way]:
            for actor in cells.ACTORS:
                for number in cells.SIGNALS:
                    reason = cells.why_not(way, step, actor)
                    assert bool(reason) != ((way, step.name, actor, number) in there), (way, step.name, actor)


def test_enough_faults_and_half_of_them_without_an_image() -> None:
    faults = cells.cells() + cells.random_cells(1, 6)
    assert len(faults) >= 200
    assert sum(not one.previous and one.way != cells.RESTORE for one in faults) * 2 >= 200


def test_only_criu_with_living_tasks_in_its_hands_is_excepted() -> None:
    found = {(one.actor, one.signal) for one in cells.cells() if one.excepted}
    assert found == {(cells.CRIU, signal.SIGKILL)}
    before = [one for one in cells.cells() if one.step.where == cells.BEFORE]
    assert not any(one.excepted for one in before)


def test_names_tell_faults_apart() -> None:
    names = [one.name for one in cells.cells() + cells.random_cells(1, 6)]
    assert len(names) == len(set(names))


def outcome(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "way": cells.STOP,
        "step": "memory",
        "actor": cells.CRIU,
        "signal": "SIGKILL",
        "previous": False,
        "excepted": True,
        "survived": True,
        "inside": True,
        "wrong": [],
        **changes,
    }


def test_report_counts_what_it_was_given() -> None:
    found = [outcome(), outcome(previous=True, survived=False), outcome(actor="module", excepted=False, wrong=["a|b"])]
    assert report.counts(found) == {
        "faults": 3,
        "passed": 2,
        "failed": 1,
        "without_image": 2,
        "excepted": 2,
        "survived": 1,
        "inside": 3,
    }
    page = report.render(found, 12, "a host")
    row = next(line for line in page.splitlines() if line.startswith("| memory |"))
    assert "1/2*" in row
    assert "FAILED: a/b" in row
    assert "- no event, no hook" in row
    assert "not run" in row


@pytest.mark.parametrize("way", ["dump with stop", "dump that leaves running", "restore"])
def test_every_row_of_the_page_has_every_cell(way: str) -> None:
    page = report.render([], 0, "a host")
    rows = [line for line in page.splitlines() if line.startswith("| ") and line.count("|") > 5]
    assert {line.count("|") for line in rows} == {2 + len(cells.ACTORS) * len(cells.SIGNALS)}
    assert f"## {way.capitalize()}" in page

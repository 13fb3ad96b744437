# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import importlib.util
import re
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
outcomes = load("outcome")
judge = load("judge")
report = load("report")
PAGE = (FAULTS.parents[1] / "docs/faults.md").read_text()


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
    assert sum(not one.previous and one.way != cells.RESTORE for one in faults) * 2 >= len(faults)


def test_everybody_is_hit_by_both_signals_at_random_moments_too() -> None:
    found = {(one.way, one.actor, one.signal) for one in cells.random_cells(1, 6)}
    for way in cells.WAYS:
        actors = {cells.MODULE, cells.CRIU, cells.HOOK, cells.ANSIBLE} | (
            {cells.LXC, cells.LAUNCHER} if way == cells.RESTORE else set()
        )
        assert {(actor, number) for one, actor, number in found if one == way} == {
            (actor, number) for actor in actors for number in cells.SIGNALS
        }


def test_an_older_image_stands_there_wherever_a_new_one_takes_its_place() -> None:
    found = {(one.way, one.step.name, one.actor) for one in cells.cells() if one.previous}
    for way in (cells.STOP, cells.LEAVE):
        for name in ("sealing", "sealed, not published", "published"):
            assert (way, name, cells.MODULE) in found
        assert {(way, "committed", cells.ANSIBLE), (way, "post-dump, before the commit", cells.HOOK)} <= found


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
        "cured": False,
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
    assert report.rates(found)[report.DUMPS] == (1, 2)
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


def test_each_kind_of_moment_has_a_rate_of_its_own() -> None:
    found = [
        outcome(),
        outcome(step="pre-dump", excepted=False),
        outcome(way=cells.RESTORE, excepted=False),
        outcome(way=cells.RESTORE, step="pre-resume", survived=False),
        outcome(step="a random moment", survived=False),
        outcome(step="a random moment", excepted=False),
        outcome(way=cells.RESTORE, step="a random moment", excepted=False),
        outcome(signal="SIGTERM", excepted=False),
    ]
    assert report.rates(found) == {
        report.DUMPS: (1, 1),
        report.UNRELEASED: (1, 1),
        report.RELEASED: (0, 1),
        report.RANDOM_DUMPS: (0, 1),
        report.RANDOM_RESTORES: (1, 1),
    }
    page = report.render(found, 12, "a host")
    assert f"| {report.RELEASED} | 0 of 1 |" in page
    assert "0/1, ok (1)" in page


@pytest.mark.parametrize("actor", [cells.CRIU, cells.HOOK])
def test_a_dump_that_heeds_sigterm_is_wrong(actor: str) -> None:
    step = next(one for one in cells.STEPS[cells.STOP] if one.name == "memory")
    cell = cells.Cell(cells.STOP, step, actor, signal.SIGTERM)
    said = outcomes.Outcome(cell.name, cell.way, step.name, actor, "SIGTERM", False, first="dump")
    assert not judge.unsaid(cell, said)
    said.first = "web1 was not dumped. CRIU ended with -15"
    assert "SIGTERM was not ignored" in " ".join(judge.unsaid(cell, said))


def cell(way: str, name: str, actor: str, kind: signal.Signals = signal.SIGKILL, **more: t.Any) -> t.Any:
    step = next(one for one in cells.STEPS[way] if one.name == name)
    return cells.Cell(way, step, actor, kind, **more)


def said(one: t.Any, **changes: t.Any) -> t.Any:
    plain = outcomes.Outcome(one.name, one.way, one.step.name, one.actor, one.signal.name, one.previous)
    return dataclasses.replace(plain, **changes)


def test_whatever_is_damaged_must_be_told_by_its_name() -> None:
    for one in cells.cells():
        if one.excepted or (one.actor == cells.CRIU and one.step.where == cells.HOLDING and judge.dies(one)):
            assert judge.promised(one), one.name
            assert judge.answer(one), one.name
            wrong = judge.unsaid(one, said(one, first="x was not dumped. No reason."))
            assert len(wrong) == len(judge.promised(one)) + len(judge.answer(one)), one.name
            words = list(judge.promised(one))
            assert judge.unsaid(one, said(one, first=" ".join(judge.answer(one)), mended=words)) == []
            assert judge.unsaid(one, said(one, first=" ".join(judge.answer(one)), mended=words[:-1]))


def test_a_container_that_was_lost_after_it_ran_must_not_come_back_as_it_was_before_unasked() -> None:
    one = cell(cells.RESTORE, "pre-resume", cells.CRIU)
    words = {"first": " ".join(judge.answer(one)), "mended": list(judge.promised(one)), "excepted": True}
    assert judge.unsaid(one, said(one, **words, later="The checkpoint in /i is not fresh: It has run since.")) == []
    assert judge.unsaid(one, said(one, **words, later="restore"))


def test_a_lock_of_criu_s_own_must_be_told_in_place_of_the_veths() -> None:
    for one in cells.locked_cells():
        assert judge.promised(one) == (judge.FIREWALL[one.lock],)
        assert "The container runs on as before" in judge.answer(one)[1]


def test_what_a_killed_module_leaves_must_be_told() -> None:
    for way, name, previous, word in (
        (cells.STOP, "staging, before CRIU", False, judge.DISCARDED),
        (cells.STOP, "committed", False, judge.COMPLETED),
        (cells.LEAVE, "committed", False, judge.DISCARDED),
        (cells.LEAVE, "sealed, not published", False, judge.PUBLISHED),
        (cells.LEAVE, "published", True, judge.DISCARDED),
        (cells.RESTORE, "CRIU ended", False, judge.RESTORED),
    ):
        one = cell(way, name, cells.MODULE, previous=previous)
        assert judge.promised(one) == (word,)
        assert judge.unsaid(one, said(one))
    assert judge.promised(cell(cells.STOP, "published", cells.MODULE)) == ()


def test_the_place_of_a_fault_is_held_to_criu_s_log() -> None:
    for name, inside, right in (
        ("memory", True, True),
        ("memory", False, False),
        ("pre-dump", True, False),
        ("tasks killed", False, True),
    ):
        one = cell(cells.STOP, name, cells.CRIU)
        assert (judge.misplaced(one, said(one, inside=inside)) == []) is right


def test_an_older_image_is_the_same_right_after_the_fault() -> None:
    older, newer = {"a": "1", "consumed": "2"}, {"a": "2", "consumed": "3"}
    one = cell(cells.STOP, "memory", cells.CRIU, previous=True)
    assert judge.intact(one, False, older, older) == []
    assert judge.intact(one, False, older, newer) == ["right after the fault the image is another: a, consumed"]
    assert judge.intact(one, False, older, {"a": "1"})
    published = cell(cells.STOP, "published", cells.MODULE, previous=True)
    assert judge.intact(published, False, older, newer) == []
    assert judge.intact(published, False, older, {}) == ["the older image is gone"]
    restore = cell(cells.RESTORE, "memory", cells.CRIU)
    assert judge.intact(restore, False, older, {"a": "1", "consumed": "4"}) == []
    assert judge.intact(restore, False, older, newer) == ["right after the fault the image is another: a"]
    assert judge.intact(cell(cells.STOP, "memory", cells.CRIU), False, {}, newer) == []


@pytest.mark.parametrize("way", ["dump with stop", "dump that leaves running", "restore"])
def test_the_page_has_every_cell_of_the_table(way: str) -> None:
    section = PAGE.partition(f"\n## {way.capitalize()}\n")[2].partition("\n## ")[0]
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    heads = [f"{actor} {number.name[3:]}" for actor in cells.ACTORS for number in cells.SIGNALS]
    assert rows[0] == ["step", *heads]
    assert [row[0] for row in rows[1:]] == [step.name for step in cells.STEPS[way]]
    for step, row in zip(cells.STEPS[way], rows[1:]):
        for (actor, _number), word in zip(((a, n) for a in cells.ACTORS for n in cells.SIGNALS), row[1:]):
            reason = cells.why_not(way, step, actor)
            assert word == f"- {reason}" if reason else re.fullmatch(r"(ok|\d+/\d+)\*?", word), (step.name, actor, word)


def test_the_page_has_enough_faults_and_none_that_failed() -> None:
    found = re.search(r"\*\*(\d+) faults, (\d+) passed, 0 failed\*\*; (\d+) of them with no image", PAGE)
    assert found
    all_, passed, without = (int(word) for word in found.groups())
    assert all_ == passed >= 200
    assert without >= 100

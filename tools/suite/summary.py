# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count what the stages report, and print one table of it."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass
from pathlib import Path

import junit
from lanes import Ended

SLOWEST = 10
_LAST_LINE = re.compile(r"^(?:[a-z]+: )?(\d+) passed, (\d+) failed", re.MULTILINE)


@dataclass(frozen=True)
class Count:
    """Checks and cases of a stage."""

    passed: int
    failed: int
    skipped: int = 0


def count(stage: Ended) -> Count:
    """What a stage reports: lines `PASSED FAILED` in its file `counts` and JUnit reports, or, failing both, the last
    line `N passed, N failed` of its output.

    A stage that failed has at least one failure, and so has one that ended well and ran no test.
    """
    if stage.not_run:
        return Count(0, 0)
    passed = failed = skipped = 0
    counts = stage.folder / "counts"
    if counts.exists():
        for line in counts.read_text(encoding="utf-8").splitlines():
            more, worse = map(int, line.split())
            passed, failed = passed + more, failed + worse
    good, bad, skipped = junit.count(junit.read(_reports(stage)))
    passed, failed = passed + good, failed + bad
    if not passed and not failed:
        lines = _LAST_LINE.findall((stage.folder / "log").read_text(encoding="utf-8", errors="replace"))
        passed, failed = (int(lines[-1][0]), int(lines[-1][1])) if lines else (0, 0)
    if not failed and (stage.status or not passed):
        failed = 1
    return Count(passed, failed, skipped)


def slowest(stages: t.Iterable[Ended]) -> list[tuple[float, str, str]]:
    """The slowest tests: seconds, stage, name. From JUnit reports and from lines `SECONDS NAME` in `durations`."""
    found = []
    for stage in stages:
        found += [(case.seconds, stage.name, case.name) for case in junit.read(_reports(stage))]
        durations = stage.folder / "durations"
        if durations.exists():
            for line in durations.read_text(encoding="utf-8").splitlines():
                seconds, name = line.split(" ", 1)
                found.append((float(seconds), stage.name, name))
    return sorted(found, reverse=True)[:SLOWEST]


def render(stages: t.Sequence[Ended], expected: t.Sequence[str], wall: float) -> tuple[list[str], bool]:
    """The lines of the summary, the last one `N passed, N failed`, and whether all is well.

    expected: the names of all stages that were to run, in their order. wall: seconds that the whole took.
    """
    by_name = {stage.name: stage for stage in stages}
    counts = {name: count(by_name[name]) if name in by_name else Count(0, 1) for name in expected}
    processor = sum(stage.processor for stage in stages)
    lines = [f"  {'stage':<12} {'result':<8} {'wall':>7} {'processor':>10} {'passed':>7} {'failed':>7} {'skipped':>8}"]
    for name in expected:
        stage, number = by_name.get(name), counts[name]
        word = "NOT RUN" if stage and stage.not_run else "FAILED" if number.failed else "ok"
        took = (stage.wall, stage.processor) if stage else (0.0, 0.0)
        lines.append(
            f"  {name:<12} {word:<8} {took[0]:>5.0f} s {took[1]:>8.0f} s {number.passed:>7} {number.failed:>7} {number.skipped:>8}"
        )
    lines.append(f"  {'all':<12} {'':<8} {wall:>5.0f} s {processor:>8.0f} s  on {os.cpu_count()} processors")
    lines += [f"  NOT RUN: {stage.name}: {stage.not_run}" for stage in stages if stage.not_run]
    tests = slowest(stages)
    if tests:
        lines.append("the slowest tests:")
        lines += [f"  {seconds:>6.1f} s  {name:<12} {test}" for seconds, name, test in tests]
    passed = sum(number.passed for number in counts.values())
    failed = sum(number.failed for number in counts.values())
    return [*lines, f"{passed} passed, {failed} failed"], passed > 0 and not failed


def _reports(stage: Ended) -> list[Path]:
    return sorted(stage.folder.glob("**/*.xml"))

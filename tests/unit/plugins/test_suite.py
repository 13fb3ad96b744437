# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The summary of `make test` says what the stages did."""

from __future__ import annotations

import subprocess
import sys
import time
import typing as t
from pathlib import Path

SUITE = Path(__file__).resolve().parents[3] / "tools/suite"
PASSES = 'echo "3 passed, 0 failed"'


def run(root: Path, stages: t.Mapping[str, str]) -> tuple[int, list[str]]:
    """Run stages whose bodies are shell scripts; the exit status and the lines of the summary."""
    for name, body in stages.items():
        path = root / "tools" / name if name in ("lint", "unit", "role") else root / "tests" / name / "run"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-E", "-s", "-B", str(SUITE), str(root), str(root / "results"), str(time.time()), *stages],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout.split("== summary\n")[-1].splitlines()


def row(lines: t.Sequence[str], stage: str) -> list[str]:
    return next(line for line in lines if line.split()[:1] == [stage]).split()


def test_stages_that_pass_are_added_up(tmp_path: Path) -> None:
    counts = 'echo "4 0" >"$STASIS_RESULTS/counts"; echo "2.5 the slow one" >"$STASIS_RESULTS/durations"'
    status, lines = run(tmp_path, {"lint": PASSES, "kinds": counts})
    assert (status, lines[-1]) == (0, "7 passed, 0 failed")
    assert any(line.split() == ["2.5", "s", "kinds", "the", "slow", "one"] for line in lines)


def test_a_stage_that_ends_with_an_error_is_a_failure_whatever_it_counted(tmp_path: Path) -> None:
    status, lines = run(tmp_path, {"lint": f"{PASSES}; exit 3", "role": PASSES})
    assert (status, lines[-1]) == (1, "6 passed, 1 failed")
    assert row(lines, "lint")[1] == "FAILED"


def test_a_stage_that_ran_no_test_is_a_failure(tmp_path: Path) -> None:
    status, lines = run(tmp_path, {"lint": "true", "role": PASSES})
    assert (status, lines[-1]) == (1, "3 passed, 1 failed")


def test_a_stage_that_had_no_time_is_neither_passed_nor_failed_but_named(tmp_path: Path) -> None:
    body = f'{PASSES}; echo "80 minutes are over" >"$STASIS_RESULTS/not-run"; exit 75'
    status, lines = run(tmp_path, {"hosts": body, "role": PASSES})
    assert (status, lines[-1]) == (0, "3 passed, 0 failed")
    assert "  NOT RUN: hosts: 80 minutes are over" in lines


def test_exit_status_75_without_a_reason_is_a_failure(tmp_path: Path) -> None:
    status, _lines = run(tmp_path, {"hosts": f"{PASSES}; exit 75"})
    assert status == 1


def test_processor_time_includes_daemons_that_have_ended(tmp_path: Path) -> None:
    # The daemon is nobody's child when it works, like QEMU with -daemonize.
    burn = "import time; [None for _ in iter(lambda: time.process_time() < 1.2, False)]"
    body = f"(setsid {sys.executable} -c '{burn}' & echo $! >pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.1; done; {PASSES}"
    _status, lines = run(tmp_path, {"hosts": f'cd "$STASIS_RESULTS"; {body}'})
    assert int(row(lines, "hosts")[4]) >= 1


def test_the_stages_of_both_lanes_run_side_by_side(tmp_path: Path) -> None:
    meet = (
        'touch "$0.began"; i=0; until [ -e "{other}.began" ]; do i=$((i + 1)); [ $i -lt 600 ] || exit 1; sleep 0.1; done; '
        + PASSES
    )
    tools = tmp_path / "tools"
    status, _lines = run(
        tmp_path, {"lint": meet.format(other=tools / "role"), "role": meet.format(other=tools / "lint")}
    )
    assert status == 0

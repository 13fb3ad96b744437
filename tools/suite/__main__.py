# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run stages of the tests in two lanes and print a summary: suite ROOT RESULTS STARTED STAGE...

STARTED: the time in seconds since the epoch at which the whole began.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import typing as t
from pathlib import Path

import summary
from lanes import Lanes, Stage

# Two lanes for two processors. The stages of the second change LXC's containers on this host, and integration, kinds and
# faults need what role installs.
LANES = (("lint", "unit", "hosts"), ("role", "integration", "kinds", "faults"))
IN_TESTS = {"integration", "kinds", "faults", "hosts"}
# CI ends a run after 90 minutes; the emulated hosts end themselves before, and run whole the next time.
LIMIT = 80 * 60
CLEANING = 90


def main(arguments: t.Sequence[str]) -> int:
    root, results, started = Path(arguments[0]), Path(arguments[1]), float(arguments[2])
    wanted = arguments[3:]
    shutil.rmtree(results, ignore_errors=True)
    lanes = [[_stage(root, name) for name in lane if name in wanted] for lane in LANES]
    deadline = str(int(started + LIMIT - CLEANING))
    running = Lanes(results, {**os.environ, "STASIS_HOSTS_DEADLINE": deadline})
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: running.stop())
    ended = running.run([lane for lane in lanes if lane])
    expected = [stage.name for lane in lanes for stage in lane]
    lines, good = summary.render(ended, expected, time.time() - started)
    print("\n== summary", *lines, sep="\n", flush=True)
    return 0 if good else 1


def _stage(root: Path, name: str) -> Stage:
    path = root / "tests" / name / "run" if name in IN_TESTS else root / "tools" / name
    return Stage(name, (str(path),))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""JUnit reports: how many cases passed, failed and were skipped, and how long each took.

As a program it prints the three numbers: junit.py FILE...
"""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path
from xml.etree import ElementTree


class Case(t.NamedTuple):
    """One test case. result: passed, failed or skipped."""

    name: str
    seconds: float
    result: str


def read(paths: t.Iterable[Path]) -> list[Case]:
    """All cases of the reports. Raises OSError and ElementTree.ParseError."""
    return [
        Case(f"{case.get('classname', '')}::{case.get('name', '')}", float(case.get("time") or 0), _result(case))
        for path in paths
        for case in ElementTree.parse(path).getroot().iter("testcase")
    ]


def count(cases: t.Iterable[Case]) -> tuple[int, int, int]:
    """How many passed, failed and were skipped."""
    results = [case.result for case in cases]
    return results.count("passed"), results.count("failed"), results.count("skipped")


def _result(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


if __name__ == "__main__":
    print(*count(read(Path(name) for name in sys.argv[1:])))

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""proof.py REPORT NAME: whether every test of a JUnit report failed, in the test itself and not on its way."""

from __future__ import annotations

import sys
from xml.etree import ElementTree


def main() -> None:
    """Print one line, and exit with 0 where all is as it must be."""
    report, name = sys.argv[1:]
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except (OSError, ElementTree.ParseError) as exc:
        sys.exit(f"CRIU replaced ({name}): no report: {exc}")
    failed = [case for case in cases if case.find("failure") is not None]
    others = [case.get("name") for case in cases if case.find("failure") is None or case.find("error") is not None]
    if others or not failed:
        print(f"CRIU replaced ({name}): these tests do not need CRIU to pass, or never ran: {others}")
        sys.exit(1)
    print(f"CRIU replaced ({name}): {len(failed)} tests failed, as they must")


if __name__ == "__main__":
    main()

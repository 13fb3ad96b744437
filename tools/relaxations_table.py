# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the table of relaxations in README.md and the role's README.md from plugins/module_utils/_relaxations.py.

Run it as python tools/relaxations_table.py [--check]: with --check nothing is written, and a table that is not as it should be
is status 1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "roles" / "checkpointable" / "README.md")
BEGIN, END = "<!-- begin: made by tools/relaxations_table.py -->", "<!-- end of the relaxations -->"


def load() -> Any:
    # As part of the collection, whose name the imports carry.
    sys.path.insert(0, str(ROOT.parents[2] if ROOT.parents[1].name == "ansible_collections" else ROOT / ".work"))
    from ansible_collections.stasis.lxc.plugins.module_utils import _relaxations

    return _relaxations.RULES


def table() -> str:
    rows = ["| relaxation | settings | what is lost | what stays | CRIU without it |", "|---|---|---|---|---|"]
    for rule in load():
        keys = ", ".join(dict.fromkeys(f"`{one.key}=`" for one in rule.directives))
        if rule.units:
            keys = f"{keys} of {' and '.join(f'`{name}`' for name in rule.units)}"
        rows.append(f"| `{rule.id}` | {keys} | {rule.lost} | {rule.kept} | `{rule.evidence}` |")
    return "\n".join(rows)


def main() -> None:
    check = "--check" in sys.argv[1:]
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _old, end, after = rest.partition(END)
        if not begin or not end:
            sys.exit(f"{page} has no place for the table: {BEGIN} ... {END}")
        made = f"{before}{BEGIN}\n{table()}\n{END}{after}"
        if made != text:
            wrong.append(str(page))
            if not check:
                page.write_text(made, encoding="utf-8")
    if check and wrong:
        sys.exit(f"not as the data says: {', '.join(wrong)}; run tools/relaxations_table.py")


if __name__ == "__main__":
    main()

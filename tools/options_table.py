# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the tables option x state in README.md and docs/options.md from _argspec.APPLIES and the documentation.

tools/options_table.py [--check]: with --check nothing is written, and a table that is not as it should be is status 1.
Run it with .work/venv/bin/python, which has Ansible.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
STATES = ("checkpointed", "restored", "absent")
BEGIN, END = "<!-- begin: made by tools/options_table.py -->", "<!-- end -->"


def load() -> tuple[dict, dict, tuple[str, ...]]:
    # As part of the collection, whose name the module's imports carry.
    sys.path.insert(0, str(ROOT.parents[2] if ROOT.parents[1].name == "ansible_collections" else ROOT / ".work"))
    from ansible_collections.stasis.lxc.plugins.module_utils import _argspec
    from ansible_collections.stasis.lxc.plugins.modules import lxc_checkpoint

    return _argspec.APPLIES, yaml.safe_load(lxc_checkpoint.DOCUMENTATION)["options"], _argspec.REMEMBERED


def plain(text: str) -> str:
    text = re.sub(r"(?<![A-Z])[VC]\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"(?:RV|O)\(([^)=]*)=([^)]*)\)", r"`\1: \2`", text)
    return re.sub(r"(?:RV|O)\(([^)]*)\)", r"`\1`", text)


def default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in (None, "", []) else ""


def first_sentence(name: str, option: dict) -> str:
    if name == "state":
        return f"What is to be: {', '.join(f'`{state}`' for state in STATES)}."
    text = option["description"]
    text = text if isinstance(text, str) else text[0]
    return plain(re.split(r"(?<=[.]) ", text)[0])


def long_table() -> str:
    applies, options, remembered = load()
    rows = [
        f"| option | {' | '.join(STATES)} | default | what it is |",
        "|---|:---:|:---:|:---:|---|---|",
    ]
    for name, option in options.items():
        states, value = applies.get(name, (STATES, option.get("default")))
        unset = "required" if option.get("required") else default(value)
        if name in remembered:
            unset = f"{unset or 'none'}; restore: as dumped"
        cells = ["x" if state in states else "" for state in STATES]
        rows.append(f"| `{name}` | {' | '.join(cells)} | {unset} | {first_sentence(name, option)} |")
    return "\n".join(rows)


def short_table() -> str:
    applies, options = load()[:2]
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in options:
        groups.setdefault(applies.get(name, (STATES, None))[0], []).append(f"`{name}`")
    rows = ["| with `state:` | options |", "|---|---|"]
    order = sorted(groups, key=lambda states: (-len(states), STATES.index(states[0])))
    for states in order:
        where = "any" if states == STATES else " or ".join(f"`{state}`" for state in states)
        rows.append(f"| {where} | {', '.join(groups[states])} |")
    return "\n".join(rows)


def main() -> int:
    wrong = 0
    for name, table in (("README.md", short_table()), ("docs/options.md", long_table())):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        before, _begin, rest = text.partition(BEGIN)
        _old, end, after = rest.partition(END)
        if not end:
            print(f"{name} has no place for the table: {BEGIN} ... {END}", file=sys.stderr)
            return 1
        new = f"{before}{BEGIN}\n{table}\n{END}{after}"
        if new != text and "--check" in sys.argv[1:]:
            print(f"{name}: the table of options is out of date; run tools/options_table.py", file=sys.stderr)
            wrong = 1
        elif new != text:
            path.write_text(new, encoding="utf-8")
    return wrong


if __name__ == "__main__":
    sys.exit(main())

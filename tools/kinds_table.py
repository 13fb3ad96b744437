# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the table container x host in README.md from the results of tests/kinds in docs/kinds.

tools/kinds_table.py            write the table
tools/kinds_table.py --check    write nothing; a README that is not as it should be, or results that are not complete
                                or not as tests/kinds/expected.json says, are status 1
tools/kinds_table.py --take D   first take the results in D/HOST/*.json (.work/kinds after a run) into docs/kinds
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- begin: made by tools/kinds_table.py -->", "<!-- end of the kinds -->"
RESULTS = ROOT / "docs/kinds"
WORDS = {"supported": "yes", "refused": "refused", "unavailable": "not there"}


def read() -> dict[str, dict[str, dict]]:
    """Host id to kind to result."""
    found: dict[str, dict[str, dict]] = {}
    for path in sorted(RESULTS.glob("*/*.json")):
        found.setdefault(path.parent.name, {})[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return found


def problems(results: dict[str, dict[str, dict]], expected: dict[str, dict]) -> list[str]:
    """What of the results is not as expected.json says."""
    found = []
    # Every kind is run on one host at least; on an emulated one there may be time for some.
    whole = max(results, key=lambda host: len(results[host]), default="")
    for host, kinds in results.items():
        if host == whole:
            found += [f"{host}: there is no result for {kind}" for kind in expected if kind not in kinds]
        for kind, result in kinds.items():
            rule = expected.get(kind, {}).get(host) or expected.get(kind, {}).get("*") or {"result": "nothing"}
            if result["result"] != rule["result"]:
                found.append(f"{host}: {kind} is {result['result']}, and expected.json says {rule['result']}")
    return found


def cell(result: dict | None) -> str:
    if result is None:
        return "not run"
    word = WORDS[result["result"]]
    return f"{word}, {result['generations']} generations" if result["result"] == "supported" else word


def table(results: dict[str, dict[str, dict]], expected: dict[str, dict]) -> str:
    hosts = {host: next(iter(kinds.values()))["host"] for host, kinds in results.items()}
    heads = [
        f"{re.sub(r' *[(].*[)]', '', one['os']).replace('GNU/Linux ', '')}, kernel {one['kernel']}, cgroups {one['cgroups']}, "
        f"{'no LSM' if one['lsm'] == 'none' else one['lsm']}, LXC {one['lxc']}, CRIU {one['criu']}"
        for one in hosts.values()
    ]
    rows = ["| container | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for kind in expected:
        title = next((kinds[kind]["title"] for kinds in results.values() if kind in kinds), kind)
        rows.append(f"| {title} | " + " | ".join(cell(kinds.get(kind)) for kinds in results.values()) + " |")
    total = [result["result"] for kinds in results.values() for result in kinds.values()]
    rows += ["", f"{total.count('supported')} supported, {total.count('refused')} refused."]
    reasons: dict[str, list[str]] = {}
    for host, kinds in results.items():
        for kind in expected:
            if kind in kinds and kinds[kind]["result"] != "supported":
                # An interface has another number on each host.
                why = re.sub(r"\blink \d+", "link N", " ".join(kinds[kind]["evidence"][:2]))
                text = f"{kinds[kind]['title']}: {why}"
                reasons.setdefault(text, []).append(host)
    for host, kinds in results.items():
        for kind in expected:
            if kind in kinds and kinds[kind]["result"] == "supported" and kinds[kind]["evidence"]:
                text = "; ".join(kinds[kind]["evidence"])
                reasons.setdefault(f"{kinds[kind]['title']}: {text}", []).append(host)
    if reasons:
        rows += ["What the words do not say:", ""]
        rows += [f"- {text} ({', '.join(where)})" for text, where in reasons.items()]
    return "\n".join(rows)


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--take"]:
        for path in sorted(Path(arguments[1]).glob("*/*.json")):
            target = RESULTS / path.parent.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.name)
    expected = json.loads((ROOT / "tests/kinds/expected.json").read_text(encoding="utf-8"))
    results = read()
    wrong = problems(results, expected)
    for line in wrong:
        print(line, file=sys.stderr)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not end:
        print(f"README.md has no place for the table: {BEGIN} ... {END}", file=sys.stderr)
        return 1
    new = f"{before}{BEGIN}\n{table(results, expected)}\n{END}{after}"
    if new != text and "--check" in arguments:
        print("README.md: the table of kinds is out of date; run python3 tools/kinds_table.py", file=sys.stderr)
        return 1
    if new != text:
        readme.write_text(new, encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

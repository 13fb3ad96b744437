# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/diagnoses.md from the table of rules in plugins/module_utils/_diagnosis_rules.py.

Run it as python tools/diagnoses_page.py [--check]: with --check nothing is written, and a page that is not as it should be is status 1.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "diagnoses.md"
LOGS = ROOT / "tests" / "unit" / "fixtures" / "logs"

CLASSES = {
    "transient": "Try again: what was in the way goes away by itself.",
    "configuration": "Another option, service or file makes it work.",
    "environment": "The host, its kernel or its programs must be changed, or another image taken.",
    "impossible": "CRIU cannot do it. What is in the way must be gone for the time of the dump.",
}
WHEN = {"dump": "dump", "restore": "restore", "both": "dump and restore"}

# What users report, and of which there is no log of our own: why not.
NO_LOG = {
    "dump_timeout": "always comes with the line that says what CRIU waited for, as in the logs of task_stuck",
    "lsm_profile": "needs AppArmor",
    "nic_ifindex": "needs a kernel before 5.13",
    "parasite_refused": "needs AppArmor",
    "pipe_limit": "needs the whole host's limit of pipes lowered",
    "rseq_kernel": "needs a kernel before 5.13",
    "task_ending": "a race inside the kernel's freezer",
}

HEAD = """# What goes wrong, and what to do about it

<!-- Made by tools/diagnoses_page.py from plugins/module_utils/_diagnosis_*.py; change those. -->

`stasis.lxc.lxc_checkpoint` says in a failure what the cause is, and `stasis.lxc.criu_log_info` finds it in any log:

```console
$ ansible lxc_hosts -b -m stasis.lxc.criu_log_info -a path=/var/lib/stasis/web1/dump.log
```

The log says more than its last line: what fails because of something comes after it. So every line is compared with the
texts below (`%` stands for anything), from the start of its message on. Lines that name a cause rank before lines that only
name a step that failed (*symptom*); what follows from nearly every failure counts only where nothing else is known (*last*).
Within a rank the order of the log counts. What CRIU writes in runs that went well is never a cause.
"""


def load() -> Any:
    # As part of the collection, whose name the imports carry.
    sys.path.insert(0, str(ROOT.parents[2] if ROOT.parents[1].name == "ansible_collections" else ROOT / ".work"))
    from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis_rules

    return _diagnosis_rules.RULES


def shown(text: str) -> str:
    """A text as code; it may hold a backquote itself."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def linked(rule: Any) -> str:
    return f"[{rule.reference.replace('#', ' #')}]({rule.link})" if "#" in rule.reference else shown(rule.reference)


def entry(rule: Any, captured: set[str]) -> list[str]:
    rank = ("", ", symptom", ", last")[rule.weight]
    proof = ", seen on a real log" if rule.id in captured else ""
    return [
        f"### {rule.id}",
        "",
        f"*{WHEN[rule.when]}{rank}{proof}*",
        "",
        *(f"- {shown(text.rstrip('$'))}" for text in dict.fromkeys((*rule.says, *rule.notes))),
        "",
        f"{rule.cause}",
        "",
        f"**Remedy:** {rule.remedy}",
        "",
        f"Reference: {linked(rule)}",
        "",
    ]


def page() -> str:
    rules = load()
    captured = {path.name[: -len(".log")].split("--")[0] for path in LOGS.glob("*.log")}
    proven = sum(rule.id in captured for rule in rules)
    wrong = [name for name in NO_LOG if name in captured or name not in {rule.id for rule in rules}]
    if wrong:
        raise SystemExit(f"NO_LOG names what has a log, or is no rule: {' '.join(wrong)}")
    lines = [HEAD]
    lines.append(
        f"{len(rules)} rules, {proven} of them tested on a log of a failure that happened; all but watch_cgroup_gone were provoked."
    )
    lines.append(
        "The others know the texts of CRIU's and liblxc's sources. Of those that users report these have no log of ours:\n"
    )
    lines += [f"- [{name}](#{name}): {why}" for name, why in NO_LOG.items()]
    lines.append("")
    lines += ["| class | rules | what it means |", "|---|---:|---|"]
    for kind, meaning in CLASSES.items():
        lines.append(f"| [{kind}](#{kind}) | {sum(rule.kind == kind for rule in rules)} | {meaning} |")
    lines.append("")
    for kind, meaning in CLASSES.items():
        lines += [f"## {kind}", "", meaning, ""]
        for rule in rules:
            if rule.kind == kind:
                lines += entry(rule, captured)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    new = page()
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == new:
        return 0
    if "--check" in sys.argv[1:]:
        print("docs/diagnoses.md is out of date; run python tools/diagnoses_page.py", file=sys.stderr)
        return 1
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

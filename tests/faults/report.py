# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/faults.md from the outcomes of a run. Pure."""

from __future__ import annotations

import typing as t

import cells

Outcomes = t.Sequence[t.Mapping[str, t.Any]]

_HEAD = """# Faults, and what came of them

`tests/faults/run --report docs/faults.md` has written this page; `make faults` runs a part of it. Each fault hits a run of the module
on a real container with real CRIU, at a step where the run was held without changing it: an action script waits, or the kernel
makes a process wait where it opens a file (fanotify). Then the same task runs again, as an operator would run it, and a program
that caused nothing (`tests/faults/check`) looks: the container runs, its counter goes on, the TCP connection that it held since
before the fault answers, its processes hold what they held; what stands under the checkpoint's name is whole; no process, cgroup,
mount, network device, firewall rule, file is left.

`ok` is that. Right after each fault, before any other run, an image that stood there before has every byte that it had, and what
stands under the name is whole; the exchange of the older image for the new one is the only step where it may be either. What was
damaged, mended, completed must be said in the words of the step: the veths, the sockets in repair, the firewall, the names for
deleted files, mounts, cgroups, tasks half restored; and where lxc-checkpoint alone is hit, its monitor and CRIU go on. `-` and a
word is a cell that cannot be. `n/m` is the one exception: CRIU killed by SIGKILL while it holds tasks that live, in a dump, or in a
restore once their network is back. There n of m containers were whole afterwards all the same: a rate, not a promise. Where it is
killed after it has taken its own code out of restored tasks, they have run for a moment: the same task is refused with that reason,
and with `allow_stale: true` the image must restore the container, with its connection. SIGTERM is ignored by CRIU and the hook, and a dump must
come to its good end all the same. A * stands where CRIU's log shows that the tasks were in CRIU's hands at the moment of the
fault; the run fails where it does not show that and the step says so.
"""

# Of CRIU killed, the moments that have a rate of their own.
DUMPS = "a dump, at a step while it held the tasks"
UNRELEASED = "a restore, at a step before it let the tasks go"
RELEASED = "a restore, at a step after that"
RANDOM_DUMPS = "a dump, at a random moment while it held the tasks"
RANDOM_RESTORES = "a restore, at a random moment"


def counts(outcomes: Outcomes) -> dict[str, int]:
    """The numbers of a run."""
    excepted = [one for one in outcomes if one["excepted"]]
    return {
        "faults": len(outcomes),
        "passed": sum(not one["wrong"] for one in outcomes),
        "failed": sum(bool(one["wrong"]) for one in outcomes),
        "without_image": sum(not one["previous"] and one["way"] != cells.RESTORE for one in outcomes),
        "excepted": len(excepted),
        "survived": sum(one["survived"] for one in excepted),
        "inside": sum(one["inside"] for one in outcomes),
    }


def rates(outcomes: Outcomes) -> dict[str, tuple[int, int]]:
    """For each kind of moment at which CRIU was killed: how many containers were whole afterwards, and of how many."""
    found = dict.fromkeys((DUMPS, UNRELEASED, RELEASED, RANDOM_DUMPS, RANDOM_RESTORES), (0, 0))
    for one in outcomes:
        kind = _kind(one)
        if kind:
            whole, all_ = found[kind]
            found[kind] = (whole + bool(one["survived"] and not one["wrong"]), all_ + 1)
    return found


def _kind(one: t.Mapping[str, t.Any]) -> str:
    """The kind of moment; "" for one that was not CRIU's end, or at which it had no task, or none any more."""
    if (one["actor"], one["signal"]) != (cells.CRIU, "SIGKILL"):
        return ""
    restore = one["way"] == cells.RESTORE
    step = next((step for step in cells.STEPS[one["way"]] if step.name == one["step"]), None)
    if step is None:
        return RANDOM_RESTORES if restore else RANDOM_DUMPS if one["excepted"] else ""
    if restore:
        return RELEASED if step.where == cells.LET_GO else UNRELEASED
    return DUMPS if step.where == cells.HOLDING else ""


def render(outcomes: Outcomes, seconds: float, host: str) -> str:
    """The page."""
    number = counts(outcomes)
    lines = [
        _HEAD,
        f"On {host}, {seconds:.0f} s: **{number['faults']} faults, {number['passed']} passed, {number['failed']} failed**; "
        f"{number['without_image']} of them with no image of the container anywhere, {number['inside']} while CRIU held the "
        "tasks.",
        "",
        "CRIU killed by SIGKILL, and the containers that were whole afterwards, with counter, connection and processes:",
        "",
        "| CRIU killed in | whole afterwards |",
        "|---|---|",
        *[f"| {kind} | {whole} of {all_} |" for kind, (whole, all_) in rates(outcomes).items()],
    ]
    absent = len(cells.cells()) - len({one.get("name") for one in outcomes} & {one.name for one in cells.cells()})
    if absent:
        lines.append(f"It was a part: **{absent} of the {len(cells.cells())} faults of the tables were not run**.")
    for way in cells.WAYS:
        lines += ["", f"## {way.capitalize()}", "", *_table(way, [one for one in outcomes if one["way"] == way])]
    others = [
        one for one in outcomes if one["step"] not in {step.name for way in cells.WAYS for step in cells.STEPS[way]}
    ]
    lines += ["", "## Other faults", "", "| way | fault | came of it |", "|---|---|---|"]
    groups: dict[tuple[str, str], list[t.Mapping[str, t.Any]]] = {}
    for one in others:
        what = f"{one['step']}: {one['signal']} to {one['actor']}" if one["actor"] else one["step"]
        groups.setdefault((one["way"], what), []).append(one)
    lines += [f"| {way} | {what} | {_word(found, several=True)} |" for (way, what), found in groups.items()]
    return "\n".join(lines) + "\n"


def _table(way: str, outcomes: Outcomes) -> list[str]:
    heads = [f"{actor} {number.name[3:]}" for actor in cells.ACTORS for number in cells.SIGNALS]
    lines = ["| step | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for step in cells.STEPS[way]:
        row = [step.name]
        for actor in cells.ACTORS:
            for number in cells.SIGNALS:
                reason = cells.why_not(way, step, actor)
                found = [
                    one
                    for one in outcomes
                    if (one["step"], one["actor"], one["signal"]) == (step.name, actor, number.name)
                ]
                row.append(f"- {reason}" if reason else _word(found))
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _word(found: Outcomes, *, several: bool = False) -> str:
    if not found:
        return "not run"
    bad = [one for one in found if one["wrong"]]
    if bad:
        return f"FAILED: {bad[0]['wrong'][0]}".replace("|", "/").replace("\n", " ")[:200]
    star = "*" if any(one["inside"] for one in found) else ""
    excepted = [one for one in found if one["excepted"] and not one["cured"]]
    if excepted:
        others = len(found) - len(excepted)
        word = f"{sum(one['survived'] for one in excepted)}/{len(excepted)}"
        return f"{word}{f', ok ({others})' if others else ''}{star}"
    return f"ok{f' ({len(found)})' if several and len(found) > 1 else ''}{star}"

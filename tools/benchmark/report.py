# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Medians, the table, the verdict on each goal, and the picture."""

from __future__ import annotations

import statistics
import typing as t
from dataclasses import dataclass

Sample = t.Mapping[str, float]
# Size in MiB -> side -> its samples.
Samples = t.Mapping[int, t.Mapping[str, t.Sequence[Sample]]]

PLAIN, OURS = "lxc-checkpoint", "stasis.lxc"

_SECTIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Checkpoint, the container runs on",
        (
            ("snapshot_freezing", "CRIU: freezing_time"),
            ("snapshot_frozen", "CRIU: frozen_time"),
            ("snapshot_hook", "  of it in our hook"),
            ("snapshot_dump", "CRIU: whole dump"),
            ("snapshot_silence", "TCP client: longest silence"),
            ("snapshot_command", "whole command"),
        ),
    ),
    (
        "Checkpoint and stop, then restore",
        (
            ("freezing", "CRIU: freezing_time"),
            ("frozen", "CRIU: frozen_time (without fsync)"),
            ("hook_dump", "  of it in our hook"),
            ("dump", "dump (CRIU, without fsync)"),
            ("sync", "fsync of the image"),
            ("restore", "restore (CRIU)"),
            ("hook_restore", "  of it in our hook"),
            ("dump_restore", "dump + restore"),
            ("dump_sync_restore", "dump + fsync + restore"),
            ("silence", "TCP client: longest silence"),
            ("command_dump", "whole command: dump, fsync, stop"),
            ("command_restore", "whole command: restore"),
            ("command", "both commands"),
        ),
    ),
    (
        "Checkpoint and stop, proven by a trial restore",
        (
            ("unproven_frozen", "frozen_time with fsync, without proof"),
            ("proven_frozen", "frozen_time with fsync and proof"),
            ("proof", "  of it until the trial had its verdict"),
        ),
    ),
    (
        "The same by two ansible commands",
        (
            ("ansible_dump", "task checkpointed"),
            ("ansible_dump_over", "  longer than CRIU by"),
            ("ansible_restore", "task restored"),
            ("ansible_restore_over", "  longer than CRIU by"),
            ("ansible_silence", "TCP client: longest silence"),
            ("ansible_command", "two `ansible` commands"),
        ),
    ),
    (
        "The same as two tasks of one play",
        (
            ("playbook_dump_over", "task checkpointed, longer than CRIU by"),
            ("playbook_restore_over", "task restored, longer than CRIU by"),
            ("playbook_command", "`ansible-playbook`"),
        ),
    ),
)

_TASKS = (
    ("ansible_dump_over", "`ansible -m` checkpointed"),
    ("ansible_restore_over", "`ansible -m` restored"),
    ("playbook_dump_over", "playbook task checkpointed"),
    ("playbook_restore_over", "playbook task restored"),
)


def medians(samples: Samples) -> dict[int, dict[str, dict[str, float]]]:
    """Size -> side -> row -> its median."""
    return {
        size: {
            side: {key: round(statistics.median(one.get(key, 0.0) for one in found), 3) for key in found[0]}
            for side, found in sides.items()
        }
        for size, sides in samples.items()
    }


def table(samples: Samples) -> str:
    """All rows, a table a size."""
    lines = []
    for size, sides in medians(samples).items():
        plain, ours = sides[PLAIN], sides[OURS]
        lines += ["", f"{size} MiB, medians of {len(samples[size][OURS])}, in ms"]
        for title, rows in _SECTIONS:
            lines.append(f"  {title:42}{PLAIN:>15}{OURS:>13}{'ratio':>8}")
            for key, label in rows:
                lines.append(
                    f"    {label:40}{_cell(plain, key):>15}{_cell(ours, key):>13}{_ratio(plain, ours, key):>8}"
                )
    return "\n".join(lines[1:]) + "\n"


def _cell(values: Sample, key: str) -> str:
    return f"{values[key]:.1f}" if key in values else "-"


def _ratio(plain: Sample, ours: Sample, key: str) -> str:
    return f"{ours[key] / plain[key]:.2f}" if plain.get(key) and key in ours else ""


@dataclass(frozen=True)
class Verdict:
    """Whether a goal is met; passed is None where what it needs was not measured."""

    goal: str
    found: str
    passed: bool | None

    def __str__(self) -> str:
        word = {None: "not measured", True: "PASS", False: "FAIL"}[self.passed]
        return f"{word:12}  {self.goal}: {self.found}" if self.found else f"{word:12}  {self.goal}"


def verdicts(samples: Samples) -> list[Verdict]:
    """The goals of the project, judged by medians."""
    found = medians(samples)
    ours = {size: sides[OURS] for size, sides in found.items()}
    return [
        _at_most(found, 64, "dump_restore", 0.6),
        _at_most(found, 64, "dump_sync_restore", 0.6),
        _at_most(found, 1024, "dump_restore", 1.0),
        _at_most(found, 1024, "dump_sync_restore", 1.0),
        _limit("our hook while the container runs on after", ours, ("snapshot_hook",), 30.0),
        _limit("our hook in a dump and the restore after it", ours, ("hook_dump", "hook_restore"), 30.0),
        _limit("freezing_time", ours, ("freezing",), 5.0),
        _limit("proof", ours, ("proof",), 400.0),
        *(_limit(f"{label}, longer than CRIU by", ours, (key,), 1000.0) for key, label in _TASKS),
    ]


def _at_most(found: t.Mapping[int, t.Mapping[str, Sample]], size: int, key: str, limit: float) -> Verdict:
    name = dict(row for section in _SECTIONS for row in section[1])[key]
    goal = f"{name} at {size} MiB at most {limit:.1f} times lxc-checkpoint's"
    if size not in found:
        return Verdict(goal, "", None)
    ratio = found[size][OURS][key] / found[size][PLAIN][key]
    return Verdict(goal, f"{ratio:.2f}", ratio <= limit)


def _limit(what: str, ours: t.Mapping[int, Sample], keys: t.Sequence[str], limit: float) -> Verdict:
    worst, size = max((sum(values[key] for key in keys), size) for size, values in ours.items())
    return Verdict(f"{what} at most {limit:.0f} ms", f"{worst:.1f} ms at {size} MiB", worst <= limit)


_BEGIN, _END = "<!-- results: written by tools/bench -->", "<!-- end of the results -->"
_PROOF_ROWS = ("unproven_frozen", "proven_frozen", "proof")
_README_ROWS = ("frozen", "dump", "restore", "dump_restore", "sync", "command")


def readme(text: str, samples: Samples, machine: t.Mapping[str, str], command: str) -> str:
    """The text of a README with the results between its two marks; unchanged where it has none."""
    before, begin, rest = text.partition(_BEGIN)
    _old, end, after = rest.partition(_END)
    if not begin or not end:
        return text
    return f"{before}{begin}\n\n{_results(samples, machine, command)}\n{end}{after}"


def _results(samples: Samples, machine: t.Mapping[str, str], command: str) -> str:
    found = medians(samples)
    rounds = sorted({len(one) for sides in samples.values() for one in sides.values()})
    lines = [
        f"Measured on {machine['date']} by `{command}`: medians of {' or '.join(map(str, rounds))} rounds. {machine['cpu']}, "
        f"{int(machine['memory_mib']) / 1024:.0f} GiB, Linux {machine['kernel']}, CRIU {machine['criu']}, LXC {machine['lxc']}, "
        f"{machine['file_system']}; load average before: {machine['load_before']}.",
        "",
        "| milliseconds: `lxc-checkpoint` → `stasis.lxc` | " + " | ".join(f"{size} MiB" for size in found) + " |",
        "|---|" + "---|" * len(found),
    ]
    names = {key: label.strip() for _title, rows in _SECTIONS for key, label in rows}
    for key in _README_ROWS:
        cells = [f"{sides[PLAIN][key]:.0f} → {sides[OURS][key]:.0f}" for sides in found.values()]
        lines.append(f"| {names[key]} | " + " | ".join(cells) + " |")
    cells = [f"{sides[OURS]['dump_restore'] / sides[PLAIN]['dump_restore']:.2f}" for sides in found.values()]
    lines.append("| dump + restore, times lxc-checkpoint's | " + " | ".join(cells) + " |")
    own = [(key, names[key]) for key in _PROOF_ROWS] + [(key, f"{label}, longer than CRIU by") for key, label in _TASKS]
    for key, label in own:
        cells = [f"{sides[OURS][key]:.0f}" for sides in found.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    words = {None: "not measured", True: "met", False: "**missed**"}
    lines += ["", "| goal | found | |", "|---|---|---|"]
    lines += [f"| {one.goal} | {one.found or '-'} | {words[one.passed]} |" for one in verdicts(samples)]
    return "\n".join(lines) + "\n"


def picture(samples: Samples, path: str, subtitle: str) -> None:
    """One column a size: where the time goes, and what a client sees."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = medians(samples)
    figure, axes = plt.subplots(2, len(found), figsize=(1.6 + 3.1 * len(found), 7.2), squeeze=False)
    parts = (("dump", "dump", "#3b6fa0"), ("sync", "fsync", "#b8b8b8"), ("restore", "restore", "#6aa84f"))
    for column, (size, sides) in enumerate(found.items()):
        top, bottom = axes[0][column], axes[1][column]
        for place, side in enumerate((PLAIN, OURS)):
            base = 0.0
            for key, label, colour in parts:
                value = sides[side][key]
                top.bar(place, value, 0.6, bottom=base, color=colour, label=label if place == 0 else None)
                base += value
            top.text(place, base, f"{base:.0f}", ha="center", va="bottom")
        _silences(bottom, sides)
        top.set_title(f"{size} MiB")
        top.set_xticks([0, 1], [PLAIN, OURS])
        for axis in (top, bottom):
            axis.spines[["top", "right"]].set_visible(False)
            axis.margins(y=0.12)
    axes[0][0].set_ylabel("dump, fsync, restore by CRIU [ms]")
    axes[1][0].set_ylabel("longest silence for a TCP client [ms]")
    handles, labels = axes[0][0].get_legend_handles_labels()
    more, names = axes[1][0].get_legend_handles_labels()
    figure.legend(handles + more, labels + names, loc="lower center", ncols=5, frameon=False)
    figure.suptitle(f"lxc-checkpoint and stasis.lxc side by side\n{subtitle}", fontsize=11)
    figure.tight_layout(rect=(0, 0.05, 1, 0.98))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _silences(axis: t.Any, sides: t.Mapping[str, Sample]) -> None:
    kinds = (("snapshot_silence", "runs on", "#e69f00"), ("silence", "stopped and restored", "#a05a2c"))
    for place, side in enumerate((PLAIN, OURS)):
        for shift, (key, label, colour) in zip((-0.2, 0.2), kinds):
            value = sides[side][key]
            axis.bar(place + shift, value, 0.36, color=colour, label=label if place == 0 else None)
            axis.text(place + shift, value, f"{value:.0f}", ha="center", va="bottom")
    axis.set_xticks([0, 1], [PLAIN, OURS])

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A part of the table that has something of everything; PARTS of them in a row are the whole table. Pure."""

from __future__ import annotations

import typing as t

from cells import RESTORE, Cell

PARTS = 3


def part(cells: t.Sequence[Cell], number: int) -> list[Cell]:
    """The number-th part: of each step of each way, and of each actor in it, some cells."""
    steps: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        # Where a rate is counted, each part must have enough of them.
        rated = cell.excepted and cell.way != RESTORE
        steps.setdefault(("", "") if rated else (cell.way, cell.step.name), []).append(cell)
    taken: list[Cell] = []
    for place, found in enumerate(steps.values()):
        # Each step begins with another of its cells: else the same actors would come together everywhere.
        taken += [cell for index, cell in enumerate(found) if (index + place + number) % PARTS == 0]
    for key in (_step, _role):
        # One that has fewer cells than there are parts.
        for missing in sorted({key(cell) for cell in cells} - {key(cell) for cell in taken}):
            found = [cell for cell in cells if key(cell) == missing]
            taken.append(found[number % len(found)])
    return taken


def _step(cell: Cell) -> tuple[str, str, str]:
    return cell.way, cell.step.name, ""


def _role(cell: Cell) -> tuple[str, str, str]:
    return cell.way, cell.actor, cell.signal.name

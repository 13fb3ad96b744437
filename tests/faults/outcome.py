# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of one fault."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass, field


@dataclass
class Outcome:
    """What came of one fault. excepted: CRIU was killed with the tasks in its hands. survived: the container, then.

    window: CRIU's own times of the last line before the fault and the first one after it, and the step that it was in.
    first: what the run said that the fault hit, warnings: beside it, mended: its `recovered`; recovered: the later run's,
    later: what it said. cured: nothing of CRIU's was left in the tasks of a restore. ended: CRIU had written its last line.
    wrong: what the check found. too_late: there was no fault, since nobody was there any more.
    """

    name: str
    way: str
    step: str
    actor: str
    signal: str
    previous: bool
    excepted: bool = False
    cured: bool = False
    ended: bool = False
    survived: bool = True
    window: tuple[str, str] = ("", "")
    inside: bool = False
    first: str = ""
    warnings: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    later: str = ""
    lost: str = ""
    recovered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    too_late: bool = False
    seconds: float = 0.0

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)

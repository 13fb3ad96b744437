# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CRIU's own log and statistics say about one dump or restore."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _criu_stats

_STAMP = re.compile(r"^\((\d+\.\d+)\)\s*(.*)")
_SCRIPTS = re.compile(r"Running (\S+) scripts$")
# The events of a dump during which the tasks stand still; at a restore all of them do but the last.
_FROZEN = {"network-lock", "post-dump", "network-unlock"}


@dataclass(frozen=True)
class Run:
    """One run of CRIU, in seconds: its whole time, the time of each event's scripts, and its statistics."""

    seconds: float
    events: dict[str, float]
    freezing: float
    frozen: float

    @property
    def hook(self) -> float:
        """The time of the scripts while the tasks stand still."""
        return sum(seconds for event, seconds in self.events.items() if event in _FROZEN)

    @property
    def restore_hook(self) -> float:
        """The same of a restore, where nothing runs before pre-resume is over."""
        return sum(seconds for event, seconds in self.events.items() if event != "post-resume")


def read(log: str, directory: str) -> Run:
    """From CRIU's log, and its statistics in a directory. The log's clock starts when CRIU does."""
    events: dict[str, float] = {}
    event, began, last = "", 0.0, 0.0
    with open(log, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            found = _STAMP.match(line)
            if not found:
                continue
            last, text = float(found.group(1)), found.group(2)
            # CRIU names each script on a line of its own, before it runs it.
            if event and not text.startswith("["):
                events[event] = events.get(event, 0.0) + last - began
                event = ""
            scripts = _SCRIPTS.search(text)
            if scripts:
                event, began = scripts.group(1), last
    # Statistics of another run may stand in the directory too.
    stats = _criu_stats.read(directory)
    freezing, frozen = (stats.get(name, 0) / 1e6 for name in ("freezing_time", "frozen_time"))
    return Run(last, events, freezing, frozen)


def size(directory: str) -> int:
    """Bytes of the files in a directory."""
    return sum(entry.stat().st_size for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))

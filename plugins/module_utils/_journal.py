# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a run is about to do to a container, written down before CRIU starts and removed when all is done.

A run that finds one knows that an earlier run was interrupted, and what to look for. It lies below /run: what it speaks
of, processes, network devices, cgroups, ends with the boot too.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t
from dataclasses import asdict, dataclass, field, fields

from ansible_collections.stasis.lxc.plugins.module_utils import _files, _nics, _workspace

DUMP = "dump"
RESTORE = "restore"


@dataclass(frozen=True)
class Journal:
    """One run that has not come to its end.

    directory: the checkpoint's. work: its private directory, by which its processes are known. hook: the action
    script. nics: as they were, or shall be. init_pid, init_start: of the container that is dumped; monitor_pid, monitor_start:
    of LXC's monitor of it.
    inhibit: its autostart is off for the dump, and units with it. For a restore, generation and units: what is to be
    remembered and switched on once it runs; fresh: nothing had been written to the root file system since the dump;
    consumed: how often the image had been resumed before; halted: the processes that stood still before the run (SIGSTOP), by their
    pids in the container; links: CRIU's link_remap files in the root file system, with
    their inodes.
    """

    action: str
    directory: str
    work: str
    hook: str = ""
    nics: tuple[dict[str, t.Any], ...] = ()
    init_pid: int = 0
    init_start: int = 0
    monitor_pid: int = 0
    monitor_start: int = 0
    inhibit: bool = False
    generation: int = 0
    units: tuple[str, ...] = ()
    fresh: bool = False
    consumed: int = 0
    halted: tuple[int, ...] = ()
    links: t.Mapping[str, int] = field(default_factory=dict)

    def network(self) -> list[_nics.Nic]:
        """The NICs, as they were observed."""
        known = {one.name for one in fields(_nics.Nic)}
        found = []
        for one in self.nics:
            values: dict[str, t.Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in one.items() if key in known
            }
            found.append(_nics.Nic(**values))
        return found


def path(name: str, lxc_path: str) -> str:
    """Where the journal of a container is."""
    return os.path.join(_workspace.LOCKS, _workspace.key(name, lxc_path) + ".journal")


def begin(name: str, lxc_path: str, journal: Journal) -> None:
    """Write it down."""
    _files.make_directories(_workspace.LOCKS)
    where = path(name, lxc_path)
    # In one step: half a journal would say nothing.
    _files.write_durably(where + ".new", json.dumps({**asdict(journal), "links": dict(journal.links)}) + "\n")
    os.rename(where + ".new", where)


def read(name: str, lxc_path: str) -> Journal | None:
    """What an interrupted run was about, or None where none was interrupted."""
    try:
        found = json.loads(_workspace.read_text(path(name, lxc_path)))
        known = {one.name for one in fields(Journal)}
        kept = {key: value for key, value in found.items() if key in known}
        for key in ("nics", "units", "halted"):
            kept[key] = tuple(kept.get(key, ()))
        return Journal(**kept)
    except (ValueError, AttributeError, TypeError):
        return None


def end(name: str, lxc_path: str) -> None:
    """All is done."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(name, lxc_path))

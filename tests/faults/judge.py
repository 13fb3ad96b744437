# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be said of a fault, step by step: what is damaged there, what was mended, how the container is. Pure."""

from __future__ import annotations

import signal
import typing as t

import cells
from cells import Cell
from outcome import Outcome

# What `recovered` says of each damage.
NETWORK = "put the network of "
REPAIR = " out of the repair mode of a killed CRIU"
LINKS = "/link_remap."
FIREWALL = {"nftables": "removed the firewall table inet CRIU", "iptables": "removed the chain CRIU (iptables)"}
MOUNTS = "/tmp/.criu.mntns."
GHOST = ".ghost"
TASKS = "killed what an interrupted restore had half restored of "
CGROUPS = "removed empty cgroups: "
LINKED = "linked again what an interrupted restore had removed from the root file system"
DISCARDED = "left by an interrupted checkpoint"
COMPLETED = "completed the checkpoint that an interrupted run had committed"
PUBLISHED = "published the checkpoint that an interrupted run had sealed"
RESTORED = "completed the restore that an interrupted run had begun"

Words = tuple[str, ...]

# CRIU dies, and this is damaged for certain: the hook takes the veths out at network-lock, sockets are put into repair
# one by one after the memory, and names for deleted files that are open are there once every file was dumped.
_CRIU_DUMP: t.Mapping[str, Words] = {
    "network-lock": (NETWORK,),
    "memory": (NETWORK,),
    "sockets in repair": (NETWORK, REPAIR),
    "post-dump, before the commit": (NETWORK, REPAIR, LINKS),
    "writing the commit": (NETWORK, REPAIR, LINKS),
    "committed": (NETWORK, REPAIR, LINKS),
    # Sockets and veths are put back before the last script of the event; only the names are left to CRIU.
    "network-unlock": (LINKS,),
}
_CRIU_RESTORE: t.Mapping[str, Words] = {
    "setup-namespaces": (MOUNTS,),
    "post-setup-namespaces": (MOUNTS,),
    "memory": (MOUNTS, GHOST),
    "post-restore, before the record": (TASKS, CGROUPS, MOUNTS, GHOST),
    "writing the record": (TASKS, CGROUPS, MOUNTS, GHOST),
    "network-unlock": (TASKS, CGROUPS, LINKED),
    "pre-resume": (CGROUPS, LINKED),
    "post-resume": (CGROUPS, LINKED),
}
# The module dies. CRIU and LXC go on to their end, and the next run finds what they have made.
_GOES_ON = (
    "pre-dump",
    "network-lock",
    "memory",
    "sockets in repair",
    "post-dump, before the commit",
    "writing the commit",
    "committed",
    "network-unlock",
    "tasks killed",
    "tasks released",
    "sealing",
)


def dies(cell: Cell) -> bool:
    """Whether CRIU ends at once. It does not heed SIGTERM."""
    return cell.actor == cells.CRIU and cell.signal == signal.SIGKILL


def ignores(cell: Cell) -> bool:
    """Whether a dump goes on as if nothing had happened: CRIU and the hook are started with SIGTERM ignored."""
    return cell.actor in (cells.CRIU, cells.HOOK) and cell.signal == signal.SIGTERM and cell.way != cells.RESTORE


def promised(cell: Cell) -> Words:
    """What must stand in what the runs say that they have recovered; () where nothing is left behind."""
    step = cell.step
    if dies(cell):
        table = _CRIU_RESTORE if cell.way == cells.RESTORE else _CRIU_DUMP
        found = table.get(step.name, ())
        return tuple(FIREWALL[cell.lock] if word == NETWORK and cell.lock else word for word in found)
    if cell.actor not in (cells.MODULE, cells.ANSIBLE) or step.kind == cells.RANDOM:
        return ()
    if cell.way == cells.RESTORE:
        return () if step.name in ("reading the manifest", "launcher") else (RESTORED,)
    if step.name in _GOES_ON:
        return (COMPLETED,) if cell.way == cells.STOP else (DISCARDED,)
    if step.name == "published":
        return (DISCARDED,) if cell.previous else ()
    return (PUBLISHED,) if step.done else (DISCARDED,)


def answer(cell: Cell) -> Words:
    """What the run that the fault hit must say itself, where it lives to say it."""
    step = cell.step
    if not dies(cell) or step.kind == cells.RANDOM:
        return ()
    if cell.way == cells.RESTORE:
        return ("was not restored. CRIU crashed or was killed", "The checkpoint is still there")
    if step.name == "tasks killed":
        return (
            "dump",
            f"CRIU ended with -{cell.signal.value} after the image was committed and the container had stopped",
        )
    return (f"was not dumped. CRIU ended with -{cell.signal.value}", "The container runs on as before")


def unsaid(cell: Cell, outcome: Outcome) -> list[str]:
    """What should have been said and was not, a sentence each."""
    recovered = [*outcome.mended, *outcome.recovered]
    wrong = [
        f"recovered does not say {word!r}: {recovered}"
        for word in promised(cell)
        if not any(word in line for line in recovered)
    ]
    said = " ".join([outcome.first, *outcome.warnings])
    wrong += [f"the run does not say {word!r}: {said}" for word in answer(cell) if word not in said]
    if ignores(cell) and outcome.first != "dump":
        wrong.append(f"SIGTERM was not ignored: {said}")
    # It ran for a moment, and then was lost: nobody gets the memory of before who does not ask for it.
    if outcome.excepted and cell.way == cells.RESTORE and "is not fresh: " not in outcome.later:
        wrong.append(f"the next run does not say that the image is older than what has run: {outcome.later}")
    # At its very end its status may be that of a good one.
    if cell.step.kind == cells.RANDOM and dies(cell) and not outcome.ended:
        ended = f"CRIU ended with -{cell.signal.value} "
        told = (f" was not dumped. {ended}", f"{ended}after", " was not restored. CRIU crashed or was killed")
        # Or it was the one whose version liblxc asks before, of which that says no more.
        told += (" was not restored. LXC found no criu on its PATH",)
        if not any(word in said for word in told):
            wrong.append(f"nothing is said of the killed CRIU: {said}")
    return wrong


def misplaced(cell: Cell, outcome: Outcome) -> list[str]:
    """Where CRIU's log does not show what the step says of the tasks: that they are in its hands, or not."""
    if cell.step.kind == cells.RANDOM or cell.step.where == cells.LET_GO:
        return []
    should = cell.step.where == cells.HOLDING
    if outcome.inside == should:
        return []
    return [f"by CRIU's log the tasks were {'not ' if should else ''}in its hands at the moment of the fault"]


def intact(cell: Cell, answered: bool, before: t.Mapping[str, str], after: t.Mapping[str, str]) -> list[str]:
    """Right after the fault: whether the image that stood there is untouched, wherever nothing may have replaced it.

    answered: the run that was hit has come to a good end. before, after: the hash of every file.
    """
    replaced = answered or cell.step.name == "published" or cell.step.kind == cells.RANDOM
    if cell.way != cells.RESTORE and (not cell.previous or replaced):
        return [] if after or not cell.previous else ["the older image is gone"]
    # What a restore writes beside what was dumped.
    written = {"consumed", "fingerprint.json"} if cell.way == cells.RESTORE else set()
    changed = {name for name in {*before, *after} - written if before.get(name) != after.get(name)}
    return [f"right after the fault the image is another: {', '.join(sorted(changed))}"] if changed else []

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table: every step of every way, every actor, both signals; and the word for each cell that cannot be. Pure."""

from __future__ import annotations

import random
import signal
import typing as t
from dataclasses import dataclass

MODULE = "module"
HOOK = "hook"
LAUNCHER = "launcher"
LXC = "lxc-checkpoint"
CRIU = "criu"
ANSIBLE = "ansible run"
ACTORS = (MODULE, HOOK, LAUNCHER, LXC, CRIU, ANSIBLE)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)

STOP = "dump with stop"
LEAVE = "dump that leaves running"
RESTORE = "restore"
WAYS = (STOP, LEAVE, RESTORE)

# How a step is reached. EVENT: an action script of the task waits there. OPEN: an actor is held where it opens a file.
EVENT = "event"
OPEN = "open"
# As OPEN, then the CRIU that waits for its hook is stopped and the hook let go.
STOPPED_CRIU = "stopped"
# As EVENT, then the module is stopped and CRIU let go to its end.
STOPPED_MODULE = "stopped module"

# Whatever the run is at when a random time has passed.
RANDOM = "random"

# Where a step lies, for CRIU being killed: before it has touched a task, while it holds them, when
# it lets restored ones run and LXC does not know yet, when it is done.
BEFORE = "before"
HOLDING = "holding"
LET_GO = "let go"
AFTER = "after"


@dataclass(frozen=True)
class Step:
    """A point of a way. opener, file: who is held at which file (a trailing * stands for anything).

    where: as above. actors: who is there. done: the manifest of the image has been written when it is reached.
    """

    name: str
    kind: str
    where: str
    actors: tuple[str, ...]
    event: str = ""
    opener: str = ""
    file: str = ""
    done: bool = False


def _dump(*, stop: bool) -> tuple[Step, ...]:
    both, three, four = (MODULE, ANSIBLE), (MODULE, CRIU, ANSIBLE), (MODULE, HOOK, CRIU, ANSIBLE)
    return (
        Step("staging, before CRIU", OPEN, BEFORE, both, opener=MODULE, file="veth0"),
        Step("pre-dump", EVENT, BEFORE, four, event="pre-dump"),
        Step("network-lock", EVENT, HOLDING, four, event="network-lock"),
        Step("memory", OPEN, HOLDING, three, opener=CRIU, file="pages-1.img"),
        Step("sockets in repair", OPEN, HOLDING, three, opener=CRIU, file="tcp-stream-*"),
        Step("post-dump, before the commit", EVENT, HOLDING, four, event="post-dump"),
        Step("writing the commit", OPEN, HOLDING, four, opener=HOOK, file="committed"),
        Step("committed", STOPPED_CRIU, HOLDING, three, opener=HOOK, file="committed"),
        *([] if stop else [Step("network-unlock", EVENT, HOLDING, four, event="network-unlock")]),
        Step("tasks killed" if stop else "tasks released", OPEN, AFTER, three, opener=CRIU, file="stats-dump"),
        Step("sealing", OPEN, AFTER, both, opener=MODULE, file="manifest.new"),
        Step("sealed, not published", OPEN, AFTER, both, opener=MODULE, file=".image.stasis-staging", done=True),
        Step("published", OPEN, AFTER, both, opener=MODULE, file="place", done=True),
    )


def _restore() -> tuple[Step, ...]:
    four, five = (MODULE, LXC, CRIU, ANSIBLE), (MODULE, HOOK, LXC, CRIU, ANSIBLE)
    return (
        Step("reading the manifest", OPEN, BEFORE, (MODULE, ANSIBLE), opener=MODULE, file="manifest.json"),
        Step("launcher", OPEN, BEFORE, (MODULE, LAUNCHER, LXC, ANSIBLE), opener=LAUNCHER),
        Step("pre-restore", EVENT, BEFORE, five, event="pre-restore"),
        Step("setup-namespaces", EVENT, HOLDING, five, event="setup-namespaces"),
        Step("post-setup-namespaces", EVENT, HOLDING, five, event="post-setup-namespaces"),
        Step("memory", OPEN, HOLDING, four, opener=CRIU, file="pages-1.img"),
        Step("post-restore, before the record", EVENT, HOLDING, five, event="post-restore"),
        Step("writing the record", OPEN, HOLDING, five, opener=HOOK, file="consumed"),
        Step("network-unlock", EVENT, HOLDING, five, event="network-unlock"),
        Step("pre-resume", EVENT, LET_GO, five, event="pre-resume"),
        Step("post-resume", EVENT, LET_GO, five, event="post-resume"),
        Step("CRIU ended", STOPPED_MODULE, AFTER, (MODULE, ANSIBLE), event="post-resume"),
    )


STEPS: t.Mapping[str, tuple[Step, ...]] = {STOP: _dump(stop=True), LEAVE: _dump(stop=False), RESTORE: _restore()}


def why_not(way: str, step: Step, actor: str) -> str:
    """Why there is no such cell, or "" for one that there is."""
    if actor in step.actors:
        return ""
    if actor in (LAUNCHER, LXC) and way != RESTORE:
        return "takes no part in a dump"
    if actor == LAUNCHER:
        return "not started" if step.name == "reading the manifest" else "has become CRIU"
    if actor == HOOK:
        return "no event, no hook"
    first = next(one for one in STEPS[way] if actor in one.actors)
    return "not started" if STEPS[way].index(step) < STEPS[way].index(first) else "has ended"


@dataclass(frozen=True)
class Cell:
    """One fault: where, who, what. previous: whether an older image of the container stands in the place.
    moment: seconds, where that is what the step is. lock: the network lock, where it is not the hook's own."""

    way: str
    step: Step
    actor: str
    signal: signal.Signals
    previous: bool = False
    moment: float = 0.0
    lock: str = ""

    @property
    def excepted(self) -> bool:
        """CRIU killed while it holds tasks that live, the one thing that no construction of ours can make whole; or after it
        has let restored ones go, where only `allow_stale` gets the image."""
        held = self.step.where == LET_GO or (self.way != RESTORE and self.step.where == HOLDING)
        return self.actor == CRIU and self.signal == signal.SIGKILL and held

    @property
    def name(self) -> str:
        older = (", older image" if self.previous else "") + (f", network_lock={self.lock}" if self.lock else "")
        if self.step.kind == RANDOM:
            digits = 1 if self.actor == LAUNCHER else 0
            return f"{self.way}{older}: after {self.moment * 1000:.{digits}f} ms: {self.signal.name} to {self.actor}"
        return f"{self.way}{older}: {self.step.name}: {self.signal.name} to {self.actor}"


def cells() -> list[Cell]:
    """Every cell that there is, without an older image; and those where CRIU dies with the tasks in its hands, with one."""
    plain = [
        Cell(way, step, actor, number)
        for way in WAYS
        for step in STEPS[way]
        for actor in step.actors
        for number in SIGNALS
    ]
    again = [
        Cell(one.way, one.step, one.actor, one.signal, True) for one in plain if one.excepted and one.way != RESTORE
    ]
    return plain + again + older_cells() + locked_cells()


def older_cells() -> list[Cell]:
    """With an older image in the place, when somebody else than CRIU dies: where the new one is made, and where it takes
    the older one's place."""
    kill, term = SIGNALS
    wanted = [
        *[(name, MODULE, kill) for name in ("sealing", "sealed, not published", "published")],
        ("post-dump, before the commit", HOOK, kill),
        ("committed", ANSIBLE, kill),
    ]
    found = [(way, *one) for way in (STOP, LEAVE) for one in wanted]
    found += [(LEAVE, name, MODULE, term) for name in ("sealing", "sealed, not published", "published")]
    steps = {(way, step.name): step for way in WAYS for step in STEPS[way]}
    return [Cell(way, steps[way, name], actor, number, True) for way, name, actor, number in found]


def locked_cells() -> list[Cell]:
    """CRIU killed while a lock of its own is in the container's firewall: where only recovery can take it away."""
    found = []
    for way in (STOP, LEAVE):
        step = next(one for one in STEPS[way] if one.name == "memory")
        found += [Cell(way, step, CRIU, signal.SIGKILL, lock=lock) for lock in ("nftables", "iptables")]
    return found


def random_cells(seed: int, count: int) -> list[Cell]:
    """Moments that nobody chose: count of them for each way and for the module and CRIU by SIGKILL, a few for the others.

    The time counts from the start of the module, else from CRIU's; the hook is hit when it is there next. That of the launcher,
    which becomes CRIU within milliseconds, counts from its own start.
    """
    dice = random.Random(seed)
    found = []
    for way in WAYS:
        for number in range(count):
            spread = {MODULE: 0.6, CRIU: 0.2}
            for actor, seconds in spread.items():
                found.append(_random_cell(way, actor, signal.SIGKILL, number % 2 == 1, dice.uniform(0, seconds)))
    for way in WAYS:
        for number in range(2):
            found += [
                _random_cell(way, actor, signal.SIGTERM, number % 2 == 1, dice.uniform(0, seconds))
                for actor, seconds in {MODULE: 0.6, CRIU: 0.2}.items()
            ]
        if way == RESTORE:
            for kind in SIGNALS:
                found += [_random_cell(way, LAUNCHER, kind, False, dice.uniform(0, 0.004)) for _number in range(2)]
        for actor in (HOOK, ANSIBLE, *([LXC] if way == RESTORE else [])):
            for number, kind in enumerate(SIGNALS):
                found.append(_random_cell(way, actor, kind, number % 2 == 1, dice.uniform(0, 0.2)))
    return found


def _random_cell(way: str, actor: str, kind: signal.Signals, previous: bool, moment: float) -> Cell:
    # Where CRIU was, and so whether it is the exception, its log tells.
    step = Step("a random moment", RANDOM, BEFORE, (actor,), opener=actor if actor == LAUNCHER else "")
    return Cell(way, step, actor, kind, previous and way != RESTORE, moment)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that are no signal: scripts that fail, full and read-only file systems, a bridge that is gone, two at once."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import cells
from containers import Bridge, run
from module import Answer, Checkpoint, Module
from outcome import Outcome
from scene import Scene

# What CRIU does about a script that fails: goes back, or goes on.
BACK = {
    cells.STOP: ("pre-dump", "network-lock", "post-dump"),
    cells.LEAVE: ("pre-dump", "network-lock", "post-dump"),
    cells.RESTORE: ("pre-restore", "setup-namespaces", "post-setup-namespaces", "post-restore"),
}
ON = {cells.STOP: (), cells.LEAVE: ("network-unlock",), cells.RESTORE: ("network-unlock", "pre-resume", "post-resume")}

Special = t.Callable[[Scene, Outcome], None]


def specials() -> list[tuple[str, str, Special]]:
    """Each with its way and its name."""
    found: list[tuple[str, str, Special]] = []
    for way in cells.WAYS:
        found += [(way, f"hook fails at {event}", _failing(way, event, back=True)) for event in BACK[way]]
        found += [(way, f"hook fails at {event}", _failing(way, event, back=False)) for event in ON[way]]
        found.append((way, "ip fails", _without_ip(way)))
    for way in (cells.STOP, cells.LEAVE):
        found.append((way, "full file system", _cramped(way, "size=256k")))
        found.append((way, "read-only file system", _cramped(way, "ro")))
    found.append((cells.RESTORE, "bridge removed between dump and restore", _no_bridge))
    found.append((cells.STOP, "two at once", _two_at_once(cells.STOP)))
    found.append((cells.LEAVE, "two at once", _two_at_once(cells.LEAVE)))
    found.append((cells.RESTORE, "two at once", _two_at_once(cells.RESTORE)))
    return found


def _task(way: str, checkpoint: Checkpoint, **options: t.Any) -> dict[str, t.Any]:
    if way == cells.RESTORE:
        return checkpoint.options("restored", **options)
    if way == cells.STOP:
        return checkpoint.options("checkpointed", stop=True, **options)
    return checkpoint.options("checkpointed", overwrite=True, **options)


def _ready(scene: Scene, way: str) -> Checkpoint:
    checkpoint = scene.fresh()
    scene.clear(checkpoint)
    if way == cells.RESTORE:
        checkpoint.stopped()
    return checkpoint


def _whole_again(scene: Scene, way: str, checkpoint: Checkpoint, outcome: Outcome, first: Answer) -> None:
    """The same task without the fault, then the check."""
    assert scene.check
    outcome.first = first.get("msg", "") or str(first.get("action"))
    again = scene.module.run(**_task(way, checkpoint))
    outcome.recovered = first.get("recovered", []) + again.get("recovered", [])
    if again.get("failed"):
        outcome.wrong.append(f"the later run failed: {again['msg']}")
        return
    if way == cells.STOP:
        Checkpoint._good(scene.module.run(**checkpoint.options("restored")))
    outcome.wrong += scene.check.ask("final")


def _failing(way: str, event: str, *, back: bool) -> Special:
    def inject(scene: Scene, outcome: Outcome) -> None:
        checkpoint = _ready(scene, way)
        script = scene.factory.script("fails", f'test "$CRTOOLS_SCRIPT_ACTION" != {event}')
        first = scene.module.run(**_task(way, checkpoint, action_scripts=[script]))
        if bool(first.get("failed")) != back:
            outcome.wrong.append(f"a script that fails at {event}: {first.get('msg', first.get('action'))}")
        _whole_again(scene, way, checkpoint, outcome, first)

    return inject


def _without_ip(way: str) -> Special:
    """`ip -batch`, with which the hook moves the veths, fails, in a mount namespace of the task's own."""

    def inject(scene: Scene, outcome: Outcome) -> None:
        checkpoint = _ready(scene, way)
        real = run("sh", "-c", "readlink -f $(command -v ip)").stdout.strip()
        copy = Path(scene.factory.session, "ip.real")
        if not copy.exists():
            copy.write_bytes(Path(real).read_bytes())
            copy.chmod(0o755)
        fake = scene.factory.script("ip", f'case " $* " in *" -batch "*) exit 1 ;; esac\nexec {copy} "$@"')
        python = scene.factory.script(
            "python", f'exec unshare -m sh -c \'mount --bind {fake} {real} && exec {scene.module.python} "$@"\' sh "$@"'
        )
        other = Module(scene.module.collections, scene.module.scratch, python=python)
        first = other.run(**_task(way, checkpoint))
        said = [first.get("msg", ""), *first.get("warnings", []), *first.get("recovered", [])]
        if not any(word for word in said):
            outcome.wrong.append("nothing was said of the network")
        _whole_again(scene, way, checkpoint, outcome, first)

    return inject


def _cramped(way: str, option: str) -> Special:
    def inject(scene: Scene, outcome: Outcome) -> None:
        checkpoint = _ready(scene, way)
        above = checkpoint.directory.parent
        above.mkdir(mode=0o700, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"{option},mode=700", "stasis-faults", str(above))
        try:
            first = scene.module.run(**_task(way, checkpoint))
            if not first.get("failed"):
                outcome.wrong.append("it did not fail")
            assert scene.check
            # What is mounted for the fault is no leak.
            outcome.wrong += [one for one in scene.check.ask("final") if not one.startswith("mounts: ")]
        finally:
            run("umount", str(above))
        _whole_again(scene, way, checkpoint, outcome, first)

    return inject


def _no_bridge(scene: Scene, outcome: Outcome) -> None:
    """On a bridge of its own: others are in the first one."""
    scene.drop()
    bridge = scene.factory.add_bridge()
    checkpoint = scene.fresh(bridge)
    try:
        checkpoint.stopped()
        bridge.remove()
        first = scene.module.run(**_task(cells.RESTORE, checkpoint))
        Bridge(bridge.name)
        scene.reach(checkpoint, bridge)
        if "bridge" not in first.get("msg", ""):
            outcome.wrong.append(f"it was not refused for the bridge: {first.get('msg', first.get('action'))}")
        _whole_again(scene, cells.RESTORE, checkpoint, outcome, first)
    finally:
        scene.drop()
        bridge.remove()


def _two_at_once(way: str) -> Special:
    def inject(scene: Scene, outcome: Outcome) -> None:
        checkpoint = _ready(scene, way)
        both = [scene.module.start(**_task(way, checkpoint)) for _number in range(2)]
        answers = []
        for one in both:
            with contextlib.suppress(AssertionError):
                answers.append(scene.module.answer(one))
        bad = [one["msg"] for one in answers if one.get("failed")]
        if len(answers) != 2 or bad:
            outcome.wrong.append(f"two at once: {len(answers)} answers, {bad}")
        _whole_again(scene, way, checkpoint, outcome, answers[0] if answers else {})

    return inject

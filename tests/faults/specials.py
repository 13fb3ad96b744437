# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that are no signal: scripts that fail, full and read-only file systems, a bridge that is gone, two at once."""

from __future__ import annotations

import contextlib
import os
import typing as t
from pathlib import Path

import cells
import judge
from containers import Bridge, run, until
from gate import Gate
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
        found.append((way, "full file system", _cramped(way, "size=256k", "MiB are free", "Nothing was frozen")))
        found.append((way, "full file system, preflight: warn", _cramped(way, "size=256k", "was not dumped")))
        found.append((way, "read-only file system", _cramped(way, "ro", "Read-only file system")))
        found.append((way, "full file system while sealing", _full_at_seal(way)))
    found.append((cells.RESTORE, "read-only file system", _read_only_restore(late=False)))
    found.append((cells.RESTORE, "read-only file system since setup-namespaces", _read_only_restore(late=True)))
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
        said = " ".join([first.get("msg", ""), *first.get("warnings", [])])
        # A dump goes back; a restored container must not be stopped for it.
        words = (
            ("runs again, but: eth0: the bridge of its host side",)
            if way == cells.RESTORE
            else (
                "The hook stopped it: network-lock: the veths could not be taken out",
                "The container runs on as before",
            )
        )
        outcome.wrong += [f"the run does not say {word!r}: {said}" for word in words if word not in said]
        _whole_again(scene, way, checkpoint, outcome, first)

    return inject


@contextlib.contextmanager
def _file_system(checkpoint: Checkpoint, option: str) -> t.Iterator[Path]:
    """A tmpfs with this option above the checkpoint, as long as it is needed."""
    above = checkpoint.directory.parent
    above.mkdir(mode=0o700, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"{option},mode=700", "stasis-faults", str(above))
    try:
        yield above
    finally:
        run("umount", str(above))


def _cramped(way: str, option: str, *words: str) -> Special:
    def inject(scene: Scene, outcome: Outcome) -> None:
        checkpoint = _ready(scene, way)
        with _file_system(checkpoint, option):
            # Where it is not refused, CRIU meets it while it holds the tasks.
            more = {"preflight": "warn"} if "was not dumped" in words else {}
            first = scene.module.run(**_task(way, checkpoint, **more))
            if not first.get("failed") or not all(word in first["msg"] for word in words):
                outcome.wrong.append(f"it was not refused for the file system: {first.get('msg', first.get('action'))}")
            assert scene.check
            # What is mounted for the fault is no leak.
            outcome.wrong += [one for one in scene.check.ask("final") if not one.startswith("mounts: ")]
        _whole_again(scene, way, checkpoint, outcome, first)

    return inject


def _full_at_seal(way: str) -> Special:
    """The dump is complete, and there is no room for its manifest."""

    def inject(scene: Scene, outcome: Outcome) -> None:
        checkpoint = _ready(scene, way)
        assert scene.check
        with _file_system(checkpoint, "size=32m") as above:
            gate = Gate(str(above), lambda opening: opening.name == "manifest.new")
            try:
                process = scene.module.start(**_task(way, checkpoint))
                until(gate.held.is_set, 60)
                _fill(above / "filler")
                gate.let_go()
                first = scene.module.answer(process)
            finally:
                gate.close()
            said = first.get("msg", "")
            if "could not be put in its place: No space left on device" not in said:
                outcome.wrong.append(f"it was not refused for the room: {said or first.get('action')}")
            outcome.wrong += scene.check.ask("whole")
            if scene.check.ask("image") != "absent":
                outcome.wrong.append("there is an image")
            state = scene.check.ask("life")["state"]
            if state != ("STOPPED" if way == cells.STOP else "RUNNING"):
                outcome.wrong.append(f"the container is {state}")
            (above / "filler").unlink()
            # Its answer is in the file system that goes.
            again = scene.module.run(**_task(way, checkpoint))
            word = judge.COMPLETED if way == cells.STOP else judge.DISCARDED
            if not any(word in line for line in again.get("recovered", [])):
                outcome.wrong.append(
                    f"recovered does not say {word!r}: {again.get('recovered')} {again.get('msg', '')}"
                )
            if way == cells.STOP:
                Checkpoint._good(scene.module.run(**checkpoint.options("restored")))
            outcome.wrong += [one for one in scene.check.ask("final") if not one.startswith("mounts: ")]
        _whole_again(scene, way, checkpoint, outcome, first)

    return inject


def _fill(path: Path) -> None:
    """Until not a byte more goes in."""
    with open(path, "wb", buffering=0) as stream, contextlib.suppress(OSError):
        for piece in (b"x" * (1 << 20), b"x" * 4096):
            with contextlib.suppress(OSError):
                while stream.write(piece) == len(piece):
                    pass


def _read_only_restore(*, late: bool) -> Special:
    """The record of the restore cannot be written beside the image, so nothing may run. late: CRIU is at work by then."""

    def inject(scene: Scene, outcome: Outcome) -> None:
        checkpoint = _ready(scene, cells.RESTORE)
        assert scene.check
        above = str(checkpoint.directory.parent)
        before = scene.check.ask("prints")
        run("mount", "--bind", above, above)
        close = ("mount", "-o", "remount,bind,ro", above)
        # CRIU and the hook have a mount namespace of their own by then, of LXC's making.
        both = f"{' '.join(close)} && nsenter --mount=/proc/{os.getpid()}/ns/mnt {' '.join(close)}"
        script = scene.factory.script("closes", f'test "$CRTOOLS_SCRIPT_ACTION" != setup-namespaces || {{ {both}; }}')
        try:
            if not late:
                run(*close)
            first = scene.module.run(
                **_task(cells.RESTORE, checkpoint, **({"action_scripts": [script]} if late else {}))
            )
            said = first.get("msg", "")
            words = "The hook stopped it: " if late else "cannot be written, and a restore writes there"
            if not first.get("failed") or words not in said:
                outcome.wrong.append(f"it was not refused for the file system: {said or first.get('action')}")
            state = scene.check.ask("life")["state"]
            if state != "STOPPED":
                outcome.wrong.append(f"the container is {state}")
        finally:
            run("umount", above)
        if scene.check.ask("prints") != before:
            outcome.wrong.append("the image is another")
        _whole_again(scene, cells.RESTORE, checkpoint, outcome, first)
        if late and not any("took back what an interrupted restore" in line for line in outcome.recovered):
            outcome.wrong.append(f"the restore was not taken back: {outcome.recovered}")

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

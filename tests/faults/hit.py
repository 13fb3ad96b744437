# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault: a run of the module brought to a step, the signal, and what the run says after it."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import actors
import cells
from cells import Cell
from gate import Gate, Opening
from module import Answer, Checkpoint
from outcome import Outcome

if t.TYPE_CHECKING:
    from scene import Scene


class TooLateError(AssertionError):
    """The moment came when nobody was there any more whom the fault could hit."""


LAUNCHER = "/usr/local/libexec/stasis/launcher/criu"


class Hit:
    """Brings a run of the module to a step, sends a signal, and lets it go."""

    def __init__(self, scene: Scene, cell: Cell, checkpoint: Checkpoint) -> None:
        self.scene, self.cell, self.checkpoint = scene, cell, checkpoint
        self.container = checkpoint.container.name
        folder = scene.factory.session / "gates"
        folder.mkdir(exist_ok=True)
        self.here, self.go = (folder / f"{self.container}-{word}" for word in ("here", "go"))
        self.seen: list[int] = []
        self.monitors: list[int] = []
        self.older = self.placed()
        # The container may have been restored before, by another fault's runs.
        self.logs_before = set(self.restore_logs())

    def run(self, outcome: Outcome) -> Answer | None:
        """The answer of the module, where it lived to give one."""
        options = self.scene.options(self.cell, self.checkpoint)
        step = self.cell.step
        gate = None
        for path in (self.here, self.go):
            path.unlink(missing_ok=True)
        if step.event:
            options["action_scripts"] = [self.script(step.event)]
        if step.opener:
            gate = Gate(LAUNCHER if step.opener == cells.LAUNCHER else str(self.scene.place), self.which)
        process = self.start(options)
        try:
            if step.kind == cells.RANDOM and gate:
                self.wait(process, gate.held.is_set)
                gate.let_go()
                time.sleep(self.cell.moment)
            elif step.kind == cells.RANDOM:
                self.wait_random(process)
            else:
                self.wait(process, gate.held.is_set if gate else self.here.exists)
            stopped = self.stop_one(gate)
            pids = self.targets(process, gate)
            self.mark()
            for pid in pids:
                # Of a whole run some end because others do.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, self.cell.signal)
            if self.cell.signal == signal.SIGKILL:
                left = actors.wait_gone([pid for pid in pids if pid != process.pid], 50)
                assert not left, f"{left} did not die"
            if gate:
                gate.let_go()
            self.go.touch()
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            return self.answer(process)
        finally:
            if gate:
                gate.close()
            self.go.touch()
            if process.poll() is None:
                process.kill()
                process.communicate()
            self.finish(outcome)

    def script(self, event: str) -> str:
        return self.scene.factory.script(
            "gate",
            f'test "$CRTOOLS_SCRIPT_ACTION" = {event} || exit 0\n: >{self.here}\nuntil test -e {self.go}; do sleep 0.01; done',
        )

    def start(self, options: dict[str, t.Any]) -> subprocess.Popen[str]:
        if self.cell.actor == cells.ANSIBLE:
            return self.scene.ansible.start(options)
        return self.scene.module.start(**options)

    def which(self, opening: Opening) -> bool:
        """Whether this is the opening that the step is."""
        step = self.cell.step
        if step.opener == cells.LAUNCHER:
            work = actors.environment(opening.pid).get("STASIS_WORK", "")
            words = actors.command(opening.pid)
            return f"/{self.container}/" in work and "restore" in words and LAUNCHER in words
        if self.container not in opening.path or not fnmatch.fnmatchcase(opening.name, self.file()):
            return False
        staging = os.path.join(os.path.dirname(str(self.checkpoint.directory)), ".image.stasis-staging")
        if step.file == ".image.stasis-staging" and not os.path.exists(os.path.join(staging, "manifest.json")):
            return False
        if step.file == "place":
            # With an older one: after the exchange, before that is removed.
            exchanged = self.placed() not in (0, self.older)
            if not exchanged or os.path.exists(staging) != self.cell.previous:
                return False
        program = actors.program(opening.pid)
        if step.opener == cells.MODULE:
            return program.startswith("python")
        return (program == "criu") == (step.opener == cells.CRIU) and not program.startswith("python")

    def placed(self) -> int:
        """The inode of what stands in the place. Nothing is opened: who decides what may be opened would wait for itself."""
        try:
            return os.stat(self.checkpoint.directory).st_ino
        except OSError:
            return 0

    def file(self) -> str:
        return self.checkpoint.directory.parent.name if self.cell.step.file == "place" else self.cell.step.file

    def wait(self, process: subprocess.Popen[str], reached: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + 400
        while not reached():
            if process.poll() is not None:
                out, _err = process.communicate()
                raise AssertionError(f"the step was not reached: {(out or '')[:300]}")
            assert time.monotonic() < deadline, "the step was not reached in 400 s"
            time.sleep(0.003)

    def wait_random(self, process: subprocess.Popen[str]) -> None:
        """Some moment of the run of the actor; it may fall behind its end, and then there was no fault."""
        running: list[int] = []
        if self.cell.actor != cells.MODULE:
            deadline = time.monotonic() + 400
            while not (running := actors.criu(self.container)):
                if process.poll() is not None:
                    raise TooLateError("CRIU had come and gone before it was seen")
                assert time.monotonic() < deadline, "CRIU did not start in 400 s"
        time.sleep(self.cell.moment)
        # It is there for a moment at each event only.
        looks = 0
        while self.cell.actor == cells.HOOK and process.poll() is None and not self.seen:
            self.seen = actors.hook_of(running)
            looks += 1
            if looks % 20 == 0:
                # What was there first may have been a child of lxc-checkpoint that was not to stay.
                running = actors.criu(self.container)
        if process.poll() is not None:
            raise TooLateError("the run had ended before the moment came")

    def stop_one(self, gate: Gate | None) -> list[int]:
        """Stop CRIU or the module, and let the other go on to where the step is."""
        if self.cell.step.kind == cells.STOPPED_CRIU:
            assert gate
            pids, hooks = actors.criu(self.container), actors.hook(self.container)
            assert pids, "no CRIU"
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            gate.let_go()
            left = actors.wait_gone(hooks, 100)
            assert not left, "the hook did not end"
            return pids
        if self.cell.step.kind == cells.STOPPED_MODULE:
            running, modules = actors.criu(self.container), self.modules()
            for pid in modules:
                os.kill(pid, signal.SIGSTOP)
            self.go.touch()
            left = actors.wait_gone(running, 100)
            assert not left, "CRIU did not end"
            return modules
        return []

    def modules(self) -> list[int]:
        """The Python that waits for CRIU or lxc-checkpoint."""
        found = actors.criu(self.container) + actors.lxc_checkpoint(self.container)
        return sorted({above for above in map(actors.parent, found) if actors.program(above).startswith("python")})

    def targets(self, process: subprocess.Popen[str], gate: Gate | None) -> list[int]:
        actor = self.cell.actor
        if actor == cells.MODULE:
            return [process.pid]
        if actor == cells.ANSIBLE:
            # In this order: a `sleep` of our script that is new in the second look would not be known for what it is.
            found = [process.pid, *actors.descendants(process.pid)]
            # What the module starts has a session of its own; and a restored container is below that.
            started = [*actors.of_runs(self.container), *actors.provers(self.modules())]
            ours = {pid for one in started for pid in (one, *actors.descendants(one))}
            return [pid for pid in found if pid not in ours]
        if actor == cells.LAUNCHER:
            assert gate and gate.opening
            return [gate.opening.pid]
        find = {cells.HOOK: actors.hook, cells.CRIU: actors.criu, cells.LXC: actors.lxc_checkpoint}[actor]
        found = self.seen or find(self.container)
        if not found and self.cell.step.kind == cells.RANDOM:
            raise TooLateError(f"there is no {actor} any more")
        assert found, f"there is no {actor}"
        if actor == cells.LXC:
            below = {one for pid in found for one in actors.descendants(pid)}
            self.monitors = sorted(one for one in below if actors.program(one) == "lxc-checkpoint")
        return found

    def restore_logs(self) -> t.Iterable[Path]:
        return Path("/var/log/stasis", self.container).glob("*-restore-*/restore.log")

    def log(self) -> Path | None:
        if self.cell.way == cells.RESTORE:
            logs = sorted(set(self.restore_logs()) - self.logs_before)
            return logs[-1] if logs else None
        for folder in (".image.stasis-staging", "image"):
            found = self.checkpoint.directory.parent / folder / "dump.log"
            if found.exists():
                return found
        return None

    def went_on(self, answer: Answer) -> list[str]:
        """Who kills lxc-checkpoint kills neither its monitor nor CRIU: what is wrong with that."""
        wrong = []
        if answer.get("failed") or answer.get("action") != "restore":
            wrong.append(f"the restore did not go on: {answer.get('msg', answer.get('action', 'no answer'))}")
        # At a random moment it may have done its work already.
        told = "the restore went on without it" in str(answer.get("warnings"))
        if not told and self.cell.step.kind != cells.RANDOM:
            wrong.append(f"nothing is said of the killed lxc-checkpoint: {answer.get('warnings')}")
        with contextlib.suppress(OSError):
            if "Restore finished successfully" in Path(answer.get("log_path") or "").read_text(errors="replace"):
                above = actors.parent(answer.get("init_pid") or 0)
                # A monitor whose lxc-checkpoint was about to end is no descendant of it any more.
                late = self.cell.step.kind == cells.RANDOM and not self.monitors
                known = actors.program(above) == "lxc-checkpoint" if late else above in self.monitors
                return (
                    wrong
                    if known and actors.alive(above)
                    else [*wrong, f"the monitor is {above} and was one of {self.monitors}"]
                )
        return [*wrong, "CRIU did not come to its end"]

    def mark(self) -> None:
        """Where CRIU's log stands at the moment of the fault; the file is kept open, since it may be removed."""
        found = self.log()
        self.marked = None
        if found is not None:
            self.marked = open(found, encoding="utf-8", errors="replace")  # noqa: SIM115 # read in finish()
            self.offset = os.fstat(self.marked.fileno()).st_size

    def finish(self, outcome: Outcome) -> None:
        if getattr(self, "marked", None) is None:
            return
        assert self.marked
        text = self.marked.read()
        self.marked.close()
        before, after = text[: self.offset], text[self.offset :]
        dumps = self.cell.way != cells.RESTORE
        killed = self.cell.actor == cells.CRIU and self.cell.signal == signal.SIGKILL
        outcome.window = (_stamp(before.splitlines()[::-1]), _stamp(after.splitlines()))
        begin, end = (
            ("Seized task", "Unseizing") if self.cell.way != cells.RESTORE else ("Forking task", "Tasks resumed")
        )
        # A CRIU that was killed has written its last line before it.
        until = text if killed else before
        outcome.inside = begin in until and end not in until
        outcome.ended = " finished successfully" in until
        # CRIU 4.2.1 writes this right after it has taken its own code out of the tasks.
        outcome.cured = not dumps and "Run late stage hook" in until
        if killed and self.cell.step.kind == cells.RANDOM:
            released = " was trapped" in until.partition("Running network-unlock scripts")[2]
            outcome.excepted = outcome.inside if dumps else released

    def answer(self, process: subprocess.Popen[str]) -> Answer | None:
        try:
            out, _err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            raise AssertionError("the run did not end within 600 s") from None
        try:
            found: Answer = json.loads(out)
        except ValueError:
            return None
        # ansible-core wraps them on their way to the controller.
        found["warnings"] = [one["event"]["msg"] if isinstance(one, dict) else one for one in found.get("warnings", [])]
        return found


def _stamp(lines: t.Iterable[str]) -> str:
    for line in lines:
        if line.startswith("(") and ")" in line:
            return line[1 : line.index(")")]
    return ""

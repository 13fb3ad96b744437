# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One container, its checkpoint directory, its check, and one fault after the other."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from dataclasses import asdict, dataclass, field
from pathlib import Path

import actors
import cells
from cells import Cell
from conftest import Factory
from containers import GATEWAY, PORT, Bridge, run, until
from gate import Gate, Opening
from module import Answer, Checkpoint, Module

HERE = Path(__file__).resolve().parent
LAUNCHER = "/usr/local/libexec/stasis/launcher/criu"


@dataclass
class Outcome:
    """What came of one fault. excepted: CRIU was killed with the tasks in its hands. survived: the container, then.

    window: CRIU's own times of the last line before the fault and the first one after it, and the step that it was in.
    recovered: what the later run said. wrong: what the check found.
    """

    name: str
    way: str
    step: str
    actor: str
    signal: str
    previous: bool
    excepted: bool = False
    survived: bool = True
    window: tuple[str, str] = ("", "")
    inside: bool = False
    first: str = ""
    lost: str = ""
    recovered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)


class Asker:
    """The check, a process of its own; see there."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        container = checkpoint.container
        self.process = subprocess.Popen(
            [
                *[sys.executable, "-I", str(HERE / "check"), container.name, str(container.lxc_path)],
                *[str(checkpoint.directory), container.address, str(PORT)],
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, word: str) -> t.Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        assert not (isinstance(found, dict) and "error" in found), f"check {word}: {found}"
        return found

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


class Scene:
    """Made anew whenever a container is lost."""

    def __init__(self, factory: Factory, module: Module, place: Path, ansible: AnsibleRun, logs: Path) -> None:
        self.logs = logs
        self.factory = factory
        self.module = module
        self.place = place
        self.ansible = ansible
        self.checkpoint: Checkpoint | None = None
        self.check: Asker | None = None
        self.born = 0.0

    @staticmethod
    def reach(checkpoint: Checkpoint, bridge: Bridge) -> None:
        """The way to a container that is not in the first bridge."""
        run("ip", "route", "replace", f"{checkpoint.container.address}/32", "dev", bridge.name, "src", GATEWAY)

    def fresh(self, bridge: Bridge | None = None) -> Checkpoint:
        """A running container whose check has a connection to it."""
        # The workload's timer is not to be older.
        if self.checkpoint is not None and time.monotonic() - self.born > 50:
            self.drop()
        if self.checkpoint is None:
            container = self.factory.create(f"counter {PORT}", "files", bridge=bridge)
            container.start()
            self.born = time.monotonic()
            directory = self.place / container.name / "image"
            self.checkpoint = Checkpoint(self.module, container, directory)
            if bridge is not None:
                self.reach(self.checkpoint, bridge)
            self.check = Asker(self.checkpoint)
            assert self.check.ask("start") == "answers"
        return self.checkpoint

    def drop(self) -> None:
        """Nothing of it is used again."""
        if self.check is not None:
            with contextlib.suppress(Exception):
                self.check.close()
        if self.checkpoint is not None:
            for pid in actors.of_runs(self.checkpoint.container.name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.checkpoint.container.destroy()
            shutil.rmtree(self.checkpoint.directory.parent, ignore_errors=True)
        self.checkpoint = self.check = None

    def prepare(self, cell: Cell) -> Checkpoint:
        """The situation that the fault finds."""
        checkpoint = self.fresh()
        self.clear(checkpoint)
        if cell.way == cells.RESTORE:
            checkpoint.stopped()
        elif cell.previous:
            Checkpoint._good(self.module.run(**checkpoint.options("checkpointed")))
        return checkpoint

    @staticmethod
    def clear(checkpoint: Checkpoint) -> None:
        """No image of it is left."""
        if checkpoint.directory.parent.is_dir():
            shutil.rmtree(checkpoint.directory.parent)

    def special(self, way: str, name: str, inject: t.Callable[[Scene, Outcome], None]) -> Outcome:
        """A fault that is no signal."""
        began = time.monotonic()
        outcome = Outcome(f"{way}: {name}", way, name, "", "", way == cells.RESTORE)
        self._guarded(outcome, lambda: inject(self, outcome))
        outcome.seconds = time.monotonic() - began
        return outcome

    def _guarded(self, outcome: Outcome, do: t.Callable[[], None]) -> None:
        try:
            do()
        except (AssertionError, OSError, ValueError, KeyError, subprocess.SubprocessError) as exc:
            outcome.wrong.append(f"{type(exc).__name__}: {exc}"[:600])
        if outcome.wrong or not outcome.survived:
            self.keep_logs(outcome)
            self.drop()

    def options(self, cell: Cell, checkpoint: Checkpoint) -> dict[str, t.Any]:
        """The task that the fault hits."""
        if cell.way == cells.RESTORE:
            return checkpoint.options("restored")
        if cell.way == cells.STOP:
            return checkpoint.options("checkpointed", stop=True)
        return checkpoint.options("checkpointed", overwrite=True)

    def inject(self, cell: Cell) -> Outcome:
        """Everything about one fault."""
        began = time.monotonic()
        outcome = Outcome(
            cell.name, cell.way, cell.step.name, cell.actor, cell.signal.name, cell.previous, excepted=cell.excepted
        )
        self._guarded(outcome, lambda: self._hit(cell, outcome))
        outcome.seconds = time.monotonic() - began
        return outcome

    def _hit(self, cell: Cell, outcome: Outcome) -> None:
        checkpoint = self.prepare(cell)
        assert self.check
        before = self.check.ask("image")
        first = Hit(self, cell, checkpoint).run(outcome)
        outcome.first = (first or {}).get("msg", "") or str((first or {}).get("action", "no answer"))
        self.afterwards(cell, checkpoint, outcome, before, first)

    def keep_logs(self, outcome: Outcome) -> None:
        """What the runs of a container that is given up have written."""
        if self.checkpoint is not None:
            logs = Path("/var/log/stasis", self.checkpoint.container.name)
            if logs.is_dir():
                shutil.copytree(logs, self.logs / outcome.name.replace("/", "-").replace(" ", "_"), dirs_exist_ok=True)

    def afterwards(
        self, cell: Cell, checkpoint: Checkpoint, outcome: Outcome, before: str, first: Answer | None
    ) -> None:
        """The same task again, as an operator would run it; then the container must be whole."""
        assert self.check
        options = self.options(cell, checkpoint)
        again = self.module.run(**options)
        outcome.recovered = list((first or {}).get("recovered", [])) + again.get("recovered", [])
        if cell.excepted:
            self.excepted(cell, checkpoint, outcome, before)
            return
        if again.get("failed"):
            outcome.wrong.append(f"the later run failed: {again['msg']}")
            return
        if cell.way == cells.STOP:
            restored = self.module.run(**checkpoint.options("restored"))
            if restored.get("failed"):
                outcome.wrong.append(f"the image does not restore: {restored['msg']}")
                return
        outcome.wrong += self.check.ask("final")

    def excepted(self, cell: Cell, checkpoint: Checkpoint, outcome: Outcome, before: str) -> None:
        """Whether it survived is a rate and no promise; that the older image is whole and the damage told is one."""
        assert self.check
        # A restored one ran for a moment, so that only who allows it gets the memory of before.
        allowed = {"allow_stale": True} if cell.way == cells.RESTORE else {}
        after = self.module.run(**checkpoint.options("restored", **allowed))
        lost = self.check.ask("final")
        outcome.survived = not lost
        if lost:
            outcome.lost = f"{'; '.join(lost)} {after.get('msg', '')}".strip()
        if not outcome.recovered and " was not " not in outcome.first and (lost or cell.step.kind != cells.RANDOM):
            outcome.wrong.append("the damage was not reported")
        image = self.check.ask("image")
        if image == "half" or (before != "absent" and image == "absent"):
            outcome.wrong.append(f"the older image was {before} and is {image}")


class Hit:
    """Brings a run of the module to a step, sends a signal, and lets it go."""

    def __init__(self, scene: Scene, cell: Cell, checkpoint: Checkpoint) -> None:
        self.scene, self.cell, self.checkpoint = scene, cell, checkpoint
        self.container = checkpoint.container.name
        folder = scene.factory.session / "gates"
        folder.mkdir(exist_ok=True)
        self.here, self.go = (folder / f"{self.container}-{word}" for word in ("here", "go"))
        self.ansible_pids: list[int] = []

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
            if step.kind == cells.RANDOM:
                self.wait_random(process)
            else:
                self.wait(process, gate.held.is_set if gate else self.here.exists)
            stopped = self.stop_one(gate)
            pids = self.targets(process, gate)
            self.mark(outcome)
            for pid in pids:
                # Of a whole run some end because others do.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, self.cell.signal)
            if self.cell.signal == signal.SIGKILL:
                left = actors.wait_gone([pid for pid in pids if pid != process.pid], 5)
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
            placed = self.checkpoint.directory.exists() and (self.cell.previous or not os.path.exists(staging))
            if not placed:
                return False
        program = actors.program(opening.pid)
        if step.opener == cells.MODULE:
            return program.startswith("python")
        return (program == "criu") == (step.opener == cells.CRIU) and not program.startswith("python")

    def file(self) -> str:
        return self.checkpoint.directory.parent.name if self.cell.step.file == "place" else self.cell.step.file

    def wait(self, process: subprocess.Popen[str], reached: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + 40
        while not reached():
            if process.poll() is not None:
                out, _err = process.communicate()
                raise AssertionError(f"the step was not reached: {(out or '')[:300]}")
            assert time.monotonic() < deadline, "the step was not reached in 40 s"
            time.sleep(0.003)

    def wait_random(self, process: subprocess.Popen[str]) -> None:
        """Some moment of the run of the actor; it may fall behind its end, and then there was no fault."""
        if self.cell.actor == cells.CRIU:
            deadline = time.monotonic() + 40
            while not actors.criu(self.container):
                assert process.poll() is None, "CRIU was not seen"
                assert time.monotonic() < deadline, "CRIU did not start in 40 s"
        time.sleep(self.cell.moment)
        assert process.poll() is None, "the run had ended before the moment came"

    def stop_one(self, gate: Gate | None) -> list[int]:
        """Stop CRIU or the module, and let the other go on to where the step is."""
        if self.cell.step.kind == cells.STOPPED_CRIU:
            assert gate
            pids, hooks = actors.criu(self.container), actors.hook(self.container)
            assert pids, "no CRIU"
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            gate.let_go()
            left = actors.wait_gone(hooks, 10)
            assert not left, "the hook did not end"
            return pids
        if self.cell.step.kind == cells.STOPPED_MODULE:
            running, modules = actors.criu(self.container), self.modules()
            for pid in modules:
                os.kill(pid, signal.SIGSTOP)
            self.go.touch()
            left = actors.wait_gone(running, 10)
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
            # What the module starts has a session of its own; and a restored container is below that.
            ours = {pid for one in actors.of_runs(self.container) for pid in (one, *actors.descendants(one))}
            found = [process.pid, *actors.descendants(process.pid)]
            return [pid for pid in found if pid not in ours]
        if actor == cells.LAUNCHER:
            assert gate and gate.opening
            return [gate.opening.pid]
        find = {cells.HOOK: actors.hook, cells.CRIU: actors.criu, cells.LXC: actors.lxc_checkpoint}[actor]
        found = find(self.container)
        assert found, f"there is no {actor}"
        return found

    def log(self) -> Path | None:
        if self.cell.way == cells.RESTORE:
            logs = sorted(Path("/var/log/stasis", self.container).glob("*-restore-*/restore.log"))
            return logs[-1] if logs else None
        for folder in (".image.stasis-staging", "image"):
            found = self.checkpoint.directory.parent / folder / "dump.log"
            if found.exists():
                return found
        return None

    def mark(self, outcome: Outcome) -> None:
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
        outcome.window = (_stamp(before.splitlines()[::-1]), _stamp(after.splitlines()))
        begin, end = (
            ("Seized task", "Unseizing") if self.cell.way != cells.RESTORE else ("Forking task", "Tasks resumed")
        )
        outcome.inside = begin in before and end not in before

    def answer(self, process: subprocess.Popen[str]) -> Answer | None:
        try:
            out, _err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            raise AssertionError("the run did not end within 60 s") from None
        try:
            found: Answer = json.loads(out)
            return found
        except ValueError:
            return None


def _stamp(lines: t.Iterable[str]) -> str:
    for line in lines:
        if line.startswith("(") and ")" in line:
            return line[1 : line.index(")")]
    return ""


class AnsibleRun:
    """The module through `ansible`, as an operator runs it ad hoc."""

    def __init__(self, collections: Path, session: Path) -> None:
        self.collections, self.session = collections, session

    def start(self, options: dict[str, t.Any]) -> subprocess.Popen[str]:
        given = {key: value for key, value in options.items() if value is not None}
        return subprocess.Popen(
            [
                *[
                    "ansible",
                    "localhost",
                    "-i",
                    "localhost,",
                    "-c",
                    "local",
                    "-e",
                    f"ansible_python_interpreter={sys.executable}",
                ],
                *["-m", "stasis.lxc.lxc_checkpoint", "-a", json.dumps(given)],
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self.collections), "ANSIBLE_LOCALHOST_WARNING": "False"},
            start_new_session=True,
        )


def mount(place: Path, size: str) -> None:
    """A file system of its own for the checkpoints: what is opened there is nobody else's."""
    place.mkdir(parents=True, mode=0o755)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "stasis-faults", str(place))
    until(lambda: os.path.ismount(place), 5)

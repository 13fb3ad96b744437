# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One container, its checkpoint directory, its check, and one fault after the other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from dataclasses import replace
from pathlib import Path

import actors
import cells
import judge
from cells import Cell
from conftest import Factory
from containers import GATEWAY, PORT, Bridge, run, until
from hit import Hit, TooLateError
from module import Checkpoint, Module
from outcome import Outcome

HERE = Path(__file__).resolve().parent
# For a moment that nobody chose, and that lies behind the end of the run.
TRIES = 8


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
        self.process.wait(100)


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
        if self.checkpoint is not None and time.monotonic() - self.born > 600:
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
        checkpoint, self.checkpoint, self.check = self.checkpoint, None, None
        if checkpoint is not None:
            for pid in actors.of_runs(checkpoint.container.name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            checkpoint.container.destroy()
            shutil.rmtree(checkpoint.directory.parent, ignore_errors=True)

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
            outcome.wrong.append(f"{type(exc).__name__}: {exc}"[-1500:])
            outcome.too_late = isinstance(exc, TooLateError)
        if outcome.wrong or not outcome.survived:
            for end in (lambda: self.keep_logs(outcome), self.drop):
                try:
                    end()
                except (AssertionError, OSError, subprocess.SubprocessError) as exc:
                    # Said, and the others are run all the same.
                    outcome.wrong.append(f"afterwards: {type(exc).__name__}: {exc}"[-1500:])

    def options(self, cell: Cell, checkpoint: Checkpoint) -> dict[str, t.Any]:
        """The task that the fault hits."""
        lock = {"network_lock": cell.lock} if cell.lock else {}
        if cell.way == cells.RESTORE:
            return checkpoint.options("restored", **lock)
        if cell.way == cells.STOP:
            return checkpoint.options("checkpointed", stop=True, **lock)
        return checkpoint.options("checkpointed", overwrite=True, **lock)

    def inject(self, cell: Cell) -> Outcome:
        """Everything about one fault."""
        began = time.monotonic()
        outcome = self._try(cell)
        for _again in range(TRIES):
            if not outcome.too_late:
                break
            # How long a run takes is known only afterwards.
            cell = replace(cell, moment=cell.moment * 0.7)
            outcome = self._try(cell)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _try(self, cell: Cell) -> Outcome:
        outcome = Outcome(
            cell.name, cell.way, cell.step.name, cell.actor, cell.signal.name, cell.previous, excepted=cell.excepted
        )
        self._guarded(outcome, lambda: self._hit(cell, outcome))
        return outcome

    def _hit(self, cell: Cell, outcome: Outcome) -> None:
        checkpoint = self.prepare(cell)
        assert self.check
        before = self.check.ask("prints")
        hit = Hit(self, cell, checkpoint)
        first = hit.run(outcome)
        # Before any other run can have made a new image of it.
        answered = first is not None and not first.get("failed")
        outcome.wrong += judge.intact(cell, answered, before, self.check.ask("prints"))
        outcome.wrong += hit.went_on(first or {}) if cell.actor == cells.LXC else []
        outcome.wrong += self.check.ask("whole") + judge.misplaced(cell, outcome)
        outcome.first = (first or {}).get("msg", "") or str((first or {}).get("action", "no answer"))
        outcome.warnings = list((first or {}).get("warnings", []))
        outcome.mended = list((first or {}).get("recovered", []))
        self.afterwards(cell, checkpoint, outcome)
        outcome.wrong += judge.unsaid(cell, outcome)

    def keep_logs(self, outcome: Outcome) -> None:
        """What the runs of a container that is given up have written."""
        if self.checkpoint is not None:
            logs = Path("/var/log/stasis", self.checkpoint.container.name)
            if logs.is_dir():
                shutil.copytree(logs, self.logs / outcome.name.replace("/", "-").replace(" ", "_"), dirs_exist_ok=True)

    def afterwards(self, cell: Cell, checkpoint: Checkpoint, outcome: Outcome) -> None:
        """The same task again, as an operator would run it; then the container must be whole."""
        assert self.check
        options = self.options(cell, checkpoint)
        again = self.module.run(**options)
        outcome.recovered = again.get("recovered", [])
        outcome.later = again.get("msg", "") or str(again.get("action"))
        if outcome.excepted:
            self.excepted(cell, checkpoint, outcome)
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

    def excepted(self, cell: Cell, checkpoint: Checkpoint, outcome: Outcome) -> None:
        """Whether it survived is a rate and no promise, but for a restore that was as good as done. There, and wherever an image
        was being restored, that can still be restored."""
        assert self.check
        # A restored one ran for a moment, so that only who allows it gets the memory of before.
        allowed = {"allow_stale": True} if cell.way == cells.RESTORE else {}
        after = self.module.run(**checkpoint.options("restored", **allowed))
        lost = self.check.ask("final")
        if cell.way == cells.RESTORE and (after.get("failed") or (lost and outcome.cured)):
            outcome.wrong.append(f"the image does not restore it: {'; '.join(lost)} {after.get('msg', '')}")
        outcome.survived = not lost
        if lost:
            outcome.lost = f"{'; '.join(lost)} {after.get('msg', '')}".strip()
        outcome.wrong += self.check.ask("whole")


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

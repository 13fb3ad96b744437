# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run stages in lanes side by side: the stages of a lane one after the other, each a process group of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

# How a stage says that it had no time to run: its exit status, and a file of that name with the reason.
NOT_RUN = 75
NOT_RUN_FILE = "not-run"


@dataclass(frozen=True)
class Stage:
    """What is to be run. command: one program and its arguments."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """How a stage ended. wall, processor: seconds. folder: where its reports lie. not_run: why it did not run, or ""."""

    name: str
    status: int
    wall: float
    processor: float
    folder: Path
    not_run: str = ""


class Lanes:
    """Runs lanes; `stop` ends what runs, from a signal handler too."""

    def __init__(self, results: Path, environment: t.Mapping[str, str]) -> None:
        self.results = results
        self.environment = dict(environment)
        self.ended: list[Ended] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped = False
        self._printing = threading.Lock()

    def run(self, lanes: t.Sequence[t.Sequence[Stage]]) -> list[Ended]:
        """Run all to their end, printing each line of output behind the name of its stage."""
        threads = [threading.Thread(target=self._lane, args=(lane,)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.ended

    def stop(self) -> None:
        """Begin no other stage, and send SIGTERM to those that run."""
        self._stopped = True
        for process in list(self._running.values()):
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue

    def _lane(self, stages: t.Sequence[Stage]) -> None:
        for stage in stages:
            if self._stopped:
                return
            self.ended.append(self._stage(stage))

    def _stage(self, stage: Stage) -> Ended:
        folder = self.results / stage.name
        folder.mkdir(parents=True)
        report = folder / "stage.json"
        self._say(stage.name, "begins")
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(Path(__file__).with_name("stage.py")), str(report), *stage.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self.environment, "STASIS_RESULTS": str(folder)},
            start_new_session=True,
        )
        self._running[stage.name] = process
        reader = threading.Thread(target=self._copy, args=(stage.name, process, folder / "log"), daemon=True)
        reader.start()
        process.wait()
        # What the stage has left behind may hold the pipe open: what it wrote is there, nobody waits for its end.
        reader.join(5)
        del self._running[stage.name]
        ended = _ended(stage.name, folder, process.returncode, time.monotonic() - began)
        word = "not run" if ended.not_run else "ended" if ended.status == 0 else f"failed, exit status {ended.status}"
        self._say(stage.name, f"{word} after {ended.wall:.0f} s, processor {ended.processor:.0f} s")
        return ended

    def _copy(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        assert process.stdout is not None
        with open(log, "wb") as copy:
            for line in process.stdout:
                copy.write(line)
                copy.flush()
                with self._printing:
                    sys.stdout.write(f"{name:<11} | {line.decode(errors='replace').rstrip()}\n")
                    sys.stdout.flush()

    def _say(self, name: str, what: str) -> None:
        with self._printing:
            print(f"== {name}: {what}", flush=True)


def _ended(name: str, folder: Path, status: int, wall: float) -> Ended:
    try:
        processor = json.loads((folder / "stage.json").read_text(encoding="utf-8"))["processor"]
    except (OSError, ValueError):
        # Killed before it could write; the exit status says so.
        processor = 0.0
    why = folder / NOT_RUN_FILE
    not_run = why.read_text(encoding="utf-8").strip() if status == NOT_RUN and why.exists() else ""
    return Ended(name, status, wall, processor, folder, not_run)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module as Ansible does, in a process of its own, and hands back what it answers."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

from containers import PREFIX, Container

Answer = dict[str, t.Any]
_numbers = itertools.count(1)
# The keys that every answer has, good or bad.
KEYS = {
    "changed",
    "action",
    "state",
    "container_state",
    "checkpoint",
    "command",
    "stats",
    "proof",
    "lost",
    "init_pid",
    "log_path",
    "log_errors",
    "findings",
    "diagnoses",
    "retried",
    "rc",
    "stale_reasons",
    "notes",
    "recovered",
    "diff",
}


@dataclass
class Module:
    """A module as a program. collections: where the collection lies. core: where ansible-core lies, unless the
    interpreter knows. seconds: how long it may take."""

    collections: Path
    scratch: Path
    python: str = sys.executable
    core: str = ""
    name: str = "lxc_checkpoint"
    seconds: float = 1200

    def start(self, check_mode: bool = False, **options: t.Any) -> subprocess.Popen[str]:
        """Start the module; its answer is what it writes to stdout."""
        given = {**options, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        arguments = self.scratch / f"arguments-{next(_numbers)}.json"
        arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
        return subprocess.Popen(
            [self.python, "-m", f"ansible_collections.stasis.lxc.plugins.modules.{self.name}", str(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**_environment(), "PYTHONPATH": f"{self.collections}:{self.core}"},
            start_new_session=True,
        )

    def run(self, check_mode: bool = False, **options: t.Any) -> Answer:
        """Run the module to its end."""
        return self.answer(self.start(check_mode, **options), self.seconds)

    @staticmethod
    def answer(process: subprocess.Popen[str], seconds: float = 1200) -> Answer:
        """What a started module answers; an exception inside it is a failure of the test."""
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        try:
            found: Answer = json.loads(out)
        except ValueError:
            raise AssertionError(f"the module gave no answer: rc {process.returncode}\n{out}\n{err}") from None
        assert not err.strip() or "Traceback" not in err, err
        # ansible-core wraps them on their way to the controller.
        found["warnings"] = [one["event"]["msg"] if isinstance(one, dict) else one for one in found.get("warnings", [])]
        found.pop("invocation", None)
        found.pop("ansible_facts", None)
        return found


def _environment() -> dict[str, str]:
    """Without the word to compile the whole collection again in each run: that is a third of what a run takes."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


class Checkpoint:
    """One container and its checkpoint directory, taken through the states."""

    def __init__(self, module: Module, container: Container, directory: Path) -> None:
        self.module = module
        self.container = container
        self.directory = directory

    @property
    def manifest(self) -> dict[str, t.Any]:
        found: dict[str, t.Any] = json.loads((self.directory / "manifest.json").read_text())
        return found

    def options(self, state: str, **options: t.Any) -> dict[str, t.Any]:
        return {
            "name": self.container.name,
            "lxc_path": str(self.container.lxc_path),
            "directory": str(self.directory),
            "state": state,
            **options,
        }

    def predicted(self, state: str, **options: t.Any) -> Answer:
        """Run in check mode, and hold that to having changed nothing at all."""
        before = self.world()
        answer = self.module.run(check_mode=True, **self.options(state, **options))
        assert self.world() == before, "check mode wrote something"
        return answer

    def try_to(self, state: str, **options: t.Any) -> Answer:
        """Run in check mode, then for real, and hold the prediction to what came; returns the real answer."""
        guess = self.predicted(state, **options)
        real = self.module.run(**self.options(state, **options))
        for answer in (guess, real):
            missing = KEYS - set(answer)
            assert not missing, f"the answer lacks {missing}: {answer}"
        if real.get("failed"):
            self.assert_true(real)
        for key in ("failed", "msg", "changed", "action", "state", "container_state", "stale_reasons", "diff"):
            assert guess.get(key) == real.get(key), (
                f"check mode said {key} {guess.get(key)!r}, and it came {real.get(key)!r}: "
                f"{real.get('msg')} {real['log_errors']}"
            )
        return real

    def assert_true(self, answer: Answer) -> None:
        """What an answer says of container and checkpoint is so."""
        if answer["container_state"] == "unknown":
            assert answer["init_pid"] == -1, answer
            return
        state, pid, _start = self.container.life() if self.container.config.exists() else ("absent", 0, 0)
        assert (answer["container_state"], answer["init_pid"]) == (state.lower(), pid), answer
        assert answer["diff"]["after"] == {"container": state.lower(), "checkpoint": answer["state"]}
        manifest = self.directory / "manifest.json"
        assert (answer["state"] == "absent") == (not os.path.lexists(self.directory)), answer
        if answer["state"] == "sealed":
            assert answer["checkpoint"]["checksum"] == json.loads(manifest.read_text())["checksum"]

    def checkpointed(self, **options: t.Any) -> Answer:
        """state=checkpointed, which must work; a failure shows the module's message."""
        return self._good(self.try_to("checkpointed", **options))

    def restored(self, **options: t.Any) -> Answer:
        """state=restored, which must work."""
        return self._good(self.try_to("restored", **options))

    def absent(self, **options: t.Any) -> Answer:
        """state=absent, which must work."""
        return self._good(self.try_to("absent", **options))

    def stopped(self, **options: t.Any) -> Answer:
        """Dump it with stop: true, without the check mode beside it."""
        return self._good(self.module.run(**self.options("checkpointed", stop=True, **options)))

    def resumed(self, **options: t.Any) -> Answer:
        """Restore it, without the check mode beside it."""
        return self._good(self.module.run(**self.options("restored", **options)))

    def refused(self, state: str, *words: str, **options: t.Any) -> Answer:
        """The module refuses in one line that has all the words, in check mode and for real, and changes nothing."""
        before = self.world()
        answer = self.try_to(state, **options)
        assert self.world() == before, "a refusal changed something"
        message = answer["msg"] if answer.get("failed") else ""
        assert message, f"it was not refused: {answer['action']}"
        assert "\n" not in message, message
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"
        return answer

    @staticmethod
    def _good(answer: Answer) -> Answer:
        assert not answer.get("failed"), f"{answer.get('msg')}\n" + "\n".join(answer.get("log_errors", []))
        return answer

    def beside(self) -> set[str]:
        """What stands in the checkpoint's parent, but for the checkpoint."""
        if not self.directory.parent.is_dir():
            return set()
        return {entry.name for entry in self.directory.parent.iterdir()} - {self.directory.name}

    def world(self) -> dict[str, t.Any]:
        """Everything that a task that does nothing must leave as it is."""
        container = self.container
        known = container.config.exists()
        return {
            "state and init": container.life() if known else None,
            "config": container.config.read_text() if known else "",
            "checkpoints": listing(self.directory.parent),
            "logs": {name: listing(path) for name, path in logs().items()},
        }


def logs() -> dict[str, Path]:
    """The directories that the module keeps for the containers of the tests."""
    found = {}
    for top in (Path("/var/log/stasis"), Path("/run/stasis")):
        if top.is_dir():
            # A lock holds nothing: that it is there says only that a task ran.
            found.update(
                {str(path): path for path in top.iterdir() if path.name.startswith(PREFIX) and path.suffix != ".lock"}
            )
    return found


def listing(top: Path) -> dict[str, tuple[int, ...]]:
    """Every file below top, with all that changes when it does."""
    if not os.path.lexists(top):
        return {}
    found = {".": _mark(top)}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = Path(folder, name)
            found[str(path.relative_to(top))] = _mark(path)
    return found


def _mark(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_uid, status.st_nlink)

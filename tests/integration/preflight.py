# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers with a situation, what the preflight says about them, and what CRIU does."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Factory
from containers import Container, run, until
from module import Answer, Module

RECORD = Path("/etc/stasis/lxc.json")
# Whoever has no install record names a CRIU in the environment.
CRIU = os.environ.get("STASIS_CRIU", "")
_numbers = itertools.count(1)


def criu() -> str:
    found: str = CRIU or json.loads(RECORD.read_text())["criu_path"]
    return found


@dataclass
class Pre:
    """Makes containers with a situation, and asks the preflight and CRIU about them."""

    lxc: Factory
    program: Path

    @property
    def module(self) -> Module:
        return dataclasses.replace(self.lxc.module, name="lxc_checkpoint_preflight")

    def create(self, what: str, *arguments: str, config: t.Sequence[str] = (), network: bool = False) -> Container:
        """A container whose init makes the situation; not started."""
        command = f"lxc.init.cmd = /bin/trouble {' '.join([what, *arguments])}".rstrip()
        nics = None if network else []
        container = self.lxc.create("trouble", nics=nics, config=[command, *config])
        shutil.copy(self.program, container.root / "bin/trouble")
        return container

    def start(self, what: str, *arguments: str, config: t.Sequence[str] = (), network: bool = False) -> Container:
        """As create(), and started. What this kernel does not have is left out by name."""
        container = self.create(what, *arguments, config=config, network=network)
        self.begin(container)
        return container

    def crowd(self, processes: int) -> Container:
        """A container with so many processes beside its init."""
        container = self.start("crowd", str(processes))
        inside = Path("/proc", str(container.init_pid), "root/proc")
        until(lambda: len(list(inside.glob("[0-9]*"))) > processes, 10, f"{processes} processes are there")
        return container

    @staticmethod
    def begin(container: Container) -> None:
        try:
            container.start()
        except AssertionError:
            reason = container.root / "tmp/trouble.error"
            if not reason.exists():
                raise
            text = reason.read_text().strip()
            lacking = ("not implemented", "not supported", "No such device", "Protocol not available")
            if any(word in text for word in lacking):
                pytest.skip(f"NOT TESTED on this host: {text}")
            raise AssertionError(text) from None

    def ask(self, container: Container | None, **options: t.Any) -> Answer:
        """The module's answer about one container, always in check mode."""
        given = {"lxc_path": str(self.lxc.session / "lxc"), **options}
        if container is not None:
            given = {"name": container.name, **given, "lxc_path": str(container.lxc_path)}
        if CRIU:
            given.setdefault("criu_path", CRIU)
        answer = self.module.run(check_mode=True, **given)
        assert not answer.get("failed"), answer
        assert answer["changed"] is False
        return answer

    def dump(self, container: Container, top: Path | None = None, program: str = "", **options: t.Any) -> Answer:
        """CRIU's own dump below top, without a check in its way: rc, error lines and their causes. program: another
        CRIU.

        The container must be afterwards what it was, unless the dump is to stop it and went well.
        """
        before = container.life()
        images = (top or self.lxc.session / "images") / f"{container.name}-{next(_numbers)}"
        done = run(
            "env",
            f"PYTHONPATH={self.module.collections}",
            sys.executable,
            str(Path(__file__).with_name("bare_dump.py")),
            program or criu(),
            container.name,
            str(container.lxc_path),
            str(images),
            json.dumps(options),
        )
        shutil.rmtree(images)
        found: Answer = json.loads(done.stdout)
        stopped = options.get("stop") and found["rc"] == 0
        assert stopped or container.life() == before, "the container did not survive"
        return found


def only(answer: Answer, severity: str) -> list[str]:
    return [one["id"] for one in answer["findings"] if one["severity"] == severity]


def named(answer: Answer, word: str) -> dict[str, t.Any]:
    """The finding with this id."""
    found: list[dict[str, t.Any]] = [one for one in answer["findings"] if one["id"] == word]
    assert found, f"no {word} among {[one['id'] for one in answer['findings']]}"
    for one in found:
        texts = [value for key, value in one.items() if key != "grave"]
        assert all(texts), f"something is empty: {one}"
        assert not any("\n" in text for text in texts)
    return found[0]


def ready(pre: Pre, container: Container, **options: t.Any) -> Answer:
    """The preflight calls it ready, and CRIU dumps it."""
    answer = pre.ask(container, **options)
    assert answer["verdict"] == "ready", answer["summary"]
    dumped = pre.dump(container, **{key: value for key, value in options.items() if key != "stop"})
    assert dumped["rc"] == 0, dumped["errors"]
    return answer


def fails(pre: Pre, container: Container, severity: str, word: str, log: str, **options: t.Any) -> dict[str, t.Any]:
    """The preflight finds it, and nothing else that blocks, and CRIU's dump fails for that reason."""
    answer = pre.ask(container, **options)
    finding = named(answer, word)
    assert finding["severity"] == severity
    assert answer["verdict"] == ("blocked" if severity == "blocks" else "risky"), answer["summary"]
    assert set(only(answer, "blocks")) <= {word}, answer["summary"]
    dumped = pre.dump(container, **options)
    assert dumped["rc"] != 0, f"CRIU dumped it all the same: {finding}"
    assert any(log in line for line in dumped["errors"]), dumped["errors"]
    assert dumped["causes"], f"no rule of the diagnosis knows a line of {dumped['errors']}"
    return finding


def back(pre: Pre, container: Container) -> Answer:
    """Checkpoint with stop and restore, both of which must work; returns the restore's answer."""
    checkpoint = pre.lxc.checkpoint(container)
    checkpoint.checkpointed(stop=True)
    return checkpoint.restored()


def lost(pre: Pre, container: Container, word: str, log: str, cause: str) -> dict[str, t.Any]:
    """The preflight finds what blocks; without it the proof keeps the container running; without both
    CRIU dumps, and its restore fails for that reason and with that cause."""
    answer = pre.ask(container)
    assert set(only(answer, "blocks")) == {word}, answer["summary"]
    finding = named(answer, word)
    checkpoint = pre.lxc.checkpoint(container)
    refused = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True))
    assert refused["failed"], "the preflight did not keep the checkpoint from being made"
    assert container.running
    life = container.life()
    unproven = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, preflight="warn"))
    assert unproven["proof"]["verdict"] == "refused", unproven
    assert [one["id"] for one in unproven["diagnoses"]][:1] == [cause], unproven["diagnoses"]
    assert container.life() == life
    done = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, preflight="warn", prove=False))
    assert not done.get("failed"), done
    answer = checkpoint.module.run(**checkpoint.options("restored"))
    assert answer.get("failed"), f"it came back all the same: {finding}"
    assert any(log in line for line in answer["log_errors"]), answer["log_errors"]
    assert [one["id"] for one in answer["diagnoses"]][:1] == [cause], answer["diagnoses"]
    return finding


def bind(source: str, target: str) -> str:
    return f"lxc.mount.entry = {source} {target} none bind,create=file 0 0"

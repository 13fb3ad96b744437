# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two that are compared. Each measures the same three things; all values are milliseconds."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import typing as t
from pathlib import Path

import criu_run
from client import Client
from lab import ADDRESS, BASE, IMAGES, LXC_PATH, NAME, BenchError, Lab, lxc, run

Sample = dict[str, float]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


class Side(t.Protocol):
    """One way to checkpoint and restore."""

    name: str

    def measure(self, lab: Lab, mib: int) -> Sample:
        """Everything about one fresh container of that size."""


class Plain:
    """lxc-checkpoint with the same CRIU on PATH."""

    name = "lxc-checkpoint"

    def __init__(self, criu: str) -> None:
        self._env = {"PATH": f"{os.path.dirname(criu)}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}

    def measure(self, lab: Lab, mib: int) -> Sample:
        """Snapshot, then stop and restore."""
        lab.start(mib)
        client = Client(ADDRESS)
        try:
            return {**self._snapshot(client), **self._cycle(lab, client)}
        finally:
            client.close()
            lab.stop()

    def _checkpoint(self, images: Path, *words: str) -> float:
        # -v is CRIU's -v4, as the module's default.
        logs = ["-o", str(BASE / "lxc.log"), "-l", "INFO"]
        return run(lxc("lxc-checkpoint", "-v", "-D", str(images), *words, *logs), timeout=120, env=self._env)[1]

    def _snapshot(self, client: Client) -> Sample:
        images = IMAGES / "snapshot"
        _settle(client)
        command = self._checkpoint(images)
        found = _snapshot_sample(criu_run.read(str(images / "dump.log"), str(images)), command, client)
        shutil.rmtree(images)
        return found

    def _cycle(self, lab: Lab, client: Client) -> Sample:
        images = IMAGES / "cycle"
        monitor = lab.monitor
        _settle(client)
        began = time.monotonic()
        self._checkpoint(images, "-s")
        # What our hook does, so that both are as safe when the power fails.
        sync = run(["sync", *map(str, images.glob("*.img")), str(images)], timeout=120)[1]
        lab.wait_stopped(monitor)
        middle = time.monotonic()
        restored = self._checkpoint(images, "-r", "-d")
        dump = criu_run.read(str(images / "dump.log"), str(images))
        restore = criu_run.read(str(images / "restore.log"), str(images))
        return _cycle_sample(dump, restore, client, sync=sync, dumped=middle - began, restored=restored)


class Task(t.NamedTuple):
    """How long a task took, from its start in Ansible to its result there, and where CRIU's log is."""

    seconds: float
    log: str


class Ours:
    """The module, run directly and then by Ansible."""

    name = "stasis.lxc"

    def __init__(self, ansible: str) -> None:
        self._ansible = ansible

    def measure(self, lab: Lab, mib: int) -> Sample:
        """Snapshot, stop and restore, then the same by `ansible` and by `ansible-playbook`."""
        lab.start(mib)
        client = Client(ADDRESS)
        try:
            found = {**self._cycles(client), **self._proven(client), **self._by_ansible(client)}
            shutil.rmtree(IMAGES / "ansible")
            return {**found, **self._by_playbook(client)}
        finally:
            client.close()
            lab.stop()

    def _cycles(self, client: Client) -> Sample:
        _settle(client)
        result, command = self._module("snapshot", state="checkpointed")
        snapshot = criu_run.read(result["log_path"], str(IMAGES / "snapshot"))
        found = _snapshot_sample(snapshot, command, client)
        shutil.rmtree(IMAGES / "snapshot")
        _settle(client)
        result, dumped = self._module("cycle", state="checkpointed", stop=True, prove=False)
        dump = criu_run.read(result["log_path"], str(IMAGES / "cycle"))
        result, restored = self._module("cycle", state="restored")
        restore = criu_run.read(result["log_path"], str(Path(result["log_path"]).parent))
        # Only a dump that stops the container waits for the disk; all else in post-dump is the same.
        sync = max(0.0, dump.events["post-dump"] - snapshot.events["post-dump"])
        found.update(
            _cycle_sample(dump, restore, client, sync=sync, dumped=dumped, restored=restored, sync_within=True),
            unproven_frozen=_ms(dump.frozen),
            snapshot_hook=_ms(snapshot.hook),
            hook_dump=_ms(dump.hook - sync),
            hook_restore=_ms(restore.restore_hook),
        )
        for word, one in (("dump", dump), ("restore", restore)):
            found.update({f"event_{word}_{event}": _ms(seconds) for event, seconds in one.events.items()})
        shutil.rmtree(IMAGES / "cycle")
        return found

    def _proven(self, client: Client) -> Sample:
        """A stop with its proof."""
        _settle(client)
        result, _dumped = self._module("proven", state="checkpointed", stop=True)
        if result["proof"]["verdict"] != "proven":
            raise BenchError(f"The image was not proven: {result['proof']}")
        dump = criu_run.read(result["log_path"], str(IMAGES / "proven"))
        self._module("proven", state="restored")
        shutil.rmtree(IMAGES / "proven")
        return {"proven_frozen": _ms(dump.frozen), "proof": _ms(result["proof"]["seconds"])}

    def _module(self, image: str, **options: object) -> tuple[dict[str, t.Any], float]:
        arguments = {"name": NAME, "lxc_path": str(LXC_PATH), "directory": str(IMAGES / image), **options}
        path = BASE / "arguments.json"
        path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), "utf-8")
        module = "ansible_collections.stasis.lxc.plugins.modules.lxc_checkpoint"
        text, seconds = run([sys.executable, "-m", module, str(path)], timeout=180)
        return json.loads(text), seconds

    def _by_ansible(self, client: Client) -> Sample:
        _settle(client)
        began = time.monotonic()
        [dumped] = self._tasks("", "state=checkpointed stop=true prove=false")
        dump = criu_run.read(dumped.log, str(IMAGES / "ansible"))
        [restored] = self._tasks("", "state=restored")
        restore = criu_run.read(restored.log, str(IMAGES / "ansible"))
        return {
            "ansible_dump": _ms(dumped.seconds),
            "ansible_dump_over": _ms(dumped.seconds - dump.seconds),
            "ansible_restore": _ms(restored.seconds),
            "ansible_restore_over": _ms(restored.seconds - restore.seconds),
            "ansible_command": _ms(time.monotonic() - began),
            "ansible_silence": _ms(client.silence()),
        }

    def _by_playbook(self, client: Client) -> Sample:
        """Both tasks in one play, as in the README: the second finds the module packed by the first."""
        _settle(client)
        began = time.monotonic()
        dumped, restored = self._tasks("-playbook", "state=checkpointed stop=true prove=false", "state=restored")
        seconds = time.monotonic() - began
        dump = criu_run.read(dumped.log, str(IMAGES / "ansible"))
        restore = criu_run.read(restored.log, str(IMAGES / "ansible"))
        return {
            "playbook_dump_over": _ms(dumped.seconds - dump.seconds),
            "playbook_restore_over": _ms(restored.seconds - restore.seconds),
            "playbook_command": _ms(seconds),
        }

    def _tasks(self, suffix: str, *states: str) -> list[Task]:
        """Run one `ansible` with one task, or one `ansible-playbook` with several, on localhost."""
        common = f"name={NAME} lxc_path={LXC_PATH} directory={IMAGES / 'ansible'} "
        env = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"),
            "ANSIBLE_STDOUT_CALLBACK": "stasis_timed",
            # Else `ansible` keeps to its own callback.
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        }
        if suffix:
            tasks = [{"stasis.lxc.lxc_checkpoint": common + state} for state in states]
            play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
            (BASE / "play.yml").write_text(json.dumps([play]), "utf-8")
            argv = [self._ansible + suffix, str(BASE / "play.yml")]
        else:
            argv = [self._ansible, "localhost", "-m", "stasis.lxc.lxc_checkpoint", "-a", common + states[0]]
        text = run(argv, timeout=180, env=env)[0]
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        if len(found) != len(states) or not all("log_path" in one["result"] for one in found):
            raise BenchError(f"The task by Ansible failed: {text}")
        return [Task(one["seconds"], one["result"]["log_path"]) for one in found]


def _settle(client: Client) -> None:
    """Nothing waits for the disk any more, and the connection is in its stride."""
    os.sync()
    time.sleep(0.3)
    client.reset()


def _snapshot_sample(dump: criu_run.Run, command: float, client: Client) -> Sample:
    return {
        "snapshot_freezing": _ms(dump.freezing),
        "snapshot_frozen": _ms(dump.frozen),
        "snapshot_dump": _ms(dump.seconds),
        "snapshot_silence": _ms(client.silence()),
        "snapshot_command": _ms(command),
    }


def _cycle_sample(
    dump: criu_run.Run,
    restore: criu_run.Run,
    client: Client,
    *,
    sync: float,
    dumped: float,
    restored: float,
    sync_within: bool = False,
) -> Sample:
    alone = dump.seconds - sync if sync_within else dump.seconds
    return {
        "freezing": _ms(dump.freezing),
        "frozen": _ms(dump.frozen - sync if sync_within else dump.frozen),
        "dump": _ms(alone),
        "restore": _ms(restore.seconds),
        "dump_restore": _ms(alone + restore.seconds),
        "sync": _ms(sync),
        "dump_sync_restore": _ms(alone + sync + restore.seconds),
        "silence": _ms(client.silence()),
        "command_dump": _ms(dumped),
        "command_restore": _ms(restored),
        "command": _ms(dumped + restored),
    }

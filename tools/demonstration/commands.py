# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and playbooks that the demo runs; their full output goes to a log."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from screen import DemoError, end_progress, progress

# In the environment of every Ansible run, so that a later clean finds one that outlived a killed demo.
MARK = "STASIS_DEMO_RUNS"


class Log:
    """The full output of everything that is run."""

    def __init__(self, checkout: Path) -> None:
        self.path = checkout / ".work" / "demo" / "demo.log"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def begin(self) -> None:
        self.path.write_text("")

    def write(self, text: str) -> None:
        with self.path.open("a") as stream:
            stream.write(text.rstrip("\n") + "\n")


def run(log: Log, argv: t.Sequence[str], *, timeout: float = 60, check: bool = True) -> str:
    """Run a command and return its output. Never for what leaves a process behind that holds our pipes."""
    log.write("$ " + " ".join(argv))
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        if check:
            raise DemoError(f"{argv[0]} did not end within {timeout:.0f} s") from None
        return ""
    log.write(done.stdout + done.stderr)
    if check and done.returncode != 0:
        raise DemoError(f"{' '.join(argv[:3])} failed: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout


def ansible(log: Log, checkout: Path, playbook: str, *arguments: str, what: str, timeout: float) -> float:
    """Run a playbook and return the seconds it took. Ctrl-C does not reach it: half a dump is no place to stop."""
    argv = [
        "ansible-playbook",
        "-v",
        "-i",
        "localhost,",
        str(checkout / "tools/playbooks" / f"{playbook}.yml"),
        *arguments,
    ]
    log.write("$ " + " ".join(argv))
    environment = dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_DEPRECATION_WARNINGS="0")
    environment["ANSIBLE_PYTHON_INTERPRETER"] = sys.executable
    # Else Ansible makes a directory in the user's real home.
    environment["ANSIBLE_REMOTE_TMP"] = str(log.path.parent / "ansible")
    environment[MARK] = playbook
    began = time.monotonic()
    position = log.path.stat().st_size
    with log.path.open("a") as stream:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
        try:
            shown = ""
            while process.poll() is None:
                elapsed = time.monotonic() - began
                if elapsed > timeout:
                    raise DemoError(f"{what} did not end within {timeout:.0f} s")
                now = f"{what}: {current_task(log.path, position)} ... {elapsed:.0f} s"
                if playbook == "role" and now != shown:
                    progress(now)
                    shown = now
                time.sleep(0.1)
        finally:
            end_progress()
    if process.returncode != 0:
        raise DemoError(f"{what} failed: {failure(log.path, position)}")
    return time.monotonic() - began


def current_task(path: Path, position: int) -> str:
    tasks = [line for line in since(path, position) if line.startswith(("TASK [", "RUNNING HANDLER ["))]
    return tasks[-1].split("[", 1)[1].split("]")[0].split(" : ")[-1] if tasks else "start"


def failure(path: Path, position: int) -> str:
    """What the first failed task said, as Ansible's older or newer output has it."""
    for line in since(path, position):
        if line.startswith(("fatal:", "failed:")) and "=> " in line:
            with contextlib.suppress(ValueError):
                return str(json.loads(line.split("=> ", 1)[1])["msg"])
        if line.startswith("[ERROR]: "):
            return line[9:]
    return "see the log"


def since(path: Path, position: int) -> list[str]:
    with path.open(errors="replace") as stream:
        stream.seek(position)
        return stream.read().splitlines()

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who takes part in a run of the module: found in /proc by what the module gives its programs."""

from __future__ import annotations

import os
import time
import typing as t
from pathlib import Path


def environment(pid: int) -> dict[str, str]:
    """What a process was given when it was started."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return {}
    return {key: value for key, separator, value in (word.partition("=") for word in words) if separator}


def command(pid: int) -> list[str]:
    """Its command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def program(pid: int) -> str:
    """The name of the file that it executes."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


def parent(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[1])


def alive(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


def everyone() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def of_runs(container: str) -> list[int]:
    """The processes that runs of the module for this container started, and what these started."""
    top = f"/var/log/stasis/{container}/"
    return [pid for pid in everyone() if environment(pid).get("STASIS_WORK", "").startswith(top)]


def pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def criu(container: str) -> list[int]:
    """CRIU itself, without what it forks to become tasks: those are in the container's pid namespace, init its sibling."""
    here = pid_namespace(os.getpid())
    found = [pid for pid in of_runs(container) if program(pid) == "criu" and pid_namespace(pid) == here]
    return [pid for pid in found if parent(pid) not in found]


def provers(modules: t.Collection[int]) -> list[int]:
    """What restores an image on trial for one of these: it has a session of its own, as CRIU has."""
    return [
        pid
        for pid in everyone()
        if parent(pid) in modules and session(pid) == pid and not environment(pid).get("STASIS_WORK")
    ]


def session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def hook(container: str) -> list[int]:
    """The hook, without its own children."""
    found = [pid for pid in of_runs(container) if any(word.endswith("/restore-net") for word in command(pid)[:2])]
    return [pid for pid in found if parent(pid) not in found]


def hook_of(pids: t.Iterable[int]) -> list[int]:
    """The hook that one of these CRIUs waits for: fast, since it is there for milliseconds."""
    found = []
    for pid in pids:
        try:
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            continue
        found += [int(one) for one in below if any(word.endswith("/restore-net") for word in command(int(one))[:2])]
    return found


def descendants(pid: int) -> list[int]:
    """All below a process."""
    parents = {one: parent(one) for one in everyone()}
    found: list[int] = []
    last = [pid]
    while last:
        last = [one for one, above in parents.items() if above in last]
        found += last
    return found


def lxc_checkpoint(container: str) -> list[int]:
    """The lxc-checkpoint that the module waits for; its child is the monitor and goes by the same name."""
    found = [pid for pid in of_runs(container) if program(pid) == "lxc-checkpoint"]
    return [
        pid
        for pid in found
        if parent(pid) not in found and parent(pid) > 1 and program(parent(pid)).startswith("python")
    ]


def wait_gone(pids: t.Iterable[int], seconds: float) -> list[int]:
    """Those that are still there after that time."""
    deadline = time.monotonic() + seconds
    left = list(pids)
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if alive(pid)]
        time.sleep(0.005)
    return left

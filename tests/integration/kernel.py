# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of the host's processes, cgroups and mounts."""

from __future__ import annotations

import os
import signal
import typing as t
from pathlib import Path


def cgroup_roots() -> list[Path]:
    """Every mounted hierarchy."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] in ("cgroup", "cgroup2"):
            found.append(Path(fields[1]))
    return found


def processes() -> dict[int, list[str]]:
    """The command lines of all processes."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            except OSError:
                continue
            if words != [b""]:
                found[int(entry.name)] = [word.decode("utf-8", "replace") for word in words]
    return found


def is_monitor(words: t.Sequence[str], name: str, lxc_path: str) -> bool:
    """Whether this is the command line of LXC's monitor (or of an lxc-checkpoint) for a container."""
    line = " ".join(words)
    if line.startswith("[lxc monitor]"):
        return line.split()[2:] == [lxc_path, name]
    return os.path.basename(words[0]) == "lxc-checkpoint" and name in words and lxc_path in words


def kill(pids: t.Iterable[int]) -> None:
    """Kill processes by their ids."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def mounts_below(path: Path) -> list[str]:
    """Mount points at or below path in our mount namespace."""
    found = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [mount for mount in found if mount == str(path) or mount.startswith(f"{path}/")]

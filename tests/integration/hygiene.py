# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests must leave as they found it: the host."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from containers import SLOT, Container, Slot, remove_link, remove_tree, run
from kernel import cgroup_roots, kill, mounts_below, processes

State = dict[str, set[str]]
# Where the root file systems and disks of the test hosts are made, which may go on at the same time.
CACHE = os.environ.get("STASIS_CACHE", "/var/cache/stasis-test")
PROGRAMS = ("criu", "lxc-checkpoint", "lxc-start", "workload", "trouble")
# For what ends by itself after its test: a monitor, a network namespace.
SECONDS = 60


@dataclass
class Watch:
    """The slots of a run, which no other run has as long as it goes on; at its end the host must be as it was.

    shared: at the end other containers of somebody else run than at the beginning. Then only what can be told from theirs,
    by its name, is held to be as it was.
    """

    slots: t.Sequence[Slot]
    shared: bool = False
    _locks: list[t.TextIO] = field(default_factory=list)
    _before: State = field(default_factory=dict)

    def begin(self) -> None:
        """Wait until nobody uses these slots, remove what an interrupted run has left, and look at the host."""
        # In the order of their numbers, so that two runs do not wait for each other.
        for slot in sorted(self.slots, key=lambda one: one.number):
            lock = open(slot.lock, "w", encoding="utf-8")  # noqa: SIM115 # as long as this process lives
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._locks.append(lock)
        self._clean()
        self._before = snapshot(self.slots)

    def end(self) -> list[str]:
        """Remove what is left, let other runs begin, and return what is not as it was, one line each."""
        self._clean()
        left, self.shared = settled(self._before, self.slots)
        for lock in self._locks:
            lock.close()
        return left

    def _clean(self) -> None:
        for slot in self.slots:
            clean(slot)


def _strangers(state: State, slots: t.Sequence[Slot]) -> list[str]:
    """Monitors of containers that are not of these slots. Each names its container and its path."""
    return sorted(
        line
        for line in state["processes"]
        if line.startswith("[lxc monitor]") or os.path.basename(line.split()[0]) in ("lxc-start", "lxc-checkpoint")
        if not _ours(line, slots)
    )


def snapshot(slots: t.Sequence[Slot]) -> State:
    """The host as far as containers, CRIU and the module leave traces on it."""
    return {
        "network interfaces": {link["ifname"] for link in json.loads(run("ip", "-j", "link").stdout)},
        "mounts": {
            path
            for path in (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
            if not path.startswith(f"{CACHE}/")
        },
        "cgroups": _cgroups(),
        "processes": _processes(),
        "firewall rules": _firewall(),
        "systemd units": {
            str(path) for slot in slots for path in Path("/etc/systemd/system").rglob(f"*{slot.prefix}*")
        },
        "logs and locks": {
            str(path)
            for slot in slots
            for top in ("/var/log/stasis", "/run/stasis")
            for path in Path(top).glob(f"{slot.prefix}*")
        },
        "LXC's locks": {str(path) for slot in slots for path in Path("/run/lxc/lock").rglob(f"*{slot.base.name}*")},
    }


def settled(before: State, slots: t.Sequence[Slot], *, shared: bool = False) -> tuple[list[str], bool]:
    """What is there now and was not, or the other way round, and does not pass by itself, one line each; and whether only what
    carries our names was compared: where it is shared, or others have started or stopped containers."""
    deadline = time.monotonic() + SECONDS
    while True:
        after = snapshot(slots)
        shared = shared or _strangers(before, slots) != _strangers(after, slots)
        left = differences(before, after, slots, shared=shared)
        if not left or time.monotonic() > deadline:
            return left, shared
        time.sleep(0.1)


def differences(before: State, after: State, slots: t.Sequence[Slot], *, shared: bool) -> list[str]:
    """What is in one state and not in the other. shared: of what others make as well, only what carries our names."""
    found = []
    for kind, then in before.items():
        now = after[kind]
        # CRIU's rules name no container, and none stays.
        named = shared and kind != "firewall rules"
        for names, word in ((now - then, "left over"), (then - now, "missing")):
            found += [f"{kind}: {word}: {name}" for name in sorted(names) if not named or _ours(name, slots)]
    return found


def _ours(name: str, slots: t.Sequence[Slot]) -> bool:
    return any(word in name for slot in slots for word in (slot.prefix, slot.bridges, str(slot.base)))


def clean(slot: Slot = SLOT) -> None:
    """Remove what an interrupted run of the tests has left in a slot."""
    # LXC's monitors end by themselves when their container does.
    kill(
        pid
        for pid, words in processes().items()
        if f"{slot.base}/" in " ".join(words) and not words[0].startswith("[lxc monitor]") and pid != os.getpid()
    )
    for lxc_path in [path for word in ("lxc", "lxc2") for path in slot.base.glob(f"*/{word}")]:
        for config in lxc_path.glob("*/config"):
            Container(config.parent.name, lxc_path).destroy()
    for name in {
        path.name.split(".", 2)[2] for path in _cgroup_paths() if path.name.split(".", 2)[2].startswith(slot.prefix)
    }:
        Container(name, slot.base / "none").destroy()
    for link in json.loads(run("ip", "-j", "link").stdout):
        if link["ifname"].startswith(slot.bridges):
            remove_link(link["ifname"])
    remove_logs(slot)
    remove_locks(slot)
    for path in slot.base.glob("*"):
        for mount in sorted(mounts_below(path), reverse=True):
            run("umount", mount)
        remove_tree(path)
    if slot.base.exists():
        slot.base.rmdir()


def remove_logs(slot: Slot) -> None:
    """Remove what the module has written about our containers."""
    for path in Path("/var/log/stasis").glob(f"{slot.prefix}*"):
        remove_tree(path)
    for path in Path("/run/stasis").glob(f"{slot.prefix}*"):
        path.unlink()


def remove_locks(slot: Slot) -> None:
    """Remove the files that LXC locks and never removes, one for each container that there ever was."""
    ours = Path(f"/run/lxc/lock{slot.base}")
    if ours.is_dir():
        shutil.rmtree(ours)


def _cgroup_paths() -> list[Path]:
    return [
        path
        for top in cgroup_roots()
        for folder, _folders, _files in os.walk(top)
        if re.match(r"(lxc\.(payload|monitor|pivot)|stasis\.trial)\.", (path := Path(folder)).name)
    ]


def _cgroups() -> set[str]:
    return {str(path) for path in _cgroup_paths()}


def _processes() -> set[str]:
    """Those of LXC, of CRIU and in the tests' containers, with the container that each is in."""
    found = set()
    for pid, words in processes().items():
        line = " ".join(words)
        program = os.path.basename(words[0])
        if line.startswith("[lxc monitor]") or program in PROGRAMS:
            found.add(f"{line}{_container_of(pid)}")
    return found


def _container_of(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
    found = re.search(r"/(lxc\.(?:payload|monitor)\.[^/\n]+)", text)
    return f" ({found.group(1)})" if found else ""


def _firewall() -> set[str]:
    """Tables and chains of CRIU's."""
    tables = run("nft", "list", "tables", check=False).stdout.splitlines()
    chains = run("iptables-save", check=False).stdout.splitlines()
    return {line for line in tables + chains if "criu" in line.lower()}

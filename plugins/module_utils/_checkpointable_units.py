# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The services that run in a container, told from its cgroups: which they are, since when, and restarting them."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups, _container, _errors, _files, _proc, _runner

_SERVICE = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service\Z")
CREDENTIALS = "/run/credentials"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Running:
    """A running container. since: each service that has a process, and when its oldest one began (time.time()).

    credentials: units whose credentials lie in a ramfs that is mounted, below CREDENTIALS.
    """

    init: int
    frozen: bool = False
    since: t.Mapping[str, float] = field(default_factory=dict)
    credentials: tuple[str, ...] = ()

    @property
    def active(self) -> tuple[str, ...]:
        """The services that have a process."""
        return tuple(sorted(self.since))

    def services(self, unit: str) -> list[str]:
        """Those of them that a unit is, or is the template of."""
        prefix, at, _rest = unit.partition("@.")
        if at:
            return [name for name in self.active if name.startswith(prefix + "@")]
        return [unit] if unit in self.since else []

    def older(self, unit: str, moment: float) -> list[str]:
        """Those that began before a moment; 0 is before all of them."""
        return [name for name in self.services(unit) if self.since[name] < moment]

    def check_restart(self, name: str) -> None:
        """Raise StasisError where nothing can be restarted."""
        if self.frozen:
            raise _errors.StasisError(
                f"{name} is frozen, so nothing in it can be restarted.", "Thaw it, or set restart to false."
            )

    def restart(self, inside: Inside, services: t.Sequence[str], unmount: t.Sequence[str]) -> list[str]:
        """Have systemd in the container read its units again, restart those services that run, and unmount.

        Returns the services. What has been done by a unit that only counts as active is not done again: emptying /tmp
        is a part of it.
        """
        inside.run("systemctl", "daemon-reload")
        if services:
            inside.run("systemctl", "try-restart", *services)
        if unmount:
            inside.run("umount", *unmount)
        return list(services)

    def resume(self, inside: Inside, services: t.Sequence[str]) -> None:
        """After a restart that failed, and the old files are back: start again what ran."""
        inside.run("systemctl", "daemon-reload")
        if services:
            inside.run("systemctl", "reset-failed", *services)
            inside.run("systemctl", "restart", *services)


@dataclass
class Inside:
    """Runs programs in a container. timeout: seconds for all of them together."""

    runner: _runner.Runner
    name: str
    lxc_path: str
    timeout: float
    began: float = field(default_factory=time.monotonic)

    def run(self, *argv: str) -> None:
        """Run one to its end. Raises StasisError where it fails."""
        attach = ["lxc-attach", "-P", self.lxc_path, "-n", self.name, "--clear-env", "-v", _PATH, "--"]
        left = self.began + self.timeout - time.monotonic()
        done = self.runner.run([*attach, *argv], timeout=max(1.0, left))
        if done.rc != 0:
            how = (
                f"did not end within {self.timeout:g} s." if done.timed_out else f"failed: {done.stderr.strip()[-300:]}"
            )
            raise _errors.StasisError(
                f"{' '.join(argv)} in {self.name} {how}",
                f"Run lxc-attach -n {self.name} -- {' '.join(argv)} by hand.",
                rc=done.rc,
            )


def look(init: int, *, frozen: bool = False) -> Running:
    """The services of the container whose init is init, as its cgroups show them."""
    pids: dict[str, set[int]] = {}
    for hierarchy in _cgroups.observe(init):
        for directory, _children, files in os.walk(hierarchy.directory):
            name = _service(directory[len(hierarchy.directory) :])
            if name and "cgroup.procs" in files:
                pids.setdefault(name, set()).update(_members(os.path.join(directory, "cgroup.procs")))
    ticks = os.sysconf("SC_CLK_TCK")
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    since: dict[str, float] = {}
    for name, members in pids.items():
        found = [one for one in map(_container.process, members) if one is not None]
        if found:
            since[name] = boot + min(one.start for one in found) / ticks
    return Running(init, frozen, since, _credentials(init))


def held_programs(init: int) -> int:
    """How many BPF programs the container's systemd holds. It frees those of old settings only when it ends."""
    top = f"/proc/{init}/fd"
    found = 0
    with contextlib.suppress(OSError):
        for name in os.listdir(top):
            with contextlib.suppress(OSError):
                found += os.readlink(f"{top}/{name}") in ("anon_inode:bpf-prog", "anon_inode:bpf_link")
    return found


def stop_and_start(runner: _runner.Runner, name: str, lxc_path: str, timeout: float) -> None:
    """Shut the container down and start it again. Raises StasisError where that fails."""
    by_hand = f"Look at lxc-info -P {lxc_path} -n {name}, and run lxc-start -P {lxc_path} -n {name} by hand."
    done = runner.run(["lxc-stop", "-P", lxc_path, "-n", name, "-t", f"{timeout:.0f}"], timeout=timeout + 60)
    if done.rc != 0:
        raise _errors.StasisError(f"{name} could not be stopped: {done.stderr.strip()[-300:]}", by_hand, rc=done.rc)
    rc, said = _start(name, lxc_path, timeout)
    if rc != 0:
        raise _errors.StasisError(f"{name} was stopped and could not be started again: {said[-300:]}", by_hand, rc=rc)


def _start(name: str, lxc_path: str, timeout: float) -> tuple[int, str]:
    with tempfile.TemporaryDirectory(prefix="stasis-start-") as place:
        out = f"{place}/output"
        # LXC's monitor keeps the output open.
        done = _runner.run_to_files(
            ["lxc-start", "-P", lxc_path, "-n", name, "-d"],
            environment=_runner.clean_environment(),
            stdout=out,
            stderr=out,
            timeout=timeout,
            grace=10.0,
        )
        with open(out, encoding="utf-8", errors="replace") as stream:
            return done.rc, stream.read().strip()


def _credentials(init: int) -> tuple[str, ...]:
    mounts = _proc.mounts(_files.text_of(f"/proc/{init}/mountinfo"))
    targets = [one.target for one in mounts if one.type == "ramfs" and os.path.dirname(one.target) == CREDENTIALS]
    return tuple(sorted({os.path.basename(one) for one in targets if _SERVICE.match(os.path.basename(one))}))


def unified() -> bool:
    """Whether this host has the v2 hierarchy alone, so that systemd filters device nodes by BPF."""
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def has_memory_v2() -> bool:
    """Whether the v2 hierarchy of this host has the memory controller."""
    try:
        with open(os.path.join(_cgroups.unified_mount(), "cgroup.controllers"), encoding="ascii") as stream:
            return "memory" in stream.read().split()
    except OSError:
        return False


def _service(path: str) -> str:
    """The service that a cgroup belongs to: the first in its path, below which it may have made its own."""
    return next((part for part in path.split("/") if _SERVICE.match(part)), "")


def _members(path: str) -> set[int]:
    try:
        with open(path, encoding="ascii") as stream:
            return {int(line) for line in stream.read().split()}
    except OSError:
        return set()

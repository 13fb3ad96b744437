# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Observe one container: its state, processes, cgroups, NICs and root file system; changes nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _autostart,
    _cgroups,
    _criu_command,
    _errors,
    _files,
    _lxc_config,
    _nics,
    _pidfd,
    _proc,
    _rootfs,
    _runner,
    _sockets,
)

RUNNING = "RUNNING"
STOPPED = "STOPPED"
FROZEN = "FROZEN"
# include/linux/sched.h
_PF_EXITING = 0x4
# In which a killed init has freed its memory and reaped its processes.
_EXIT_SECONDS = 30.0


class Process(t.NamedTuple):
    """A process of this host; the start time (clock ticks after boot) tells it from a later one with its pid."""

    pid: int
    start: int
    command: str = ""

    @property
    def alive(self) -> bool:
        """Whether this very process is still there and not a zombie."""
        found = process(self.pid)
        return found is not None and found.start == self.start

    def send(self, number: int) -> bool:
        """Send a signal to this very process, and to no later one with its pid; whether it was there."""
        try:
            with _pidfd.opened(self.pid) as handle:
                # After the handle was opened: if it is alive now, the handle is of it.
                if self.alive:
                    _pidfd.send(handle, number)
                    return True
        except ProcessLookupError:
            pass
        return False

    @property
    def killed(self) -> bool:
        """Whether it is not there any more, or is about to go: it does nothing any more.

        One that was sent SIGKILL may need a while to free its memory. A CRIU that has killed the tasks it dumped, and was
        killed itself right after that, must not make them pass for alive.
        """
        return not self.alive or is_killed(_stat(self.pid))


@dataclass(frozen=True)
class Container:
    """What is known of a container.

    state: LXC's word. init, monitor: None unless it runs. outsiders: processes inside its cgroup and pid namespace
    that are not descendants of its init (lxc-attach), which CRIU does not dump. terminals: targets, without a
    slash in front, of the terminals that LXC has mounted (console, ttys), whose other ends LXC holds.
    The lists from `nics` to `terminals` are empty unless it runs.
    """

    name: str
    lxc_path: str
    config: _lxc_config.LxcConfig
    state: str
    rootfs: _rootfs.Rootfs
    autostart: _autostart.Autostart
    ephemeral: bool
    mounts: tuple[_criu_command.MountMap, ...]
    init: Process | None = None
    monitor: Process | None = None
    nics: tuple[_nics.Nic, ...] = ()
    connections: tuple[_sockets.Connection, ...] = ()
    cgroups: tuple[_cgroups.Hierarchy, ...] = ()
    outsiders: tuple[Process, ...] = ()
    terminals: tuple[str, ...] = ()

    @property
    def own_paths(self) -> tuple[str, ...]:
        """Where the container's files are, as configured and without symbolic links."""
        named = {os.path.join(self.lxc_path, self.name), self.rootfs.backing.rstrip("/")} - {""}
        return tuple(sorted(named | {os.path.realpath(path) for path in named}))

    @property
    def config_path(self) -> str:
        """The container's own configuration file."""
        return os.path.join(self.lxc_path, self.name, "config")


def process(pid: int) -> Process | None:
    """The process with this pid, or None where there is none or only a zombie."""
    text = _stat(pid)
    if not text:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[19]), text[text.index("(") + 1 : text.rindex(")")])


def is_killed(text: str) -> bool:
    """Whether a process is a zombie, exits or was sent SIGKILL, from its /proc/PID/stat (proc_pid_stat(5)); "" is of none. Pure."""
    if not text:
        return True
    fields = text[text.rindex(")") + 2 :].split()
    flags, pending = int(fields[6]), int(fields[28])
    return fields[0] in "ZX" or bool(flags & _PF_EXITING) or bool(pending & (1 << (signal.SIGKILL - 1)))


def _stat(pid: int) -> str:
    return _files.text_of(f"/proc/{pid}/stat")


def parent(pid: int) -> int:
    """The parent's pid, or 0."""
    match = re.search(r"^PPid:\s*(\d+)$", _files.text_of(f"/proc/{pid}/status"), re.MULTILINE)
    return int(match.group(1)) if match else 0


def query(runner: _runner.Runner, name: str, lxc_path: str) -> tuple[str, int]:
    """LXC's word for the state, and the pid of init (0 unless it runs).

    lxc-info asks the container's monitor; while that one comes up or goes away the answer may be missing, so a
    failure is asked again for up to two seconds.
    """
    deadline = time.monotonic() + 2.0
    while True:
        done = runner.run(["lxc-info", "-P", lxc_path, "-n", name, "-s", "-p"], timeout=20)
        found = dict(re.findall(r"^(State|PID):\s*(\S+)$", done.stdout, re.MULTILINE))
        if done.rc == 0 and "State" in found:
            return found["State"], int(found.get("PID", "0"))
        if time.monotonic() > deadline:
            raise _errors.StasisError(
                f"lxc-info does not know the state of {name}: {(done.stderr or done.stdout).strip()[:300]}",
                f"Run lxc-info -P {lxc_path} -n {name} by hand.",
                rc=done.rc,
            )
        time.sleep(0.1)


def observe(runner: _runner.Runner, name: str, lxc_path: str) -> Container:
    """Everything above about one container. Raises StasisError for one that LXC does not have."""
    config = _lxc_config.read(lxc_path, name)
    state, init_pid = query(runner, name, lxc_path)
    spec = config.last("lxc.rootfs.path", "")
    rootfs = _rootfs.locate(spec)
    facts: dict[str, t.Any] = {}
    init = process(init_pid) if init_pid else None
    if init is not None and init.killed:
        wait_gone(init)
        state, init_pid = query(runner, name, lxc_path)
        init = process(init_pid) if init_pid else None
    if state in (RUNNING, FROZEN) and init is not None:
        cgroups = tuple(_cgroups.observe(init.pid))
        if _cgroups.frozen(cgroups):
            # LXC knows only of its own lxc-freeze.
            state = FROZEN
        facts = {
            "init": init,
            "monitor": process(parent(init.pid)),
            "nics": tuple(_nics.observe(init.pid, config.networks(), runner)),
            "connections": tuple(_sockets.established(init.pid)),
            "cgroups": cgroups,
            "outsiders": tuple(_outsiders(init.pid, _cgroups.processes(cgroups))),
            "terminals": tuple(_terminals(init.pid)),
        }
    return Container(
        name=name,
        lxc_path=lxc_path,
        config=config,
        state=state,
        rootfs=rootfs,
        autostart=_autostart.observe(name, config.last("lxc.start.auto", "0")),
        ephemeral=config.last("lxc.ephemeral", "0").strip() == "1",
        mounts=tuple(bind_mounts(config.values("lxc.mount.entry"), rootfs.backing)),
        **facts,
    )


def wait_gone(killed: Process) -> None:
    """Wait until a killed process has gone, for half a minute at most."""
    deadline = time.monotonic() + _EXIT_SECONDS
    while killed.alive and time.monotonic() < deadline:
        time.sleep(0.005)


def bind_mounts(entries: t.Sequence[str], rootfs: str) -> list[_criu_command.MountMap]:
    """The bind mounts among lxc.mount.entry lines (fstab format), as liblxc maps them for CRIU.

    A target may be relative to the root file system or carry its path in front.
    """
    found = []
    for entry in entries:
        fields = entry.split()
        if len(fields) < 4 or not {"bind", "rbind"} & set(fields[3].split(",")):
            continue
        target = fields[1]
        if rootfs and target.startswith(rootfs + "/"):
            target = target[len(rootfs) :]
        found.append(_criu_command.MountMap(target.strip("/"), fields[0]))
    return found


def _terminals(init_pid: int) -> list[str]:
    return terminals(_proc.mounts(_files.text_of(f"/proc/{init_pid}/mountinfo")))


def terminals(mounts: t.Iterable[_proc.Mount]) -> list[str]:
    """Targets of the terminals among a container's mounts; /dev/ptmx is no terminal, but a part of its own devpts too."""
    return [one.target.lstrip("/") for one in mounts if one.type == "devpts" and one.root not in ("/", "/ptmx")]


def _outsiders(init_pid: int, members: set[int]) -> list[Process]:
    namespace = _namespace(init_pid)
    found = []
    for pid in sorted(members):
        ancestor = pid
        while ancestor > 1 and ancestor != init_pid:
            ancestor = parent(ancestor)
        if ancestor != init_pid and _namespace(pid) == namespace:
            outsider = process(pid)
            if outsider is not None:
                found.append(outsider)
    return found


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def wait_stopped(runner: _runner.Runner, container: Container, timeout: float) -> bool:
    """Wait until LXC's teardown has finished: the monitor has gone and LXC says STOPPED.

    timeout: seconds. Returns whether it did. liblxc removes cgroups and veths before its monitor ends.
    """
    deadline = time.monotonic() + timeout
    while container.monitor is not None and container.monitor.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    while True:
        with contextlib.suppress(_errors.StasisError):
            if query(runner, container.name, container.lxc_path)[0] == STOPPED:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)

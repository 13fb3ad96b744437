# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real LXC containers for the tests: made, started, asked, and removed whatever happened to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from kernel import cgroup_roots, is_monitor, kill, mounts_below, processes

# Who runs the suite beside somebody else's run gives it other names and another network.
_PREFIX = os.environ.get("STASIS_TEST_PREFIX", "stasis-t-")
_BRIDGES = os.environ.get("STASIS_TEST_BRIDGE", "stasisbr")
_NETWORK = os.environ.get("STASIS_TEST_NETWORK", "10.213.40")
# All below directories of root's that nobody else can write, as the module demands.
_BASE = os.environ.get("STASIS_TEST_BASE", "/var/lib/stasis-test")
PORT = 7000


@dataclass(frozen=True)
class Slot:
    """Names, addresses and directories for one process of tests: no other slot has them, so slots work side by side."""

    number: int

    @property
    def prefix(self) -> str:
        """Begins the name of each container, and of what the module keeps for it."""
        return f"{_PREFIX}{self.number}-"

    @property
    def bridges(self) -> str:
        """Begins the name of each network interface of the host's. 15 characters are all that such a name may have."""
        return f"{_BRIDGES}{chr(ord('a') + self.number)}"

    @property
    def network(self) -> str:
        first, second, third = _NETWORK.split(".")
        return f"{first}.{second}.{int(third) + 4 * self.number}"

    @property
    def base(self) -> Path:
        return Path(f"{_BASE}-{self.number}")

    @property
    def lock(self) -> Path:
        """Held by the run that uses this slot."""
        return Path("/run", f"{self.base.name}.lock")


# The number of this process: that of a worker of pytest-xdist, or what whoever started it says.
SLOT = Slot(int(os.environ.get("STASIS_TEST_SLOT") or os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))
PREFIX, BRIDGE_PREFIX, NETWORK, BASE = SLOT.prefix, SLOT.bridges, SLOT.network, SLOT.base
GATEWAY = f"{NETWORK}.1"

T = t.TypeVar("T")


# A deadline says when a test gives up, not how fast a machine must be: this much longer than a good one needs.
PATIENCE = 10


def until(what: t.Callable[[], T], seconds: float = 10.0, why: str = "") -> T:
    """The first true answer of `what`. seconds: what a good machine needs at most; fails after PATIENCE times that."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    pause = 0.01
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {seconds} s: {why or getattr(what, '__name__', what)}; last answer: {answer!r}"
            )
        time.sleep(pause)
        # What is asked may be a program, which wants the processor that it waits for.
        pause = min(pause * 1.2, 0.1)


def run(*argv: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run a command of the host's; its output must not be something that a daemon of LXC's keeps open."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: rc {done.returncode}: {done.stdout}{done.stderr}")
    return done


def cgroup_is_v2(controller: str) -> bool:
    """Whether limits of this controller are set with lxc.cgroup2 on this host."""
    return not Path("/sys/fs/cgroup", controller).is_dir()


@dataclass(frozen=True)
class Nic:
    """One lxc.net entry; settings beside type, as `veth.pair`: `name`."""

    type: str = "veth"
    settings: t.Mapping[str, str] = field(default_factory=dict)


def veth(bridge: str, address: str, **settings: str) -> Nic:
    """A veth in a bridge; settings have `_` for `.`."""
    more = {key.replace("_", "."): value for key, value in settings.items()}
    return Nic("veth", {"flags": "up", "link": bridge, "ipv4.address": f"{address}/24", **more})


class Container:
    """One container. root: its root file system, to be read and written from the host."""

    def __init__(self, name: str, lxc_path: Path, address: str = "", port: int = PORT) -> None:
        self.name = name
        self.lxc_path = lxc_path
        self.address = address
        self.port = port

    @property
    def directory(self) -> Path:
        return self.lxc_path / self.name

    @property
    def root(self) -> Path:
        return self.directory / "rootfs"

    @property
    def config(self) -> Path:
        return self.directory / "config"

    def create(
        self,
        programs: tuple[Path, Path],
        workload: t.Sequence[str],
        nics: t.Sequence[Nic],
        config: t.Sequence[str] = (),
    ) -> None:
        """Write its root file system and configuration. programs: busybox and workload."""
        for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "run", "root"):
            (self.root / folder).mkdir(parents=True)
        busybox, program = programs
        shutil.copy(busybox, self.root / "bin/busybox")
        shutil.copy(program, self.root / "bin/workload")
        for applet in ("sh", "cat", "sleep", "ls", "ip", "kill", "hostname"):
            (self.root / "bin" / applet).symlink_to("busybox")
        (self.root / "etc/workload").write_text("".join(f"{line}\n" for line in workload))
        lines = [
            "lxc.include = /usr/share/lxc/config/common.conf",
            f"lxc.uts.name = {self.name}",
            f"lxc.rootfs.path = dir:{self.root}",
            "lxc.console.path = none",
            "lxc.tty.max = 0",
            "lxc.pty.max = 64",
            "lxc.init.cmd = /bin/workload init",
        ]
        if Path("/sys/kernel/security/apparmor").is_dir():
            lines.append("lxc.apparmor.profile = unconfined")
        for number, nic in enumerate(nics):
            lines.append(f"lxc.net.{number}.type = {nic.type}")
            lines += [f"lxc.net.{number}.{key} = {value}" for key, value in nic.settings.items()]
        self.config.write_text("".join(f"{line}\n" for line in [*lines, *config]))

    def lxc(
        self, command: str, *argv: str, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run `lxc-COMMAND -P LXC_PATH -n NAME ...`."""
        return run(f"lxc-{command}", "-P", str(self.lxc_path), "-n", self.name, *argv, check=check, timeout=timeout)

    def start(self) -> None:
        """Start it, and wait until its workload works."""
        for stale in self.root.glob("tmp/*"):
            if stale.is_file() or stale.is_fifo() or stale.is_socket():
                stale.unlink()
        self._lxc_start()
        # OpenRC on an emulated processor takes more than 10 s.
        until(self._works, 60, f"the workload of {self.name} runs: {self._log()}")

    def _lxc_start(self) -> None:
        """Have LXC start it. Its daemon gets files, since it would keep a pipe open."""
        log = self.directory / "start.log"
        with open(log, "w", encoding="utf-8") as stream:
            done = subprocess.run(
                ["lxc-start", "-P", str(self.lxc_path), "-n", self.name, "-d"],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=600,
                check=False,
            )
        assert done.returncode == 0, f"lxc-start: {log.read_text()}"

    def _works(self) -> bool:
        words = [line.split()[0] for line in (self.root / "etc/workload").read_text().splitlines()]
        signs = {"files": "files.ready", "memory": "memory.ready", "counter6": "counter"}
        return all((self.root / "tmp" / signs.get(word, word)).exists() for word in words) and (
            "counter" not in words or self.count() > 0
        )

    def _log(self) -> str:
        try:
            return (self.root / "tmp/log").read_text()
        except OSError:
            return ""

    @property
    def state(self) -> str:
        return self.lxc("info", "-s", "-H").stdout.strip()

    @property
    def running(self) -> bool:
        return self.state == "RUNNING"

    @property
    def init_pid(self) -> int:
        text = self.lxc("info", "-p", "-H", check=False).stdout.strip()
        return int(text) if text.isdigit() else 0

    def life(self) -> tuple[str, int, int]:
        """Its state, and the pid and start time of init, which together name one start of the container."""
        found = dict(re.findall(r"^(State|PID):\s*(\S+)", self.lxc("info", "-s", "-p").stdout, re.MULTILINE))
        pid = int(found.get("PID", "0"))
        if not pid:
            return found["State"], 0, 0
        text = Path(f"/proc/{pid}/stat").read_text()
        return found["State"], pid, int(text[text.rindex(")") + 2 :].split()[19])

    def info(self, key: str) -> list[str]:
        """The values of one key in lxc-info's output."""
        return re.findall(rf"^{re.escape(key)}:\s*(\S+)", self.lxc("info").stdout, re.MULTILINE)

    def count(self) -> int:
        """What its counter has counted."""
        try:
            return int((self.root / "tmp/counter").read_text() or 0)
        except OSError:
            return 0

    def assert_counts(self) -> None:
        """It runs, and is not frozen: the counter goes on."""
        before = self.count()
        until(lambda: self.count() > before, 5, f"the counter of {self.name} goes on from {before}")

    def ask(self, word: str, seconds: float = 10.0) -> str:
        """Have a part of the workload check itself; `ok` or what is wrong."""
        answer = self.root / f"tmp/{word}.answer"
        answer.unlink(missing_ok=True)
        (self.root / f"tmp/{word}.ask").touch()
        until(answer.exists, seconds, f"{word} answers")
        return answer.read_text().strip()

    def numbers(self, word: str) -> list[int]:
        """What a part of the workload reports in its file."""
        return [int(part) for part in (self.root / "tmp" / word).read_text().split()]

    def links(self) -> list[dict[str, t.Any]]:
        """The network interfaces inside, but for lo."""
        found = json.loads(run("nsenter", f"--net=/proc/{self.init_pid}/ns/net", "ip", "-j", "-d", "addr").stdout)
        return [link for link in found if link.get("ifname") != "lo"]

    def veth(self, name: str = "eth0") -> str:
        """The name of the host side of one of its veths."""
        index = next(link["link_index"] for link in self.links() if link["ifname"] == name)
        return next(link["ifname"] for link in json.loads(run("ip", "-j", "link").stdout) if link["ifindex"] == index)

    def stop(self) -> None:
        """Stop it the hard way, and wait until LXC has torn it down."""
        self.lxc("stop", "-k", check=False)
        until(lambda: self.state == "STOPPED", 20, f"{self.name} is stopped")
        until(lambda: not self._processes(), 20, f"the monitor of {self.name} ends")

    def _processes(self) -> list[int]:
        """LXC's monitor of it, and lxc-checkpoint where that is its monitor."""
        return [pid for pid, words in processes().items() if is_monitor(words, self.name, str(self.lxc_path))]

    def destroy(self) -> None:
        """Stop and remove it, whatever state a test has left it in. Raises only when something is left."""
        kill(
            pid
            for pid, words in processes().items()
            if f"/{self.name}/" in " ".join(words) and f"{_BASE}-" in " ".join(words)
        )
        self._thaw()
        kill(self._cgroup_members())
        deadline = time.monotonic() + 5
        while self._processes() and time.monotonic() < deadline:
            time.sleep(0.01)
        kill(self._processes())
        self.remove_cgroups()
        remove_tree(self.directory)

    def cgroups(self) -> list[Path]:
        """Its cgroups in every hierarchy, the deepest first."""
        found: list[Path] = []
        for top in cgroup_roots():
            for folder, _folders, _files in os.walk(top):
                path = Path(folder)
                parts = path.relative_to(top).parts
                if any(
                    re.fullmatch(rf"lxc\.(payload|monitor|pivot)\.{re.escape(self.name)}(-\d+)?", part)
                    for part in parts
                ):
                    found.append(path)
        return sorted(found, key=lambda path: -len(path.parts))

    def _cgroup_members(self) -> list[int]:
        pids: set[int] = set()
        for path in self.cgroups():
            if "lxc.payload." in str(path):
                try:
                    pids.update(int(line) for line in (path / "cgroup.procs").read_text().split())
                except OSError:
                    continue
        return sorted(pids - {0})

    def _thaw(self) -> None:
        """What is frozen does not die."""
        for path in self.cgroups():
            for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (path / name).exists():
                    (path / name).write_text(word)

    def remove_cgroups(self) -> None:
        for path in self.cgroups():
            try:
                path.rmdir()
            except OSError:
                continue


def remove_tree(path: Path) -> None:
    """Remove a directory of ours, but never what is mounted below it."""
    if not str(path).startswith((f"{_BASE}-", "/var/log/stasis/")):
        raise AssertionError(f"{path} is not ours to remove")
    mounted = mounts_below(path)
    if mounted:
        raise AssertionError(f"{path} has mounts below it and is left alone: {mounted}")
    if path.is_dir():
        shutil.rmtree(path)


class Bridge:
    """A bridge of the tests' own."""

    def __init__(self, name: str, *options: str, address: str = "") -> None:
        self.name = name
        run("ip", "link", "add", name, "type", "bridge", *options)
        if address:
            run("ip", "address", "add", address, "dev", name)
        run("ip", "link", "set", name, "up")

    def ports(self) -> set[str]:
        return {entry.name for entry in Path(f"/sys/class/net/{self.name}/brif").iterdir()}

    def remove(self) -> None:
        remove_link(self.name)


def remove_link(name: str) -> None:
    """Remove a network interface, where there is one."""
    run("ip", "link", "delete", name, check=False)

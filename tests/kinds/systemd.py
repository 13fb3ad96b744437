# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds with a whole Debian: systemd, journald, logind, dbus, sshd, in LXC's default configuration."""

from __future__ import annotations

import shutil
import subprocess
import time
import typing as t
from pathlib import Path

from containers import PORT, PREFIX, remove_tree, run, until
from inits import may_read_limits, ticks
from kind import ADDRESS, Facts, Ground, Kind, Subject, UnavailableError
from module import Module

BUNDLE = Path(__file__).resolve().parent.parent
PROGRAMS = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# An emulated processor takes its time; what takes longer is a failure.
PATIENCE = 240
LIMIT = 67108864
UNITS = {
    "workload.service": f"""[Service]
ExecStart=/bin/workload counter {PORT}
MemoryMax={LIMIT}
[Install]
WantedBy=multi-user.target
""",
    # With a mount namespace of its own, beside logind's: CRIU restores one, but not two.
    "sandboxed.service": """[Service]
ExecStart=/bin/sleep infinity
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=yes
[Install]
WantedBy=multi-user.target
""",
    "tick.service": "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo >>/run/ticks'\n",
    "tick.timer": "[Timer]\nOnActiveSec=2\nOnUnitActiveSec=2\nAccuracySec=100ms\n[Install]\nWantedBy=timers.target\n",
}
SERVICES = ("dbus", "sandboxed", "ssh", "systemd-journald", "systemd-logind", "tick.timer", "workload")


class System(Subject):
    """A container with systemd, and one login over ssh that has to survive. Its terminals are no facts: a restored one has none."""

    def __init__(self, name: str, lxc_path: Path, address: str, key: Path) -> None:
        super().__init__(name, lxc_path, address)
        self.key = key
        self.login: subprocess.Popen[str] | None = None
        self._said = 0

    def start(self) -> None:
        log = self.directory / "start.log"
        with open(log, "w", encoding="utf-8") as stream:
            words = ["lxc-start", "-P", str(self.lxc_path), "-n", self.name, "-d"]
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, timeout=1200, check=False
            )
        assert done.returncode == 0, f"lxc-start: {log.read_text()}"
        until(lambda: self.health() in ("running", "degraded"), PATIENCE, "systemd has started everything")
        until(lambda: self.count() > 0, PATIENCE, "the counter counts")

    def health(self) -> str:
        """systemd's own word for the whole."""
        return self.command("systemctl", "is-system-running", check=False).strip()

    def command(self, *argv: str, check: bool = True) -> str:
        """What a program of the container's says."""
        words = ("attach", "--clear-env", "-v", PROGRAMS, "--", *argv)
        return self.lxc(*words, check=check, timeout=PATIENCE).stdout

    def mounts(self) -> list[str]:
        return [one for one in super().mounts() if not one.startswith(("/dev/console ", "/dev/lxc/", "/dev/tty"))]

    def ssh(self, *argv: str) -> list[str]:
        """The words of a login."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=60")
        words = [word for option in options for word in ("-o", option)]
        return ["ssh", "-F", "none", *words, "-i", str(self.key), f"root@{self.address}", *argv]

    def log_in(self) -> None:
        """Begin the login that has to survive: it says again what it is told."""
        self.login = subprocess.Popen(
            self.ssh('while read word; do echo "$word again"; done'),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def assert_logged_in(self) -> None:
        """The login is still there and answers."""
        assert self.login is not None
        assert self.login.stdin is not None
        assert self.login.stdout is not None
        self._said += 1
        self.login.stdin.write(f"{self._said}\n")
        self.login.stdin.flush()
        said = self.login.stdout.readline()
        assert said == f"{self._said} again\n", f"the login that was there before says {said!r}"

    def log_out(self) -> None:
        if self.login is not None:
            self.login.kill()
            self.login.communicate()


class Debian(Kind):
    """What they have in common; a kind says which suite and number."""

    slow = True
    suite = ""
    number = ""

    @property
    def name(self) -> str:
        return f"debian{self.number}-systemd"

    def create(self, ground: Ground) -> Subject:
        ground.need("ssh", "ssh-keygen")
        tarball = BUNDLE / f"rootfs-{self.suite}.tar"
        if not tarball.exists():
            raise UnavailableError(f"the bundle was made without a root file system of {self.suite}")
        key = ground.directory / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        subject = System(f"{PREFIX}kind", ground.lxc_path, ADDRESS, key)
        ground.closing.callback(_remove, subject)
        root = subject.directory / "rootfs"
        root.mkdir(parents=True)
        run("tar", "-C", str(root), "--numeric-owner", "-xf", str(tarball), timeout=PATIENCE)
        self._prepare(ground, subject, root)
        self.adapt(ground, subject)
        self._relax(ground, subject)
        return subject

    def adapt(self, ground: Ground, subject: Subject) -> None:
        """What kinds change of it before the role prepares it."""

    @staticmethod
    def _prepare(ground: Ground, subject: System, root: Path) -> None:
        """LXC's default configuration; the workload, a timer and a key in the root file system."""
        lines = [
            "lxc.include = /usr/share/lxc/config/common.conf",
            f"lxc.uts.name = {subject.name}",
            f"lxc.rootfs.path = dir:{root}",
            "lxc.net.0.type = veth",
            f"lxc.net.0.link = {ground.bridge.name}",
            "lxc.net.0.flags = up",
            f"lxc.net.0.ipv4.address = {ADDRESS}/24",
        ]
        if Path("/sys/kernel/security/apparmor").is_dir():
            lines += ["lxc.apparmor.profile = generated", "lxc.apparmor.allow_nesting = 1"]
        subject.config.write_text("".join(f"{line}\n" for line in lines))
        shutil.copy(ground.programs[1], root / "bin/workload")
        (root / "etc/workload").write_text(f"counter {PORT}\n")
        units = root / "etc/systemd/system"
        for name, text in UNITS.items():
            (units / name).write_text(text)
            for target in ("multi-user.target", "timers.target"):
                if f"WantedBy={target}" in text:
                    (units / f"{target}.wants").mkdir(exist_ok=True)
                    (units / f"{target}.wants" / name).symlink_to(f"../{name}")
        # They ask the network.
        for name in ("apt-daily.timer", "apt-daily-upgrade.timer"):
            (units / "timers.target.wants" / name).unlink(missing_ok=True)
        keys = root / "root/.ssh"
        keys.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(f"{subject.key}.pub", keys / "authorized_keys")
        if not may_read_limits():
            folder = units / "dbus.service.d"
            folder.mkdir()
            (folder / "root.conf").write_text("[Service]\nUser=\nGroup=\nAmbientCapabilities=\n")
            (root / "etc/dbus-1/system-local.conf").write_text("<busconfig><user>root</user></busconfig>\n")
            subject.notes.append("this host's root lacks CAP_SYS_RESOURCE, so dbus runs as root")

    @staticmethod
    def _relax(ground: Ground, subject: System) -> None:
        """What the role stasis.lxc.checkpointable does, and nothing else; said in the evidence."""
        scratch = ground.directory / "preparation"
        scratch.mkdir()
        module = Module(
            BUNDLE / "collections", scratch, core=str(BUNDLE / "core"), name="lxc_checkpointable", seconds=PATIENCE
        )
        answer = module.run(name=subject.name, lxc_path=str(subject.lxc_path))
        assert not answer.get("failed"), answer.get("msg")
        assert not answer["blocked"], f"what the role leaves in the way: {answer['blocked']}"
        subject.notes += [f"relaxed: {one['unit']}: {' '.join(one['settings'])}" for one in answer["relaxations"]]

    def alive(self, subject: Subject) -> None:
        assert isinstance(subject, System)
        if subject.login is None:
            subject.log_in()
        super().alive(subject)
        subject.assert_logged_in()
        for unit in ("ssh", "systemd-journald", "sandboxed"):
            subject.command("systemctl", "restart", unit)
        # At the top of the container's cgroups.
        subject.command("systemd-run", "--quiet", "--wait", "--slice=fresh.slice", "true")
        word = f"a-word-{time.monotonic_ns()}"
        subject.command("logger", word)
        until(lambda: word in subject.command("journalctl", "--no-pager", "-n", "50"), 30, "journald logs")
        done = run(*subject.ssh("loginctl", "--no-legend", "list-sessions"), timeout=PATIENCE)
        assert len(done.stdout.splitlines()) >= 2, f"logind knows of the sessions: {done.stdout}"
        fired = _ticks(subject)
        until(lambda: _ticks(subject) != fired, 60, "the timer fires")
        # An epoll set that is never quiet keeps it busy for good; what it does for us ends.
        until(lambda: _idle(subject), 60, "systemd is idle")

    def last_words(self, subject: Subject) -> list[str]:
        assert isinstance(subject, System)
        said = subject.command("journalctl", "--no-pager", "-q", "-p", "notice", "-n", "40", "-o", "short-monotonic")
        return [f"journal: {line}" for line in said.splitlines()]

    def facts(self, subject: Subject) -> Facts:
        assert isinstance(subject, System)
        active = subject.command("systemctl", "is-active", *SERVICES, check=False).split()
        found = {
            **super().facts(subject),
            "health": subject.health(),
            "services": dict(zip(SERVICES, active)),
            "limit": _limit(subject),
            "label": _label(subject),
            "devices": _devices(subject),
        }
        # systemd holds a pidfd of each client for a moment, and one of a process from outside cannot be dumped. A dump comes next.
        until(lambda: not _outsiders(subject), 60, "what lxc-attach has started is gone")
        return found


class Debian12(Debian):
    title = "Debian 12 with systemd, LXC's default configuration, prepared by the role"
    suite = "bookworm"
    number = "12"


class Debian13(Debian):
    title = "Debian 13 with systemd, LXC's default configuration, prepared by the role"
    suite = "trixie"
    number = "13"


def _idle(subject: System) -> bool:
    """Whether systemd had less than half of a processor for a second."""
    before = ticks(subject.init_pid)
    time.sleep(1)
    return ticks(subject.init_pid) - before < 50


def _outsiders(subject: System) -> list[str]:
    """Pidfds of systemd for processes that are not in the container's tree."""
    inside = [subject.init_pid]
    for pid in inside:
        inside += [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in _read(path).split()]
    found = []
    for path in Path(f"/proc/{subject.init_pid}/fdinfo").iterdir():
        pids = [line.split()[1] for line in _read(path).splitlines() if line.startswith("Pid:")]
        found += [pid for pid in pids if pid not in ("-1", *map(str, inside))]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _devices(subject: System) -> str:
    """What comes of opening a device node that LXC's rules forbid; without rules there would be no such device."""
    command = "rm -f /root/node && mknod /root/node b 240 99 && cat /root/node"
    said = subject.command("sh", "-c", f"({command}) 2>&1 || true").strip()
    assert "Operation not permitted" in said, f"a forbidden device node: {said}"
    return said


def _ticks(subject: System) -> str:
    """A line for each time that the timer fired."""
    return subject.command("cat", "/run/ticks", check=False)


def _label(subject: System) -> str:
    """What confines init."""
    try:
        return Path(f"/proc/{subject.init_pid}/attr/current").read_text(encoding="utf-8").strip(" \n\0")
    except OSError:
        return ""


def _limit(subject: System) -> t.Any:
    found = subject.command("systemctl", "show", "-P", "MemoryMax", "workload").strip()
    assert found == str(LIMIT), f"the workload's limit is {found}"
    pid = subject.command("systemctl", "show", "-P", "MainPID", "workload").strip()
    text = subject.command("cat", f"/proc/{pid}/cgroup")
    path = next(line.split(":", 2)[2] for line in text.splitlines() if "memory" in line or line.startswith("0::"))
    for top in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        for name in ("memory.limit_in_bytes", "memory.max"):
            value = subject.command("sh", "-c", f"cat {top}{path}/{name} 2>/dev/null || true").strip()
            if value:
                assert value == str(LIMIT), f"the kernel's limit is {value}"
                return value
    return "no memory controller"


def _remove(subject: System) -> None:
    subject.log_out()
    subject.destroy()
    if subject.directory.exists():
        remove_tree(subject.directory)

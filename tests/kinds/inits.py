# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds that differ in their init and their distribution."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from containers import PORT, remove_tree, run, until
from kind import Facts, Ground, Kind, Subject, UnavailableError

SERVICE = f"""#!/sbin/openrc-run
command=/bin/workload
command_args="counter {PORT}"
command_background=true
pidfile=/run/workload.pid
"""


class BusyboxInit(Kind):
    title = "busybox init with an inittab"

    def create(self, ground: Ground) -> Subject:
        subject = ground.subject()
        root = subject.directory / "rootfs"
        (root / "sbin").mkdir()
        (root / "sbin/init").symlink_to("../bin/busybox")
        (root / "etc/inittab").write_text(f"::respawn:/bin/workload counter {PORT}\n::respawn:/bin/sleep 3\n")
        subject.set_config("lxc.init.cmd = /sbin/init")
        return subject

    def alive(self, subject: Subject) -> None:
        super().alive(subject)
        # The child that ends is started again: init still reaps and respawns.
        before = children(subject.init_pid)
        until(lambda: children(subject.init_pid) != before, 15, "init starts its ended child again")


class Alpine(Kind):
    title = "Alpine Linux 3.23 with OpenRC"

    def create(self, ground: Ground) -> Subject:
        tarball = Path(__file__).resolve().parent.parent / "alpine.tar"
        if not tarball.exists():
            raise UnavailableError("the bundle was made without an Alpine root file system")
        subject = ground.subject()
        root = subject.directory / "rootfs"
        remove_tree(root)
        root.mkdir()
        run("tar", "-C", str(root), "--numeric-owner", "-xf", str(tarball))
        shutil.copy(ground.programs[1], root / "bin/workload")
        (root / "etc/workload").write_text(f"counter {PORT}\n")
        self._prepare(root)
        if not may_read_limits():
            service = root / "etc/init.d/syslog"
            service.write_text(service.read_text().replace("-g wheel ", ""))
            subject.notes.append("this host's root lacks CAP_SYS_RESOURCE, so syslogd runs in the group root")
        subject.set_config("lxc.init.cmd = /sbin/init")
        return subject

    @staticmethod
    def _prepare(root: Path) -> None:
        """What LXC's template for Alpine does: services of a container, not those of a machine; no terminals."""
        (root / "etc/inittab").write_text(
            "::sysinit:/sbin/openrc sysinit\n::sysinit:/sbin/openrc boot\n::wait:/sbin/openrc default\n"
            "::shutdown:/sbin/openrc shutdown\n"
        )
        with open(root / "etc/rc.conf", "a", encoding="utf-8") as stream:
            stream.write('\nrc_sys="lxc"\n')
        for level in ("sysinit", "boot", "default"):
            for service in (root / "etc/runlevels" / level).iterdir():
                service.unlink()
        service = root / "etc/init.d/workload"
        service.write_text(SERVICE)
        service.chmod(0o755)
        for level, name in (("boot", "bootmisc"), ("boot", "syslog"), ("default", "crond"), ("default", "workload")):
            (root / "etc/runlevels" / level / name).symlink_to(f"/etc/init.d/{name}")

    def facts(self, subject: Subject) -> Facts:
        inside = Inside(subject)
        status = inside("rc-status", "--all", "--format", "ini")
        for name in ("syslog", "crond", "workload"):
            assert f"{name} =  started" in status, f"{name} does not run: {status}"
        return {**super().facts(subject), "services": status}

    def alive(self, subject: Subject) -> None:
        super().alive(subject)
        inside = Inside(subject)
        inside("rc-service", "crond", "restart")
        inside("logger", "a word for the log")
        before = ticks(subject.init_pid)
        time.sleep(1)
        spent = ticks(subject.init_pid) - before
        assert spent < 20, f"init is busy: {spent} of 100 ticks"
        until(lambda: "a word for the log" in (subject.root / "var/log/messages").read_text(), 30, "syslog logs")


class Inside:
    """Runs commands inside, as lxc-attach does."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def __call__(self, *argv: str) -> str:
        return self.subject.lxc("attach", "--clear-env", "--", *argv).stdout


def may_read_limits() -> bool:
    """Whether root has CAP_SYS_RESOURCE; without it CRIU can dump no process of another user or group."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> 24 & 1)


def ticks(pid: int) -> int:
    """What a process has had of a processor's time, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def children(pid: int) -> set[int]:
    """The children of a process."""
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

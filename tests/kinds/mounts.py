# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds that have something of the host's mounted inside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from containers import until
from kind import Facts, Ground, Kind, Subject, UnavailableError

LXCFS = Path("/var/lib/lxcfs")


class BindMounts(Kind):
    title = "bind mounts of a directory and of a file"

    def create(self, ground: Ground) -> Subject:
        shared = ground.directory / "shared"
        shared.mkdir()
        (shared / "word").write_text("here\n")
        single = ground.directory / "single"
        single.write_text("one file\n")
        return ground.subject(
            config=[
                f"lxc.mount.entry = {shared} srv none bind,create=dir 0 0",
                f"lxc.mount.entry = {single} etc/single none bind,ro,create=file 0 0",
            ]
        )

    def facts(self, subject: Subject) -> Facts:
        return {
            **super().facts(subject),
            "directory": (subject.root / "srv/word").read_text(),
            "file": (subject.root / "etc/single").read_text(),
            "written": self._write(subject),
        }

    @staticmethod
    def _write(subject: Subject) -> str:
        """What the container writes there the host reads."""
        (subject.root / "srv/back").write_text("from inside\n")
        return (subject.lxc_path.parent / "shared/back").read_text()


class Lxcfs(Kind):
    title = "lxcfs over files of /proc and /sys"
    # LXC mounts it into each container that starts while it is there.
    alone = True

    def create(self, ground: Ground) -> Subject:
        ground.need("lxcfs")
        if not (LXCFS / "proc").is_dir():
            self._serve(ground)
        return ground.subject()

    @staticmethod
    def _serve(ground: Ground) -> None:
        """A daemon of our own, where the host does not run one."""
        if not Path("/dev/fuse").exists():
            raise UnavailableError("the kernel has no fuse")
        LXCFS.mkdir(exist_ok=True)
        daemon = subprocess.Popen(
            ["lxcfs", "-f", "-p", str(ground.directory / "lxcfs.pid"), str(LXCFS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def end() -> None:
            daemon.terminate()
            daemon.wait(10)

        ground.closing.callback(end)
        until((LXCFS / "proc").is_dir, 10, "lxcfs serves")
        try:
            (LXCFS / "proc/uptime").read_bytes()
        except PermissionError as exc:
            # Met with lxcfs 6.0.4 of a Debian 13 without systemd on a host with cgroup v1 and v2: nobody can read it.
            raise UnavailableError("lxcfs serves files here that not even root can read") from exc

    def facts(self, subject: Subject) -> Facts:
        mounts = subject.mounts()
        served = [mount for mount in mounts if mount.split()[1].startswith("fuse.lxcfs")]
        assert served, "nothing of lxcfs is mounted inside"
        uptime = float((subject.root / "proc/uptime").read_text().split()[0])
        host = float(Path("/proc/uptime").read_text().split()[0])
        # It still answers, and for this container: since its start is shorter than since the host's.
        return {
            **super().facts(subject),
            "served": served,
            "own uptime": uptime < host,
            "meminfo": "MemTotal" in (subject.root / "proc/meminfo").read_text(),
            "readable": os.access(subject.root / "proc/stat", os.R_OK),
        }

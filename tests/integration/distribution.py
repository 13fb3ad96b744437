# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers with a whole Debian in them, systemd and all, from a tarball of tools/rootfs."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from containers import Container, remove_tree, run, until

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PROGRAMS = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@functools.cache
def tarball(suite: str) -> str:
    """Where the root file system of a suite is; made where it is not there yet."""
    return run(str(TOOLS / "rootfs"), suite, timeout=7200).stdout.strip().splitlines()[-1]


class Distribution(Container):
    """A container with LXC's default configuration, as far as this host can: console, ttys, nesting."""

    def make(self, suite: str, first: int = 0) -> None:
        """Write it. first: the host's uid and gid of its root, in a user namespace unless 0."""
        self.root.mkdir(parents=True)
        run("tar", "-C", str(self.root), "--numeric-owner", "-xf", tarball(suite), timeout=1200)
        # Both ask the network, or take long.
        for name in ("apt-daily.timer", "apt-daily-upgrade.timer"):
            (self.root / "etc/systemd/system/timers.target.wants" / name).unlink(missing_ok=True)
        lines = [
            "lxc.include = /usr/share/lxc/config/common.conf",
            f"lxc.uts.name = {self.name}",
            f"lxc.rootfs.path = dir:{self.root}",
            "lxc.net.0.type = empty",
        ]
        if first:
            lines.insert(1, "lxc.include = /usr/share/lxc/config/userns.conf")
            lines += [f"lxc.idmap = u 0 {first} 65536", f"lxc.idmap = g 0 {first} 65536"]
            self._shift(first)
        if Path("/sys/kernel/security/apparmor").is_dir():
            lines += ["lxc.apparmor.profile = generated", "lxc.apparmor.allow_nesting = 1"]
        self.config.write_text("".join(f"{line}\n" for line in lines))

    def _shift(self, first: int) -> None:
        for folder in (self.lxc_path, self.directory):
            folder.chmod(0o755)
        for folder, folders, files in os.walk(self.root):
            for name in [*folders, *files]:
                path = Path(folder, name)
                status = path.lstat()
                os.lchown(path, first + status.st_uid, first + status.st_gid)
                if not path.is_symlink():
                    # The change of the owner took away set-uid bits.
                    path.chmod(status.st_mode & 0o7777)
        os.chown(self.root, first, first)

    def start(self) -> None:
        """Start it, and wait until systemd has started everything."""
        self._lxc_start()
        until(lambda: self.health() in ("running", "degraded"), 120, f"systemd in {self.name} has started everything")

    def health(self) -> str:
        """systemd's own word for the whole."""
        return self.inside("systemctl", "is-system-running", check=False).strip()

    def inside(self, *argv: str, check: bool = True) -> str:
        """What a program of the container's says."""
        return self.lxc("attach", "--clear-env", "-v", PROGRAMS, "--", *argv, check=check).stdout

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """What systemd has read for a unit; a list with nothing in it is not shown."""
        text = self.inside("systemctl", "show", *(f"--property={name}" for name in names), unit)
        return {**dict.fromkeys(names, ""), **dict(line.split("=", 1) for line in text.splitlines())}

    def destroy(self) -> None:
        """As Container.destroy(), and mounts that the container may have left go with its namespace."""
        super().destroy()
        if self.directory.exists():
            remove_tree(self.directory)


def everything(top: Path) -> dict[str, tuple[object, ...]]:
    """Every file below top with all that a change of it would change, but for the times of directories."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = Path(folder, name)
            status = path.lstat()
            facts: tuple[object, ...] = (status.st_mode, status.st_uid, status.st_gid)
            if path.is_symlink():
                facts += (os.readlink(path),)
            elif path.is_file():
                facts += (status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            found[str(path.relative_to(top))] = facts
    return found

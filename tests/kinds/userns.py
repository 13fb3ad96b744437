# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unprivileged containers, run by root."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import typing as t
from pathlib import Path

from kind import Facts, Ground, Kind, Subject
from systemd import Debian

FIRST, COUNT = 1_000_000, 65536
MAP = [
    "lxc.include = /usr/share/lxc/config/userns.conf",
    f"lxc.idmap = u 0 {FIRST} {COUNT}",
    f"lxc.idmap = g 0 {FIRST} {COUNT}",
]


class Unprivileged(Kind):
    title = "unprivileged (user namespace), run by root"

    def create(self, ground: Ground) -> Subject:
        subject = ground.subject(config=MAP)
        _give(ground, subject)
        return subject

    def facts(self, subject: Subject) -> Facts:
        process = Path(f"/proc/{subject.init_pid}")
        status = (process / "status").read_text()
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert set(uids) == {str(FIRST)}, f"init runs as {uids}"
        return {
            **super().facts(subject),
            "map": _map(subject),
            "capabilities": [line for line in status.splitlines() if line.startswith("Cap")],
            "owner": (subject.root / "tmp/counter").stat().st_uid,
        }


class _System(Debian):
    @property
    def name(self) -> str:
        return f"unprivileged-{super().name}"

    def adapt(self, ground: Ground, subject: Subject) -> None:
        with open(subject.config, "a", encoding="utf-8") as stream:
            stream.write("".join(f"{line}\n" for line in MAP))
        _give(ground, subject)

    def facts(self, subject: Subject) -> Facts:
        found = {**super().facts(subject), "map": _map(subject)}
        assert found["map"][0][1] == str(FIRST), f"it is not in a user namespace: {found['map']}"
        return found


class UnprivilegedDebian12(_System):
    title = "unprivileged, run by root: Debian 12 with systemd, prepared by the role"
    suite = "bookworm"
    number = "12"


class UnprivilegedDebian13(_System):
    title = "unprivileged, run by root: Debian 13 with systemd, prepared by the role"
    suite = "trixie"
    number = "13"


def _map(subject: Subject) -> list[list[str]]:
    return [Path(f"/proc/{subject.init_pid}/{name}").read_text().split() for name in ("uid_map", "gid_map")]


def _give(ground: Ground, subject: Subject) -> None:
    """Make the container's root file system that of the mapped users, and let them reach it."""
    if shutil.which("newuidmap"):
        for name in ("subuid", "subgid"):
            _reserve(ground, Path("/etc", name))
    ground.lxc_path.chmod(0o755)
    subject.directory.chmod(0o755)
    root = subject.directory / "rootfs"
    _shift(root)
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            _shift(Path(folder, name))


def _shift(path: Path) -> None:
    status = path.lstat()
    os.lchown(path, FIRST + status.st_uid, FIRST + status.st_gid)
    if not stat.S_ISLNK(status.st_mode):
        # The change of the owner took away set-uid bits.
        path.chmod(stat.S_IMODE(status.st_mode))


def _reserve(ground: Ground, path: Path) -> None:
    """Give root the range until the kind ends: where newuidmap is installed, liblxc asks it for root's containers too.

    Two kinds may do so at once, so each adds a line and takes away one.
    """
    line = f"root:{FIRST}:{COUNT}\n"
    _edit(path, lambda text: text + line)
    ground.closing.callback(_edit, path, lambda text: "".join(text.rpartition(line)[::2]))


def _edit(path: Path, change: t.Callable[[str], str]) -> None:
    """Put another text in the place of a file's, at once."""
    with open(f"/run/{path.name}.stasis-lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = path.with_name(f"{path.name}.stasis-new")
        new.write_text(change(path.read_text() if path.exists() else ""))
        if path.exists():
            shutil.copystat(path, new)
        new.replace(path)

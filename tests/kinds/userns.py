# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unprivileged containers, run by root."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kind import Facts, Ground, Kind, Subject

FIRST, COUNT = 1_000_000, 65536


class Unprivileged(Kind):
    title = "unprivileged (user namespace), run by root"

    def create(self, ground: Ground) -> Subject:
        if shutil.which("newuidmap"):
            for name in ("subuid", "subgid"):
                _reserve(ground, Path("/etc", name))
        subject = ground.subject(
            config=[
                "lxc.include = /usr/share/lxc/config/userns.conf",
                f"lxc.idmap = u 0 {FIRST} {COUNT}",
                f"lxc.idmap = g 0 {FIRST} {COUNT}",
            ]
        )
        ground.lxc_path.chmod(0o755)
        subject.directory.chmod(0o755)
        for folder, folders, files in os.walk(subject.directory / "rootfs"):
            for name in [*folders, *files, "."]:
                os.lchown(Path(folder, name), FIRST, FIRST)
        return subject

    def facts(self, subject: Subject) -> Facts:
        process = Path(f"/proc/{subject.init_pid}")
        status = (process / "status").read_text()
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert set(uids) == {str(FIRST)}, f"init runs as {uids}"
        return {
            **super().facts(subject),
            "map": [(process / name).read_text().split() for name in ("uid_map", "gid_map")],
            "capabilities": [line for line in status.splitlines() if line.startswith("Cap")],
            "owner": (subject.root / "tmp/counter").stat().st_uid,
        }


def _reserve(ground: Ground, path: Path) -> None:
    """Give root the range until the kind ends: where newuidmap is installed, liblxc asks it for root's containers too."""
    line, before = f"root:{FIRST}:{COUNT}\n", path.read_text() if path.exists() else ""
    if line not in before:
        path.write_text(before + line)
        ground.closing.callback(path.write_text, before)

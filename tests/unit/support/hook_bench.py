# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hook under every shell that /bin/sh may be, with an `ip`, `bridge` and `sync` that only write down their calls."""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

HOOK = Path(__file__).resolve().parents[3] / "roles" / "criu" / "files" / "restore-net"
SHELLS = {"dash": ["/usr/bin/dash"], "busybox": ["/bin/busybox", "sh"]}
# argv on one line, then standard input; `sync` has no input. Fails as often as its name stands in `fail`.
FAKE = """#!/bin/sh
me=${0##*/}
{
    echo "$me $*"
    case $* in *-batch*) /bin/cat ;; esac
} >>"$FAKE_LOG"
case ,$FAKE_FAIL, in *,$me,*) exit 1 ;; esac
exit 0
"""


class Bench:
    """One image directory, one work directory, and the hook to be run on them."""

    def __init__(self, root: Path, shell: t.Sequence[str]) -> None:
        self.shell = list(shell)
        self.images = root / "images"
        self.work = root / "work"
        self.sysfs = root / "sys"
        self.proc = root / "proc"
        self.log = root / "log"
        self.path = root / "bin"
        for directory in (self.images, self.work, self.sysfs / "class" / "net", self.path):
            directory.mkdir(parents=True)
        for name in ("ip", "bridge", "sync"):
            self.script(self.path / name, FAKE)

    @staticmethod
    def script(path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    def record(self, **words: str) -> None:
        """Records as the module writes them: exactly the given text, no newline added."""
        for name, text in words.items():
            (self.images / name).write_text(text)

    def veth(self, number: int, **more: str) -> None:
        self.record(**{f"eth{number}": f"eth{number}", f"veth{number}": f"host{number}"})
        self.record(**{f"{kind}{number}": text for kind, text in more.items()})

    def bridge(self, name: str) -> None:
        (self.sysfs / "class" / "net" / name / "bridge").mkdir(parents=True)

    def port(self, veth: str) -> Path:
        port = self.sysfs / "class" / "net" / veth / "brport"
        port.mkdir(parents=True)
        return port

    def sysctl(self, veth: str, family: str, name: str, value: str) -> Path:
        path = self.proc / "sys" / "net" / family / "conf" / veth / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
        return path

    def run(self, action: str, *arguments: str, fail: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "CRTOOLS_SCRIPT_ACTION": action,
            "CRTOOLS_IMAGE_DIR": str(self.images),
            "STASIS_WORK": str(self.work),
            "STASIS_SYSFS": str(self.sysfs),
            "STASIS_PROCFS": str(self.proc),
            "FAKE_LOG": str(self.log),
            "FAKE_FAIL": fail,
            # Nothing but our doubles: the hook has to do with builtins.
            "PATH": str(self.path),
        }
        given.update(environment)
        return subprocess.run(
            [*self.shell, str(HOOK), *arguments],
            env={key: value for key, value in given.items() if value != "UNSET"},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    def calls(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def refused(self) -> str:
        """Why the hook had CRIU roll back."""
        return self._told("hook.refused")

    def warned(self) -> str:
        """What the hook could not do, and went on without."""
        return self._told("hook.warnings")

    def _told(self, name: str) -> str:
        log = self.work / name
        return log.read_text() if log.exists() else ""


def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

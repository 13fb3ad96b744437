# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a running QEMU machine as it is, and have it go on from there another time. FOLDER: of the machine, with its socket `qmp`.

machine.py keep FOLDER TARGET  writes TARGET/ram; what the machine writes from then on goes to FOLDER/disk.more, and FOLDER/disk
                               stays as the disk that belongs to TARGET/ram. The machine stands still for that long, and goes on.
machine.py resume FOLDER       waits until QEMU has read all of its RAM, and has the machine go on
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
import typing as t
from pathlib import Path

# For a machine several times as slow as the one that this takes three seconds on.
SECONDS = 300


class Monitor:
    """QEMU's machine protocol, over its socket."""

    def __init__(self) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        connection.connect("qmp")
        self._file = connection.makefile("rw", encoding="utf-8")
        self._file.readline()
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: t.Any) -> t.Any:
        """Run a command and return its result; events in between are skipped."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        for line in self._file:
            answer = json.loads(line)
            if "error" in answer:
                sys.exit(f"QEMU refused {command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]
        sys.exit(f"QEMU ended at {command}; see the file console beside its socket")


def keep(folder: Path, target: Path) -> None:
    # A socket's path may have no more than 108 characters.
    os.chdir(folder)
    monitor = Monitor()
    deadline = time.monotonic() + SECONDS
    monitor.do("stop")
    try:
        monitor.do("blockdev-snapshot-sync", device="disk", **{"snapshot-file": str(folder / "disk.more")})
        monitor.do("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        monitor.do("migrate", uri=f"exec:cat >{shlex.quote(str(target / 'ram'))}")
        while (status := monitor.do("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled"):
                sys.exit(f"QEMU could not write {target}/ram: {status}; see whether its file system is full")
            if time.monotonic() > deadline:
                sys.exit(f"QEMU did not write {target}/ram within {SECONDS} s")
            time.sleep(0.2)
    finally:
        monitor.do("cont")


def resume(folder: Path) -> None:
    os.chdir(folder)
    monitor = Monitor()
    deadline = time.monotonic() + SECONDS
    while monitor.do("query-status")["status"] == "inmigrate":
        if time.monotonic() > deadline:
            sys.exit(f"QEMU did not read the RAM of the machine that was kept within {SECONDS} s")
        time.sleep(0.2)
    # It was kept standing still.
    monitor.do("cont")


def main() -> None:
    command, folder, *target = sys.argv[1:]
    if command == "keep":
        keep(Path(folder).resolve(), Path(target[0]).resolve())
    else:
        resume(Path(folder).resolve())


if __name__ == "__main__":
    main()

# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container of the demo and its client. Everything has a fixed name, so that `clean` finds it after a kill -9."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

from commands import Log, run
from screen import DemoError

HOME = Path("/var/lib/stasis-demo")
LXC_PATH = HOME / "lxc"
NAME = "stasis-demo"
ROOTFS = LXC_PATH / NAME / "rootfs"
CHECKPOINT = HOME / "checkpoint"
RESULT = HOME / "result.json"
# Written before the role runs where CRIU was absent: what the demo installed, the demo removes.
OURS = HOME / "criu-installed-by-the-demo"
RECORD = Path("/etc/stasis/lxc.json")
BRIDGE, VETH = "stasisdemo0", "stasisdemo1"
HOST_ADDRESS, ADDRESS, PORT = "10.213.90.1", "10.213.90.2", 7000

INIT = """#!/bin/sh
exec nc -ll -p 7000 -e /bin/serve
"""
# The count is nowhere but in the memory of the process that serves the connection.
SERVE = """#!/bin/sh
n=0
while read -r line; do
    n=$((n + 1))
    echo "$n"
done
"""


def lxc_info(log: Log, *what: str) -> str:
    return run(log, ["lxc-info", "-P", str(LXC_PATH), "-n", NAME, "-H", *what], timeout=20, check=False).strip()


def configuration() -> str:
    lines = [
        "lxc.include = /usr/share/lxc/config/common.conf",
        # lxcfs, where it is installed, hooks in through the include; the demo has no use for its mounts.
        "lxc.hook.mount =",
        "lxc.hook.post-stop =",
        f"lxc.uts.name = {NAME}",
        f"lxc.rootfs.path = dir:{ROOTFS}",
        "lxc.init.cmd = /bin/init",
        # CRIU cannot take ttys along whose other end is outside.
        "lxc.console.path = none",
        "lxc.tty.max = 0",
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {BRIDGE}",
        f"lxc.net.0.veth.pair = {VETH}",
        "lxc.net.0.flags = up",
        f"lxc.net.0.ipv4.address = {ADDRESS}/24",
    ]
    with contextlib.suppress(OSError):
        if Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y"):
            lines.append("lxc.apparmor.profile = unconfined")
    return "".join(line + "\n" for line in lines)


def make_container(log: Log) -> None:
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"):
        (ROOTFS / name).mkdir(parents=True)
    # A copy, not a link: clean tells the container's processes by the inode they run from.
    shutil.copy(shutil.which("busybox") or "/bin/busybox", ROOTFS / "bin/busybox")
    for name in ("sh", "nc"):
        (ROOTFS / "bin" / name).symlink_to("busybox")
    for name, text in (("init", INIT), ("serve", SERVE)):
        (ROOTFS / "bin" / name).write_text(text)
        (ROOTFS / "bin" / name).chmod(0o755)
    (LXC_PATH / NAME / "config").write_text(configuration())
    run(log, ["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(log, ["ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", BRIDGE])
    run(log, ["ip", "link", "set", BRIDGE, "up"])
    with (HOME / "lxc-start.out").open("w") as stream:
        # To a file: LXC's monitor keeps what it is given for as long as the container lives.
        started = subprocess.run(
            ["lxc-start", "-P", str(LXC_PATH), "-n", NAME, "-d", "-o", str(HOME / "lxc-start.log"), "-l", "WARN"],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            timeout=60,
            env={"PATH": os.environ["PATH"]},
            check=False,
        )
    if started.returncode != 0:
        log.write((HOME / "lxc-start.log").read_text(errors="replace"))
        raise DemoError("lxc-start did not start the container")


class Client:
    """One TCP connection. Sends a line, waits for the next number, and so on to the end."""

    def __init__(self) -> None:
        self.count = 0
        self.fault = ""
        self.answers: list[tuple[float, int]] = []
        self.stop = threading.Event()
        self.socket = self._connect()
        self.local_port = self.socket.getsockname()[1]
        threading.Thread(target=self._talk, daemon=True).start()

    @staticmethod
    def _connect() -> socket.socket:
        deadline = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection((ADDRESS, PORT), timeout=5)
            except OSError as exc:
                if time.monotonic() > deadline:
                    raise DemoError(f"the container does not answer at {ADDRESS}:{PORT}: {exc}") from exc
                time.sleep(0.05)

    def _talk(self) -> None:
        # How long the container may be away is for wait_for to say.
        self.socket.settimeout(None)
        stream = self.socket.makefile("rb")
        try:
            while not self.stop.is_set():
                self.socket.sendall(b"next\n")
                line = stream.readline()
                if not line:
                    raise OSError("the container closed it")
                if line != b"%d\n" % (self.count + 1):
                    raise DemoError(f"after {self.count} came {line!r}")
                self.count += 1
                self.answers.append((time.monotonic(), self.count))
                time.sleep(0.05)
        except (OSError, DemoError) as exc:
            self.fault = str(exc)

    def wait_for(self, count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.count < count:
            if self.fault:
                raise DemoError(f"the connection broke: {self.fault}")
            if time.monotonic() > deadline:
                raise DemoError(f"no answer came within {seconds:.0f} s; the last number was {self.count}")
            time.sleep(0.02)

    def silence(self) -> float:
        times = [answer[0] for answer in self.answers]
        return max(later - earlier for earlier, later in zip(times, times[1:]))


#


def processes() -> list[int]:
    """The container's processes: those that run from the inode of its busybox."""
    try:
        wanted = os.stat(ROOTFS / "bin/busybox")
    except OSError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = os.stat(entry / "exe")
                if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                    found.append(int(entry.name))
    return found

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container that is measured, and its removal with everything around it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
import typing as t
from pathlib import Path

BASE = Path("/var/lib/stasis-bench")
LXC_PATH = BASE / "lxc"
IMAGES = BASE / "images"
NAME = "stasis-b-memory"
BRIDGE = "stasisbench0"
ADDRESS = ("10.213.50.2", 7000)

_CONFIG = f"""lxc.uts.name = {NAME}
lxc.rootfs.path = dir:{LXC_PATH}/{NAME}/rootfs
lxc.include = /usr/share/lxc/config/common.conf
# What packages of this host add to every container is not what is measured: lxcfs sleeps half a second after each stop.
lxc.hook.mount =
lxc.hook.post-stop =
lxc.mount.auto = proc:mixed sys:ro
lxc.console.path = none
lxc.tty.max = 0
lxc.pty.max = 1
lxc.net.0.type = veth
lxc.net.0.link = {BRIDGE}
lxc.net.0.flags = up
lxc.net.0.ipv4.address = {ADDRESS[0]}/24
lxc.init.cmd = /bin/workload init
"""


class BenchError(Exception):
    """Says what went wrong, and where to read on."""


def run(
    argv: t.Sequence[str], *, timeout: float = 30.0, env: t.Mapping[str, str] | None = None, check: bool = True
) -> tuple[str, float]:
    """Run a program to its end; gives its standard output and its seconds.

    Its output goes to files: liblxc's monitor of a restored container keeps stderr for as long as that runs.
    """
    out, err = BASE / "stdout", BASE / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        began = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env, cwd="/", start_new_session=True
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise BenchError(f"{argv[0]} did not end within {timeout:.0f} s: {' '.join(argv)}") from None
        seconds = time.monotonic() - began
    text = out.read_text("utf-8", "replace")
    if check and status:
        said = "\n".join((text + err.read_text("utf-8", "replace")).splitlines()[-15:])
        raise BenchError(f"{' '.join(argv)}\nended with {status}:\n{said}")
    return text, seconds


def lxc(command: str, *words: str) -> list[str]:
    """An LXC command for the container."""
    return [command, "-P", str(LXC_PATH), "-n", NAME, *words]


class Lab:
    """Bridge, container and directories; a context manager that removes all of them."""

    def __init__(self, workload: Path) -> None:
        self._workload = workload
        self._lock: t.TextIO | None = None

    def __enter__(self) -> Lab:
        self._lock = open("/run/stasis-bench.lock", "w", encoding="utf-8")  # held until __exit__
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError("Another benchmark is running on this machine.") from None
        remove()
        BASE.mkdir(mode=0o700)
        try:
            self._prepare()
        except BaseException:
            remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        remove()
        if self._lock:
            self._lock.close()

    def _prepare(self) -> None:
        rootfs = LXC_PATH / NAME / "rootfs"
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (rootfs / name).mkdir(mode=0o755, parents=True)
        IMAGES.mkdir(mode=0o700)
        BASE.chmod(0o700)
        (LXC_PATH / NAME / "config").write_text(_CONFIG, "utf-8")
        run(["gcc", "-O2", "-static", "-pthread", "-o", str(rootfs / "bin/workload"), str(self._workload)], timeout=120)
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        run(["ip", "address", "add", "10.213.50.1/24", "dev", BRIDGE])
        run(["ip", "link", "set", BRIDGE, "up"])

    def start(self, mib: int) -> None:
        """A new container that holds so much memory, every page written, and echoes over TCP."""
        rootfs = LXC_PATH / NAME / "rootfs"
        (rootfs / "etc/workload").write_text(f"memory {mib}\ncounter {ADDRESS[1]}\n", "utf-8")
        for path in (rootfs / "tmp").iterdir():
            path.unlink()
        run(lxc("lxc-start", "-d", "-o", str(BASE / "start.log"), "-l", "INFO"))
        deadline = time.monotonic() + 60.0
        while not (rootfs / "tmp/memory.ready").exists():
            if time.monotonic() > deadline:
                raise BenchError("The workload in the container does not come up.")
            time.sleep(0.05)

    def start_program(self, source: Path, *arguments: str) -> None:
        """A container whose init is this program; it says by tmp/PROGRAM that it is where it should be."""
        rootfs = LXC_PATH / NAME / "rootfs"
        program = rootfs / "bin" / source.stem
        run(["gcc", "-O2", "-static", "-pthread", "-o", str(program), str(source)], timeout=120)
        command = f"lxc.init.cmd = /bin/{source.stem} {' '.join(arguments)}"
        config = re.sub(r"lxc\.init\.cmd = .*", command, _CONFIG)
        (LXC_PATH / NAME / "config").write_text(config, "utf-8")
        run(lxc("lxc-start", "-d", "-o", str(BASE / "start.log"), "-l", "INFO"))
        deadline = time.monotonic() + 60.0
        while not (rootfs / "tmp" / source.stem).exists():
            if time.monotonic() > deadline:
                raise BenchError(f"{source.stem} in the container does not come up.")
            time.sleep(0.05)

    def stop(self) -> None:
        """Away with the container's processes and all of its images."""
        _stop()
        for path in IMAGES.iterdir():
            shutil.rmtree(path)

    @property
    def monitor(self) -> int:
        """The process id of LXC's monitor."""
        text = run(lxc("lxc-info", "-p", "-H"))[0]
        status = Path(f"/proc/{int(text)}/status").read_text("utf-8")
        return int(status.split("PPid:")[1].split()[0])

    def wait_stopped(self, monitor: int) -> None:
        """Until LXC's teardown has finished: its monitor goes last."""
        deadline = time.monotonic() + 60.0
        while os.path.exists(f"/proc/{monitor}"):
            if time.monotonic() > deadline:
                raise BenchError("LXC does not end its teardown.")
            time.sleep(0.002)


def _stop() -> None:
    run(lxc("lxc-stop", "-k"), timeout=60.0, check=False)
    deadline = time.monotonic() + 30.0
    while "STOPPED" not in run(lxc("lxc-info", "-s", "-H"), check=False)[0] and time.monotonic() < deadline:
        time.sleep(0.05)


def remove() -> None:
    """Everything that this run or an interrupted one has made."""
    # run() writes there.
    BASE.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (LXC_PATH / NAME / "config").exists():
        _stop()
    if os.path.exists(f"/sys/class/net/{BRIDGE}"):
        run(["ip", "link", "delete", BRIDGE], check=False)
    for path in (BASE, Path("/var/log/stasis", NAME)):
        shutil.rmtree(path, ignore_errors=True)
    for path in Path("/run/stasis").glob(f"{NAME}-*"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

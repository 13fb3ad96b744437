# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Away with everything of the demo, also of one that was killed in the middle."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import time
import typing as t
from pathlib import Path

from commands import MARK, Log, ansible, run
from container import BRIDGE, CHECKPOINT, HOME, LXC_PATH, NAME, OURS, RECORD, VETH, processes
from screen import DemoError


def others(match: t.Callable[[Path], bool]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if match(entry):
                    found.append(int(entry.name))
    return found


def runs_of(playbooks: t.Sequence[str]) -> list[int]:
    """Ansible runs of a demo, by what they carry in their environment."""
    marks = {f"{MARK}={playbook}".encode() for playbook in playbooks}
    return others(lambda entry: not marks.isdisjoint((entry / "environ").read_bytes().split(b"\0")))


def helpers() -> list[int]:
    """LXC's monitor of our container and a CRIU that works on our checkpoint."""
    monitor = f"[lxc monitor] {LXC_PATH} {NAME}".encode()

    def match(entry: Path) -> bool:
        words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return words[0].startswith(monitor) or (
            words[0].endswith(b"/criu") and any(word.startswith(bytes(HOME) + b"/") for word in words)
        )

    return others(match)


def end(find: t.Callable[[], list[int]], patience: float) -> None:
    """Wait for processes to end by themselves, then end them."""
    for number, seconds in ((None, patience), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        deadline = time.monotonic() + seconds
        if number is not None:
            for pid in find():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        while find():
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return


def clean(log: Log, checkout: Path, *, criu: bool, mark: bool) -> list[str]:
    """Remove everything; returns what could not be removed, a sentence each.

    criu: also the CRIU that the demo installed. mark: also the mark that says so.
    """
    end_role()
    # A dump or restore that has begun is better let come to its end than broken off.
    end(lambda: runs_of(["checkpoint", "restore"]), 120)
    left = remove_container(log)
    if OURS.exists() and criu:
        try:
            ansible(log, checkout, "role", "-e", "criu_state=absent", what="removing CRIU", timeout=300)
        except DemoError as exc:
            return [*left, f"CRIU, the hook and {RECORD}: {exc}"]
    locks = [f"{lock_of(NAME, LXC_PATH)}.*", f"{lock_of('directory', CHECKPOINT)}.*"]
    for base, pattern in (("/var/log/stasis", NAME), *(("/run/stasis", lock) for lock in locks)):
        for path in Path(base).glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if os.path.isdir(base) and os.listdir(base) == ["cgroups"]:
            # Links that the module makes for all containers of a host; nobody else uses them here.
            shutil.rmtree(f"{base}/cgroups")
        with contextlib.suppress(OSError):
            os.rmdir(base)
    if not left and HOME.exists():
        for path in HOME.iterdir():
            if mark or path != OURS:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        with contextlib.suppress(OSError):
            HOME.rmdir()
    return left


def end_role() -> None:
    """End a role that a killed demo left running, but never a dpkg in the middle of its work."""
    deadline = time.monotonic() + 600
    while any(comm(pid) in ("apt-get", "dpkg") for pid in runs_of(["role"])) and time.monotonic() < deadline:
        time.sleep(0.2)
    # The build runs with an empty environment, so what is below an Ansible run counts too, by pid and start.
    ours = {pid: start(pid) for pid in with_children(runs_of(["role"]))}
    end(lambda: sorted({*runs_of(["role"]), *(pid for pid, began in ours.items() if began and start(pid) == began)}), 0)


def with_children(pids: t.Sequence[int]) -> list[int]:
    parents = {pid: parent for pid in others(lambda _: True) if (parent := stat_field(pid, 4))}
    found = list(pids)
    for pid in found:
        found += [child for child, parent in parents.items() if parent == str(pid) and child not in found]
    return found


def start(pid: int) -> str:
    return "" if stat_field(pid, 3) == "Z" else stat_field(pid, 22)


def stat_field(pid: int, number: int) -> str:
    """A field of /proc/PID/stat, counted from 1 as in proc(5), from the third on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[number - 3]
    except OSError:
        return ""


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def lock_of(name: str, place: Path) -> str:
    """As the module names its files in /run/stasis: by the container and its lxc_path, and by the checkpoint."""
    return f"{name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"


def remove_container(log: Log) -> list[str]:
    if (LXC_PATH / NAME / "config").exists():
        run(log, ["lxc-stop", "-P", str(LXC_PATH), "-n", NAME, "-k"], timeout=30, check=False)
    end(processes, 5)
    end(helpers, 5)
    for link in (VETH, BRIDGE):
        if os.path.exists(f"/sys/class/net/{link}"):
            run(log, ["ip", "link", "delete", link], check=False)
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*"):
        for kind in ("payload", "monitor"):
            # rmdir takes only those that are empty, so another container's of the same name are safe.
            for path in Path("/").glob(f"{top[1:]}/lxc.{kind}.{NAME}*"):
                for folder, _folders, _files in os.walk(path, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
    left = [f"process {pid} of the container" for pid in processes()]
    left += [f"the network device {link}" for link in (VETH, BRIDGE) if os.path.exists(f"/sys/class/net/{link}")]
    left += unmount()
    remove_tree(Path(f"/run/lxc/lock{LXC_PATH}"))
    with contextlib.suppress(OSError):
        os.removedirs(f"/run/lxc/lock{HOME}")
    return left


def unmount() -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    for path in reversed(mounts()):
        libc.umount2(os.fsencode(path), 8)
    return [f"the mount {path}" for path in mounts()]


def mounts() -> list[str]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = line.split()[4].encode().decode("unicode_escape")
        if path == str(HOME) or path.startswith(f"{HOME}/"):
            found.append(path)
    return found


def remove_tree(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


#

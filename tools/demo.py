# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a container with a counter goes to disk and comes back, while a client keeps one TCP connection.

demo.py run|clean CHECKOUT, started by tools/demo. Each claim on the screen is checked; one that does not hold
ends the demo with status 1. Everything it makes has a fixed name, so that `clean` finds it after a kill -9.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

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
# In the environment of every Ansible run, so that a later clean finds one that outlived a killed demo.
MARK = "STASIS_DEMO_RUNS"

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


class DemoError(Exception):
    """A claim that does not hold, or a step that failed."""


class Interrupted(BaseException):
    """Ctrl-C or a polite kill."""


#
# The screen
#

COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


def step(number: int, text: str) -> None:
    print(paint("1;36", f"{number}. {text}"), flush=True)


def tell(text: str) -> None:
    print(f"   {text}", flush=True)


def progress(text: str) -> None:
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        print(f"\r\033[K   {text}"[: width + 4], end="", flush=True)


def end_progress() -> None:
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)


#
# Commands
#


class Log:
    """The full output of everything that is run."""

    def __init__(self, checkout: Path) -> None:
        self.path = checkout / ".work" / "demo" / "demo.log"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def begin(self) -> None:
        self.path.write_text("")

    def write(self, text: str) -> None:
        with self.path.open("a") as stream:
            stream.write(text.rstrip("\n") + "\n")


def run(log: Log, argv: t.Sequence[str], *, timeout: float = 60, check: bool = True) -> str:
    """Run a command and return its output. Never for what leaves a process behind that holds our pipes."""
    log.write("$ " + " ".join(argv))
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        if check:
            raise DemoError(f"{argv[0]} did not end within {timeout:.0f} s") from None
        return ""
    log.write(done.stdout + done.stderr)
    if check and done.returncode != 0:
        raise DemoError(f"{' '.join(argv[:3])} failed: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout


def ansible(log: Log, checkout: Path, playbook: str, *arguments: str, what: str, timeout: float) -> float:
    """Run a playbook and return the seconds it took. Ctrl-C does not reach it: half a dump is no place to stop."""
    argv = [
        "ansible-playbook",
        "-v",
        "-i",
        "localhost,",
        str(checkout / "tools/playbooks" / f"{playbook}.yml"),
        *arguments,
    ]
    log.write("$ " + " ".join(argv))
    environment = dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_DEPRECATION_WARNINGS="0")
    environment["ANSIBLE_PYTHON_INTERPRETER"] = sys.executable
    # Else Ansible makes a directory in the user's real home.
    environment["ANSIBLE_REMOTE_TMP"] = str(log.path.parent / "ansible")
    environment[MARK] = playbook
    began = time.monotonic()
    position = log.path.stat().st_size
    with log.path.open("a") as stream:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
        try:
            shown = ""
            while process.poll() is None:
                elapsed = time.monotonic() - began
                if elapsed > timeout:
                    raise DemoError(f"{what} did not end within {timeout:.0f} s")
                now = f"{what}: {current_task(log.path, position)} ... {elapsed:.0f} s"
                if playbook == "role" and now != shown:
                    progress(now)
                    shown = now
                time.sleep(0.1)
        finally:
            end_progress()
    if process.returncode != 0:
        raise DemoError(f"{what} failed: {failure(log.path, position)}")
    return time.monotonic() - began


def current_task(path: Path, position: int) -> str:
    tasks = [line for line in since(path, position) if line.startswith(("TASK [", "RUNNING HANDLER ["))]
    return tasks[-1].split("[", 1)[1].split("]")[0].split(" : ")[-1] if tasks else "start"


def failure(path: Path, position: int) -> str:
    """What the first failed task said, as Ansible's older or newer output has it."""
    for line in since(path, position):
        if line.startswith(("fatal:", "failed:")) and "=> " in line:
            with contextlib.suppress(ValueError):
                return str(json.loads(line.split("=> ", 1)[1])["msg"])
        if line.startswith("[ERROR]: "):
            return line[9:]
    return "see the log"


def since(path: Path, position: int) -> list[str]:
    with path.open(errors="replace") as stream:
        stream.seek(position)
        return stream.read().splitlines()


def result() -> dict[str, t.Any]:
    found: dict[str, t.Any] = json.loads(RESULT.read_text())
    RESULT.unlink()
    return found


#
# The container and its client
#


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
        self.socket.settimeout(60)
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
# The story
#


def show_task(checkout: Path, playbook: str) -> None:
    """The module's task out of the playbook that is about to run."""
    inside = False
    for line in (checkout / "tools/playbooks" / f"{playbook}.yml").read_text().splitlines():
        inside = inside or "stasis.lxc.lxc_checkpoint:" in line
        if inside and "register:" in line:
            return
        if inside:
            print(paint("33", "     " + line[4:]), flush=True)


def usable_record(checkout: Path) -> dict[str, t.Any] | None:
    """The install record of this host, if the modules of this checkout can work with what it names."""
    sys.path.insert(0, str(checkout / ".work"))
    from ansible_collections.stasis.lxc.plugins.module_utils import _install_record, _versions
    from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError

    try:
        record = _install_record.read()
        if record is None:
            return None
        _install_record.verify(record)
        if not _versions.at_least(record.criu_version, _versions.minimum_criu(os.uname().release)):
            return None
    except StasisError:
        return None
    return vars(record) if os.access(record.criu_path, os.X_OK) else None


def prepare_criu(log: Log, checkout: Path) -> None:
    if record := usable_record(checkout):
        tell(f"CRIU {record['criu_version']} is there already: {record['criu_path']}")
        return
    arguments = []
    if not RECORD.exists():
        durably(OURS, "")
    with contextlib.suppress(OSError, ValueError, KeyError):
        # What somebody chose stays where it is.
        hook = json.loads(RECORD.read_text())["hook"]
        arguments = ["-e", json.dumps({"criu_hook_dir": os.path.dirname(hook)})]
    seconds = ansible(log, checkout, "role", *arguments, what="role stasis.lxc.criu", timeout=1800)
    record = json.loads(RECORD.read_text())
    tell(f"CRIU {record['criu_version']} ({record['criu_install_method']}) in {record['criu_path']}, {seconds:.0f} s")


def durably(path: Path, text: str) -> None:
    with path.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def story(log: Log, checkout: Path) -> None:
    step(1, "Install CRIU, the hook and the launcher with the role stasis.lxc.criu")
    prepare_criu(log, checkout)

    step(2, "Start a busybox container with a counter in its memory")
    make_container(log)
    first_init = lxc_info(log, "-p")
    tell(f"{NAME} is {lxc_info(log, '-s')}, its init has pid {first_init}")

    step(3, "Open one TCP connection to it; it stays open to the end")
    client = Client()
    client.wait_for(20, 20)
    tell(f"{HOST_ADDRESS}:{client.local_port} -> {ADDRESS}:{PORT}, each line sent is answered with the next number")
    tell(numbers(1, 20))

    step(4, "Checkpoint it: one Ansible task")
    show_task(checkout, "checkpoint")
    out = ["-e", f"demo_result_file={RESULT}"]
    checkpoint_seconds = ansible(log, checkout, "checkpoint", *out, what="the checkpoint", timeout=400)
    dumped = result()
    last = client.count
    state = lxc_info(log, "-s")
    if state != "STOPPED" or processes():
        raise DemoError(f"the container should be STOPPED, and lxc-info says {state}")
    size = sum(entry.stat().st_size for entry in CHECKPOINT.iterdir())
    tell(f"lxc-info says {paint('1;31', state)}; no process of it is left, {size / 1e6:.1f} MB are on disk")
    tell(f"The last number was {last}. The client waits for {last + 1}.")

    step(5, "Restore it: one Ansible task")
    show_task(checkout, "restore")
    restore_seconds = ansible(log, checkout, "restore", *out, what="the restore", timeout=400)
    restored = result()
    state = lxc_info(log, "-s")
    if state != "RUNNING":
        raise DemoError(f"the container should be RUNNING, and lxc-info says {state}")
    tell(f"lxc-info says {paint('1;32', state)}, its init has pid {lxc_info(log, '-p')}")

    step(6, "The counter goes on, over the same connection")
    client.wait_for(last + 20, 60)
    if client.socket.getsockname()[1] != client.local_port or established(log) != 1:
        raise DemoError("the connection is not the one that was opened")
    client.stop.set()
    tell(f"{HOST_ADDRESS}:{client.local_port} -> {ADDRESS}:{PORT}, one connection, no number missing, none twice")
    tell(numbers(last + 1, last + 20))
    print(paint("1;36", "Times"), flush=True)
    for seconds, text in (
        (dumped["stats"]["frozen_time"] / 1e6, "frozen for the dump (CRIU's frozen_time)"),
        (last_time(CHECKPOINT / "dump.log"), "CRIU's dump from start to end"),
        (last_time(Path(restored["log_path"])), "CRIU's restore from start to end"),
        (checkpoint_seconds, "the first Ansible run as a whole"),
        (restore_seconds, "the second Ansible run as a whole"),
        (client.silence(), "the client's longest wait, from the freeze until TCP's next try after the restore"),
    ):
        tell(f"{seconds:6.3f} s  {text}")


def numbers(first: int, last: int) -> str:
    return " ".join(str(number) for number in range(first, last + 1))


def established(log: Log) -> int:
    found = run(log, ["ss", "-Htn", "state", "established", "dst", f"{ADDRESS}:{PORT}"])
    return len(found.splitlines())


def last_time(log: Path) -> float:
    """Each line of CRIU's log begins with the seconds since its start, in parentheses."""
    stamps = re.findall(r"^\(([0-9.]+)\)", log.read_text(errors="replace"), re.MULTILINE)
    return float(stamps[-1]) if stamps else 0.0


#
# Cleaning
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
        for pid in find() if number else []:
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
    for base, pattern in (("/var/log/stasis", NAME), ("/run/stasis", f"{container_key()}.*")):
        for path in Path(base).glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
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


def container_key() -> str:
    return f"{NAME}-{hashlib.sha256(str(LXC_PATH).encode()).hexdigest()[:8]}"


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
# Once
#


def alone() -> socket.socket:
    """An abstract socket as a lock: it goes with its process, however that ends."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind("\0stasis-demo")
    except OSError:
        sys.exit("demo: another demo is running on this machine\ndemo: wait for it, or end it with Ctrl-C")
    return lock


def interrupted(number: int, _frame: t.Any) -> None:
    raise Interrupted(signal.Signals(number).name)


def main() -> int:
    action, checkout = sys.argv[1], Path(sys.argv[2])
    lock = alone()
    log = Log(checkout)
    log.begin()
    keep = os.environ.get("KEEP", "") not in ("", "0")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    with lock:
        if action == "clean":
            return finish(log, checkout, keep=keep, told="Nothing of the demo is left.")
        print(paint("1", "stasis.lxc: a running container goes to disk and comes back"), flush=True)
        status = 1
        try:
            # A CRIU that an interrupted demo installed is taken over, and its mark with it.
            if left := clean(log, checkout, criu=False, mark=False):
                raise DemoError(f"an earlier demo left what cannot be removed: {'; '.join(left)}")
            HOME.mkdir(mode=0o700, exist_ok=True)
            story(log, checkout)
            status = 0
        except DemoError as exc:
            print(paint("1;31", f"FAILED: {exc}"), flush=True)
        except Interrupted as exc:
            end_progress()
            print(f"Interrupted ({exc}); cleaning up ...", flush=True)
            status = 130
        finally:
            kept = ", except CRIU (KEEP=1)" if keep and OURS.exists() and RECORD.exists() else ""
            cleaned = finish(log, checkout, keep=keep, told=f"Everything is removed again{kept}.")
        print(f"The full output of all commands: {log.path}", flush=True)
        return status or cleaned


def finish(log: Log, checkout: Path, *, keep: bool, told: str) -> int:
    # Once it has begun, a second Ctrl-C must not leave half of it behind.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    left = clean(log, checkout, criu=not keep, mark=True)
    if left:
        print(paint("1;31", f"Not removed: {'; '.join(left)}. Run make demo-clean."), flush=True)
        return 1
    print(told, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Restore an image on trial, up to the moment before its tasks would run, beside the container that it was made of.

All of it happens in a mount, a network and a pid namespace of its own. The root file system is an overlay over the
container's own, whose upper layer is in memory; bind mounts are overlays or read-only; the host sides of the veths lead
nowhere. The kernel takes everything back when the pid namespace's init ends, which it does with its parent. Only the
cgroups outlive it, see _trial_cgroups.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import subprocess
import time
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _cgroup_tree,
    _cgroups,
    _criu_command,
    _criu_files,
    _files,
    _nic_records,
    _nics,
    _proc,
    _runner,
    _trial_cgroups,
    _user_namespace,
)

# In the mount namespace of the trial only: a path that every user may walk, as tasks in a user namespace must.
_PLACE = "/run/stasis"
_UPPER_SIZE = "64m"
# Below this, reading the memory takes less time than a lazy-pages daemon needs to start.
_LAZY_BYTES = 64 << 20
# A file that is opened for writing is copied into the upper layer whole. Larger ones get an empty one of their size instead.
_STAND_IN_BYTES = 256 << 10
_DAEMON_SECONDS, _CHECK_SECONDS = 5.0, 60.0
_CLONE_NEWNS, _CLONE_NEWNET, _CLONE_NEWPID = 0x00020000, 0x40000000, 0x20000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE, _MS_SHARED = 0x1, 0x20, 0x1000, 0x4000, 0x80000, 0x100000
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD = -100
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Order:
    """What to try.

    images: the directory of the image. init_pid: of the container that it is made of. root: the host's uid of the
    container's root in a user namespace, or None. cgroups: the container's. key: a name for the trial's cgroups.
    ipv6: the container has addresses of IPv6.
    """

    criu: str
    hook: str
    images: str
    work: str
    init_pid: int
    options: _criu_command.CriuOptions
    nics: tuple[_nics.Nic, ...]
    mounts: tuple[_criu_command.MountMap, ...]
    terminals: tuple[str, ...]
    cgroups: tuple[_cgroups.Hierarchy, ...]
    key: str
    root: int | None = None
    ipv6: bool = False

    @property
    def binds(self) -> tuple[str, ...]:
        """The paths of the host that the container has by bind mounts."""
        return tuple(sorted({one.source for one in (*self.mounts, *self.options.external_mounts)}))


class Trial:
    """Prepared while the container runs: prepare() in a process of its own, then run() when the image is complete.

    Raises OSError where this kernel or file system has not what it needs.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._root = self._images = -1
        self._lazy = False

    def prepare(self) -> None:
        """Take hold of the container's root file system, and make the cgroups and the pid namespace."""
        order = self._order
        os.makedirs(_file(order, "nics"), 0o700)
        nics = [replace(nic, bridge="") for nic in order.nics]
        _nic_records.write_records(_file(order, "nics"), nics)
        if order.root is not None:
            _nic_records.write_peers(_file(order, "nics"), nics)
        script = _file(order, "end")
        write(script, '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ] || { : >"${0%/*}/reached"; exit 1; }\n')
        os.chmod(script, 0o700)
        write(_file(order, "scripts"), script + "\n")
        # What the kernel can do is not looked at while the container is frozen.
        feature = _criu_command.check_feature(order.criu, "uffd-noncoop")
        self._lazy = _start(feature, order, _runner.clean_environment()).wait(_CHECK_SECONDS) == 0
        _trial_cgroups.make(order.cgroups, order.key)
        self._root = _root_of(order.init_pid)
        # Before the pid namespace: what makes this mount names its child by a pid.
        self._images = _copy(order.images) if order.root is None else _user_namespace.mount(order.images, order.root)
        # Its children are in it.
        _check(_libc().unshare(_CLONE_NEWPID), "unshare")

    def run(self, seconds: float) -> int:
        """Try it; return CRIU's exit status. Raises TimeoutError past `seconds`."""
        child = os.fork()
        if child == 0:
            status = 125
            with contextlib.suppress(BaseException):
                status = self._inside(seconds)
            os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 124:
            raise TimeoutError(f"it did not end within {seconds:.0f} s")
        if code == 125:
            raise OSError(errno.EIO, _text(_file(self._order, "error")) or "it could not be begun")
        return code

    def _inside(self, seconds: float) -> int:
        """In the pid namespace's init, with which everything below it ends."""
        order = self._order
        try:
            _check(_libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
            # CRIU ends its helpers by SIGTERM, which the process above ignores.
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            images = self._mounts()
            lazy = self._lazy and _memory(images) > _LAZY_BYTES
            daemon = self._daemon(images) if lazy else None
        except (OSError, subprocess.SubprocessError) as exc:
            write(_file(order, "error"), str(exc))
            return 125
        facts = _criu_command.RestoreFacts(
            images=images,
            work=order.work,
            hook=order.hook,
            mounts=order.mounts,
            externals=tuple(_nics.criu_externals(order.nics, made_before=order.root is not None)),
            terminals=order.terminals,
            supervised=False,
            lazy=daemon is not None,
        )
        roots = _cgroups.criu_roots(_trial_cgroups.of(order.cgroups, order.key))
        argv = _criu_command.trial(order.criu, f"{_PLACE}/root", roots, order.options, facts)
        write(_file(order, "argv.ran"), "".join(f"{word}\n" for word in argv))
        try:
            return abs(_start(argv, order, self._environment()).wait(seconds))
        except subprocess.TimeoutExpired:
            return 124

    def _mounts(self) -> str:
        """The file systems of the trial; returns where its images are.

        What the container has from the host keeps its path: CRIU finds some of it by that, and not by an option.
        """
        order = self._order
        _check(_libc().unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
        # As liblxc does. CRIU gives the container's mounts the masters that those of the host have.
        mounts = _files.text_of("/proc/self/mountinfo")
        slave = "master:" in _propagation(_files.text_of(f"/proc/{order.init_pid}/mountinfo"), "/")
        _mount("none", "/", "", _MS_REC | _MS_SLAVE)
        sources = [(path, _copy(path)) for path in order.binds]
        if order.root is not None:
            _user_namespace.let_group_in(order.images)
        _mount("proc", "/proc", "proc", 0)
        _mount("tmpfs", _PLACE, "tmpfs", 0, f"mode=755,size={_UPPER_SIZE}")
        for name in ("root", "lower", "images"):
            os.mkdir(f"{_PLACE}/{name}", 0o755)
        _move(self._images, f"{_PLACE}/images")
        _move(self._root, f"{_PLACE}/lower")
        _overlay(f"{_PLACE}/lower", f"{_PLACE}/root", f"{_PLACE}/layers")
        if slave:
            _enslave(f"{_PLACE}/root")
        for number, (path, source) in enumerate(sources):
            _shield(source, path, f"{_PLACE}/layers-{number}")
            if _propagation(mounts, path):
                _enslave(path)
        _stand_in([one for one in _criu_files.read(order.images) if not one.read_only], f"{_PLACE}/root")
        _network([nic.link for nic in order.nics if nic.kind == "macvlan"])
        return f"{_PLACE}/images"

    def _daemon(self, images: str) -> subprocess.Popen[bytes] | None:
        """What hands out memory when a task touches it. None where it does not come up: then all of it is read."""
        order = self._order
        daemon = _start(_criu_command.lazy_pages(order.criu, images, order.work), order, _runner.clean_environment())
        end = time.monotonic() + _DAEMON_SECONDS
        while not os.path.exists(_file(order, "lazy-pages.socket")):
            if daemon.poll() is not None or time.monotonic() > end:
                daemon.kill()
                return None
            time.sleep(0.001)
        return daemon

    def _environment(self) -> dict[str, str]:
        order = self._order
        env = _runner.clean_environment(
            STASIS_WORK=order.work, STASIS_SCRIPTS=_file(order, "scripts"), STASIS_LOCK="none"
        )
        env["STASIS_NICS"] = _file(order, "nics")
        if order.ipv6:
            env["STASIS_IPV6"] = "1"
        record = os.path.join(order.images, _cgroup_tree.RECORD)
        unified = _cgroup_tree.unified(_trial_cgroups.of(order.cgroups, order.key))
        if unified is not None and order.options.manage_cgroups not in ("none", "ignore") and os.path.exists(record):
            env["STASIS_CGROUPS"] = record
            env["STASIS_CGROUP_MOUNT"] = unified.mount
            env["STASIS_CGROUP_PATH"] = unified.path
            env["STASIS_CGROUP_V1"] = "\n".join(one.mount for one in order.cgroups if not one.unified)
        return env


def clean(order: Order) -> None:
    """Take back what the kernel does not: the cgroups of a trial that has ended, and the modes of its images."""
    _trial_cgroups.remove(order.key)
    if order.root is not None:
        _user_namespace.shut(order.images)


def write(path: str, text: str) -> None:
    """Write a file of the trial; nothing of it need be on disk."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)


def _root_of(pid: int) -> int:
    """A descriptor of a mount of the root file system of a process, whatever it is made of, without what is mounted below."""
    libc = _libc()
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.setns(other, _CLONE_NEWNS), "setns")
        try:
            return _copy("/")
        finally:
            _check(libc.setns(own, _CLONE_NEWNS), "setns")
    finally:
        os.close(own)
        os.close(other)


def _shield(source: int, path: str, layers: str) -> None:
    """Mount what a container has from the host over itself: an overlay of a directory, or read-only where there can be none."""
    directory = stat.S_ISDIR(os.fstat(source).st_mode)
    _move(source, path)
    if directory:
        with contextlib.suppress(OSError):
            _overlay(path, path, layers)
            return
    _mount("none", path, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def _propagation(mountinfo: str, path: str) -> str:
    """The optional fields of the mount that a path is on (`shared:N`, `master:N`), "" where it is private. Pure."""
    best, found = -1, ""
    for line in _files.lines(mountinfo):
        before, _separator, _after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 6:
            continue
        target = _proc.unescape(fields[4]).rstrip("/")
        if f"{path}/".startswith(f"{target}/") and len(target) >= best:
            best, found = len(target), " ".join(fields[6:])
    return found


def _enslave(path: str) -> None:
    """Give the mount at a path a master of its own."""
    _mount("none", path, "", _MS_SHARED)
    _mount(path, path, "", _MS_BIND)
    _mount("none", path, "", _MS_SLAVE)


def _overlay(lower: str, target: str, layers: str) -> None:
    for name in ("upper", "work"):
        os.makedirs(f"{layers}/{name}", 0o755)
    top = os.stat(lower)
    os.chown(f"{layers}/upper", top.st_uid, top.st_gid)
    os.chmod(f"{layers}/upper", stat.S_IMODE(top.st_mode))
    _mount("overlay", target, "overlay", 0, f"lowerdir={lower},upperdir={layers}/upper,workdir={layers}/work")


def _stand_in(files: t.Sequence[_criu_files.OpenFile], root: str) -> None:
    """Put an empty file of the same size in the place of each large one, in the upper layer.

    In a process that has the container's root as its own: the paths are the container's, and so are the symbolic links.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    with contextlib.suppress(BaseException):
        os.chroot(root)
        os.chdir("/")
        for one in files:
            with contextlib.suppress(OSError):
                _stand_in_for(os.path.join("/", one.path))
    os._exit(0)


def _stand_in_for(path: str) -> None:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size < _STAND_IN_BYTES:
        return
    os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, status.st_size)
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    finally:
        os.close(descriptor)


def _start(argv: t.Sequence[str], order: Order, environment: t.Mapping[str, str]) -> subprocess.Popen[bytes]:
    with open(_file(order, "trial.out"), "ab") as out:
        return subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(environment), cwd="/", umask=0o077
        )


def _memory(images: str) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(images) if entry.name.startswith("pages-"))


def _network(parents: t.Sequence[str]) -> None:
    """The loopback device, over which CRIU finds out what the kernel can do, and a device for each macvlan to be on."""
    lines = ["link set dev lo up", *(f"link add dev {name} type veth" for name in sorted(set(parents)))]
    subprocess.run(  # pylint: disable=ansible-bad-function
        ["ip", "-batch", "-"],
        input="".join(f"{line}\n" for line in lines),
        text=True,
        check=True,
        timeout=30,
        capture_output=True,
        env=_runner.clean_environment(),
    )


def _file(order: Order, name: str) -> str:
    return os.path.join(order.work, name)


def _text(path: str) -> str:
    return _files.text_of(path).strip()


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    done = _libc().mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    _check(done, f"mount {kind or 'bind'} at {target}")


def _copy(path: str) -> int:
    """A descriptor of a mount of what is there, itself at no path yet."""
    done = _libc().syscall(_OPEN_TREE, _AT_FDCWD, path.encode(), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    return _check(done, f"open_tree {path}")


def _move(tree: int, target: str) -> None:
    done = _libc().syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(done, "move_mount")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

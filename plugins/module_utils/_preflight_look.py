# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Look at a running container for the preflight: over /proc, reading only. Stops and attaches to nothing."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _container,
    _errors,
    _file_handles,
    _files,
    _findings,
    _host,
    _kcmp,
    _preflight_container,
    _preflight_losses,
    _preflight_sockets,
    _proc,
    _proc_files,
    _runner,
)

# A server that does not answer would hold up whoever asks for the status of a file.
_REMOTE = frozenset(("fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "autofs"))
_FDINFO_KINDS = frozenset(("pipe", "inotify", "fanotify", "pidfd", "bpf-map"))
# What systemd binds for a service that watches its memory; other directories of cgroups may have dots as well.
_CGROUP_FILE = "/memory.pressure"
# Two more where processes come and go; a client from outside that systemd knows stays for longer.
_LOOKS = 3
_CAP_SYS_RESOURCE = 1 << 24
# A process that is being started shares its memory with its parent until it runs its program (vfork).
_VFORK = 0.05
_MUST_BE_EMPTY = frozenset(("mqueue", "pstore"))
# Paths on these are not the file system's to keep.
_NO_NAMES = frozenset(("proc", "devpts", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs"))


def gather(
    runner: _runner.Runner, container: _container.Container, host: _host.Host, *, proc: str = "/proc"
) -> _findings.Facts:
    """Everything that the checks need of a running container. Processes that end meanwhile are left out."""
    if container.init is None:
        raise _errors.StasisError(f"{container.name} has no init process.", "Wait until it is RUNNING.")
    init = container.init.pid
    mounts = _proc.mounts(_proc_files.read(f"{proc}/{init}/mountinfo"))
    look = _Look(proc, init, {one.number: one for one in mounts}, own_mount=_proc_files.link(f"{proc}/{init}/ns/mnt"))
    tasks = _tasks(look, init, proc)
    if not tasks or tasks[0].pid != init:
        raise _errors.StasisError(f"The container's init {init} is gone.", "Run the task again.")
    sockets = any(one.kind == "socket" for task in tasks for one in task.descriptors)
    tcp = [_proc_files.read(f"{proc}/{init}/net/{family}") for family in ("tcp", "tcp6")]
    nets = {task.namespaces["net"]: task.pid for task in reversed(tasks) if "net" in task.namespaces}
    tcp6 = [_proc_files.read(f"{proc}/{pid}/net/tcp6") for pid in nets.values()]
    unix = _unix(runner, tasks, proc) if sockets else []
    bpf = any(one.kind == "bpf-map" for task in tasks for one in task.descriptors)
    return _findings.Facts(
        tasks=tasks,
        mounts=tuple(mounts),
        host_mounts=tuple(_proc.mounts(_proc_files.read(f"{proc}/self/mountinfo"))),
        mount_ids=frozenset(look.mounts),
        cgroup_files=look.cgroup_files,
        nested_mounts=look.nested_mounts,
        own_namespaces=_proc_files.namespaces(f"{proc}/self"),
        unix=tuple(unix),
        renamed=dict(_renamed(unix, look.root)),
        unread=_unread(tasks, proc) if sockets else {},
        connected=frozenset().union(*map(_preflight_sockets.connected, tcp)),
        link_local=frozenset().union(*map(_preflight_sockets.link_local, tcp6)),
        backlog=sum(map(_preflight_sockets.unaccepted, tcp)),
        locks=frozenset(_lock_holders(_proc_files.read(f"{proc}/locks"))),
        occupied=frozenset(_occupied(mounts, f"{proc}/{init}/root")),
        criu_version=host.criu_version,
        criu_bpf=bpf and _mentions(host.criu_path, b"libbpf.so"),
        sharing=_sharing(tasks, proc),
        resource=bool(
            int(_proc.status(_proc_files.read(f"{proc}/self/status")).get("CapEff", "0"), 16) & _CAP_SYS_RESOURCE
        ),
    )


def descendants(init: int, proc: str = "/proc") -> list[int]:
    """A process and everything below it, as CRIU walks the tree: parents first."""
    found = [init]
    for pid in found:
        for thread in _proc_files.entries(f"{proc}/{pid}/task"):
            found += [int(child) for child in _proc_files.read(f"{proc}/{pid}/task/{thread}/children").split()]
    return found


def _tasks(look: _Look, init: int, proc: str) -> tuple[_proc.Task, ...]:
    """Every process, init first. They come and go during the look: systemd holds a pidfd of each one that it starts, and a
    service of some milliseconds is not for a task to fail. So who has a pidfd of a process not met is looked at again."""
    seen: dict[int, _proc.Task] = {}
    again: set[int] = set()
    for _look in range(_LOOKS):
        for pid in descendants(init, proc):
            if pid in seen and pid not in again:
                continue
            found = look.task(pid)
            if found is not None:
                seen[pid] = found
            elif pid in seen:
                del seen[pid]
        again = {pid for pid, task in seen.items() if not _watched(task) <= seen.keys()}
        if not again:
            break
    return tuple(seen.values())


def _watched(task: _proc.Task) -> set[int]:
    """The living processes of which it has a pidfd."""
    infos = (_proc.status(one.info) for one in task.descriptors if one.kind == "pidfd")
    return {int(info.get("Pid", "-1")) for info in infos} - {-1}


def _sharing(tasks: t.Sequence[_proc.Task], proc: str) -> tuple[tuple[int, ...], ...]:
    pids = [task.pid for task in tasks if task.state not in "ZX"]
    for _look in range(_LOOKS):
        found = _kcmp.sharing(pids, _kcmp.VM)
        # All that have ended have the same memory: none.
        found = [group for group in found if _proc.task(0, _proc_files.read(f"{proc}/{group[0]}/status")).size]
        if not found:
            break
        pids = [pid for group in found for pid in group]
        time.sleep(_VFORK)
    return tuple(found)


class _Look:
    """One pass over the processes. mounts: of every mount namespace met so far, by their ids.
    cgroup_files, nested_mounts: as in Facts."""

    def __init__(self, proc: str, init: int, mounts: dict[int, _proc.Mount], own_mount: str) -> None:
        self.proc = proc
        self.root = f"{proc}/{init}/root"
        self.mounts = mounts
        self.own_mount = own_mount
        self.cgroup_files: dict[str, str] = {}
        self.nested_mounts: dict[str, tuple[_proc.Mount, ...]] = {}
        self._mount_namespaces = {own_mount}
        self._visible: dict[tuple[str, int, int], bool] = {}
        self._protocols: dict[str, str] = {}

    def task(self, pid: int) -> _proc.Task | None:
        """Everything about one process, or None where it is gone."""
        top = f"{self.proc}/{pid}"
        text = _proc_files.read(f"{top}/status")
        if not text:
            return None
        found = _proc.task(pid, text)
        if found.state in "ZX":
            return found
        namespaces = _proc_files.namespaces(top)
        if namespaces.get("mnt", "") not in self._mount_namespaces:
            self._mount_namespaces.add(namespaces.get("mnt", ""))
            nested = _proc.mounts(_proc_files.read(f"{top}/mountinfo"))
            self.nested_mounts[namespaces.get("mnt", "")] = tuple(nested)
            for one in nested:
                self.mounts[one.number] = one
                if one.type == "cgroup2" and one.root.endswith(_CGROUP_FILE):
                    self.cgroup_files[namespaces.get("mnt", "")] = one.target
        return dataclasses.replace(
            found,
            **self._attributes(top, pid),
            **_preflight_losses.look(top, pid, namespaces),
            namespaces=namespaces,
            descriptors=tuple(self._descriptors(top, namespaces.get("mnt") == self.own_mount)),
            # The list of mappings has a lock that a process in uninterruptible sleep may hold.
            mappings=tuple(self._mappings(top)) if found.state != "D" else (),
        )

    def _attributes(self, top: str, pid: int) -> dict[str, t.Any]:
        with _proc_files.directory(top) as here:
            timers = _proc.timers(_proc_files.read("timers", here) if here >= 0 else "")
            limits = _proc.limits(_proc_files.read("limits", here) if here >= 0 else "")
        # The ids inside matter for few clocks, and cost a file for each thread.
        tids = [int(name) for name in _proc_files.entries(f"{top}/task")] if timers else []
        inside = tids if any(one.clock < 0 for one in timers) else []
        threads = (_proc.task(pid, _proc_files.read(f"{top}/task/{tid}/status")) for tid in inside)
        return {
            "limits": limits,
            "timers": timers,
            "tids": frozenset(tids),
            "inside_tids": frozenset(one.inside for one in threads),
        }

    def _descriptors(self, top: str, same_mounts: bool) -> list[_proc.Descriptor]:
        found: list[_proc.Descriptor] = []
        with _proc_files.directory(f"{top}/fd") as links, _proc_files.directory(f"{top}/fdinfo") as infos:
            if links < 0 or infos < 0:
                return found
            for name in _proc_files.entries(links):
                link = _proc_files.link(name, links)
                if link.startswith("/") and not link.startswith("/memfd:"):
                    found.append(self._file(name, link, links, infos, same_mounts))
                elif link.startswith("socket:"):
                    if link not in self._protocols:
                        self._protocols[link] = _protocol(f"{top}/fd/{name}")
                    found.append(_proc.Descriptor(int(name), link, protocol=self._protocols[link]))
                elif link:
                    one = _proc.Descriptor(int(name), link)
                    wanted = one.kind in _FDINFO_KINDS
                    if wanted:
                        one = dataclasses.replace(one, info=_proc_files.read(name, infos))
                    if one.kind == "inotify" and same_mounts:
                        one = dataclasses.replace(one, astray=tuple(self._astray(one.info)))
                    found.append(one)
        return found

    def _astray(self, info: str) -> t.Iterator[tuple[str, str]]:
        for watch in _file_handles.watches(info):
            for mount in self.mounts.values():
                if mount.device != watch.device or mount.type in _NO_NAMES or mount.base_type in _REMOTE:
                    continue
                path = _file_handles.path_of(watch, self.root + mount.target)
                if not path:
                    continue
                there = _proc_files.stat(self.root + path)
                if there is None or there.st_ino != watch.inode:
                    yield path, mount.type
                break

    def _file(self, name: str, link: str, links: int, infos: int, same_mounts: bool) -> _proc.Descriptor:
        info = _proc_files.read(name, infos, small=True)
        mount = self.mounts.get(_proc.mount_id(info))
        status, visible = None, None
        if mount is None:
            # A terminal from outside may be one that CRIU is told of.
            status = _proc_files.stat(name, links) if link.startswith("/dev/") else None
        elif mount.base_type not in _REMOTE:
            status = _proc_files.stat(name, links)
            named = same_mounts and mount.type not in _NO_NAMES and not link.endswith(_proc.DELETED)
            if status is not None and named:
                visible = (
                    self._leads_to(link, status)
                    or _proc_files.link(name, links) != link
                    or self._leads_to(link, status, again=True)
                )
        return _proc.Descriptor(
            int(name), link, info, status, visible=visible, file_system=mount.type if mount is not None else ""
        )

    def _leads_to(self, link: str, status: os.stat_result, *, again: bool = False) -> bool:
        key = (link, status.st_dev, status.st_ino)
        if again or key not in self._visible:
            try:
                there = os.lstat(self.root + link)
            except OSError:
                there = None
            # What is not found at all gets a name for the time of the dump.
            self._visible[key] = there is None or (there.st_dev, there.st_ino) == key[1:]
        return self._visible[key]

    def _mappings(self, top: str) -> t.Iterator[_proc.Mapping]:
        text = _proc_files.read(f"{top}/maps")
        seen: set[str] = set()
        for one in _proc.unusual_mappings(text):
            # One finding for each file, however many parts of it are mapped.
            if one.path in seen:
                continue
            seen.add(one.path)
            name = _proc.map_file(text, one.start) if one.path.startswith("/") else ""
            yield dataclasses.replace(one, status=_proc_files.stat(f"{top}/map_files/{name}") if name else None)


def memory(container: _container.Container) -> _preflight_container.Memory:
    """What the memory controller says."""
    for hierarchy in container.cgroups:
        top = hierarchy.directory
        if hierarchy.unified and os.path.exists(f"{top}/memory.current"):
            values = _values(f"{top}/memory.stat")
            return _preflight_container.Memory(
                values.get("shmem", 0),
                _first_number(f"{top}/memory.current") - values.get("inactive_file", 0) - values.get("active_file", 0),
                _limit(f"{top}/memory.max"),
            )
        if not hierarchy.unified and "memory" in hierarchy.controllers:
            values = _values(f"{top}/memory.stat")
            cache = values.get("total_inactive_file", 0) + values.get("total_active_file", 0)
            return _preflight_container.Memory(
                values.get("total_shmem", 0),
                _first_number(f"{top}/memory.usage_in_bytes") - cache,
                _limit(f"{top}/memory.limit_in_bytes"),
            )
    return _preflight_container.Memory()


def space(directory: str, *, proc: str = "/proc") -> _preflight_container.Space | None:
    """The room where the checkpoint will be, whose directory need not be there yet; None where that cannot be told."""
    # The image is made beside its place.
    there = os.path.dirname(directory)
    while not os.path.isdir(there) and there != "/":
        there = os.path.dirname(there)
    try:
        found, device = os.statvfs(there), os.stat(there).st_dev
    except OSError:
        return None
    name = f"{os.major(device)}:{os.minor(device)}"
    kinds = [one.type for one in _proc.mounts(_proc_files.read(f"{proc}/self/mountinfo")) if one.device == name]
    # Root may use what is reserved for it; a quota of the directory's project is in these numbers.
    return _preflight_container.Space(
        found.f_bfree * found.f_frsize, kinds[0] if kinds else "", found.f_ffree if found.f_files else None
    )


def _unix(runner: _runner.Runner, tasks: t.Sequence[_proc.Task], proc: str) -> list[_findings.UnixSocket]:
    # Only the kernel's socket diagnosis tells the peer, and it answers for one network namespace.
    seen: dict[str, int] = {}
    for task in tasks:
        seen.setdefault(task.namespaces.get("net", ""), task.pid)
    found = []
    for namespace, pid in seen.items():
        if namespace:
            done = runner.run(["nsenter", f"--net={proc}/{pid}/ns/net", "ss", "-H", "-x", "-a", "-n", "-e"])
            found += _preflight_sockets.unix_sockets(done.stdout)
    return found


def _renamed(unix: t.Iterable[_findings.UnixSocket], root: str) -> t.Iterator[tuple[int, tuple[str, str]]]:
    """Bound sockets whose file has another name in the same directory by now."""
    for one in unix:
        if not (one.name.startswith("/") and one.file) or _proc_files.inode(root + one.name) == one.file:
            continue
        directory = os.path.dirname(one.name)
        for name in _proc_files.entries(root + directory):
            path = os.path.join(directory, name)
            if _proc_files.inode(root + path) == one.file:
                yield one.inode, (one.name, path)
                break


def _unread(tasks: t.Sequence[_proc.Task], proc: str) -> dict[int, int]:
    found: dict[int, int] = {}
    seen: set[str] = set()
    for task in tasks:
        namespace = task.namespaces.get("net", "")
        if namespace and namespace not in seen:
            seen.add(namespace)
            found.update(_preflight_sockets.unread_netlink(_proc_files.read(f"{proc}/{task.pid}/net/netlink")))
    return found


def _lock_holders(text: str) -> t.Iterator[int]:
    for line in _files.lines(text):
        # `1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF`, and ` ->` after the number for one that waits.
        fields = line.replace("->", " ").split()
        if len(fields) > 4 and fields[4].isdigit():
            yield int(fields[4])


def _occupied(mounts: t.Iterable[_proc.Mount], root: str) -> t.Iterator[str]:
    for one in mounts:
        there = _proc_files.stat(root + one.target) if one.type in _MUST_BE_EMPTY else None
        # Something else may be mounted over it.
        if there is None or f"{os.major(there.st_dev)}:{os.minor(there.st_dev)}" != one.device:
            continue
        if _proc_files.entries(root + one.target):
            yield one.target


def _protocol(path: str) -> str:
    try:
        return os.getxattr(path, "system.sockprotoname").rstrip(b"\0").decode("ascii", "replace")
    except OSError:
        return ""


def _mentions(path: str, word: bytes) -> bool:
    try:
        with open(path, "rb") as stream:
            return word in stream.read()
    except OSError:
        return False


def _values(path: str) -> dict[str, int]:
    rows = (line.split() for line in _files.lines(_proc_files.read(path)))
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _first_number(path: str) -> int:
    text = _proc_files.read(path).strip()
    return int(text) if text.isdigit() else 0


def _limit(path: str) -> int | None:
    found = _first_number(path)
    # cgroup v1 says "no limit" by a number that no machine has.
    return found if 0 < found < 1 << 60 else None

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The census of processes and threads: what /proc and the scheduler show of each of them, as text. Reads only.

Left out is what programs change by themselves while they work: which files are open, what a signal does, the directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _census_compare,
    _files,
    _preflight_losses,
    _proc,
    _proc_files,
)

_POLICIES = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline", 7: "ext"}
_RESET_ON_FORK = 0x40000000
_IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31, "loongarch64": 31, "ppc64le": 274, "s390x": 283}
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASSES = {1: "realtime", 2: "best-effort", 3: "idle"}
_OF_THREADS = {
    "Uid": "user ids",
    "Gid": "group ids",
    "Groups": "groups",
    "CapInh": "inheritable capabilities",
    "CapPrm": "permitted capabilities",
    "CapEff": "effective capabilities",
    "CapBnd": "bounding capabilities",
    "CapAmb": "ambient capabilities",
    "NoNewPrivs": "no_new_privs",
    "Seccomp": "seccomp mode",
    "Seccomp_filters": "number of seccomp filters",
}
_SPECULATION = {
    "Speculation_Store_Bypass": "speculative store bypass",
    "SpeculationIndirectBranch": "indirect branch speculation",
}
_FILES = {"coredump_filter": "filter of core dumps", "oom_score_adj": "oom_score_adj"}
_FILES_OF_THREADS = {"timerslack_ns": "timer slack", "personality": "personality", "attr/current": "LSM label"}
_LIMIT = re.compile(r"^(Max [a-z -]+?)  +(\S+) +(\S+)", re.MULTILINE)
_TIMER = re.compile(r"^ID: (\d+)\nsignal: (\d+)/.*\nnotify: (\w+/\w+)\.\d+\nClockID: (-?\d+)", re.MULTILINE)
_NUMBER = re.compile(r"\[\d+\]\Z")
_PAYLOAD = re.compile(r"^0::.*?/lxc\.payload\.[^/\n]*(.*)$", re.MULTILINE)
_ACCESS = {os.O_RDONLY: "read", os.O_WRONLY: "write", os.O_RDWR: "read and write"}
_FLAGS = {
    os.O_APPEND: "append",
    os.O_NONBLOCK: "nonblocking",
    os.O_ASYNC: "async",
    os.O_DIRECT: "direct",
    os.O_DSYNC: "sync",
    os.O_NOATIME: "noatime",
    os.O_CLOEXEC: "close-on-exec",
}


def look(
    init: int, tasks: t.Iterable[int], every_cpu: frozenset[int], *, proc: str = "/proc", brief: bool = False
) -> _census_compare.Census:
    """Each of the container's processes and their threads. every_cpu: that a task runs on that is not bound. brief: only
    what programs may change for a moment, which costs a file for each.

    Ids are those that the container sees: the host's are others after a restore. Processes that end meanwhile are left out.
    """
    depth = len(_proc.status(_proc_files.read(f"{proc}/{init}/status")).get("NSpid", "").split()) - 1
    namespaces = _proc_files.namespaces(f"{proc}/{init}")
    found: dict[str, _census_compare.Subject] = {}
    for pid in tasks:
        top = f"{proc}/{pid}"
        status = _proc.status(_proc_files.read(f"{top}/status"))
        if not status or status.get("State", "Z")[:1] in "ZX":
            continue
        own = {} if brief else _proc_files.namespaces(top)
        key = f"process {inside(status, depth)}"
        found[key] = _census_compare.Subject(
            status.get("Name", ""),
            {
                **_changing(pid, status, every_cpu),
                **({} if brief else {**_kept(f"{proc}/{pid}", status), **_process(top, status, own, namespaces)}),
            },
            {} if brief else {"POSIX timer": timers(_proc_files.read(f"{top}/timers"))},
        )
        for tid in sorted(int(name) for name in _proc_files.entries(f"{top}/task")):
            of_thread = _proc.status(_proc_files.read(f"{top}/task/{tid}/status")) if tid != pid else {}
            if of_thread:
                values = _changing(tid, of_thread, every_cpu)
                if not brief:
                    apart = sorted(set(_preflight_losses.apart(top, pid, tid, own)))
                    values.update(_kept(f"{proc}/{tid}", of_thread))
                    values["what it has for itself"] = ", ".join(apart) or "nothing"
                name = f"thread {inside(of_thread, depth)} of {key}"
                found[name] = _census_compare.Subject(of_thread.get("Name", ""), values)
    return found


def inside(status: t.Mapping[str, str], depth: int) -> str:
    """Its id as the container sees it, and behind that as pid namespaces inside see it: `20/1`."""
    return "/".join(status.get("NSpid", "").split()[depth:])


def _kept(top: str, status: t.Mapping[str, str]) -> dict[str, str]:
    """Of a thread whose own directory in /proc this is."""
    found = {}
    for key, name in _SPECULATION.items():
        # Else it is the processor's state and not the task's.
        if status.get(key, "").startswith(("thread ", "conditional ")):
            found[name] = status[key]
    for path, name in _FILES_OF_THREADS.items():
        found[name] = _proc_files.read(f"{top}/{path}", small=True).strip(" \n\0")
    return {name: value for name, value in found.items() if value}


def _changing(tid: int, status: t.Mapping[str, str], every_cpu: frozenset[int]) -> dict[str, str]:
    """Of a thread, what programs may change for a moment."""
    found = {name: " ".join(status[key].split()) for key, name in _OF_THREADS.items() if key in status}
    with contextlib.suppress(OSError):
        policy = os.sched_getscheduler(tid)
        word = _POLICIES.get(policy & ~_RESET_ON_FORK, str(policy))
        found["scheduling policy"] = f"{word}, reset on fork" if policy & _RESET_ON_FORK else word
        found["scheduling priority"] = str(os.sched_getparam(tid).sched_priority)
        found["nice value"] = str(os.getpriority(os.PRIO_PROCESS, tid))
        cpus = frozenset(os.sched_getaffinity(tid))
        found["affinity"] = "every CPU" if cpus >= every_cpu else f"CPU {','.join(map(str, sorted(cpus)))}"
        found["I/O priority"] = _io_priority(tid)
    return {name: value for name, value in found.items() if value}


def _process(
    top: str, status: t.Mapping[str, str], own: t.Mapping[str, str], of_init: t.Mapping[str, str]
) -> dict[str, str]:
    found = limits(_proc_files.read(f"{top}/limits"))
    for path, name in _FILES.items():
        found[name] = _proc_files.read(f"{top}/{path}", small=True).strip()
    for name, link in own.items():
        if name in of_init:
            found[f"{name} namespace"] = "that of the first process" if link == of_init[name] else "another"
    found["locked memory"] = "none" if status.get("VmLck", "0 kB").startswith("0 ") else "some"
    found["transparent huge pages"] = status.get("THP_enabled", "")
    found["cgroup"] = cgroup(_proc_files.read(f"{top}/cgroup"))
    found.update(_descriptors(top))
    return {name: value for name, value in found.items() if value}


def limits(text: str) -> dict[str, str]:
    """The soft and the hard limits in the text of /proc/PID/limits."""
    return {f"limit of {name[4:]}": f"{soft} {hard}" for name, soft, hard in _LIMIT.findall(text)}


def timers(text: str) -> dict[str, str]:
    """The POSIX timers in the text of /proc/PID/timers, without the ids that the host gives to clocks and threads."""
    return {
        number: f"signal {signal}, {notify}, clock {clock if int(clock) >= 0 else 'of a CPU time'}"
        for number, signal, notify, clock in _TIMER.findall(text)
    }


def cgroup(text: str) -> str:
    """The v2 cgroup in the text of /proc/PID/cgroup, below the container's."""
    match = _PAYLOAD.search(text)
    return (match.group(1) or "/") if match else ""


def _descriptors(top: str) -> dict[str, str]:
    found = {}
    with _proc_files.directory(f"{top}/fd") as links, _proc_files.directory(f"{top}/fdinfo") as infos:
        for name in _proc_files.entries(links) if links >= 0 and infos >= 0 else ():
            link = _NUMBER.sub("", _proc_files.link(name, links))
            info = _proc.status(_proc_files.read(name, infos, small=True)) if link else {}
            if "flags" in info:
                access, words = flags(info["flags"])
                found[f"flags of descriptor {name} ({link}, to {access})"] = words
    return found


def flags(text: str) -> tuple[str, str]:
    """What a descriptor is for, and its flags, from the octal number in its fdinfo."""
    number = int(text, 8)
    words = [word for flag, word in _FLAGS.items() if number & flag == flag]
    return _ACCESS.get(number & os.O_ACCMODE, "?"), ", ".join(words) or "none"


def _io_priority(tid: int) -> str:
    number = _IOPRIO_GET.get(os.uname().machine)
    if number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return ""
    found = ctypes.CDLL(None).syscall(ctypes.c_long(number), _IOPRIO_WHO_PROCESS, tid)
    if found < 0:
        return ""
    # Without a class it follows the nice value, whatever the number says.
    word = _IOPRIO_CLASSES.get(found >> 13)
    return f"{word} {found & 0x1FFF}" if word else "none"


def cpus_of(text: str) -> frozenset[int]:
    """The processors in a list of the kernel's: `0-3,6`."""
    found: set[int] = set()
    for part in _files.lines(text.strip() + "\n")[0].split(","):
        first, _dash, last = part.partition("-")
        if first.isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight on real containers: what it says blocks makes CRIU's own dump fail, what it calls ready is dumped."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import cgroup_is_v2
from preflight import Pre, bind, fails, named, only, ready


@pytest.fixture
def pre(lxc: Factory, trouble: Path) -> Pre:
    return Pre(lxc, trouble)


# What is no trouble


def test_plain_container_is_ready_and_dumped(pre: Pre) -> None:
    answer = ready(pre, pre.start("nothing", network=True))
    assert answer["findings"] == []
    assert answer["counts"] == {"blocks": 0, "may fail": 0, "loses": 0, "note": 0}
    assert "ready" in answer["summary"][0]


NO_TROUBLE = {
    "everything ordinary": ("ordinary", []),
    "small deleted file": ("ghost", ["512"]),
    "sparse deleted file": ("ghost-sparse", []),
    "file with another name": ("hidden-link", []),
    "terminal that hangs up": ("slave-alone", []),
    "fanotify": ("fanotify", ["/tmp"]),
    "inotify on the root file system": ("inotify", ["/run"]),
    "inotify on /dev": ("inotify", ["/dev"]),
    "symbolic link watched where CRIU looks": ("watched-link", ["/etc/link"]),
    "inotify on cgroup v2": ("mounted-watch", ["cgroup2"]),
    "socket unix raw": ("socket", ["unixraw"]),
    "zombie": ("zombie", []),
    "seccomp filter": ("filtered", []),
    "System V shared memory": ("shared-memory", []),
    "file lock": ("locked", []),
    "bind mount inside": ("bind", []),
    "overlay": ("overlay", []),
    **{f"mount {kind}": ("mount", [kind]) for kind in ("tmpfs", "proc", "devpts", "cgroup2", "hugetlbfs", "debugfs")},
}


@pytest.mark.parametrize(("what", "arguments"), NO_TROUBLE.values(), ids=NO_TROUBLE)
def test_what_criu_keeps_is_ready_and_dumped(pre: Pre, what: str, arguments: list[str]) -> None:
    ready(pre, pre.start(what, *arguments))


def test_tcp_connections_are_ready_and_dumped(pre: Pre) -> None:
    ready(pre, pre.start("tcp-pair", network=True))


# What blocks

BLOCKS = {
    "BPF program": ("bpf-prog", [], "descriptor", "Can't dump file"),
    "BPF map of another type": ("bpf-map", [], "descriptor", "BPF map|Can't dump file"),
    "io_uring": ("io-uring", [], "descriptor", "send_fds failed"),
    "perf": ("perf", [], "descriptor", "Can't dump file"),
    "perf ring mapped": ("mapped-ring", [], "descriptor", "perf_event"),
    "userfaultfd": ("userfaultfd", [], "descriptor", "Can't dump file"),
    "file system context": ("fsopen", [], "descriptor", "Can't dump file"),
    "seccomp listener": ("notifier", [], "descriptor", "Can't dump file"),
    "secret memory": ("secret", [], "descriptor", "Can't lookup mount"),
    "pidfd of a thread": ("pidfd-thread", [], "pidfd", "PIDFD_THREAD"),
    "pipe in packet mode": ("direct-pipe", [], "packet-pipe", "packetized mode"),
    "namespace kept open": ("namespace-file", [], "namespace-file", "No NS ID"),
    "message queue": ("queue-descriptor", [], "outside-file", "Can't lookup mount"),
    "large deleted file": ("ghost", ["2048"], "ghost-file", "Can't dump ghost file"),
    "large deleted file mapped": ("ghost-mapped", ["2048"], "ghost-file", "Can't dump ghost file"),
    "file below a new mount": ("replaced", [], "hidden-file", "Unaccessible path"),
    "vsock": ("socket", ["vsock"], "socket", "Unknown socket"),
    "xdp": ("socket", ["xdp"], "socket", "Unknown socket"),
    "mptcp": ("socket", ["mptcp"], "socket", "Unsupported proto"),
    "ramfs": ("mount", ["ramfs"], "mount", "unsupported"),
    "bpf file system": ("mount", ["bpf"], "mount", "unsupported"),
    "queues": ("queue", [], "mount", "mqueue isn't empty"),
    "part of an unmounted file system": ("bind-orphan", [], "mount", "proper root mount"),
    "automount without its master": ("autofs", ["x"], "autofs", "read end of the pipe"),
    "first thread ended": ("zombie-leader", [], "zombie-threads", "Zombies with threads"),
    "traced": ("traced", [], "traced", "Unseizable"),
    "symbolic link watched on tmpfs": ("watched-link", ["/dev/link"], "watched-link", "suitable path for handle"),
    "symbolic link watched": ("watched-link", ["/tmp/link"], "watched-link", "Can't dump that handle"),
    "timer for the first of two threads": ("timer", ["first"], "timer", "Unable to convert the notify thread id"),
    "timer for an ended thread": ("timer", ["ended"], "timer", "Unable to convert the notify thread id"),
    "memory of another process": ("shared-address-space", [], "shared-address-space", "Can't make VM id"),
    "no address space left": ("little-address-space", ["64"], "address-space", "Cannot allocate memory"),
    "no descriptor left": ("few-descriptors", ["0"], "open-files", "Too many open files"),
    "two descriptors left": ("few-descriptors", ["2"], "open-files", "Can't dump page with parasite"),
    **{
        f"nested {kind} namespace": ("namespace", [kind], f"nested-{kind}-namespace", "Can't dump nested")
        for kind in ("uts", "ipc", "pid", "user", "cgroup", "time")
    },
    "children in a time namespace": ("namespace", ["time_for_children"], "nested-time-namespace", "Can't dump nested"),
}


@pytest.mark.parametrize(("what", "arguments", "word", "log"), BLOCKS.values(), ids=BLOCKS)
def test_what_blocks_is_found_and_criu_fails(pre: Pre, what: str, arguments: list[str], word: str, log: str) -> None:
    container = pre.start(what, *arguments)
    answer = pre.ask(container)
    finding = named(answer, word)
    assert finding["severity"] == "blocks"
    assert answer["verdict"] == "blocked"
    if word != "mount" and word != "autofs":
        # The process, as it is called, and its ids on the host and inside.
        name = {"traced": "tracee"}.get(what, what[:15])
        assert finding["subject"].startswith(f"{name} (pid "), finding
        assert " inside)" in finding["subject"]
    dumped = pre.dump(container)
    assert dumped["rc"] != 0, f"CRIU dumped it all the same: {finding}"
    assert any(part in line for part in log.split("|") for line in dumped["errors"]), dumped["errors"]
    assert dumped["causes"], f"no rule of the diagnosis knows a line of {dumped['errors']}"


@pytest.mark.parametrize("device", ["/dev/fuse", "/dev/loop-control"])
def test_open_device_blocks(pre: Pre, device: str) -> None:
    rdev = os.stat(device).st_rdev
    version = "cgroup2" if cgroup_is_v2("devices") else "cgroup"
    allow = f"lxc.{version}.devices.allow = c {os.major(rdev)}:{os.minor(rdev)} rwm"
    finding = fails(
        pre,
        pre.start("device", "/dev/x", config=[bind(device, "dev/x"), allow]),
        "blocks",
        "device",
        "Can't dump file",
    )
    assert "/dev/x" in finding["what"]


def test_fuse_of_its_own_blocks(pre: Pre) -> None:
    container = pre.start("fuse", config=[bind("/dev/fuse", "dev/fuse"), "lxc.cap.drop ="])
    answer = pre.ask(container)
    assert set(only(answer, "blocks")) == {"device", "mount"}
    assert pre.dump(container)["rc"] != 0


def test_console_that_a_process_uses_blocks(pre: Pre) -> None:
    container = pre.start("nothing", config=["lxc.console.path ="])
    finding = fails(pre, container, "blocks", "terminal", "tty: ")
    assert "lxc.console.path = none" in finding["remedy"]


def test_terminals_that_nobody_uses_are_no_trouble(pre: Pre) -> None:
    container = pre.start("nothing", config=["lxc.tty.max = 2", "lxc.tty.dir ="])
    assert pre.ask(container)["verdict"] == "ready"
    assert pre.dump(container)["rc"] == 0


OPTIONS = {
    "ghost_limit": ("ghost", ["64"], {"ghost_limit": 1}, "ghost-file", "Can't dump ghost file"),
    "file_locks": ("locked", [], {"file_locks": False}, "file-locks", "file locks are hold"),
    "link_remap": ("hidden-link", [], {"link_remap": False}, "unlinked-file", "Can't create link remap"),
    "tcp_established": ("tcp-pair", [], {"tcp_established": False}, "tcp-established", "Connected TCP socket"),
}


@pytest.mark.parametrize(("what", "arguments", "options", "word", "log"), OPTIONS.values(), ids=OPTIONS)
def test_option_that_makes_criu_fail_blocks(
    pre: Pre, what: str, arguments: list[str], options: dict[str, t.Any], word: str, log: str
) -> None:
    fails(pre, pre.start(what, *arguments, network=True), "blocks", word, log, **options)


def test_larger_ghost_limit_is_what_the_remedy_says(pre: Pre) -> None:
    container = pre.start("ghost", "2048")
    assert "2097152" in named(pre.ask(container), "ghost-file")["remedy"]
    ready(pre, container, ghost_limit=2097152)


def test_process_of_another_user_blocks_where_root_lacks_a_capability(pre: Pre) -> None:
    container = pre.start("other-user")
    [capabilities] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    if int(capabilities.split()[1], 16) & 1 << 24:
        ready(pre, container)
    else:
        fails(pre, container, "blocks", "resource-capability", "Can't get rlimit")


# What may fail, and here does

RISKS = {
    "unread netlink": ("netlink-unread", [], "netlink-data", "has data to read"),
    "inotify on proc": ("inotify", ["/proc/1"], "inotify", "Can't dump that handle"),
    "inotify on sysfs": ("inotify", ["/sys/kernel"], "inotify", "Can't dump that handle"),
    "inotify on overlay": ("overlay", ["x"], "inotify", "Can't dump that handle"),
    "Unix connection with data, not accepted": ("unix-queue", ["data"], "unix-in-flight", "Non-empty write queue"),
    "Unix connection closed, not accepted": ("unix-queue", ["closed"], "unix-in-flight", "closed in-flight socket"),
    "uninterruptible": ("uninterruptible", [], "uninterruptible", "state D"),
}


@pytest.mark.parametrize(("what", "arguments", "word", "log"), RISKS.values(), ids=RISKS)
def test_what_may_fail_is_found(pre: Pre, what: str, arguments: list[str], word: str, log: str) -> None:
    fails(pre, pre.start(what, *arguments), "may fail", word, log)


def test_connection_in_flight(pre: Pre) -> None:
    container = pre.start("tcp-pair", "x", network=True)
    assert "tcp-in-flight" in only(ready(pre, container), "note")
    fails(pre, container, "may fail", "tcp-in-flight", "In-flight connection", skip_in_flight=False)


LOSSES = {
    "automount point": ("autofs", [], "autofs"),
    "fanotify of a file system": ("fanotify-fs", ["/tmp"], "fanotify"),
    "nested mount namespaces that share": ("namespace-roots", [], "nested-mount-namespace"),
    "nested network namespace": ("namespace", ["net"], "nested-network-namespace"),
}


@pytest.mark.parametrize(("what", "arguments", "word"), LOSSES.values(), ids=LOSSES)
def test_what_is_dumped_and_may_be_lost_is_found(pre: Pre, what: str, arguments: list[str], word: str) -> None:
    container = pre.start(what, *arguments)
    answer = pre.ask(container)
    assert named(answer, word)["severity"] == "may fail"
    assert answer["verdict"] == "risky"
    assert pre.dump(container)["rc"] == 0


def test_memory_near_its_limit_is_found(pre: Pre) -> None:
    limit = "lxc.cgroup2.memory.max" if cgroup_is_v2("memory") else "lxc.cgroup.memory.limit_in_bytes"
    answer = pre.ask(pre.start("memory", "62", config=[f"{limit} = {64 << 20}"]))
    assert named(answer, "memory-limit")["severity"] == "may fail"

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pure checks of the preflight, on what real containers' /proc said and on what cannot be made everywhere."""

from __future__ import annotations

import os
import stat
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _preflight_files,
    _preflight_mounts,
    _preflight_processes,
    _preflight_sockets,
    _proc,
)
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import CriuOptions
from ansible_collections.stasis.lxc.plugins.module_utils._findings import Facts, Finding, Options
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Descriptor, Mapping, Task

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/proc"
OWN = {name: f"{name.replace('time_for_children', 'time')}:[1]" for name in _proc.NAMESPACES}
INSIDE = {name: link.replace("[1]", "[2]") for name, link in OWN.items()}
INIT = Task(100, 1, "init", "S", namespaces=INSIDE, filters=1)


def text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def facts(*tasks: Task, **changes: t.Any) -> Facts:
    return Facts(**{"tasks": (INIT, *tasks), "own_namespaces": OWN, "criu_version": "4.2", **changes})


def process(**changes: t.Any) -> Task:
    return replace(Task(101, 2, "app", "S", namespaces=INSIDE), **changes)


def options(**criu: t.Any) -> Options:
    return Options(criu=CriuOptions(**criu))


def words(found: t.Iterable[Finding]) -> list[tuple[str, str]]:
    return [(one.id, one.severity) for one in found]


def status(mode: int, rdev: tuple[int, int] = (0, 0), nlink: int = 1, size: int = 0) -> t.Any:
    """What os.stat() answers, as far as the checks ask."""

    class Status:
        st_mode = mode
        st_rdev = os.makedev(*rdev)
        st_nlink = nlink
        st_blocks = size // 512
        st_dev = 5
        st_ino = 6

    return Status()


REGULAR = stat.S_IFREG | 0o644
CHARACTER = stat.S_IFCHR | 0o600

# Processes


def test_ordinary_processes_have_nothing() -> None:
    assert _preflight_processes.check(facts(process())) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": "Z", "namespaces": {}}, [("zombie", "note")]),
        ({"state": "Z", "threads": 2, "namespaces": {}}, [("zombie-threads", "blocks")]),
        ({"state": "D"}, [("uninterruptible", "may fail")]),
        ({"state": "t", "tracer": 9}, [("traced", "blocks")]),
        ({"state": "T"}, []),
        ({"session": 0}, [("foreign-session", "blocks")]),
        ({"pending": 1 << 4}, [("pending-sigtrap", "may fail")]),
        ({"pending": 1 << 5}, []),
        ({"mode": 2, "filters": 1}, []),
        ({"mode": 2, "filters": 2}, [("seccomp", "note")]),
        ({"namespaces": {**INSIDE, "uts": "uts:[3]"}}, [("nested-uts-namespace", "blocks")]),
        ({"namespaces": {**INSIDE, "pid": "pid:[3]"}, "session": 0}, [("nested-pid-namespace", "blocks")]),
        ({"namespaces": {**INSIDE, "uts": "uts:[1]"}}, []),
        ({"namespaces": {**INSIDE, "mnt": "mnt:[3]"}}, [("nested-mount-namespace", "may fail")]),
        ({"namespaces": {**INSIDE, "net": "net:[3]"}}, [("nested-network-namespace", "may fail")]),
        ({"namespaces": {**INSIDE, "time_for_children": "time:[3]"}}, [("nested-time-namespace", "blocks")]),
    ],
)
def test_state_of_a_process(changes: dict[str, t.Any], expected: list[tuple[str, str]]) -> None:
    one = process(**changes)
    assert words(_preflight_processes.check(facts(one))) == expected


def test_many_processes_in_one_nested_mount_namespace_are_one_finding() -> None:
    nested = {**INSIDE, "mnt": "mnt:[3]"}
    tasks = [replace(process(), pid=pid, namespaces=nested) for pid in (5, 6, 7)]
    [one] = _preflight_processes.check(facts(*tasks))
    assert one.subject.endswith("and 2 more")


def test_file_of_a_cgroup_that_is_mounted_for_a_service_blocks() -> None:
    nested = replace(process(), namespaces={**INSIDE, "mnt": "mnt:[3]"})
    target = "/sys/fs/cgroup/system.slice/systemd-logind.service/memory.pressure"
    found = _preflight_processes.check(facts(nested, cgroup_files={"mnt:[3]": target, "mnt:[4]": "/elsewhere"}))
    assert words(found) == [("cgroup-file-mount", "blocks"), ("nested-mount-namespace", "may fail")]
    assert target in found[0].what
    assert "MemoryPressureWatch=off" in found[0].remedy


# Descriptors


def files(one: Descriptor, given: Options | None = None, **changes: t.Any) -> list[tuple[str, str]]:
    found = _preflight_files.check(
        facts(process(descriptors=(one,)), **{"mount_ids": frozenset((9,)), **changes}), given or Options()
    )
    assert all(each.subject == f"app (pid 101, 2 inside), descriptor {one.number}" for each in found)
    return words(found)


def test_descriptors_of_an_ordinary_process_have_nothing() -> None:
    known = {"net": next(line.split()[1] for line in text("ordinary/fd").splitlines() if " net:" in line)}
    found = []
    for line in text("ordinary/fd").splitlines():
        number, _space, link = line.partition(" ")
        one = Descriptor(int(number), link)
        if one.kind == "pidfd":
            one = replace(one, info=text("ordinary/fdinfo_33"))
        found.append(one)
    pid = int(_proc.status(text("ordinary/fdinfo_33"))["Pid"])
    task = process(pid=pid, descriptors=tuple(found), namespaces={**INSIDE, **known})
    assert _preflight_files.check(facts(task), Options()) == []


@pytest.mark.parametrize(
    "link",
    [
        "anon_inode:bpf-prog",
        "anon_inode:bpf_link",
        "anon_inode:[io_uring]",
        "anon_inode:[perf_event]",
        "anon_inode:[userfaultfd]",
        "anon_inode:[fscontext]",
        "anon_inode:seccomp notify",
        "anon_inode:kvm-vm",
        "anon_inode:[landlock-ruleset]",
        "something:else",
    ],
)
def test_what_criu_has_no_image_for(link: str) -> None:
    assert files(Descriptor(5, link)) == [("descriptor", "blocks")]


@pytest.mark.parametrize(
    ("kind", "built", "expected"),
    [("1", True, []), ("2", True, []), ("9", True, ["blocks"]), ("1", False, ["blocks"]), ("9", False, ["blocks"])],
)
def test_bpf_maps(kind: str, built: bool, expected: list[str]) -> None:
    one = Descriptor(5, "anon_inode:bpf-map", f"pos:\t0\nmap_type:\t{kind}\n")
    assert [severity for _id, severity in files(one, criu_bpf=built)] == expected


def test_pidfds() -> None:
    def pidfd(pid: int, flags: int = 0o2) -> Descriptor:
        return Descriptor(5, "anon_inode:[pidfd]", f"flags:\t0{flags:o}\nPid:\t{pid}\n")

    assert files(pidfd(100)) == []
    assert files(pidfd(-1)) == []
    assert files(pidfd(4711)) == [("pidfd", "blocks")]
    assert files(pidfd(100, os.O_EXCL)) == [("pidfd", "blocks")]
    assert files(pidfd(100), criu_version="4.0") == [("pidfd", "blocks")]
    assert files(Descriptor(5, "anon_inode:[pidfd]", text("pidfd-thread/fdinfo_3"))) == [("pidfd", "blocks")]


def test_pipe_in_packet_mode_unless_it_is_an_automounts() -> None:
    one = Descriptor(4, "pipe:[77]", text("direct-pipe/fdinfo_4"))
    assert int(_proc.status(one.info)["flags"], 8) & os.O_DIRECT
    assert files(one) == [("packet-pipe", "blocks")]
    mount = _proc.mounts("1 0 0:1 / /mnt rw - autofs x rw,fd=4,pipe_ino=77,pgrp=2")
    assert files(one, mounts=tuple(mount)) == []


def test_namespace_that_nobody_lives_in() -> None:
    assert files(Descriptor(5, "net:[2]")) == []
    assert files(Descriptor(5, "net:[1]")) == []
    assert files(Descriptor(5, "net:[3]")) == [("namespace-file", "blocks")]


@pytest.mark.parametrize(
    ("rdev", "expected"),
    [
        ((1, 3), []),
        ((1, 11), []),
        ((10, 200), []),
        ((10, 235), []),
        ((5, 2), []),
        ((5, 1), []),
        ((4, 1), []),
        ((4, 64), [("device", "blocks")]),
        ((136, 3), []),
        ((188, 0), []),
        ((10, 229), [("device", "blocks")]),
        ((10, 232), [("device", "blocks")]),
        ((116, 1), [("device", "blocks")]),
        ((226, 0), [("device", "may fail")]),
        ((195, 0), [("device", "may fail")]),
    ],
)
def test_devices(rdev: tuple[int, int], expected: list[tuple[str, str]]) -> None:
    assert files(Descriptor(5, "/dev/x", "mnt_id:\t9\n", status(CHARACTER, rdev))) == expected


def test_block_device() -> None:
    one = Descriptor(5, "/dev/sda", "mnt_id:\t9\n", status(stat.S_IFBLK | 0o600, (8, 0)))
    assert files(one) == [("device", "blocks")]


def test_terminal_on_no_mount_of_the_container() -> None:
    one = Descriptor(0, "/dev/pts/3", "mnt_id:\t8\n", status(CHARACTER, (136, 3)))
    assert files(one) == [("outside-file", "blocks")]
    assert files(one, options(criu_args=("-j",))) == []
    null = replace(one, link="/dev/null", status=status(CHARACTER, (1, 3)))
    assert files(null, options(criu_args=("-j",))) == [("outside-file", "blocks")]


def test_file_of_a_process_that_has_ended() -> None:
    one = Descriptor(5, "/proc/7/status (deleted)", "mnt_id:\t9\n", status(REGULAR))
    assert files(one, options(link_remap=False)) == []


def test_file_on_no_mount_of_the_container() -> None:
    assert files(Descriptor(5, "/x", "mnt_id:\t8\n")) == [("outside-file", "blocks")]
    assert files(Descriptor(5, "/secretmem (deleted)", "mnt_id:\t8\n")) == [("descriptor", "blocks")]
    assert files(Descriptor(5, "/memfd:x (deleted)")) == []


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        (1 << 20, None, []),
        ((1 << 20) + 512, None, [("ghost-file", "blocks")]),
        (2 << 20, 2 << 20, []),
        (512, 0, [("ghost-file", "blocks")]),
        (0, 0, []),
    ],
)
def test_deleted_files(size: int, limit: int | None, expected: list[tuple[str, str]]) -> None:
    one = Descriptor(5, "/x (deleted)", "mnt_id:\t9\n", status(REGULAR, nlink=0, size=size))
    assert files(one, options(ghost_limit=limit)) == expected


def test_file_with_another_name() -> None:
    one = Descriptor(5, "/x (deleted)", "mnt_id:\t9\n", status(REGULAR, size=9 << 20))
    assert files(one) == []
    assert files(one, options(link_remap=False)) == [("unlinked-file", "blocks")]


def test_file_that_something_is_mounted_over() -> None:
    one = Descriptor(5, "/x", "mnt_id:\t9\n", status(REGULAR))
    assert files(replace(one, visible=True)) == []
    assert files(one) == []
    assert files(replace(one, visible=False)) == [("hidden-file", "blocks")]


def test_locks_without_file_locks() -> None:
    found = facts(process(), locks=frozenset((101, 4711)))
    assert _preflight_files.check(found, Options()) == []
    assert words(_preflight_files.check(found, options(file_locks=False))) == [("file-locks", "blocks")]


def test_inotify_on_overlay() -> None:
    mounts = tuple(_proc.mounts(text("overlay/mountinfo")))
    one = Descriptor(3, "anon_inode:inotify", text("overlay/fdinfo_3"))
    assert files(one, mounts=mounts) == [("inotify", "may fail")]
    exported = tuple(replace(each, options=each.options + ",nfs_export=on") for each in mounts)
    assert files(one, mounts=exported) == []
    assert files(one, mounts=mounts[:2]) == [("inotify", "may fail")]


def test_inotify_on_plain_file_systems() -> None:
    line = "inotify wd:1 ino:2 sdev:{:x} mask:100 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:00\n"
    mounts = tuple(_proc.mounts(text("ordinary/mountinfo")))
    assert files(Descriptor(3, "anon_inode:inotify", line.format(254 << 20)), mounts=mounts) == []
    one = Descriptor(3, "anon_inode:inotify", line.format(0x2D) + line.format(0x30))
    assert files(one, mounts=mounts) == [("inotify", "may fail")] * 2


def test_fanotify() -> None:
    whole = Descriptor(
        3, "anon_inode:[fanotify]", "fanotify flags:0 event-flags:0\nfanotify sdev:fe00000 mflags:0 mask:20\n"
    )
    assert files(whole) == [("fanotify", "may fail")]


def test_mappings() -> None:
    def mapped(one: Mapping, given: Options | None = None, **changes: t.Any) -> list[tuple[str, str]]:
        return words(_preflight_files.check(facts(process(mappings=(one,)), **changes), given or Options()))

    big = status(REGULAR, nlink=0, size=2 << 20)
    assert mapped(Mapping(1, "/x.so (deleted)", big)) == [("ghost-file", "blocks")]
    assert mapped(Mapping(1, "/x.so (deleted)", big), options(ghost_limit=2 << 20)) == []
    assert mapped(Mapping(1, "/dev/dri/card0", status(CHARACTER, (226, 0)))) == [("device", "blocks")]
    assert mapped(Mapping(1, "/dev/zero", status(CHARACTER, (1, 5)))) == []
    assert mapped(Mapping(1, "/gone (deleted)")) == []
    assert mapped(Mapping(1, "anon_inode:[perf_event]")) == [("descriptor", "blocks")]
    assert mapped(Mapping(1, "/secretmem (deleted)")) == [("descriptor", "blocks")]
    assert mapped(Mapping(1, "/anon_hugepage (deleted)")) == [("hugepages", "note")]
    assert mapped(Mapping(1, "[uprobes]")) == [("uprobes", "blocks")]
    assert mapped(Mapping(1, "[uprobes]"), options(criu_args=("--allow-uprobes",))) == []
    assert mapped(Mapping(1, "/SYSV00000000 (deleted)")) == []
    assert mapped(Mapping(1, "/SYSV00000000 (deleted)"), own_namespaces=INSIDE) == [("host-ipc", "blocks")]


# Sockets


def sockets(*held: Descriptor, given: Options | None = None, **changes: t.Any) -> list[tuple[str, str]]:
    return words(_preflight_sockets.check(facts(process(descriptors=held), **changes), given or Options()))


def test_unix_sockets_of_an_ordinary_process() -> None:
    unix = tuple(_preflight_sockets.unix_sockets(text("ordinary/ss")))
    assert len(unix) == len(text("ordinary/ss").splitlines())
    assert {one.type for one in unix} == {"u_str", "u_dgr", "u_seq"}
    [listener] = [one for one in unix if one.state == "LISTEN"]
    assert len(listener.pending) == 1
    assert [one.open for one in unix].count(False) == 1
    held = [Descriptor(number, f"socket:[{one.inode}]", protocol="UNIX") for number, one in enumerate(unix)]
    assert sockets(*held, unix=unix) == []
    # Without its listener the connection that waits there is lost.
    rest = [one for one in held if one.inode != listener.inode]
    assert sockets(*rest, unix=tuple(one for one in unix if one.inode != listener.inode)) == [("unix-peer", "blocks")]


def test_unix_socket_with_a_name_that_has_spaces() -> None:
    line = "u_str ESTAB  0      0      /tmp/a b 12 c 901 * 902 <-> ino:1 dev:0/65024"
    [one] = _preflight_sockets.unix_sockets(line + "\nnonsense\n")
    assert (one.inode, one.peer, one.open) in ((901, 902, True), (12, 902, True))


def unix(kind: str, inode: int, peer: int, queued: int = 0) -> _preflight_sockets.UnixSocket:
    return _preflight_sockets.UnixSocket(kind, "ESTAB", queued, inode, peer, True)


def test_unix_peers_outside() -> None:
    held = [Descriptor(3, "socket:[10]", protocol="UNIX"), Descriptor(4, "socket:[11]", protocol="UNIX")]
    assert sockets(*held, unix=(unix("u_str", 10, 11), unix("u_str", 11, 10))) == []
    assert sockets(*held, unix=(unix("u_str", 10, 99),)) == [("unix-peer", "blocks")]
    assert sockets(*held, unix=(unix("u_dgr", 10, 99),)) == [("unix-peer", "blocks")]
    assert sockets(*held, unix=(unix("u_dgr", 10, 0),)) == []
    assert sockets(*held, unix=(unix("u_str", 20, 99),)) == [], "of a process outside"


def test_unix_peer_that_may_be_on_its_way() -> None:
    held = Descriptor(3, "socket:[10]", protocol="UNIX")
    assert sockets(held, unix=(unix("u_str", 10, 99, queued=1),)) == [("unix-peer", "may fail")]


def test_external_datagram_sockets() -> None:
    held = Descriptor(3, "socket:[10]", protocol="UNIX")
    given = options(criu_args=("--ext-unix-sk",))
    near = (unix("u_dgr", 10, 99), unix("u_dgr", 99, 0))
    assert sockets(held, unix=near) == [("unix-peer", "blocks")]
    assert sockets(held, given=given, unix=near) == []
    assert sockets(held, given=given, unix=near[:1]) == [("unix-peer", "blocks")], "in another network namespace"
    assert sockets(held, given=given, unix=(unix("u_str", 10, 99),)) == [("unix-peer", "blocks")]


@pytest.mark.parametrize("protocol", ["AF_VSOCK", "XDP", "MPTCP", "SCTP", "ALG", "TIPC", "MPTCPv6"])
def test_sockets_that_criu_does_not_know(protocol: str) -> None:
    assert sockets(Descriptor(3, "socket:[10]", protocol=protocol)) == [("socket", "blocks")]


@pytest.mark.parametrize("protocol", ["TCP", "TCPv6", "UDP", "RAW", "PING", "PACKET", "NETLINK", "UNIX-STREAM", ""])
def test_sockets_that_criu_keeps(protocol: str) -> None:
    assert sockets(Descriptor(3, "socket:[10]", protocol=protocol)) == []


def test_one_socket_in_many_processes_is_one_finding() -> None:
    held = Descriptor(3, "socket:[10]", protocol="XDP")
    tasks = [process(pid=pid, descriptors=(held,)) for pid in (5, 6, 7)]
    assert words(_preflight_sockets.check(facts(*tasks), Options())) == [("socket", "blocks")]


def test_netlink_data() -> None:
    assert _preflight_sockets.unread_netlink(text("ordinary/net_netlink")) == {}
    unread = _preflight_sockets.unread_netlink(text("netlink-unread/net_netlink"))
    [inode] = [number for number in unread if f"socket:[{number}]" in text("netlink-unread/fd")]
    assert unread[inode] > 0
    assert sockets(Descriptor(3, f"socket:[{inode}]", protocol="NETLINK"), unread=unread) == [
        ("netlink-data", "may fail")
    ]
    assert sockets(Descriptor(3, "socket:[1]", protocol="NETLINK"), unread=unread) == []


def test_connections_that_wait() -> None:
    tcp = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1B58 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
        "   1: 0100007F:1B58 0100007F:9C40 01 00000000:00000005 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1\n"
    )
    assert _preflight_sockets.unaccepted(tcp) == 2
    assert _preflight_sockets.unaccepted("") == 0
    # Of the connection only: one has no socket yet, and one listens.
    assert _preflight_sockets.connected(tcp) == {2}
    assert _preflight_sockets.connected(tcp.replace("0        0 2 1", "0        0 0 1")) == set()
    assert sockets(backlog=2) == [("tcp-in-flight", "note")]
    assert sockets(backlog=2, given=options(skip_in_flight=False)) == [("tcp-in-flight", "may fail")]


def test_tcp_connections_that_are_not_to_be_kept() -> None:
    held = Descriptor(3, "socket:[10]", protocol="TCP")
    given = options(tcp_established=False)
    assert sockets(held, connected=frozenset((10,))) == []
    assert sockets(held, connected=frozenset((10, 11)), given=given) == [("tcp-established", "blocks")]
    assert sockets(held, connected=frozenset((11,)), given=given) == [], "which no process holds"


# Terminals


def test_terminals() -> None:
    slave = Descriptor(0, "/dev/pts/3", "mnt_id:\t9\n", status(CHARACTER, (136, 3)))
    master = Descriptor(7, "/dev/ptmx", "mnt_id:\t9\ntty-index:\t3\n", status(CHARACTER, (5, 2)))
    control = Descriptor(8, "/dev/tty", "mnt_id:\t9\n", status(CHARACTER, (5, 0)))
    null = Descriptor(9, "/dev/null", "mnt_id:\t9\n", status(CHARACTER, (1, 3)))
    assert sockets(slave, master, null) == []
    assert sockets(slave) == [("terminal", "blocks")]
    assert sockets(replace(slave, link="/dev/pts/3 (deleted)")) == []
    assert sockets(slave, given=options(criu_args=("--shell-job",))) == []
    assert sockets(control) == [("terminal", "may fail")]


@pytest.mark.parametrize(
    ("inside", "name", "link", "remedy"),
    [
        (1, "init", "/dev/pts/0", "lxc.console.path = none"),
        (60, "agetty", "/dev/pts/0", "console-getty.service"),
        (60, "syslogd", "/dev/console", "lxc.console.path = none"),
        (60, "bash", "/dev/pts/0", "End the login"),
    ],
)
def test_remedy_for_a_terminal_depends_on_who_uses_it(inside: int, name: str, link: str, remedy: str) -> None:
    task = Task(
        1060, inside, name, "S", descriptors=(Descriptor(0, link, "mnt_id:\t9\n", status(CHARACTER, (136, 0))),)
    )
    [one] = _preflight_sockets.check(facts(tasks=(task,)), Options())
    assert remedy in one.remedy


def test_controlling_terminal_is_fine_beside_the_terminal_itself() -> None:
    slave = Descriptor(0, "/dev/pts/3", "mnt_id:\t9\n", status(CHARACTER, (136, 3)))
    master = Descriptor(7, "/dev/ptmx", "mnt_id:\t9\ntty-index:\t3\n", status(CHARACTER, (5, 2)))
    control = Descriptor(8, "/dev/tty", "mnt_id:\t9\n", status(CHARACTER, (5, 0)))
    assert sockets(control, slave, master) == []


# Mounts


def mounts(
    name_or_lines: str, mapped: t.Container[str] = (), enabled: t.Container[str] = (), **changes: t.Any
) -> list[Finding]:
    given = text(name_or_lines) if name_or_lines.endswith("mountinfo") else ROOT + name_or_lines
    host = changes.pop("host", text("ordinary/host_mountinfo"))
    found = facts(mounts=tuple(_proc.mounts(given)), host_mounts=tuple(_proc.mounts(host)), **changes)
    return _preflight_mounts.check(found, mapped, enabled)


ROOT = "92 68 254:0 /var/lib/lxc/web1/rootfs / rw shared:1 - ext4 /dev/vda rw\n"
LXCFS = "300 92 0:70 /proc/cpuinfo /proc/cpuinfo rw - fuse.lxcfs lxcfs rw,user_id=0\n"
LXCFS_HOST = "80 27 0:70 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw,user_id=0\n"


def test_mounts_of_an_ordinary_container() -> None:
    assert mounts("ordinary/mountinfo") == []


def test_terminals_of_lxc_that_are_mounted_are_told_to_criu() -> None:
    assert mounts("terminals/mountinfo", mapped={"dev/tty1"}) == []


def test_part_of_a_file_system_that_is_mounted_nowhere() -> None:
    [one] = mounts("bind-orphan/mountinfo")
    assert (one.id, one.subject) == ("mount", "/srv")
    assert mounts("bind-orphan/mountinfo", mapped={"srv"}) == []


def test_lxcfs_is_found_on_the_host() -> None:
    assert mounts(LXCFS, host=LXCFS_HOST) == []
    assert mounts(LXCFS, mapped={"proc/cpuinfo"}, host="") == []
    assert words(mounts(LXCFS, host="")) == [("mount", "blocks")]
    assert words(mounts(LXCFS, host=LXCFS_HOST.replace("0:70", "0:71"))) == [("mount", "blocks")]


def test_fuse_of_its_own() -> None:
    assert words(mounts("300 92 0:70 / /mnt rw - fuse.sshfs me@there rw", host="")) == [("mount", "blocks")]


def test_file_systems_that_criu_does_not_know() -> None:
    line = "300 92 0:70 / /mnt rw - ramfs x rw"
    assert words(mounts(line)) == [("mount", "blocks")]
    assert mounts(line, enabled={"ramfs"}) == []
    assert mounts("300 92 8:1 / /mnt rw - ext4 /dev/sda1 rw", host="40 27 8:1 / /data rw - ext4 /dev/sda1 rw") == []


def test_mount_of_a_part_of_the_host() -> None:
    line = "300 92 254:0 /srv/data /data rw - ext4 /dev/vda rw"
    assert mounts(line) == []
    assert words(mounts(line, host="")) == [("mount", "blocks")]
    inside = "300 92 254:0 /var/lib/lxc/web1/rootfs/srv /data rw - ext4 /dev/vda rw"
    assert mounts(inside, host="") == []


def test_what_must_be_empty() -> None:
    line = "300 92 0:70 / /dev/mqueue rw - mqueue x rw"
    assert mounts(line) == []
    assert words(mounts(line, occupied=frozenset(("/dev/mqueue",)))) == [("mount", "blocks")]


def test_automount_points() -> None:
    inode = next(
        word.partition("=")[2]
        for word in text("autofs/mountinfo").replace(",", " ").split()
        if word.startswith("pipe_ino=")
    )
    writing = Descriptor(4, f"pipe:[{inode}]", text("autofs/fdinfo_4"))
    reading = Descriptor(3, f"pipe:[{inode}]", "flags:\t040000\n")
    init = replace(INIT, descriptors=(reading, writing))
    assert words(mounts("autofs/mountinfo", tasks=(init,))) == [("autofs", "may fail")]
    init = replace(INIT, descriptors=(writing,))
    assert words(mounts("autofs/mountinfo", tasks=(init,))) == [("autofs", "blocks")]


def test_peer_group_that_is_not_in_the_container() -> None:
    line = "300 92 0:70 / /mnt rw master:77 - tmpfs x rw"
    assert words(mounts(line)) == [("mount-sharing", "blocks")]
    assert mounts(line + "\n301 92 0:71 / /run rw shared:77 - tmpfs y rw") == []
    assert mounts(line, host="40 27 0:70 / /data rw shared:77 - tmpfs x rw") == []
    assert mounts(line, mapped={"mnt"}) == []


def test_cgroups_in_a_namespace_of_their_own_and_not() -> None:
    line = "300 92 0:40 /lxc.payload.web1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    host = "41 27 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    assert mounts(line, host="") == []
    assert mounts(line, host=host, own_namespaces={**OWN, "cgroup": INSIDE["cgroup"]}) == []

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from ansible_collections.stasis.lxc.plugins.module_utils import _proc

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/proc"


def text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def test_status_of_an_ordinary_process() -> None:
    one = _proc.task(100, text("ordinary/status"))
    assert (one.name, one.state, one.inside) == ("ordinary", "S", 2)
    assert one.label == "ordinary (pid 100, 2 inside)"
    assert (one.session, one.tracer, one.threads, one.pending) == (2, 0, 1, 0)
    assert one.mode == 2
    assert one.filters >= 1
    assert one.anonymous > 0


def test_status_of_a_process_whose_first_thread_has_ended() -> None:
    one = _proc.task(100, text("zombie-leader/status"))
    assert (one.state, one.threads, one.anonymous) == ("Z", 2, 0)


def test_status_of_old_kernels_lacks_fields() -> None:
    one = _proc.task(7, "Name:\told\nState:\tR (running)\n")
    assert (one.inside, one.session, one.filters) == (7, 1, 0)


def test_session_outside_is_zero() -> None:
    assert _proc.task(7, "Name:\tx\nState:\tS (sleeping)\nNSsid:\t900\t0\n").session == 0


def test_mounts_of_a_container() -> None:
    found = _proc.mounts(text("ordinary/mountinfo"))
    root = found[0]
    assert (root.target, root.type, root.device, root.root) == ("/", "ext4", "254:0", "/var/lib/lxc/web1/rootfs")
    assert (root.shared, root.master) == (1, 0)
    assert {one.target for one in found} >= {"/proc", "/sys", "/dev/pts"}
    assert all(one.parent for one in found)


def test_mount_with_a_master_and_escapes() -> None:
    one = _proc.mounts(r"71 92 0:50 / /a\040b rw shared:11 master:7 propagate_from:3 - fuse.lxcfs x\040y rw,z")[0]
    assert (one.target, one.source, one.shared, one.master) == ("/a b", "x y", 11, 7)
    assert (one.type, one.base_type, one.options) == ("fuse.lxcfs", "fuse", "rw,z")


def test_mount_without_a_source_and_lines_that_are_none() -> None:
    found = _proc.mounts("garbage\n1 0 0:1 / / rw - tmpfs  rw\n")
    assert [(one.type, one.source, one.options) for one in found] == [("tmpfs", "", "rw")]


def test_plain_mappings_are_not_looked_at() -> None:
    assert [one.path for one in _proc.unusual_mappings(text("ordinary/maps"))] == []


def test_deleted_file_that_is_mapped() -> None:
    maps = text("ghost-mapped/maps")
    [one] = _proc.unusual_mappings(maps)
    assert one.path == "/run/ghost (deleted)"
    name = _proc.map_file(maps, one.start)
    begin, end = (int(part, 16) for part in name.split("-"))
    assert (begin, end) == (one.start, one.start + 4096)


def test_mappings_that_are_worth_a_look() -> None:
    lines = [
        "00400000-00401000 r-xp 00000000 fe:00 11 /usr/lib/x (deleted)",
        "00500000-00501000 rw-s 00000000 00:01 12 /dev/zero (deleted)",
        "00600000-00601000 rw-s 00000000 00:01 13 /memfd:x (deleted)",
        "00700000-00701000 rw-s 00000000 00:01 14 /SYSV00000000 (deleted)",
        "00800000-00801000 rw-s 00000000 00:0e 15 anon_inode:[perf_event]",
        "00900000-00901000 rw-s 00000000 00:05 16 /dev/dri/card0",
        "00a00000-00a01000 rw-s 00000000 00:05 17 /dev/shm/x",
        "00b00000-00b01000 rw-p 00000000 00:00 0 [uprobes]",
        "00c00000-00c01000 rw-p 00000000 00:00 0 [heap]",
        "00d00000-00e00000 rw-p 00000000 00:0f 18 /anon_hugepage (deleted)",
        "00f00000-00f01000 rw-s 00000000 00:12 19 /[aio] (deleted)",
    ]
    found = [one.path.split()[0] for one in _proc.unusual_mappings("\n".join(lines))]
    assert found == [
        "/usr/lib/x",
        "/SYSV00000000",
        "anon_inode:[perf_event]",
        "/dev/dri/card0",
        "[uprobes]",
        "/anon_hugepage",
    ]
    assert _proc.map_file("\n".join(lines), 0x400000) == "400000-401000"
    assert _proc.map_file("\n".join(lines), 0x40000) == ""


def test_kinds_and_inodes_of_links() -> None:
    kinds = {}
    for line in text("ordinary/fd").splitlines():
        number, _space, link = line.partition(" ")
        one = _proc.Descriptor(int(number), link)
        kinds[one.kind] = one.inode
    assert set(kinds) >= {"socket", "pipe", "net", "eventfd", "signalfd", "timerfd", "eventpoll", "inotify", "pidfd"}
    assert kinds["socket"] > 0
    assert kinds["net"] > 0
    assert kinds["eventfd"] == 0


def test_mount_of_a_descriptor() -> None:
    assert _proc.mount_id(text("ordinary/fdinfo_0")) > 0
    assert _proc.mount_id("pos:\t0\n") == 0


def test_posix_timers() -> None:
    text = (
        "ID: 0\nsignal: 10/00007ffd\nnotify: signal/tid.8247\nClockID: 1\n"
        "ID: 3\nsignal: 14/0000000000000000\nnotify: signal/pid.8246\nClockID: -26\n"
        "ID: 4\nsignal: 0/0000000000000000\nnotify: none/pid.8246\nClockID: 0\n"
    )
    assert _proc.timers(text) == (_proc.Timer(1, 8247), _proc.Timer(-26), _proc.Timer(0))
    assert _proc.timers("") == ()


def test_limits() -> None:
    text = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max cpu time              unlimited            unlimited            seconds   \n"
        "Max open files            1024                 524288               files     \n"
        "Max address space         1048576              unlimited            bytes     \n"
        "Max nice priority         0                    0                    \n"
    )
    assert _proc.limits(text) == {"Max open files": 1024, "Max address space": 1048576, "Max nice priority": 0}


def test_owners_and_size_of_a_process() -> None:
    one = _proc.task(1, "Name:\ta\nState:\tS\nUid:\t0\t1000\t5\t6\nGid:\t0\t0\t0\t0\nVmSize:\t 12 kB\n")
    assert (one.users, one.groups, one.size) == (frozenset((0, 1000, 5)), frozenset((0,)), 12288)

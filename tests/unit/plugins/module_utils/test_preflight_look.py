# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looking at processes: on a /proc that is made of plain files and links."""

from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _kcmp, _preflight_container, _preflight_look
from ansible_collections.stasis.lxc.plugins.module_utils._cgroups import Hierarchy
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._host import Host
from ansible_collections.stasis.lxc.tests.unit.support import make
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

HOST = Host("6.18.1", "x86_64", "", make.BOOT, 1.0, "/nowhere", "4.2", "", "5.0.2", True)
MOUNTINFO = "9 1 0:5 / / rw - ext4 /dev/sda rw\n10 9 0:6 / /remote rw - nfs4 there:/ rw\n"


class Proc:
    """A /proc with processes in it; each has the container's namespaces unless it names others."""

    def __init__(self, top: Path) -> None:
        self.top = top
        make.write(str(top / "self/mountinfo"), "1 0 0:5 / / rw - ext4 /dev/sda rw\n")
        make.write(
            str(top / "locks"),
            "1: POSIX  ADVISORY  WRITE 7 fe:00:1 0 EOF\n1: -> FLOCK ADVISORY WRITE 8 fe:00:1 0 EOF\n",
        )
        self.namespaces("self", "1")

    def namespaces(self, pid: str, number: str, **others: str) -> None:
        (self.top / pid / "ns").mkdir(parents=True)
        for name in ("ipc", "mnt", "net", "pid", "user", "uts"):
            (self.top / pid / "ns" / name).symlink_to(f"{name}:[{others.get(name, number)}]")

    def add(
        self, pid: int, *children: int, state: str = "S", files: t.Mapping[str, str] | None = None, **spaces: str
    ) -> None:
        """files: what a descriptor points to, to the text of its fdinfo."""
        place = self.top / str(pid)
        make.write(
            str(place / "status"), f"Name:\tp{pid}\nState:\t{state} (x)\nNSpid:\t{pid}\t{pid - 99}\nNSsid:\t1\t1\n"
        )
        make.write(str(place / "mountinfo"), MOUNTINFO)
        make.write(str(place / "maps"), "")
        make.write(str(place / f"task/{pid}/children"), " ".join(map(str, children)))
        (place / "root").symlink_to(self.top / "rootfs")
        self.namespaces(str(pid), "2", **spaces)
        for folder in ("fd", "fdinfo"):
            (place / folder).mkdir()
        for number, (link, info) in enumerate((files or {}).items()):
            (place / f"fd/{number}").symlink_to(link)
            make.write(str(place / f"fdinfo/{number}"), info)

    def gather(self, *calls: Call, pid: int = 100) -> t.Any:
        runner = StrictRunner(*calls)
        container = make.container(init=Process(pid, 1, "init"))
        found = _preflight_look.gather(runner, container, HOST, proc=str(self.top))
        runner.assert_done()
        return found


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    # The processes of this /proc have no counterpart that the kernel could compare.
    monkeypatch.setattr(_kcmp, "compare", lambda one, other, _kind: 0 if one == other else 1 + (one > other))
    return Proc(tmp_path / "proc")


def ss(proc: Proc, pid: int, said: str = "") -> Call:
    net = f"--net={proc.top}/{pid}/ns/net"
    return Call(["nsenter", net, "ss", "-H", "-x", "-a", "-n", "-e"], stdout=said)


def test_the_tree_is_walked_parents_first(proc: Proc) -> None:
    proc.add(100, 101, 102)
    proc.add(101, 103)
    proc.add(102)
    proc.add(103)
    assert _preflight_look.descendants(100, str(proc.top)) == [100, 101, 102, 103]
    found = proc.gather()
    assert [(one.pid, one.inside, one.name) for one in found.tasks] == [
        (100, 1, "p100"),
        (101, 2, "p101"),
        (102, 3, "p102"),
        (103, 4, "p103"),
    ]
    assert found.init.namespaces["uts"] == "uts:[2]"
    assert found.own_namespaces["uts"] == "uts:[1]"
    assert found.locks == {7, 8}


def test_process_that_is_gone_is_left_out(proc: Proc) -> None:
    proc.add(100, 101)
    assert [one.pid for one in proc.gather().tasks] == [100]


def later(proc: Proc, monkeypatch: pytest.MonkeyPatch, change: t.Callable[[], None]) -> list[int]:
    """Have something change after the first walk through the processes; returns a number for each walk."""
    walks: list[int] = []
    walk = _preflight_look.descendants

    def walked(init: int, top: str = "/proc") -> list[int]:
        walks.append(len(walks))
        if len(walks) == 2:
            change()
        return walk(init, top)

    monkeypatch.setattr(_preflight_look, "descendants", walked)
    return walks


def pidfd(pid: int) -> dict[str, str]:
    return {"anon_inode:[pidfd]": f"flags:\t02000002\nPid:\t{pid}\n"}


def test_process_that_has_just_been_started_is_met_by_a_second_walk(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc.add(100, 101, files=pidfd(102))
    proc.add(101)

    def started() -> None:
        proc.add(102)
        make.write(str(proc.top / "100/task/100/children"), "101 102")

    later(proc, monkeypatch, started)
    assert [one.pid for one in proc.gather().tasks] == [100, 101, 102]


def test_process_that_has_just_ended_leaves_a_pidfd_of_nothing(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.add(100, files=pidfd(102))
    later(proc, monkeypatch, lambda: make.write(str(proc.top / "100/fdinfo/0"), pidfd(-1)["anon_inode:[pidfd]"]))
    [init] = proc.gather().tasks
    assert "Pid:\t-1" in init.descriptors[0].info


def test_pidfd_of_a_process_from_outside_is_still_there_after_some_looks(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc.add(100, files=pidfd(4711))
    walks = later(proc, monkeypatch, lambda: None)
    [init] = proc.gather().tasks
    assert "Pid:\t4711" in init.descriptors[0].info
    assert len(walks) == 3


def test_who_has_ended_before_the_second_look_is_left_out(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.add(100, 101)
    proc.add(101, files=pidfd(4711))
    later(proc, monkeypatch, (proc.top / "101/status").unlink)
    assert [one.pid for one in proc.gather().tasks] == [100]


def test_init_that_is_gone_is_an_error(proc: Proc) -> None:
    with pytest.raises(StasisError, match="gone"):
        proc.gather()


def test_what_is_read_of_descriptors(proc: Proc) -> None:
    files = {
        "pipe:[5]": "flags:\t040001\n",
        "anon_inode:inotify": "inotify wd:1\n",
        "anon_inode:[eventfd]": "eventfd-count: 1\n",
        "/memfd:x (deleted)": "mnt_id:\t3\n",
        "/outside": "mnt_id:\t3\n",
        "/remote/x": "mnt_id:\t10\n",
    }
    proc.add(100, files=files)
    by_link = {one.link: one for one in proc.gather().tasks[0].descriptors}
    assert set(by_link) == set(files)
    assert by_link["pipe:[5]"].info
    assert by_link["anon_inode:inotify"].info
    assert not by_link["anon_inode:[eventfd]"].info
    assert not by_link["/memfd:x (deleted)"].info
    assert all(one.status is None for one in by_link.values()), "a server that hangs would hold up a stat"


def test_path_that_leads_elsewhere(proc: Proc, tmp_path: Path) -> None:
    there, other = tmp_path / "there", tmp_path / "other"
    for path in (there, other):
        path.write_text("")
    seen = proc.top / f"rootfs{there}"
    seen.parent.mkdir(parents=True)
    proc.add(100, files={str(there): "mnt_id:\t9\n", str(other): "mnt_id:\t9\n"})
    os.link(there, seen)
    found = {each.link: each.visible for each in proc.gather().tasks[0].descriptors}
    assert found[str(there)] is True
    assert found[str(other)] is True, "what has no name gets one from CRIU"
    seen.unlink()
    seen.write_text("another")
    found = {each.link: each.visible for each in proc.gather().tasks[0].descriptors}
    assert found[str(there)] is False


def test_sockets_are_asked_for_once_in_each_network_namespace(proc: Proc) -> None:
    proc.add(100, 101, 102, files={"socket:[5]": ""})
    proc.add(101, net="3")
    proc.add(102)
    said = "u_str ESTAB 0 0 * 5 * 6 <->\n"
    found = proc.gather(ss(proc, 100, said), ss(proc, 101))
    assert [(one.inode, one.peer) for one in found.unix] == [(5, 6)]


def test_mounts_of_every_mount_namespace_count(proc: Proc) -> None:
    proc.add(100, 101)
    proc.add(101, mnt="3")
    make.write(str(proc.top / "101/mountinfo"), "44 1 0:9 / / rw - tmpfs x rw\n")
    found = proc.gather()
    assert found.mount_ids == {9, 10, 44}
    assert [one.number for one in found.mounts] == [9, 10]
    assert found.cgroup_files == {}


def test_mount_of_one_file_of_a_cgroup_is_found_and_that_of_a_directory_is_none(proc: Proc) -> None:
    proc.add(100, 101, 102)
    proc.add(101, mnt="3")
    proc.add(102, mnt="4")
    unit = "/system.slice/a.service"
    file = f"44 1 0:9 {unit}/memory.pressure /sys/fs/cgroup{unit}/memory.pressure rw - cgroup2 cgroup2 rw\n"
    make.write(str(proc.top / "101/mountinfo"), f"43 1 0:9 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n{file}")
    make.write(str(proc.top / "102/mountinfo"), f"45 1 0:9 {unit} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    found = proc.gather()
    assert list(found.cgroup_files.values()) == [f"/sys/fs/cgroup{unit}/memory.pressure"]
    assert list(found.cgroup_files) == [found.tasks[1].namespaces["mnt"]]


def test_mappings_of_a_process_that_hangs_are_left_alone(proc: Proc) -> None:
    proc.add(100, 101)
    proc.add(101, state="D")
    for pid in (100, 101):
        make.write(str(proc.top / f"{pid}/maps"), "00b00000-00b01000 rw-p 00000000 00:00 0 [uprobes]\n")
    first, second = proc.gather().tasks
    assert [one.path for one in first.mappings] == ["[uprobes]"]
    assert second.mappings == ()


def test_zombie_has_only_its_state(proc: Proc) -> None:
    proc.add(100, 101)
    proc.add(101, state="Z", files={"pipe:[5]": ""})
    assert proc.gather().tasks[1].descriptors == ()


def hierarchy(top: Path, unified: bool, *controllers: str) -> Hierarchy:
    return Hierarchy(controllers, str(top), "/x", unified)


def test_memory_of_cgroup_v2(tmp_path: Path) -> None:
    for name, text in {
        "memory.current": "1000\n",
        "memory.max": "2000\n",
        "memory.stat": "anon 300\nshmem 20\ninactive_file 100\nactive_file 50\nx y z\n",
    }.items():
        make.write(str(tmp_path / "x" / name), text)
    container = make.container(cgroups=(hierarchy(tmp_path, True, "memory"),))
    assert _preflight_look.memory(container) == _preflight_container.Memory(20, 850, 2000)
    make.write(str(tmp_path / "x/memory.max"), "max\n")
    assert _preflight_look.memory(container).limit is None


def test_memory_of_cgroup_v1(tmp_path: Path) -> None:
    for name, text in {
        "memory.usage_in_bytes": "1000\n",
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.stat": "rss 1\ntotal_rss 300\ntotal_shmem 20\ntotal_inactive_file 100\n",
    }.items():
        make.write(str(tmp_path / "x" / name), text)
    container = make.container(cgroups=(hierarchy(tmp_path, False, "cpu"), hierarchy(tmp_path, False, "memory")))
    assert _preflight_look.memory(container) == _preflight_container.Memory(20, 900, None)


def test_memory_that_no_controller_counts() -> None:
    assert _preflight_look.memory(make.container()) == _preflight_container.Memory()


@pytest.mark.parametrize(("files", "inodes"), [(100, 7), (0, None)], ids=["ext4", "btrfs"])
def test_space_is_of_the_directory_in_which_the_image_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, inodes: int | None
) -> None:
    asked = []

    def statvfs(path: str) -> t.Any:
        asked.append(path)
        return types.SimpleNamespace(f_bfree=3, f_frsize=4096, f_files=files, f_ffree=7)

    monkeypatch.setattr(os, "statvfs", statvfs)
    (tmp_path / "images/web1").mkdir(parents=True)
    found = _preflight_look.space(str(tmp_path / "images/web1"))
    assert found is not None
    assert (found.free, found.inodes) == (12288, inodes)
    assert asked == [str(tmp_path / "images")]


def test_space_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    found = _preflight_look.space(str(tmp_path / "a/b/c"))
    assert found is not None
    assert found.free > 0
    assert found.type


def test_limits_and_timers_of_a_process(proc: Proc) -> None:
    proc.add(100)
    make.write(
        str(proc.top / "100/limits"), "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n"
    )
    make.write(str(proc.top / "100/timers"), "ID: 0\nsignal: 10/0\nnotify: signal/tid.102\nClockID: 1\n")
    (proc.top / "100/task/102").mkdir()
    [init] = proc.gather().tasks
    assert init.limits == {"Max open files": 1024}
    assert [one.thread for one in init.timers] == [102]
    assert init.tids == {100, 102}
    assert init.inside_tids == frozenset()


def test_threads_have_ids_inside_where_a_timer_is_on_the_clock_of_one(proc: Proc) -> None:
    proc.add(100)
    make.write(str(proc.top / "100/timers"), "ID: 0\nsignal: 10/0\nnotify: signal/pid.100\nClockID: -26\n")
    make.write(str(proc.top / "100/task/100/status"), "Name:\ta\nState:\tS\nNSpid:\t100\t3\n")
    [init] = proc.gather().tasks
    assert init.inside_tids == {3}


def test_processes_that_share_their_memory(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_preflight_look, "_VFORK", 0)
    monkeypatch.setattr(
        _kcmp,
        "compare",
        lambda one, other, _kind: 0 if {one, other} <= {101, 102} or one == other else 1 + (one > other),
    )
    proc.add(100, 101, 102)
    for pid in (101, 102):
        proc.add(pid)
    assert proc.gather().sharing == (), "without memory they have ended"
    for pid in (101, 102):
        make.write(str(proc.top / f"{pid}/status"), "Name:\ta\nState:\tS\nNSpid:\t9\nNSsid:\t1\nVmSize:\t 100 kB\n")
    assert proc.gather().sharing == ((101, 102),)


def test_renamed_socket_is_found_by_its_inode(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/new").touch()
    inode = (tmp_path / "run/new").stat().st_ino

    def renamed(name: str, file: int) -> dict[int, tuple[str, str]]:
        one = _findings.UnixSocket("u_str", "LISTEN", 0, 9, 0, True, name=name, file=file)
        return dict(_preflight_look._renamed([one], str(tmp_path)))

    assert renamed("/run/old", inode) == {9: ("/run/old", "/run/new")}
    assert renamed("/run/new", inode) == {}
    assert renamed("/run/old", inode + 1000) == {}
    assert renamed("@abstract", inode) == {}
    assert renamed("/run/old", 0) == {}

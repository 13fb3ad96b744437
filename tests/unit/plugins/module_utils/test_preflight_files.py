# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight's pure check of open files, devices and mappings, on what real containers said and what cannot be made everywhere."""

from __future__ import annotations

import os
import stat
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _preflight_files, _proc
from ansible_collections.stasis.lxc.plugins.module_utils._findings import Options
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Descriptor, Mapping
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.facts import (
    CHARACTER,
    INSIDE,
    REGULAR,
    facts,
    options,
    process,
    status,
    text,
    words,
)


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


@each(
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


@each(
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


@pytest.mark.parametrize(
    ("path", "file_system", "expected"),
    [
        ("/proc/4/task/6/schedstat", "proc", [("thread-file", "blocks")]),
        ("/proc/4/task/6", "proc", [("thread-file", "blocks")]),
        ("/mnt/proc/4/task/6/comm", "proc", [("thread-file", "blocks")]),
        ("/proc/4/task/4/schedstat", "proc", []),
        ("/proc/4/task", "proc", []),
        ("/proc/4/schedstat", "proc", []),
        ("/proc/4/task/6/comm", "ext4", []),
    ],
)
def test_file_of_a_thread(path: str, file_system: str, expected: list[tuple[str, str]]) -> None:
    one = Descriptor(5, path, "mnt_id:\t9\n", status(REGULAR), file_system=file_system)
    assert files(one) == expected


@pytest.mark.parametrize(
    ("path", "file_system", "irmap", "blocks"),
    [
        ("/etc/localtime", "ext4", True, False),
        ("/etc/localtime", "btrfs", True, True),
        ("/etc/localtime", "btrfs", False, False),
        ("/opt/link", "ext4", True, True),
        ("/opt/link", "ext4", False, False),
        ("/run/link", "tmpfs", True, True),
        ("/run/link", "tmpfs", False, True),
    ],
)
def test_watched_link(path: str, file_system: str, irmap: bool, blocks: bool) -> None:
    one = Descriptor(5, "anon_inode:inotify", astray=((path, file_system),))
    assert files(one, options(force_irmap=irmap)) == [("watched-link", "blocks")] * blocks
    [*found] = _preflight_files.check(facts(process(descriptors=(one,))), options(force_irmap=irmap))
    assert all(("force_irmap: false" in each.remedy) == (file_system != "tmpfs") for each in found)

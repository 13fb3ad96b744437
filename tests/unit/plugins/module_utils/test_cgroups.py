# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups
from ansible_collections.stasis.lxc.plugins.module_utils._cgroups import Hierarchy
from ansible_collections.stasis.lxc.tests.unit.support.make import write

FIXTURES = Path(__file__).parents[2] / "fixtures" / "cgroups"


def observed(host: str) -> list[Hierarchy]:
    """The hierarchies that the captured text of a host gives."""

    def text(name: str) -> str:
        return (FIXTURES / host / name).read_text(encoding="utf-8")

    return _cgroups.payload(text("cgroup"), text("init_mountinfo"), text("host_mountinfo"), text("v2_controllers"))


HYBRID_ROOTS = [
    "name=systemd:/lxc.payload.web1",
    "pids:/lxc.payload.web1",
    "blkio:/lxc.payload.web1",
    "freezer:/lxc.payload.web1",
    "devices:/lxc.payload.web1",
    "memory:/lxc.payload.web1",
    "cpuset:/lxc.payload.web1",
    "cpuacct:/lxc.payload.web1",
    "cpu:/lxc.payload.web1",
    "hugetlb:/lxc.payload.web1",
]
V1_ROOTS = [
    "cpuset:/lxc.payload.web1",
    "memory:/lxc.payload.web1",
    "freezer:/lxc.payload.web1",
    "perf_event:/lxc.payload.web1",
    "devices:/lxc.payload.web1",
    "hugetlb:/lxc.payload.web1",
    "blkio:/lxc.payload.web1",
    "pids:/lxc.payload.web1",
    "cpu,cpuacct:/lxc.payload.web1",
    "net_cls,net_prio:/lxc.payload.web1",
    "name=systemd:/lxc.payload.web1",
]
V2_ROOTS = ["cpuset,cpu,io,memory,hugetlb,pids,rdma,misc:lxc.payload.web1"]


@pytest.mark.parametrize(
    ("host", "roots"),
    [
        ("hybrid", HYBRID_ROOTS),
        ("hybrid-init-scope", HYBRID_ROOTS),
        ("v1", V1_ROOTS),
        ("v2", V2_ROOTS),
        ("v2-systemd", V2_ROOTS),
        ("v2-no-namespace", V2_ROOTS),
    ],
)
def test_cgroup_roots_have_the_form_of_liblxc(host: str, roots: list[str]) -> None:
    assert _cgroups.criu_roots(observed(host)) == roots


def test_v2_path_has_no_leading_slash_only_where_there_is_no_v1() -> None:
    v2 = Hierarchy(("pids",), "/sys/fs/cgroup", "/lxc.payload.web1", True)
    v1 = Hierarchy(("cpu",), "/sys/fs/cgroup/cpu", "/lxc.payload.web1", False)
    assert _cgroups.criu_roots([v2]) == ["pids:lxc.payload.web1"]
    assert _cgroups.criu_roots([v1, v2]) == ["cpu:/lxc.payload.web1", "pids:/lxc.payload.web1"]


def test_hierarchy_without_controllers_gives_criu_no_root() -> None:
    v1 = Hierarchy(("cpu",), "/sys/fs/cgroup/cpu", "/p", False)
    assert _cgroups.criu_roots([v1, Hierarchy((), "/sys/fs/cgroup/unified", "/p", True)]) == ["cpu:/p"]


@pytest.mark.parametrize(
    ("host", "directory"),
    [
        ("hybrid", "/sys/fs/cgroup/unified/lxc.payload.web1"),
        ("hybrid-init-scope", "/sys/fs/cgroup/unified/lxc.payload.web1"),
        ("v2", "/sys/fs/cgroup/lxc.payload.web1"),
        ("v2-systemd", "/sys/fs/cgroup/lxc.payload.web1"),
        ("v2-no-namespace", "/sys/fs/cgroup/lxc.payload.web1"),
    ],
)
def test_v2_directory_is_the_payload_and_not_where_init_moved_itself(host: str, directory: str) -> None:
    assert [one.directory for one in observed(host) if one.unified] == [directory]


def test_v1_directories_are_below_their_own_mount_points() -> None:
    found = {one.controllers: one.directory for one in observed("v1")}
    assert found[("cpu", "cpuacct")] == "/sys/fs/cgroup/cpu,cpuacct/lxc.payload.web1"
    assert found[("name=systemd",)] == "/sys/fs/cgroup/systemd/lxc.payload.web1"
    assert not any(one.unified for one in observed("v1"))


def test_hierarchy_that_is_mounted_nowhere_is_left_out() -> None:
    assert not [one for one in observed("v1") if "rdma" in one.controllers]


def test_hybrid_has_the_v2_hierarchy_with_the_controllers_of_its_root() -> None:
    assert [one.controllers for one in observed("hybrid") if one.unified] == [("hugetlb",)]


def test_container_in_another_cgroup_than_lxc_would_choose() -> None:
    found = _cgroups.payload(
        "0::/system.slice/web.service/lxc.payload.web1-1\n",
        "",
        (FIXTURES / "v2" / "host_mountinfo").read_text(encoding="utf-8"),
        "pids",
    )
    assert _cgroups.criu_roots(found) == ["pids:system.slice/web.service/lxc.payload.web1-1"]


def test_root_of_inits_cgroup_namespace_counts_wherever_init_moved_itself() -> None:
    mountinfo = "311 310 0:26 /lxc.payload.web1 /sys/fs/cgroup rw - cgroup2 none rw\n"
    host = (FIXTURES / "v2" / "host_mountinfo").read_text(encoding="utf-8")
    found = _cgroups.payload("0::/lxc.payload.web1/supervise/init\n", mountinfo, host, "pids")
    assert _cgroups.criu_roots(found) == ["pids:lxc.payload.web1"]


def test_mount_of_a_cgroup_elsewhere_in_the_container_says_nothing_about_its_root() -> None:
    mountinfo = "311 310 0:26 /lxc.payload.web1/deep /mnt/cg rw - cgroup2 none rw\n"
    host = (FIXTURES / "v2" / "host_mountinfo").read_text(encoding="utf-8")
    assert _cgroups.payload("0::/lxc.payload.web1\n", mountinfo, host, "")[0].path == "/lxc.payload.web1"


def test_root_above_the_readers_namespace_is_not_taken() -> None:
    mountinfo = "311 310 0:26 /../other /sys/fs/cgroup rw - cgroup2 none rw\n"
    host = (FIXTURES / "v2" / "host_mountinfo").read_text(encoding="utf-8")
    assert _cgroups.payload("0::/lxc.payload.web1\n", mountinfo, host, "")[0].path == "/lxc.payload.web1"


def test_mount_points_are_unescaped_and_the_first_of_a_hierarchy_counts() -> None:
    text = "31 24 0:26 / /sys/fs/my\\040cgroup rw - cgroup2 cgroup2 rw\n32 24 0:26 / /other rw - cgroup2 cgroup2 rw\n"
    assert _cgroups.parse_mounts(text) == {"": "/sys/fs/my cgroup"}


@pytest.mark.parametrize("text", ["", "garbage\n", "1 2 3\n", "a b c d e f\n", "1 2 3 4 5 6 - cgroup2\n"])
def test_mountinfo_that_is_none_gives_no_mounts(text: str) -> None:
    assert _cgroups.parse_mounts(text) == {}


def test_cgroup_text_that_is_none_gives_no_hierarchies() -> None:
    assert _cgroups.payload("", "", "", "") == []
    assert _cgroups.payload("nonsense\n3:cpu\n", "", "", "") == []


def fake_v2(top: str) -> Hierarchy:
    return Hierarchy(("pids",), top, "/payload", True)


def test_v2_container_is_frozen_by_its_own_cgroup(safe_dir: str) -> None:
    write(f"{safe_dir}/payload/cgroup.events", "populated 1\nfrozen 1\n")
    assert _cgroups.frozen([fake_v2(safe_dir)])


def test_v2_container_that_runs_is_not_frozen(safe_dir: str) -> None:
    write(f"{safe_dir}/payload/cgroup.events", "populated 1\nfrozen 0\n")
    assert not _cgroups.frozen([fake_v2(safe_dir)])


@pytest.mark.parametrize(
    ("state", "frozen"), [("FROZEN\n", True), ("FREEZING\n", True), ("THAWED\n", False), ("", False)]
)
def test_v1_container_is_frozen_by_the_freezer(safe_dir: str, state: str, frozen: bool) -> None:
    write(f"{safe_dir}/payload/freezer.state", state)
    assert _cgroups.frozen([Hierarchy(("freezer",), safe_dir, "/payload", False)]) is frozen


def test_freezer_state_counts_in_the_freezer_hierarchy_only(safe_dir: str) -> None:
    write(f"{safe_dir}/payload/freezer.state", "FROZEN\n")
    assert not _cgroups.frozen([Hierarchy(("cpu",), safe_dir, "/payload", False)])


def test_frozen_in_one_hierarchy_of_several_is_frozen(safe_dir: str) -> None:
    write(f"{safe_dir}/freezer/p/freezer.state", "FROZEN\n")
    hierarchies = [
        Hierarchy(("pids",), f"{safe_dir}/pids", "/p", False),
        Hierarchy(("freezer",), f"{safe_dir}/freezer", "/p", False),
    ]
    assert _cgroups.frozen(hierarchies)


def test_container_whose_cgroup_has_gone_is_not_frozen(safe_dir: str) -> None:
    assert not _cgroups.frozen([fake_v2(safe_dir), Hierarchy(("freezer",), safe_dir, "/payload", False)])


def test_processes_are_those_of_the_payload_and_everything_below_it(safe_dir: str) -> None:
    write(f"{safe_dir}/cgroup.procs", "1\n")
    write(f"{safe_dir}/payload/cgroup.procs", "10\n11\n")
    write(f"{safe_dir}/payload/init.scope/cgroup.procs", "12\n")
    write(f"{safe_dir}/payload/system.slice/a.service/cgroup.procs", "13\n12\n")
    write(f"{safe_dir}/payload-1/cgroup.procs", "99\n")
    assert _cgroups.processes([fake_v2(safe_dir)]) == {10, 11, 12, 13}


def test_processes_of_several_hierarchies_are_put_together(safe_dir: str) -> None:
    write(f"{safe_dir}/cpu/p/cgroup.procs", "10\n")
    write(f"{safe_dir}/pids/p/cgroup.procs", "10\n20\n")
    hierarchies = [Hierarchy((name,), f"{safe_dir}/{name}", "/p", False) for name in ("cpu", "pids")]
    assert _cgroups.processes(hierarchies) == {10, 20}


def test_processes_of_a_cgroup_that_has_gone_are_none(safe_dir: str) -> None:
    assert _cgroups.processes([fake_v2(safe_dir)]) == set()


def test_this_process_is_found_where_the_kernel_says_it_is() -> None:
    hierarchies = _cgroups.observe(os.getpid())
    assert hierarchies, "this host has no cgroup hierarchy"
    assert all(os.path.isdir(one.directory) for one in hierarchies)

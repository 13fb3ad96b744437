# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _cgroup_tree
from ansible_collections.stasis.lxc.plugins.module_utils._cgroup_tree import Group
from ansible_collections.stasis.lxc.plugins.module_utils._cgroups import Hierarchy
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each


def payload(top: Path, **files: str) -> Hierarchy:
    """A payload cgroup made of files: `path__to__file` for the key, `.` as `_DOT_`."""
    root = top / "lxc.payload.web1"
    for key, text in files.items():
        path = root / key.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return Hierarchy(("memory", "pids"), str(top), "/lxc.payload.web1", unified=True)


def as_root(groups: list[Group]) -> list[Group]:
    return [Group(one.path, one.settings, one.limits) for one in groups]


def test_directories_come_parents_first_with_what_is_to_be_set_before_tasks_and_after(tmp_path: Path) -> None:
    hierarchy = payload(
        tmp_path,
        cgroup_DOT_subtree_control="memory pids",
        memory_DOT_max="1073741824",
        cgroup_DOT_type="domain",
        system_DOT_slice__cgroup_DOT_subtree_control="pids",
        system_DOT_slice__memory_DOT_max="max",
        system_DOT_slice__ssh_DOT_service__pids_DOT_max="77",
        system_DOT_slice__ssh_DOT_service__cpuset_DOT_cpus="0-1",
        system_DOT_slice__ssh_DOT_service__memory_DOT_current="4096",
        init_DOT_scope__cgroup_DOT_subtree_control="",
    )
    assert as_root(_cgroup_tree.observe(hierarchy)) == [
        Group(".", (("cgroup.subtree_control", "+memory +pids"),), (("memory.max", "1073741824"),)),
        Group("init.scope"),
        Group("system.slice", (("cgroup.subtree_control", "+pids"),)),
        Group("system.slice/ssh.service", (("cpuset.cpus", "0-1"),), (("pids.max", "77"),)),
    ]


def test_limit_is_what_differs_from_a_fresh_cgroup() -> None:
    assert _cgroup_tree.limits(
        {
            "cpu.max": "max 100000",
            "cpu.weight": "100",
            "memory.high": "5000",
            "memory.swap.max": "0",
            "hugetlb.2MB.max": "2097152",
            "hugetlb.1GB.max": "max",
            "io.max": "8:0 rbps=1024 wbps=max\n8:16 rbps=max wbps=2",
            "io.weight": "default 100\n8:0 50",
        }
    ) == [
        ("hugetlb.2MB.max", "2097152"),
        ("io.max", "8:0 rbps=1024 wbps=max"),
        ("io.max", "8:16 rbps=max wbps=2"),
        ("io.weight", "8:0 50"),
        ("memory.high", "5000"),
        ("memory.swap.max", "0"),
    ]


def test_weight_that_comes_of_being_idle_is_not_written() -> None:
    assert _cgroup_tree.limits({"cpu.idle": "1", "cpu.weight": "0"}) == [("cpu.idle", "1")]


def test_record_names_most_groups_owner_once_and_the_others_one_by_one() -> None:
    groups = [
        Group(".", (("cgroup.subtree_control", "+pids"),)),
        Group("init.scope", owner="100000:100000"),
        Group("system.slice", (), (("pids.max", "9"), ("memory.max", "4096")), owner="100000:100000"),
        Group("user.slice", owner="101000:101000"),
        Group("root.slice"),
    ]
    text = _cgroup_tree.record(groups)
    assert text == (
        "owner 100000:100000\n"
        "dir .\nset cgroup.subtree_control +pids\n"
        "dir init.scope\n"
        "dir system.slice\nlimit pids.max 9\nlimit memory.max 4096\n"
        "dir user.slice\nown 101000:101000\n"
        "dir root.slice\nown 0:0\n"
    )
    _cgroup_tree.check(text)


def test_group_given_without_its_limits_is_recorded_file_by_file() -> None:
    groups = [
        Group(".", owner="100000:100000", given=("cgroup.procs", "memory.oom.group"), shared=True),
        Group("init.scope", owner="100000:100000"),
        Group("user@1000.service", owner="101000:101000", given=()),
        Group("root.slice"),
    ]
    text = _cgroup_tree.record(groups)
    assert text == (
        "owner 100000:100000\n"
        "dir .\ngive 100000:100000 g=u cgroup.procs memory.oom.group\n"
        "dir init.scope\n"
        "dir user@1000.service\ngive 101000:101000 g-w\n"
        "dir root.slice\nown 0:0\n"
    )
    _cgroup_tree.check(text)


def test_payload_cgroup_that_is_anothers_is_a_record_by_itself() -> None:
    groups = [Group(".", owner="5:6", given=("cgroup.procs",))]
    assert _cgroup_tree.record(groups) == "dir .\ngive 5:6 g-w cgroup.procs\n"


def test_owners_are_looked_at_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchy = payload(
        tmp_path,
        cgroup_DOT_procs="",
        memory_DOT_max="max",
        a_DOT_slice__cgroup_DOT_procs="",
        b_DOT_slice__cgroup_DOT_procs="",
        b_DOT_slice__memory_DOT_max="max",
    )
    top = hierarchy.directory
    os.chmod(top, 0o775)
    for name in ("a.slice", "b.slice"):
        os.chmod(f"{top}/{name}", 0o755)
    theirs = [top, f"{top}/cgroup.procs", f"{top}/a.slice", f"{top}/a.slice/cgroup.procs"]
    theirs += [f"{top}/b.slice", f"{top}/b.slice/cgroup.procs"]
    monkeypatch.setattr(_cgroup_tree, "_owner", lambda path: "5:6" if path in theirs else "")
    assert _cgroup_tree.observe(hierarchy) == [
        Group(".", owner="5:6", given=("cgroup.procs",), shared=True),
        Group("a.slice", owner="5:6"),
        Group("b.slice", owner="5:6", given=("cgroup.procs",)),
    ]


def test_container_that_made_no_cgroup_and_has_no_limit_has_no_record() -> None:
    assert _cgroup_tree.record([Group(".")]) == ""
    assert _cgroup_tree.record([]) == ""


def test_limit_of_the_payload_cgroup_alone_is_a_record() -> None:
    assert _cgroup_tree.record([Group(".", (), (("pids.max", "9"),))]) == "dir .\nlimit pids.max 9\n"


def test_name_with_a_line_break_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lxc.payload.web1" / "a\nb").mkdir(parents=True)
    with pytest.raises(StasisError, match="line break"):
        _cgroup_tree.observe(Hierarchy((), str(tmp_path), "/lxc.payload.web1", unified=True))


@each(
    "line",
    [
        "dir ../../other",
        "dir a/../..",
        "dir /etc",
        "dir ",
        "set cgroup.procs 1",
        "set ../x 1",
        "limit a/b 1",
        "limit pids.max",
        "owner root:root",
        "give 5:6 g=u ../cgroup.procs",
        "give 5:6 g=u ..",
        "give 5:6 u=s cgroup.procs",
        "give 5:6 cgroup.procs",
        "run x",
        "",
    ],
)
def test_record_that_leads_out_of_the_payload_cgroup_is_refused(line: str) -> None:
    with pytest.raises(StasisError, match="damaged"):
        _cgroup_tree.check(f"dir .\n{line}\n")


def test_v2_hierarchy_is_found_among_the_others() -> None:
    v1 = Hierarchy(("pids",), "/sys/fs/cgroup/pids", "/x", unified=False)
    v2 = Hierarchy((), "/sys/fs/cgroup/unified", "/x", unified=True)
    assert _cgroup_tree.unified([v1, v2]) is v2
    assert _cgroup_tree.unified([v1]) is None

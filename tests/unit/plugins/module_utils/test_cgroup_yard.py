# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _cgroup_yard

FIXTURES = Path(__file__).parents[2] / "fixtures" / "cgroups"


def links(host: str) -> dict[str, str]:
    """The links that the captured text of a host gives."""
    files = FIXTURES / host
    return _cgroup_yard.links((files / "cgroup").read_text("utf-8"), (files / "host_mountinfo").read_text("utf-8"))


def test_v1_hierarchies_have_the_names_that_criu_looks_for() -> None:
    files = FIXTURES / "v1"
    cgroup = (files / "cgroup").read_text("utf-8").replace("12:rdma:/\n", "")
    found = _cgroup_yard.links(cgroup, (files / "host_mountinfo").read_text("utf-8"))
    assert found["cpu,cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert found["systemd"] == "/sys/fs/cgroup/systemd"
    assert "unified" not in found


def test_nothing_for_a_host_that_mounts_not_all_of_its_controllers() -> None:
    assert links("v1") == {}


def test_hybrid_host_has_the_v2_hierarchy_too() -> None:
    found = links("hybrid")
    assert found["unified"] == "/sys/fs/cgroup/unified"
    assert found["pids"] == "/sys/fs/cgroup/pids"


@pytest.mark.parametrize("host", ["v2", "v2-systemd", "v2-no-namespace"])
def test_pure_v2_host_has_one_hierarchy(host: str) -> None:
    assert links(host) == {"unified": "/sys/fs/cgroup"}


MOUNTINFO = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_nothing_where_a_hierarchy_is_mounted_from_below_its_root() -> None:
    assert _cgroup_yard.links("8:pids:/\n0::/\n", MOUNTINFO) != {}
    assert _cgroup_yard.links("8:pids:/\n0::/\n", MOUNTINFO.replace("0:29 / ", "0:29 /lxc ")) == {}


def test_directory_holds_the_links_and_is_put_right(tmp_path: Path) -> None:
    yard = tmp_path / "run" / "cgroups"
    _cgroup_yard.make({"pids": "/old/pids", "unified": "/sys/fs/cgroup"}, str(yard))
    _cgroup_yard.make({"pids": "/new/pids", "unified": "/sys/fs/cgroup"}, str(yard))
    assert {name: os.readlink(yard / name) for name in os.listdir(yard)} == {
        "pids": "/new/pids",
        "unified": "/sys/fs/cgroup",
    }
    assert yard.stat().st_mode & 0o777 == 0o700

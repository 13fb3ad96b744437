# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the configuration of a container, its systemd and the kernel settle before a plan is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointable, _lxc_config
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable import HostFacts
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_plan import Facts
from ansible_collections.stasis.lxc.tests.unit.support.checkpointable import Host


@pytest.fixture
def host(safe_dir: str) -> Host:
    return Host(safe_dir)


@pytest.mark.parametrize(
    ("systemd", "kernel", "ramfs", "clock", "pressure"),
    [
        (252, "6.12.1", True, True, False),
        (254, "6.12.1", False, True, True),
        (257, "6.1.0-28-amd64", True, False, True),
        (0, "6.3", False, True, True),
        (253, "6.3", True, True, False),
        (257, "6.12.1", False, False, True),
    ],
)
def test_some_depends_on_the_version_of_systemd_and_the_kernel(
    host: Host, systemd: int, kernel: str, ramfs: bool, clock: bool, pressure: bool
) -> None:
    given = HostFacts(systemd=systemd, kernel=kernel)
    found = _checkpointable.facts_of(_lxc_config.read(host.lxc_path, "web1"), given)
    assert (found.ramfs, found.clock, found.pressure) == (ramfs, clock, pressure)
    hybrid = _checkpointable.facts_of(_lxc_config.read(host.lxc_path, "web1"), replace(given, memory=False))
    assert not hybrid.pressure
    host.configure("lxc.idmap = b 0 200000 65536")
    assert _checkpointable.facts_of(_lxc_config.read(host.lxc_path, "web1"), given).ramfs


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        ([], Facts(terminals=False, sys_writable=True)),
        (["lxc.mount.auto = proc:mixed sys:mixed"], Facts(terminals=False)),
        (["lxc.mount.auto = sys:ro"], Facts(terminals=False)),
        (["lxc.mount.auto = sys:rw"], Facts(terminals=False, sys_writable=True)),
        (
            ["lxc.mount.auto = proc:mixed sys:mixed", "lxc.mount.auto = sys:rw"],
            Facts(terminals=False, sys_writable=True),
        ),
        (["lxc.tty.max = 4", "lxc.mount.auto = sys"], Facts()),
        (["lxc.tty.max = 4", "lxc.console.path = none", "lxc.mount.auto = sys"], Facts(console=False)),
        (["lxc.idmap = u 0 1 2", "lxc.tty.max = 1", "lxc.mount.auto = sys"], Facts(bpf=False)),
        (
            ["lxc.cap.drop = sys_time sys_admin", "lxc.tty.max = 1", "lxc.mount.auto = sys"],
            Facts(bpf=False, namespaces=False),
        ),
        (["lxc.cap.keep = chown", "lxc.tty.max = 1", "lxc.mount.auto = sys"], Facts(bpf=False, namespaces=False)),
        (["lxc.cap.keep = chown sys_admin", "lxc.tty.max = 1", "lxc.mount.auto = sys"], Facts()),
    ],
)
def test_facts_come_from_the_configuration(host: Host, lines: list[str], facts: Facts) -> None:
    host.configure(*lines)
    assert _checkpointable.facts_of(_lxc_config.read(host.lxc_path, "web1"), HostFacts(kernel="6.1")) == facts

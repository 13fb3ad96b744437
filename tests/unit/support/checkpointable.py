# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An LXC path with one container that has systemd, for the module lxc_checkpointable."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointable
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable import Report
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_plan import FILE
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_units import Running
from ansible_collections.stasis.lxc.tests.unit.support import root as roots
from ansible_collections.stasis.lxc.tests.unit.support.make import write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

LOGIND = "systemd-logind.service"
PLACE = "etc/systemd/system"
OURS = f"{PLACE}/{LOGIND}.d/{FILE}"


class Host:
    """An LXC path with one stopped container."""

    def __init__(self, safe_dir: str, running: Running | None = None) -> None:
        self.lxc_path = f"{safe_dir}/lxc"
        self.root = roots.make(f"{self.lxc_path}/web1/rootfs")
        self.running = running
        self.configure("lxc.mount.auto = sys:mixed proc:mixed")

    def configure(self, *lines: str) -> None:
        text = "".join(f"{line}\n" for line in (f"lxc.rootfs.path = dir:{self.root}", *lines))
        write(f"{self.lxc_path}/web1/config", text, 0o644)

    def run(self, *calls: Call, check: bool = False, **params: t.Any) -> Report:
        spec = _checkpointable.argument_spec()
        given = {key: one.get("default") for key, one in spec.items()}
        state = "RUNNING" if self.running else "STOPPED"
        pid = f"PID: {self.running.init}\n" if self.running else ""
        runner = StrictRunner(
            Call(["lxc-info", "-P", self.lxc_path, "-n", "web1", "-s", "-p"], stdout=f"State: {state}\n{pid}"), *calls
        )
        report = _checkpointable.run(
            {**given, "name": "web1", "lxc_path": self.lxc_path, **params}, runner, check_mode=check
        )
        runner.assert_done()
        return report

    def text(self, path: str) -> str:
        with open(f"{self.root}/{path}", encoding="utf-8") as stream:
            return stream.read()

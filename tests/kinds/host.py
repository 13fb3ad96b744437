# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host this is, as far as it decides what can be checkpointed."""

from __future__ import annotations

import json
import os
import platform
import re
import typing as t
from pathlib import Path

from containers import run

RECORD = Path("/etc/stasis/lxc.json")


def describe() -> dict[str, t.Any]:
    """The host's facts; `id` names its row of expectations: distribution, cgroups, security module."""
    system = dict(
        re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    )
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    cgroups, lsm = _cgroups(), _lsm()
    return {
        "id": f"{system['ID']}-{system.get('VERSION_ID', 'rolling')}-{cgroups}-{lsm}",
        "os": system.get("PRETTY_NAME", system["ID"]),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cgroups": cgroups,
        "lsm": lsm,
        "lxc": run("lxc-start", "--version").stdout.strip(),
        "criu": record["criu_version"],
        "python": platform.python_version(),
    }


def _cgroups() -> str:
    types = {line.split()[2] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()}
    if "cgroup" not in types:
        return "v2"
    return "hybrid" if "cgroup2" in types else "v1"


def _lsm() -> str:
    if os.path.isdir("/sys/kernel/security/apparmor"):
        return "apparmor"
    return "selinux" if os.path.exists("/sys/fs/selinux/enforce") else "none"

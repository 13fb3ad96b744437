# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests must leave as they found it: the host."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from containers import (
    BASE,
    BRIDGE_PREFIX,
    PREFIX,
    Container,
    cgroup_roots,
    kill,
    mounts_below,
    processes,
    remove_link,
    remove_tree,
    run,
)

State = dict[str, set[str]]


def snapshot() -> State:
    """The host as far as containers, CRIU and the module leave traces on it."""
    return {
        "network interfaces": {link["ifname"] for link in json.loads(run("ip", "-j", "link").stdout)},
        "mounts": {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()},
        "cgroups": _cgroups(),
        "processes": _processes(),
        "firewall rules": _firewall(),
        "systemd units": {str(path) for path in Path("/etc/systemd/system").rglob(f"*{PREFIX}*")},
        "logs and locks": {
            str(path) for top in ("/var/log/stasis", "/run/stasis") for path in Path(top).glob(f"{PREFIX}*")
        },
        "LXC's locks": {str(path) for path in Path("/run/lxc/lock").rglob(f"*{BASE.name}*")},
    }


def differences(before: State, after: State, shared: bool) -> list[str]:
    """What is there now and was not, or the other way round, one line each.

    shared: other people work on this host at the same time, so only what carries our names counts.
    """
    found = []
    for kind, then in before.items():
        now = after[kind]
        for names, word in ((now - then, "left over"), (then - now, "missing")):
            found += [f"{kind}: {word}: {name}" for name in sorted(names) if not shared or _ours(name)]
    return found


def _ours(name: str) -> bool:
    return any(word in name for word in (PREFIX, BRIDGE_PREFIX, str(BASE)))


def clean() -> None:
    """Remove what an interrupted run of the tests has left."""
    # LXC's monitors end by themselves when their container does.
    kill(
        pid
        for pid, words in processes().items()
        if f"{BASE}/" in " ".join(words) and not words[0].startswith("[lxc monitor]") and pid != os.getpid()
    )
    for lxc_path in [path for word in ("lxc", "lxc2") for path in BASE.glob(f"*/{word}")]:
        for config in lxc_path.glob("*/config"):
            Container(config.parent.name, lxc_path).destroy()
    for name in {
        path.name.split(".", 2)[2] for path in _cgroup_paths() if path.name.split(".", 2)[2].startswith(PREFIX)
    }:
        Container(name, BASE / "none").destroy()
    for link in json.loads(run("ip", "-j", "link").stdout):
        if link["ifname"].startswith(BRIDGE_PREFIX):
            remove_link(link["ifname"])
    remove_logs()
    remove_locks()
    for path in BASE.glob("*"):
        for mount in sorted(mounts_below(path), reverse=True):
            run("umount", mount)
        remove_tree(path)
    if BASE.exists():
        BASE.rmdir()


def remove_logs() -> None:
    """Remove what the module has written about our containers."""
    for path in Path("/var/log/stasis").glob(f"{PREFIX}*"):
        remove_tree(path)
    for path in Path("/run/stasis").glob(f"{PREFIX}*"):
        path.unlink()


def remove_locks() -> None:
    """Remove the files that LXC locks and never removes, one for each container that there ever was."""
    ours = Path(f"/run/lxc/lock{BASE}")
    if ours.is_dir():
        shutil.rmtree(ours)


def _cgroup_paths() -> list[Path]:
    return [
        path
        for top in cgroup_roots()
        for folder, _folders, _files in os.walk(top)
        if re.match(r"(lxc\.(payload|monitor|pivot)|stasis\.trial)\.", (path := Path(folder)).name)
    ]


def _cgroups() -> set[str]:
    return {str(path) for path in _cgroup_paths()}


def _processes() -> set[str]:
    found = set()
    for words in processes().values():
        line = " ".join(words)
        program = os.path.basename(words[0])
        if line.startswith("[lxc monitor]") or program in ("criu", "lxc-checkpoint", "lxc-start", "workload"):
            found.add(line)
    return found


def _firewall() -> set[str]:
    """Tables and chains of CRIU's."""
    tables = run("nft", "list", "tables", check=False).stdout.splitlines()
    chains = run("iptables-save", check=False).stdout.splitlines()
    return {line for line in tables + chains if "criu" in line.lower()}

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Host sides of veths whose other end is in a network namespace that nobody can reach any more.

The kernel removes a veth with the namespace of its other end, and that goes only when its last socket has gone. A TCP
connection that was open when its process was killed is such a socket, for minutes where its peer does not answer
(tcp_orphan_retries). liblxc deletes the veths of a container that it has started, not of one that it has restored.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _files, _iproute, _nic_problems, _runner


def among(
    names: t.Collection[str], links: t.Iterable[_nic_problems.Link], runner: _runner.Runner, *, proc: str = "/proc"
) -> list[str]:
    """Which of these names are such veths. links: the host's, by `ip -j -d link`. Where in doubt, it is none."""
    left = {
        (int(link["ifindex"]), int(link["link_index"])): str(link["ifname"])
        for link in links
        if link["ifname"] in names
        and "link_netnsid" in link
        and "link_index" in link
        and (link.get("linkinfo") or {}).get("info_kind") == "veth"
    }
    # Most names are free, and then nobody is asked.
    for path in _namespaces(proc) if left else ():
        pairs = _pairs(path, runner)
        if pairs is None:
            return []
        for pair in pairs:
            left.pop(pair, None)
    return sorted(left.values())


def remove(names: t.Iterable[str], runner: _runner.Runner, *, sysfs: str = "/sys", proc: str = "/proc") -> list[str]:
    """Remove those that are such veths, and return their names."""
    there = [name for name in names if name and os.path.exists(f"{sysfs}/class/net/{name}")]
    if not there:
        return []
    found = among(there, _links(runner.run(["ip", "-j", "-d", "link"]).stdout), runner, proc=proc)
    for name in found:
        # The kernel may have been quicker.
        runner.run(["ip", "link", "del", "dev", name])
    return found


def _namespaces(proc: str) -> list[str]:
    """A path to each network namespace that a task is in, that is held open, or that has a name; but for our own."""
    # Here, since hardly any task comes so far, and each compiles what it loads.
    from ansible_collections.stasis.lxc.plugins.module_utils import _proc

    own = _identity(f"{proc}/self/ns/net")
    found: dict[str, str] = {}
    for pid in _entries(proc):
        if not pid.isdigit():
            continue
        tasks = [f"{proc}/{pid}/task/{tid}/ns/net" for tid in _entries(f"{proc}/{pid}/task")]
        for path in [*tasks, *(f"{proc}/{pid}/fd/{fd}" for fd in _entries(f"{proc}/{pid}/fd"))]:
            identity = _identity(path)
            if identity.startswith("net:["):
                found.setdefault(identity, path)
    for mount in _proc.mounts(_files.text_of(f"{proc}/self/mountinfo")):
        if mount.root.startswith("net:["):
            found.setdefault(mount.root, mount.target)
    found.pop(own, None)
    return list(found.values())


def _pairs(path: str, runner: _runner.Runner) -> list[tuple[int, int]] | None:
    """The veths in this namespace, each as index of its other end and its own; None where they cannot be read."""
    done = runner.run(["nsenter", f"--net={path}", "ip", "-j", "link"])
    if done.rc != 0:
        # It ended meanwhile.
        return None if os.path.lexists(path) else []
    return [(int(link["link_index"]), int(link["ifindex"])) for link in _links(done.stdout) if link.get("link_index")]


def _links(text: str) -> list[_nic_problems.Link]:
    with contextlib.suppress(ValueError):
        return [link for link in _iproute.parse(text) if "ifname" in link]
    return []


def _entries(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _identity(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""

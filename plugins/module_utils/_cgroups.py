# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The cgroups of a container, from the text of /proc; cgroup v1, hybrid and v2."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _files


@dataclass(frozen=True)
class Hierarchy:
    """One cgroup hierarchy: its controllers (empty for a v2 one without any), the mount point, the container's path.

    path starts with a slash and is relative to the hierarchy's root.
    """

    controllers: tuple[str, ...]
    mount: str
    path: str
    unified: bool

    @property
    def directory(self) -> str:
        """Where the container's cgroup is in the file system."""
        return self.mount + self.path.rstrip("/")


# Where init moves itself inside its own cgroup namespace.
_INIT_SUBGROUPS = ("/init.scope", "/.lxc")
_OCTAL = re.compile(r"\\([0-7]{3})")


def _unescape(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), field)


def parse_mounts(mountinfo: str) -> dict[str, str]:
    """From the host's /proc/self/mountinfo: mount options of each v1 hierarchy, or "" for v2, to its mount point."""
    found: dict[str, str] = {}
    for line in _files.lines(mountinfo):
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(tail) < 3:
            continue
        if tail[0] == "cgroup2":
            found.setdefault("", _unescape(fields[4]))
        elif tail[0] == "cgroup":
            found.setdefault(tail[2], _unescape(fields[4]))
    return found


def v1_mount(mounts: t.Mapping[str, str], controllers: t.Sequence[str]) -> str | None:
    """Where the v1 hierarchy with these controllers is mounted. mounts: of parse_mounts()."""
    for options, mount in mounts.items():
        if options and set(controllers) <= set(options.split(",")):
            return mount
    return None


def payload(cgroup: str, init_mountinfo: str, host_mountinfo: str, v2_controllers: str) -> list[Hierarchy]:
    """The payload cgroup of a container in every mounted hierarchy.

    cgroup: /proc/INIT/cgroup. init_mountinfo: /proc/INIT/mountinfo, both read from the host.
    host_mountinfo: /proc/self/mountinfo. v2_controllers: cgroup.controllers of the v2 root, or "".

    systemd moves itself to init.scope, so where the container sees the v2 hierarchy the 4th field of its mount
    is taken: the root of its cgroup namespace.
    """
    mounts = parse_mounts(host_mountinfo)
    v2_root = _namespace_root(init_mountinfo)
    found = []
    for line in _files.lines(cgroup):
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        names, path = parts[1], parts[2]
        if not names:
            if "" in mounts:
                root = v2_root or _without_init_subgroup(path)
                found.append(Hierarchy(tuple(v2_controllers.split()), mounts[""], root, True))
            continue
        controllers = names.split(",")
        mount = v1_mount(mounts, controllers)
        if mount is not None:
            found.append(Hierarchy(tuple(controllers), mount, _without_init_subgroup(path), False))
    return found


def _namespace_root(mountinfo: str) -> str:
    for line in _files.lines(mountinfo):
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        # A bind mount of a subdirectory shows it here too; only a mount at a cgroup mount point counts.
        if separator and after.startswith("cgroup2 ") and len(fields) > 4 and fields[4].startswith("/sys/fs/cgroup"):
            root = _unescape(fields[3])
            # `/..` is what a namespace's own process would see above its root.
            return "" if root == "/" or root.startswith("/..") else root
    return ""


def _without_init_subgroup(path: str) -> str:
    for subgroup in _INIT_SUBGROUPS:
        if path.endswith(subgroup):
            return path[: -len(subgroup)]
    return path


def criu_roots(hierarchies: t.Sequence[Hierarchy]) -> list[str]:
    """Values of --cgroup-root in the form liblxc gives them: `controllers:path`.

    On a pure v2 host the path has no leading slash: with one, CRIU also dumps cgroup.subtree_control of the root
    and its restore then fails with EINVAL. A hierarchy without controllers is left out, as nothing can be limited there.
    """
    pure_v2 = all(hierarchy.unified for hierarchy in hierarchies)
    roots = []
    for hierarchy in hierarchies:
        if hierarchy.controllers:
            path = hierarchy.path.lstrip("/") if pure_v2 else hierarchy.path
            roots.append(f"{','.join(hierarchy.controllers)}:{path}")
    return roots


def frozen(hierarchies: t.Sequence[Hierarchy]) -> bool:
    """Whether the container is frozen by its own cgroup; CRIU waits for ever for such a one."""
    for hierarchy in hierarchies:
        if hierarchy.unified:
            found = "frozen 1" in _files.text_of(os.path.join(hierarchy.directory, "cgroup.events")).split("\n")
        else:
            state = _files.text_of(os.path.join(hierarchy.directory, "freezer.state")).strip()
            found = "freezer" in hierarchy.controllers and state in ("FROZEN", "FREEZING")
        if found:
            return True
    return False


def processes(hierarchies: t.Sequence[Hierarchy]) -> set[int]:
    """Every process in the payload cgroup and below it, as pids of this host."""
    found: set[int] = set()
    for hierarchy in hierarchies:
        for directory, _children, files in os.walk(hierarchy.directory):
            if "cgroup.procs" in files:
                found |= {int(pid) for pid in _files.text_of(os.path.join(directory, "cgroup.procs")).split()}
    return found


def observe(init_pid: int) -> list[Hierarchy]:
    """The payload cgroups of the container whose init is init_pid."""
    host_mountinfo = _files.text_of("/proc/self/mountinfo")
    mounts = parse_mounts(host_mountinfo)
    v2_controllers = _files.text_of(os.path.join(mounts[""], "cgroup.controllers")) if "" in mounts else ""
    return payload(
        _files.text_of(f"/proc/{init_pid}/cgroup"),
        _files.text_of(f"/proc/{init_pid}/mountinfo"),
        host_mountinfo,
        v2_controllers,
    )


def unified_mount() -> str:
    """Where this host has mounted the v2 hierarchy, or "" where it has not."""
    return parse_mounts(_files.text_of("/proc/self/mountinfo")).get("", "")

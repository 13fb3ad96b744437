# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""A directory that has the host's cgroup hierarchies under the names by which CRIU looks for them (--cgroup-yard).

Without it CRIU mounts every hierarchy anew for every set of cgroups that it meets, while the container is frozen; a
mount of the v2 one alone makes Linux 6.18 wait 8 to 20 ms for all processors.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups, _files, _workspace

# One for all containers, since it says something of the host only; below /run, as it ends with the boot.
PATH = os.path.join(_workspace.LOCKS, "cgroups")
_UNIFIED = "unified"
_NAMED = "name="


def links(cgroup: str, mountinfo: str) -> dict[str, str]:
    """What the directory has to hold: name to mount point; {} where a hierarchy is not mounted, or not from its root.

    cgroup: /proc/PID/cgroup of any process, which names all of them. mountinfo: /proc/self/mountinfo.
    """
    whole = [line for line in _files.lines(mountinfo) if line.split()[3:4] == ["/"]]
    mounts = _cgroups.parse_mounts("\n".join(whole))
    found = {}
    for line in _files.lines(cgroup):
        names = line.split(":", 2)[1]
        mount = _cgroups.v1_mount(mounts, names.split(",")) if names else mounts.get("")
        if mount is None:
            return {}
        found[names[len(_NAMED) :] if names.startswith(_NAMED) else names or _UNIFIED] = mount
    return found


def observe() -> dict[str, str]:
    """links() of this host; {} where something else is mounted over a hierarchy."""
    found = links(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"))
    sound = all(os.path.exists(os.path.join(mount, "cgroup.procs")) for mount in found.values())
    return found if sound else {}


def make(wanted: t.Mapping[str, str], path: str = PATH) -> None:
    """Make the directory, or put it right: each link in one step, since another task may be using it."""
    _files.make_directories(path)
    for name, mount in wanted.items():
        link = os.path.join(path, name)
        with contextlib.suppress(OSError):
            if os.readlink(link) == mount:
                continue
        temporary = f"{link}.{os.getpid()}"
        os.symlink(mount, temporary)
        os.rename(temporary, link)


def _read(path: str) -> str:
    with open(path, "rb") as stream:
        return _files.decoded(stream.read())

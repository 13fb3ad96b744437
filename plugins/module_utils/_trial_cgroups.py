# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The cgroups of a trial restore: one in the root of each hierarchy. They outlive the processes of the trial."""

from __future__ import annotations

import os
import time
import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups, _files


def of(hierarchies: t.Sequence[_cgroups.Hierarchy], key: str) -> tuple[_cgroups.Hierarchy, ...]:
    """The hierarchies of a container with the trial's path in them. Pure."""
    return tuple(replace(one, path=_cgroup(key)) for one in hierarchies)


def make(hierarchies: t.Sequence[_cgroups.Hierarchy], key: str) -> None:
    """Make them; remove first what an earlier trial has left. Raises OSError."""
    remove(key)
    for hierarchy in of(hierarchies, key):
        os.mkdir(hierarchy.directory, 0o755)
        _give_cpuset(hierarchy.directory)


def remove(key: str) -> None:
    """Remove the cgroups of a trial that has ended."""
    for folder in left(key):
        for _try in range(200):
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError:
                # Its tasks have been killed, and are about to go.
                time.sleep(0.01)


def left(key: str) -> list[str]:
    """The cgroups of a trial that are there, the innermost first."""
    mounts = _cgroups.parse_mounts(_files.text_of("/proc/self/mountinfo"))
    return [
        folder for mount in mounts.values() for folder, _folders, _names in os.walk(mount + _cgroup(key), topdown=False)
    ]


def _cgroup(key: str) -> str:
    return f"/stasis.trial.{key}"


def _give_cpuset(directory: str) -> None:
    """With cgroup v1 nobody can enter a cgroup that has no processors and no memory."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        above = _files.text_of(os.path.join(os.path.dirname(directory), name)).strip()
        if above and os.path.exists(os.path.join(directory, name)):
            with open(os.path.join(directory, name), "w", encoding="ascii") as stream:
                stream.write(above)

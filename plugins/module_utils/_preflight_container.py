# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about the container as a whole and its host: state, configuration, memory, disk. Pure but for `space`."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _cgroup_tree,
    _container,
    _directory,
    _errors,
    _findings,
    _host,
    _versions,
)

# CRIU's parasite takes memory of the container itself, process by process.
_PARASITE = 256 << 10
_HEADROOM = 4 << 20
# The kernel from which on a file system can be mounted with other owners (FS_ALLOW_IDMAP in its source).
_IDMAPPED_MOUNTS = {"ext4": "5.12", "xfs": "5.12", "btrfs": "5.15", "f2fs": "5.18", "tmpfs": "6.3"}
_SYSCTL = "lxc.sysctl."
# Read: devconfs4, devconfs6 and unix_conf_op() in CRIU's net.c.
_KEPT_SYSCTLS = ("net.ipv4.conf.", "net.ipv6.conf.", "net.unix.", "net.ipv4.ping_group_range")


@dataclass(frozen=True)
class Memory:
    """What the memory controller says of the container, in bytes. limit: None for no limit.

    shared: tmpfs and shared memory. used: what counts against the limit and cannot be
    dropped like a file's cache.
    """

    shared: int = 0
    used: int = 0
    limit: int | None = None


@dataclass(frozen=True)
class Space:
    """Room in the file system of the checkpoint directory: bytes, its type, and how many files more; None: unknown."""

    free: int
    type: str
    inodes: int | None = None


def host_findings(host: _host.Host) -> list[_findings.Finding]:
    """Findings that hold for every container of the host."""
    found = []
    if not host.is_root:
        found.append(
            _findings.Finding(
                "not-root", _findings.BLOCKS, "user", "CRIU needs root, and this is another user.", "Set become: true."
            )
        )
    if not host.criu_version:
        found.append(
            _findings.Finding(
                "no-criu",
                _findings.BLOCKS,
                host.criu_path or "CRIU",
                "There is no CRIU that works on this host.",
                "Apply the role stasis.lxc.criu, or set criu_path.",
            )
        )
        return found
    minimum = _versions.minimum_criu(host.kernel)
    if not _versions.at_least(host.criu_version, minimum):
        found.append(
            _findings.Finding(
                "old-criu",
                _findings.BLOCKS,
                host.criu_path,
                f"CRIU {host.criu_version} does not work on kernel {host.kernel}, which needs {minimum} or newer.",
                "Apply the role stasis.lxc.criu, or name a newer CRIU in criu_path.",
            )
        )
    return found


def state_finding(container: _container.Container) -> _findings.Finding | None:
    """Why nothing more can be said of a container that does not run."""
    if container.state == _container.FROZEN:
        return _findings.Finding(
            "frozen",
            _findings.BLOCKS,
            container.name,
            "It is frozen, so that CRIU cannot take hold of its processes.",
            f"Run lxc-unfreeze -P {container.lxc_path} -n {container.name} first.",
        )
    if container.init is None:
        return _findings.Finding(
            "not-running",
            _findings.BLOCKS,
            container.name,
            f"It is {container.state}, so there is nothing to dump.",
            "Start it first.",
        )
    return None


def container_findings(container: _container.Container, options: _findings.Options) -> list[_findings.Finding]:
    """Findings about what LXC and the configuration say."""
    found = [
        _findings.Finding(
            "nic",
            _findings.BLOCKS,
            f"{container.name}, NIC {nic.name or nic.index}",
            problem,
            "Change the network device first; a checkpoint would not keep it as it is.",
        )
        for nic in container.nics
        for problem in nic.problems
    ]
    found += _stopping(container, options)
    if options.directory:
        found += _place(container, options.directory)
    found += _confinement(container)
    found += _sysctls(container)
    return found


def cgroup_findings(container: _container.Container) -> list[_findings.Finding]:
    """The finding about a cgroup whose name the record of an image cannot hold."""
    try:
        _cgroup_tree.check_names(container.cgroups)
    except _errors.StasisError as exc:
        return [_findings.Finding("cgroup-name", _findings.BLOCKS, container.name, exc.what, exc.remedy)]
    return []


def user_namespace_findings(
    container: _container.Container, kernel: str, space: Space | None
) -> list[_findings.Finding]:
    """Whether a container in a user namespace can be restored from where its checkpoint will be. space: None: unknown."""
    if not container.config.values("lxc.idmap"):
        return []
    since = _IDMAPPED_MOUNTS.get(space.type) if space else "5.15"
    if since and _versions.kernel(kernel) >= _versions.kernel(since):
        return [
            _findings.Finding(
                "user-namespace",
                _findings.NOTE,
                container.name,
                "It runs in a user namespace; CRIU keeps that, and a restore needs idmapped mounts.",
                "Where it is restored on another host, use kernel 5.15 or newer and ext4, xfs or btrfs.",
            )
        ]
    where = f"a checkpoint on {space.type or 'an unknown file system'}" if space else "a checkpoint"
    return [
        _findings.Finding(
            "user-namespace",
            _findings.MAY_FAIL,
            container.name,
            f"It runs in a user namespace, and {where} with kernel {kernel} may not have idmapped mounts, which a restore needs.",
            "Keep the checkpoint on ext4, xfs or btrfs with kernel 5.15 or newer, or on tmpfs with 6.3.",
        )
    ]


def _stopping(container: _container.Container, options: _findings.Options) -> t.Iterator[_findings.Finding]:
    names = ", ".join(f"{one.command} (pid {one.pid})" for one in container.outsiders[:5])
    if container.outsiders:
        yield _findings.Finding(
            "outsiders",
            _findings.BLOCKS if options.stop else _findings.NOTE,
            names,
            "Not children of the container's init, as with lxc-attach; CRIU does not dump them"
            + (", and they would be killed." if options.stop else "."),
            "End the lxc-attach sessions first.",
        )
    if not options.stop:
        return
    if container.ephemeral:
        yield _findings.Finding(
            "ephemeral",
            _findings.BLOCKS,
            container.name,
            "It is ephemeral: LXC destroys it when it stops.",
            "Set lxc.ephemeral = 0, or leave out stop.",
        )
    if container.autostart.reasons:
        refused = options.autostart == "refuse"
        yield _findings.Finding(
            "autostart",
            _findings.BLOCKS if refused else _findings.NOTE,
            container.name,
            f"It would be started by {' and '.join(container.autostart.reasons)}, which makes the checkpoint stale.",
            "Set autostart: inhibit to switch that off until the restore, or autostart: ignore.",
        )


def _place(container: _container.Container, directory: str) -> t.Iterator[_findings.Finding]:
    try:
        _directory.check(directory)
    except _errors.StasisError as exc:
        yield _findings.Finding(
            "directory", _findings.BLOCKS, directory, exc.what, exc.remedy or "Name another directory."
        )
    own = (f"{container.lxc_path}/{container.name}/", container.rootfs.backing.rstrip("/") + "/")
    if (directory + "/").startswith(own):
        yield _findings.Finding(
            "directory",
            _findings.BLOCKS,
            directory,
            "It is inside the container's own directory.",
            "Keep checkpoints outside of it, where lxc-destroy leaves them.",
        )


def _confinement(container: _container.Container) -> t.Iterator[_findings.Finding]:
    if not os.path.isdir("/sys/kernel/security/apparmor"):
        return
    profile = container.config.last("lxc.apparmor.profile", "")
    if profile == "generated":
        yield _findings.Finding(
            "apparmor",
            _findings.NOTE,
            container.name,
            "LXC generates its AppArmor profile at every start and at every restore, and the container is confined by it again.",
            "Nothing needs to be done.",
        )
    elif profile and profile != "unconfined":
        yield _findings.Finding(
            "apparmor",
            _findings.NOTE,
            container.name,
            f"It is confined by the AppArmor profile {profile}, and a restore needs it loaded.",
            "Load the same profile where it is restored.",
        )


def _sysctls(container: _container.Container) -> t.Iterator[_findings.Finding]:
    names = sorted(
        name[len(_SYSCTL) :]
        for name, _value in container.config.entries
        if name.startswith(_SYSCTL + "net.") and not name[len(_SYSCTL) :].startswith(_KEPT_SYSCTLS)
    )
    if names:
        yield _findings.lost(
            "sysctl",
            container.name,
            f"LXC sets {', '.join(names[:5])} at a start, and neither LXC nor CRIU does at a restore.",
            "Set it inside the container after the restore, with `sysctl -w`.",
        )


def memory_findings(facts: _findings.Facts, memory: Memory, name: str) -> list[_findings.Finding]:
    """Findings about room in the container's memory limit."""
    found = []
    needed = max(_HEADROOM, _PARASITE * len(facts.tasks))
    if memory.limit is not None and memory.limit - memory.used < needed:
        found.append(
            _findings.Finding(
                "memory-limit",
                _findings.MAY_FAIL,
                name,
                f"It uses {mib(memory.used)} of a limit of {mib(memory.limit)}, and CRIU needs about {mib(needed)} in it.",
                "Raise the limit for the time of the dump, or the kernel may kill one of its processes.",
            )
        )
    return found


def mib(number: int) -> str:
    """A number of bytes for a message."""
    return f"{number / (1 << 20):.1f} MiB"

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What the preflight finds, and what it needs to know for that."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _criu_command, _proc

BLOCKS = "blocks"
MAY_FAIL = "may fail"
LOSES = "loses"
NOTE = "note"
SEVERITIES = (BLOCKS, MAY_FAIL, LOSES, NOTE)

READY = "ready"
RISKY = "risky"
BLOCKED = "blocked"


@dataclass(frozen=True)
class Finding:
    """One thing that stands in the way, or may. subject: the process, file or setting; what, remedy: a line each.

    severity: BLOCKS: the dump or the restore fails. MAY_FAIL: it depends. LOSES: all goes well, and something is not as before.
    grave: of LOSES, where protection or correctness is lost.
    """

    id: str
    severity: str
    subject: str
    what: str
    remedy: str
    grave: bool = False

    @property
    def refused(self) -> bool:
        """Whether it keeps a checkpoint from being made, unless it is to be tried all the same."""
        return self.severity == BLOCKS or self.grave


def lost(word: str, subject: str, what: str, remedy: str, *, grave: bool = False) -> Finding:
    """A finding of what does not come back."""
    return Finding(word, LOSES, subject, what, remedy, grave)


@dataclass(frozen=True)
class Options:
    """What the checkpoint is to be like. directory: where it will be, "" where that is not known yet."""

    stop: bool = False
    autostart: str = "refuse"
    directory: str = ""
    criu: _criu_command.CriuOptions = field(default_factory=_criu_command.CriuOptions)

    @property
    def allows(self) -> _criu_command.Allowances:
        """What the further arguments for CRIU allow."""
        return _criu_command.allowances(self.criu.criu_args)


@dataclass(frozen=True)
class UnixSocket:
    """One line of `ss -x`. type: u_str, u_dgr or u_seq. peer: an inode, 0 for none. open: not shut down.

    pending: inodes of the sockets whose connection waits to be accepted by this one, 0 for one that is closed. sent: what it
    has written and nobody has read. name: the path that it was bound to, or what stands for none. file: inode of its file, or 0.
    """

    type: str
    state: str
    queued: int
    inode: int
    peer: int
    open: bool
    pending: tuple[int, ...] = ()
    sent: int = 0
    name: str = ""
    file: int = 0


@dataclass(frozen=True)
class Facts:
    """One look at a running container, for the pure checks.

    mounts: of init's namespace. mount_ids: of every mount namespace that a process of the container lives in. cgroup_files: the
    target of a mount of one file of cgroup2, by its mount namespace. nested_mounts: of every other mount namespace, by its name.
    own_namespaces: of the process that looks, which CRIU will share. unix: the Unix sockets of its network
    namespaces. unread: bytes that wait in netlink sockets, by inode. connected: inodes of TCP sockets with a connection; link_local: over
    a link-local address.
    backlog: connections that no task has accepted yet. locks: pids that hold file locks. occupied: targets of mounts that must be empty and are not.
    criu_bpf: whether CRIU was built to dump BPF maps. sharing: groups of pids that share their memory.
    resource: whether we have CAP_SYS_RESOURCE. renamed: old and new path of bound Unix sockets, by inode.
    """

    tasks: tuple[_proc.Task, ...]
    mounts: tuple[_proc.Mount, ...] = ()
    host_mounts: tuple[_proc.Mount, ...] = ()
    mount_ids: frozenset[int] = frozenset()
    cgroup_files: t.Mapping[str, str] = field(default_factory=dict)
    nested_mounts: t.Mapping[str, tuple[_proc.Mount, ...]] = field(default_factory=dict)
    own_namespaces: t.Mapping[str, str] = field(default_factory=dict)
    unix: tuple[UnixSocket, ...] = ()
    unread: t.Mapping[int, int] = field(default_factory=dict)
    connected: frozenset[int] = frozenset()
    link_local: frozenset[int] = frozenset()
    backlog: int = 0
    locks: frozenset[int] = frozenset()
    occupied: frozenset[str] = frozenset()
    criu_version: str = ""
    criu_bpf: bool = False
    sharing: tuple[tuple[int, ...], ...] = ()
    resource: bool = True
    renamed: t.Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def init(self) -> _proc.Task:
        """The container's first process."""
        return self.tasks[0]


def verdict(findings: t.Iterable[Finding]) -> str:
    """READY, RISKY or BLOCKED."""
    known = list(findings)
    if any(one.refused for one in known):
        return BLOCKED
    return RISKY if any(one.severity == MAY_FAIL for one in known) else READY

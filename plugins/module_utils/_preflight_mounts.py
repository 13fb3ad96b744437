# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about mounts: what CRIU can neither make again nor take from the host. Pure.

It follows CRIU's mount.c for a dump with `--ext-mount-map auto --enable-external-sharing --enable-external-masters
--enable-fs hugetlbfs --enable-fs tracefs`, which is what the module passes.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _incoming, _proc

# Read: fstypes[] in CRIU's filesystems.c; hugetlbfs comes from --enable-fs.
_MADE_AGAIN = frozenset(
    [
        "proc",
        "sysfs",
        "devtmpfs",
        "binfmt_misc",
        "tmpfs",
        "devpts",
        "simfs",
        "pstore",
        "mqueue",
        "securityfs",
        "fusectl",
        "debugfs",
        "tracefs",
        "cgroup",
        "cgroup2",
        "aufs",
        "fuse",
        "overlay",
        "autofs",
        "hugetlbfs",
    ]
)


def check(facts: _findings.Facts, mapped: t.Container[str], enabled: t.Container[str] = ()) -> list[_findings.Finding]:
    """Every finding about mounts. mapped: targets, without a slash in front, that CRIU is told of.
    enabled: further file systems of --enable-fs."""
    shares = facts.init.namespaces.get("cgroup") == facts.own_namespaces.get("cgroup")
    mounts = [one if shares else _rooted(one) for one in facts.mounts]
    external = {
        one.number: one.target.lstrip("/") in mapped or _on_host(one, facts.host_mounts)
        for one in mounts
        if one.target != "/"
    }
    tree = _Tree(mounts, frozenset(number for number, found in external.items() if found))
    found: list[_findings.Finding] = []
    for one in mounts:
        found += _unreadable(one)
        if one.target != "/":
            found += _fault(tree, one, facts, enabled)
        if one.master:
            found += _sharing(tree, one)
    return found


def unrestorable(facts: _findings.Facts) -> dict[str, str]:
    """The mount namespaces other than init's that CRIU dumps and cannot restore, each with the target of a mount that is why.

    CRIU makes one mount of a sharing group and copies the group from that to the others, in whatever namespace they are. The
    kernel allows this only from a root that is above theirs (read: restore_one_sharing() in CRIU's mount-v2.c, do_set_group()
    in the kernel's fs/namespace.c). A group that reaches out of the container is taken over from the host's mount instead. The
    dump unmounts some of systemd's mounts, see _incoming, and LXC's terminals.
    """
    host = {number for one in facts.host_mounts for number in (one.shared, one.master)} - {0}
    groups: dict[tuple[int, int], list[tuple[str, _proc.Mount]]] = {}
    for namespace, mounts in {"": facts.mounts, **facts.nested_mounts}.items():
        for one in mounts:
            group = (one.shared, one.master)
            if any(group) and not host & set(group) and one.target != _incoming.TARGET and one.type != "devpts":
                groups.setdefault(group, []).append((namespace, one))
    found: dict[str, str] = {}
    for members in groups.values():
        if not any(all(_below(one.root, top.root) for _name, one in members) for _name, top in members):
            for namespace, one in members:
                if namespace:
                    found.setdefault(namespace, one.target)
    return found


def _unreadable(one: _proc.Mount) -> t.Iterator[_findings.Finding]:
    """CRIU reads mountinfo by sscanf(), whose words end at white space that the kernel does not escape, and of what the
    kernel does escape it does not know a line break (read: cure_path() in its proc_parse.c)."""
    if set("\v\f\r") & set(one.source + one.options) or set("\v\f\r\n") & set(one.target + one.root):
        yield _findings.Finding(
            "mount",
            _findings.BLOCKS,
            one.target,
            "There is a line break, carriage return, vertical tab or form feed in its name, which CRIU cannot read.",
            "Unmount it, or mount it at another path.",
        )


@dataclasses.dataclass(frozen=True)
class _Tree:
    """The mounts, and the numbers of those that are external."""

    mounts: list[_proc.Mount]
    external: frozenset[int]

    def binds(self, one: _proc.Mount) -> list[_proc.Mount]:
        """Itself and every other mount of the same file system."""
        return [other for other in self.mounts if other.number == one.number or self._same(one, other)]

    def _same(self, one: _proc.Mount, other: _proc.Mount) -> bool:
        if one.device != other.device or one.options != other.options:
            return False
        if one.number in self.external or other.number in self.external:
            return True
        return (one.source, one.base_type) == (other.source, other.base_type)

    def is_external(self, one: _proc.Mount) -> bool:
        """Whether it is external, or a part of what is."""
        return any(other.number in self.external and _below(one.root, other.root) for other in self.binds(one))

    def is_root(self, one: _proc.Mount) -> bool:
        """Whether it is a part of the root file system."""
        return any(other.target == "/" and _below(one.root, other.root) for other in self.binds(one))


def _fault(
    tree: _Tree, one: _proc.Mount, facts: _findings.Facts, enabled: t.Container[str]
) -> t.Iterator[_findings.Finding]:
    external = tree.is_external(one)
    if external or tree.is_root(one):
        return
    if one.root != "/":
        if not any(other.root == "/" for other in tree.binds(one)):
            yield _findings.Finding(
                "mount",
                _findings.BLOCKS,
                one.target,
                f"It is a part ({one.root}) of a file system ({one.type}) that is mounted nowhere else, neither in the "
                "container nor on the host.",
                "Unmount it, or name it in external_mounts with its source on the host.",
            )
        return
    if one.base_type == "fuse":
        yield _findings.Finding(
            "mount",
            _findings.BLOCKS,
            one.target,
            f"It is a FUSE file system ({one.type}) of the container's own, which CRIU cannot dump.",
            "Unmount it first.",
        )
    elif one.base_type not in _MADE_AGAIN and one.type not in enabled:
        yield _findings.Finding(
            "mount",
            _findings.BLOCKS,
            one.target,
            f"It is a file system ({one.type}) that CRIU cannot make again, and the host has not mounted it.",
            "Unmount it, or name it in external_mounts with its source on the host.",
        )
    elif one.target in facts.occupied:
        yield _findings.Finding(
            "mount",
            _findings.BLOCKS,
            one.target,
            f"It is a {one.type} file system that is not empty, and CRIU does not keep what is in it.",
            "Remove what is in it, or unmount it.",
        )
    elif one.type == "autofs":
        yield from _automount(one, facts)


def _automount(one: _proc.Mount, facts: _findings.Facts) -> t.Iterator[_findings.Finding]:
    pipe = next((word for word in one.options.split(",") if word.startswith("pipe_ino=")), "")
    inode = int(pipe.partition("=")[2] or 0)
    held = any(
        found.kind == "pipe"
        and found.inode == inode
        and int(_proc.status(found.info).get("flags", "0"), 8) & os.O_ACCMODE == os.O_RDONLY
        for task in facts.tasks
        for found in task.descriptors
    )
    if not held:
        yield _findings.Finding(
            "autofs",
            _findings.BLOCKS,
            one.target,
            "No process of the container holds the other end of this automount point.",
            "Unmount it, or stop the automount unit.",
        )
    else:
        yield _findings.Finding(
            "autofs",
            _findings.MAY_FAIL,
            one.target,
            "It is an automount point; the dump fails where a request waits in it.",
            "Stop the automount unit, or run the task again.",
        )


def _sharing(tree: _Tree, one: _proc.Mount) -> t.Iterator[_findings.Finding]:
    if any(other.shared == one.master and other.number != one.number for other in tree.mounts):
        return
    for other in tree.binds(one):
        source = other.number in tree.external or other.target == "/"
        if source and other.master == one.master and _below(one.root, other.root):
            return
    yield _findings.Finding(
        "mount-sharing",
        _findings.BLOCKS,
        one.target,
        "It receives mounts from a peer group that is not in the container, and CRIU cannot join it again.",
        f"Run `mount --make-private {one.target}` inside.",
    )


def _on_host(one: _proc.Mount, host: t.Iterable[_proc.Mount]) -> bool:
    """Whether CRIU finds it on the host (read: find_best_external_match(), resolve_external_mounts())."""
    match: _proc.Mount | None = None
    for other in host:
        same = (one.device, one.source, one.base_type, one.options) == (
            other.device,
            other.source,
            other.base_type,
            other.options,
        )
        if not same or not _below(one.root, other.root):
            continue
        match = other
        if (one.shared and one.shared == other.shared) or (one.master and one.master == other.shared):
            break
    if match is None:
        return False
    return not one.master or one.master in (match.shared, match.master)


def _rooted(one: _proc.Mount) -> _proc.Mount:
    """In a cgroup namespace of its own a container sees its part of the hierarchy as a whole."""
    return dataclasses.replace(one, root="/") if one.type in ("cgroup", "cgroup2") else one


def _below(path: str, top: str) -> bool:
    return top == "/" or path == top or path.startswith(top.rstrip("/") + "/")

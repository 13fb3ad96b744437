# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Which root file system a container has, and whether something has written to it since."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files

_OCTAL = re.compile(r"\\([0-7]{3})")
# Enough for a whole distribution; beyond it the walk would cost seconds. Breadth first, so that what is
# near the root (/run, /tmp, /var, /etc) is always among them.
MAX_ENTRIES = 50_000


@dataclass(frozen=True)
class Rootfs:
    """Where a container's root file system is.

    spec: as configured. backing: the directory or file that is written to (the upper layer of an overlay).
    device, inode: of the backing, 0 where it does not exist.
    """

    spec: str
    backing: str
    device: int
    inode: int

    def identity(self) -> dict[str, t.Any]:
        """What makes it this root file system and no other; the device number is left out, since it may
        change over a reboot."""
        return {"backing": self.backing, "inode": self.inode}


@dataclass(frozen=True)
class Fingerprint:
    """The state of a root file system at one moment.

    digest: over path, inode, size, mode, mtime and ctime of every entry seen. newest: the newest ctime in ns, and
    newest_path the entry that has it. complete: false where there were more than MAX_ENTRIES.
    """

    digest: str
    entries: int
    newest: int
    newest_path: str
    complete: bool

    def as_dict(self) -> dict[str, t.Any]:
        """For the manifest."""
        return asdict(self)


def locate(spec: str) -> Rootfs:
    """From lxc.rootfs.path: `/path`, `dir:/path`, `overlay:/lower:/upper`, `loop:/file`, `btrfs:/path`, `lvm:/dev`..."""
    kind, separator, rest = spec.partition(":")
    if spec.startswith("/") or not separator:
        backing = spec
    elif kind in ("overlay", "overlayfs"):
        backing = rest.rsplit(":", 1)[-1]
    else:
        backing = rest
    try:
        status = os.stat(backing)
    except OSError:
        return Rootfs(spec, backing, 0, 0)
    return Rootfs(spec, backing, status.st_dev, status.st_ino)


def layers(spec: str) -> list[str]:
    """The directories that hold the files of a root file system, the one that is written to first; [] where they
    are in none, but in a block device or an image file."""
    kind, separator, rest = spec.partition(":")
    if spec.startswith("/") or not separator:
        found = [spec]
    elif kind in ("overlay", "overlayfs"):
        found = rest.split(":")[::-1]
    else:
        found = [rest]
    return found if all(os.path.isdir(one) for one in found) else []


def overlay_work(mountinfo: str) -> str:
    """The work directory of the overlay that a container has for its root, from its /proc/PID/mountinfo; "" where it
    has none. Pure."""
    for line in _files.lines(mountinfo):
        before, _separator, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) > 4 and fields[4] == "/" and len(tail) > 2 and tail[0] == "overlay":
            found = re.search(r"(?:^|,)workdir=([^,]*)", tail[2])
            return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), found.group(1)) if found else ""
    return ""


def overlay_options(spec: str, work: str) -> str:
    """The options with which to mount a container's overlay, or "" where its root is none. Pure.

    liblxc's restore binds what stands in lxc.rootfs.path as if it were a directory (criu.c, do_restore()), so the
    launcher mounts the overlay. The directories are the configuration's; only the work directory, whose name depends
    on liblxc's version, is the image's word, and it has to be beside the upper one.
    """
    kind, _separator, rest = spec.partition(":")
    if kind not in ("overlay", "overlayfs"):
        return ""
    lower, _separator, upper = rest.rpartition(":")
    parts = [lower, upper, work]
    sound = all(part.startswith("/") and not set(part) & set(",\\\n") for part in parts)
    if not sound or os.path.dirname(work) != os.path.dirname(upper.rstrip("/")):
        raise _errors.StasisError(
            f"The overlay {spec} with the work directory {work or '(none)'} cannot be mounted as it was.",
            "Restore to the configuration that the container had at the dump.",
        )
    return f"lowerdir={lower},upperdir={upper},workdir={work}"


def fingerprint(rootfs: Rootfs, limit: int = MAX_ENTRIES) -> Fingerprint | None:
    """The fingerprint of a root file system that nothing runs on; None where it cannot be read.

    Only the file system's own entries are looked at, not what is mounted over them. It proves a change, never that
    nothing ran: reading leaves no trace. A block device or image file counts as one entry.
    """
    try:
        top = os.lstat(rootfs.backing)
    except OSError:
        return None
    digest = hashlib.sha256()
    newest, newest_path, entries = 0, "", 0
    queue = [("", top)]
    position = 0
    while position < len(queue) and entries < limit:
        path, status = queue[position]
        position += 1
        entries += 1
        digest.update(
            f"{path}\0{status.st_ino} {status.st_size} {status.st_mode} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
        if status.st_ctime_ns > newest:
            newest, newest_path = status.st_ctime_ns, path or "/"
        if stat.S_ISDIR(status.st_mode) and status.st_dev == top.st_dev:
            queue.extend(_children(rootfs.backing, path))
    return Fingerprint(digest.hexdigest(), entries, newest, newest_path, position >= len(queue))


def _children(base: str, path: str) -> list[tuple[str, os.stat_result]]:
    found = []
    try:
        with os.scandir(base + path) as directory:
            for entry in directory:
                try:
                    found.append((f"{path}/{entry.name}", entry.stat(follow_symlinks=False)))
                except OSError:
                    continue
    except OSError:
        return []
    return sorted(found, key=lambda item: item[0])

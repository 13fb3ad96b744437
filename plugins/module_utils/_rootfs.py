# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Which root file system a container has, and whether something has written to it since."""

from __future__ import annotations

import collections
import hashlib
import os
import re
import stat
import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _block_device, _errors, _files

_OCTAL = re.compile(r"\\([0-7]{3})")
# After a stop, LXC's own unmount and the release of a loop device may take a moment.
SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Rootfs:
    """Where a container's root file system is.

    spec: as configured. backing: the directory, image file or block device that is written to (the upper layer of an
    overlay). device, inode: of the backing, 0 where it does not exist.
    """

    spec: str
    backing: str
    device: int
    inode: int

    def identity(self) -> dict[str, t.Any]:
        """What makes it this root file system and no other; the device number is left out, since it may
        change over a reboot. So may the inode of a device node, which is 0 here; the fingerprint tells its file system."""
        return {"backing": self.backing, "inode": self.inode}


@dataclass(frozen=True)
class Fingerprint:
    """The state of a root file system at one moment.

    digest: over path, inode, size, mode, mtime and ctime of every entry, or over the superblock of a block device.
    newest: the newest ctime in ns, -1 where that is not told, and newest_path the entry that has it. complete: false
    where something could not be seen, and then incomplete_because says what; such a fingerprint proves nothing.
    """

    digest: str
    entries: int
    newest: int
    newest_path: str
    complete: bool
    incomplete_because: str = ""

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
    return Rootfs(spec, backing, status.st_dev, 0 if stat.S_ISBLK(status.st_mode) else status.st_ino)


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


def fingerprint(rootfs: Rootfs, settle: float = SETTLE_SECONDS) -> Fingerprint | None:
    """The fingerprint of a root file system that nothing runs on; None where it cannot be read.

    It covers the lower layers of an overlay too. What is mounted over an entry is not looked at. It proves a change,
    never that nothing ran: reading leaves no trace. settle: seconds to wait for the unmount of a device or image file.
    """
    found = _Seen()
    if rootfs.spec.startswith("nbd:"):
        found.missed("qemu-nbd may still write to its image file")
    try:
        for layer in layers(rootfs.spec) or [rootfs.backing]:
            _look(layer, found, settle)
    except OSError:
        return None
    return Fingerprint(
        found.digest.hexdigest(), found.entries, found.newest, found.newest_path, not found.unseen, found.unseen
    )


class _Seen:
    """What a fingerprint is made of, as it grows. unseen: the first thing that could not be seen, and why."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.entries = 0
        self.newest = 0
        self.newest_path = ""
        self.unseen = ""

    def add(self, path: str, status: os.stat_result) -> None:
        self.entries += 1
        self.digest.update(
            f"{path}\0{status.st_ino} {status.st_size} {status.st_mode} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
        if status.st_ctime_ns > self.newest:
            self.newest, self.newest_path = status.st_ctime_ns, path or "/"

    def add_device(self, path: str, found: _block_device.Superblock) -> None:
        self.entries += 1
        self.digest.update(found.content)
        self.newest, self.newest_path = found.written, path

    def missed(self, why: str) -> None:
        self.unseen = self.unseen or why


def _look(place: str, found: _Seen, settle: float) -> None:
    if not os.path.isabs(place):
        # The name of a pool or of a data set, as in `zfs:tank/web1`.
        raise FileNotFoundError(place)
    # Follow a symbolic link, as LXC does.
    top = os.stat(place)
    try:
        if stat.S_ISBLK(top.st_mode):
            found.add_device(place, _block_device.superblock(place, settle))
            return
        if not stat.S_ISDIR(top.st_mode):
            _block_device.wait_detached(place, top, settle)
            top = os.stat(place)
    except _block_device.UnprovableError as exc:
        found.missed(str(exc))
    found.add("", top)
    if stat.S_ISDIR(top.st_mode):
        _walk(os.path.realpath(place), top, found)


def _walk(base: str, top: os.stat_result, found: _Seen) -> None:
    """Add every entry below a directory, breadth first. Without a limit: an entry that is left out proves nothing."""
    mounted = _files.mount_points()
    queue = collections.deque([("", top.st_dev)])
    while queue:
        path, device = queue.popleft()
        for child, status in _children(base, path, found):
            found.add(child, status)
            # A btrfs subvolume has a device number of its own too, and is no mount.
            if stat.S_ISDIR(status.st_mode) and (status.st_dev == device or base + child not in mounted):
                queue.append((child, status.st_dev))


def _children(base: str, path: str, found: _Seen) -> list[tuple[str, os.stat_result]]:
    children = []
    try:
        with os.scandir(base + path) as directory:
            for entry in directory:
                children.append((f"{path}/{entry.name}", entry.stat(follow_symlinks=False)))
    except OSError as exc:
        found.missed(f"{path or '/'} cannot be read: {exc.strerror or exc}")
    return sorted(children, key=lambda item: item[0])

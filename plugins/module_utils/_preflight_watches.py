# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about what a process watches with inotify or fanotify. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _proc

_INOTIFY = re.compile(r"^(?:inotify wd:|fanotify ino:).*?sdev:([0-9a-f]+)", re.MULTILINE)
# Where file handles cannot be opened again, or not by CRIU. On cgroup2 they can (kernfs, KERNFS_ROOT_SUPPORT_EXPORTOP).
_NO_HANDLES = frozenset(("proc", "sysfs", "cgroup", "devpts", "fuse", "mqueue", "debugfs", "tracefs", "9p"))
# What --force-irmap looks through (read: hints in CRIU's irmap.c), and where CRIU opens what is watched by its path only.
_SEARCHED = (
    "/etc/",
    "/var/spool/",
    "/var/log/",
    "/usr/share/dbus-1/services/",
    "/usr/share/dbus-1/system-services/",
    "/var/lib/polkit-1/localauthority/",
    "/usr/share/polkit-1/actions/",
    "/lib/udev/",
)
_BY_PATH = frozenset(("tmpfs", "devtmpfs"))


def _astray(options: _findings.Options, one: _proc.Descriptor, subject: str) -> t.Iterator[_findings.Finding]:
    for path, file_system in one.astray:
        # On tmpfs CRIU needs the path. Elsewhere it looks for the file in some directories, if it is to; on btrfs it never finds
        # it, since the numbers of its devices differ (read: check_open_handle() and irmap_lookup()).
        if file_system not in _BY_PATH and not options.criu.force_irmap:
            continue
        searched = file_system not in _BY_PATH and file_system != "btrfs"
        if searched and (path.startswith(_SEARCHED) or "--irmap-scan-path" in options.criu.criu_args):
            continue
        yield _findings.Finding(
            "watched-link",
            _findings.BLOCKS,
            subject,
            f"It watches {path} ({file_system}), a symbolic link or a file without this name by now, which CRIU does not find.",
            "Stop the watching program first."
            if file_system in _BY_PATH
            else "Set force_irmap: false; the watch comes back where the checkpoint is restored on the same file system.",
        )


def check(
    facts: _findings.Facts, options: _findings.Options, one: _proc.Descriptor, subject: str
) -> t.Iterator[_findings.Finding]:
    """Every finding about the watches of one descriptor."""
    yield from _astray(options, one, subject)
    if "fanotify sdev:" in one.info:
        yield _findings.Finding(
            "fanotify",
            _findings.MAY_FAIL,
            subject,
            "It watches a whole file system, which CRIU leaves out without a word.",
            "Stop the program first, and start it again after the restore.",
        )
    # The first mount of a file system is the one people know it by.
    types = {_device(mount.device): mount for mount in reversed(facts.mounts)}
    for number in sorted({int(text, 16) for text in _INOTIFY.findall(one.info)}):
        # The kernel's own form here: 12 bits of major, 20 of minor.
        mount = types.get((number >> 20, number & 0xFFFFF))
        if mount is None:
            where = f"a file system that is not mounted in the container (device {number >> 20}:{number & 0xFFFFF})"
        elif mount.type == "overlay" and "nfs_export=on" not in mount.options.split(","):
            where = f"{mount.target}, an overlay file system without nfs_export"
        elif mount.base_type in _NO_HANDLES:
            where = f"{mount.target} ({mount.type})"
        else:
            continue
        yield _findings.Finding(
            "inotify",
            _findings.MAY_FAIL,
            subject,
            f"It watches something on {where}, where CRIU cannot find a file by its handle.",
            "Stop the watching program first, or have it watch by polling.",
        )


def _device(text: str) -> tuple[int, int]:
    major, _colon, minor = text.partition(":")
    return int(major), int(minor)

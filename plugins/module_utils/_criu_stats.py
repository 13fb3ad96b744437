# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""CRIU's own statistics, read without protobuf: a managed host needs no Python package."""

from __future__ import annotations

import os
import struct

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _protobuf

# An image of CRIU: two magics (service image, statistics), the length, then one protobuf message.
_MAGICS = (0x55105940, 0x57093306)
_HEADER = struct.Struct("<III")
_LARGEST = 65536

_DUMP = {
    1: "freezing_time",
    2: "frozen_time",
    3: "memdump_time",
    4: "memwrite_time",
    5: "pages_scanned",
    6: "pages_skipped_parent",
    7: "pages_written",
    8: "irmap_resolve",
    9: "pages_lazy",
    10: "page_pipes",
    11: "page_pipe_bufs",
    12: "shpages_scanned",
    13: "shpages_skipped_parent",
    14: "shpages_written",
}
_RESTORE = {
    1: "pages_compared",
    2: "pages_skipped_cow",
    3: "forking_time",
    4: "restore_time",
    5: "pages_restored",
}
_SECTIONS = {1: _DUMP, 2: _RESTORE}

FILES = ("stats-dump", "stats-restore")


def decode(data: bytes) -> dict[str, int]:
    """The statistics in a stats-dump or stats-restore, under CRIU's own names.

    Times (`*_time`, `irmap_resolve`) are microseconds, the rest are counts. Fields that a newer CRIU adds are
    left out. Raises StasisError where the data is something else, or is cut off.
    """
    if len(data) < _HEADER.size:
        raise _damaged("it is too short")
    first, second, length = _HEADER.unpack_from(data)
    if (first, second) != _MAGICS:
        raise _damaged("it starts with other magic numbers")
    payload = data[_HEADER.size :]
    if len(payload) < length:
        raise _damaged("it is cut off")
    found: dict[str, int] = {}
    try:
        for number, value in _protobuf.fields(payload[:length]):
            names = _SECTIONS.get(number)
            if names is None or isinstance(value, int):
                continue
            for inner, content in _protobuf.fields(value):
                if inner in names and isinstance(content, int):
                    found[names[inner]] = content
    except _protobuf.MalformedError as exc:
        raise _damaged(str(exc)) from exc
    return found


def read(directory: str) -> dict[str, int]:
    """The statistics of the dump and of the restore that ran in a directory, merged; {} where there are none.

    A file that cannot be read or decoded counts as none: these numbers only measure, and must not make a dump
    that has already stopped its container fail.
    """
    found: dict[str, int] = {}
    for name in FILES:
        try:
            with open(os.path.join(directory, name), "rb") as stream:
                found.update(decode(stream.read(_LARGEST)))
        except (OSError, _errors.StasisError):
            continue
    return found


def _damaged(why: str) -> _errors.StasisError:
    return _errors.StasisError(
        f"These are not CRIU's statistics: {why}.", "Dump or restore again; the file is damaged."
    )

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What CRIU will look for in the root file system: the regular files of an image, with the size and mode it demands.

CRIU writes them down itself at the freeze (files.img), which no look into /proc before it could do without a race.
"""

from __future__ import annotations

import os
import re
import struct
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.stasis.lxc.plugins.module_utils import _integrity, _protobuf

_HEADER = struct.Struct("<II")
_SIZE = struct.Struct("<I")
_COMMON_MAGIC = 0x54564319
_MAGICS = {"files": 0x56303138, "mountpoints": 0x55563928, "remap": 0x59133954, "mm": 0x57492820, "core": 0x55053847}
_LARGEST = 16 << 20
# CRIU's numbers: of the file type REG in fdinfo.proto, of the kinds of remap in remap-file-path.proto, and of a task that is
# stopped (COMPEL_TASK_STOPPED) in core.proto.
_REG = 1
_LINKED = 0
_STOPPED = 3
_ACCESS_MODE = 0o3
_CORE = re.compile(r"core-([0-9]+)\.img\Z")
LIMIT = 2000


@dataclass(frozen=True)
class OpenFile:
    """A file that the container had open or mapped. path: inside the container. size, mode: None where CRIU does
    not compare it (a log opened for appending, for example). read_only: no descriptor of it can write."""

    path: str
    size: int | None
    mode: int | None
    read_only: bool


def read(directory: str, limit: int = LIMIT) -> list[OpenFile]:
    """The files on the root file system, by path; [] where the image cannot be read so (a newer CRIU's).

    Those on other mounts (/dev, /proc, binds) are left out, and deleted ones, which CRIU makes itself.
    """
    try:
        return _read(directory)[:limit]
    except (_protobuf.MalformedError, KeyError):
        return []


def _read(directory: str) -> list[OpenFile]:
    roots = _root_mounts(directory)
    remapped = {orig: (remap, kind) for orig, remap, kind in _remaps(directory)}
    names: dict[int, str] = {}
    found: dict[str, OpenFile] = {}
    entries = []
    for entry in _entries(directory, "files.img", "files"):
        regular = _protobuf.texts(entry).get(3)
        if _protobuf.numbers(entry).get(1) == _REG and regular is not None:
            numbers = _protobuf.numbers(regular)
            names[numbers[1]] = _protobuf.texts(regular)[6].decode("utf-8", "surrogateescape")
            entries.append(numbers)
    for numbers in entries:
        path = names[numbers[1]]
        if _protobuf.signed(numbers.get(7, 1)) not in roots:
            continue
        if numbers[1] in remapped:
            remap, kind = remapped[numbers[1]]
            if kind != _LINKED or remap not in names:
                continue
            path = names[remap]
        one = OpenFile(path, numbers.get(8), numbers.get(10), numbers[2] & _ACCESS_MODE == os.O_RDONLY)
        known = found.get(path)
        if known is not None:
            one = replace(
                known,
                size=one.size if known.size is None else known.size,
                read_only=known.read_only and one.read_only,
            )
        found[path] = one
    return [found[path] for path in sorted(found)]


def stopped(directory: str) -> list[int]:
    """The pids, in the container, of the tasks that were stopped (SIGSTOP) when they were dumped; a restore leaves them so.

    [] where the image cannot be read so (a newer CRIU's)."""
    found = []
    try:
        for match in filter(None, map(_CORE.match, sorted(os.listdir(directory)))):
            for entry in _entries(directory, match.group(0), "core"):
                task = _protobuf.texts(entry).get(3)
                if task is not None and _protobuf.numbers(task).get(1) == _STOPPED:
                    found.append(int(match.group(1)))
    except (_protobuf.MalformedError, KeyError):
        return []
    return found


def _root_mounts(directory: str) -> set[int]:
    found = set()
    for name in sorted(os.listdir(directory)):
        if name.startswith("mountpoints-") and name.endswith(".img"):
            for entry in _entries(directory, name, "mountpoints"):
                if _protobuf.texts(entry).get(7) in (b"/", b"./"):
                    found.add(_protobuf.numbers(entry)[2])
    return found


def _remaps(directory: str) -> t.Iterator[tuple[int, int, int]]:
    for entry in _entries(directory, "remap-fpath.img", "remap"):
        numbers = _protobuf.numbers(entry)
        yield numbers[1], numbers[2], numbers.get(3, _LINKED)


def _entries(directory: str, name: str, kind: str) -> t.Iterator[bytes]:
    return (entry for _at, entry in located(directory, name, kind))


def located(directory: str, name: str, kind: str) -> t.Iterator[tuple[int, bytes]]:
    """The messages of an image file, each with its place: two magic numbers, then each message behind its length.

    Raises MalformedError for a file of another kind, or one that is cut off."""
    data = _integrity.read_regular(os.path.join(directory, name), _LARGEST)
    if data is None:
        return
    if len(data) < _HEADER.size or _HEADER.unpack_from(data) != (_COMMON_MAGIC, _MAGICS[kind]):
        raise _protobuf.MalformedError("it starts with other magic numbers")
    at = _HEADER.size
    while at < len(data):
        if at + _SIZE.size > len(data):
            raise _protobuf.MalformedError("it is cut off")
        size = _SIZE.unpack_from(data, at)[0]
        at += _SIZE.size
        if at + size > len(data):
            raise _protobuf.MalformedError("it is cut off")
        yield at, data[at : at + size]
        at += size

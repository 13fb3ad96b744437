# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Put right, in an image of CRIU, the programs that it wrote down as opened with O_PATH.

CRIU has one record for a process's program (/proc/PID/exe) and for a descriptor of the same file, with the flags of the
descriptor. A descriptor with O_PATH, such as systemd has of its systemd-executor, makes the restore fail where it tells the
kernel what the program is: `sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with -9`. So that flag is taken out of such a record;
the descriptor comes back opened for reading, with which its owner can do whatever it could do before.
"""

from __future__ import annotations

import os

from ansible_collections.stasis.lxc.plugins.module_utils import _criu_files, _protobuf

# Numbers of fields: of the file in its entry and its id and flags (fdinfo.proto, regfile.proto), of the program (mm.proto).
_REGULAR = 3
_ID, _FLAGS = 1, 2
_EXE = 12


def mend(directory: str) -> int:
    """Rewrite files.img in its place where that is needed; returns the number of records. An image that cannot be read is left."""
    try:
        changes = _changes(directory)
    except (_protobuf.MalformedError, KeyError):
        return 0
    if changes:
        descriptor = os.open(os.path.join(directory, "files.img"), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for at, value in changes:
                os.pwrite(descriptor, value, at)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return len(changes)


def _changes(directory: str) -> list[tuple[int, bytes]]:
    """Where in files.img to write what; as long as what is there."""
    found = {}
    for at, entry in _criu_files.located(directory, "files.img", "files"):
        for number, value, begin, _end in _protobuf.located(entry):
            if number == _REGULAR and isinstance(value, bytes):
                numbers = _protobuf.numbers(value)
                if numbers[_FLAGS] & os.O_PATH:
                    found[numbers[_ID]] = (at + begin, value)
    if not found:
        return []
    changes = []
    for program in _programs(directory) & set(found):
        at, message = found[program]
        for number, value, begin, end in _protobuf.located(message):
            if number == _FLAGS and isinstance(value, int):
                changes.append((at + begin, _protobuf.padded(value & ~os.O_PATH, end - begin)))
    return sorted(changes)


def _programs(directory: str) -> set[int]:
    names = [name for name in os.listdir(directory) if name.startswith("mm-") and name.endswith(".img")]
    return {
        _protobuf.numbers(entry)[_EXE] for name in names for _at, entry in _criu_files.located(directory, name, "mm")
    }

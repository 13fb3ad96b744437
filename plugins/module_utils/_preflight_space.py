# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether a checkpoint fits into its file system: refused where it surely does not, warned of where it may not."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _files,
    _findings,
    _preflight_container,
    _proc,
)

# Where a byte of memory takes a byte of disk, and where the free bytes are known.
_PLAIN_FILE_SYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "tmpfs"))
# Where the number of files is fixed, or limited by a mount option.
_COUNTED_FILE_SYSTEMS = frozenset(("ext2", "ext3", "ext4", "tmpfs"))
# CRIU writes core, ids, fs and mm for each process, and for all of them inventory, pstree, files, stats and others.
_FILES_A_PROCESS, _FILES_OF_ALL = 4, 10
# The kernel counts a process's pages per processor, and may be wrong by a few hundred of them.
_COUNTER_ERROR = 1 << 20
_ANONYMOUS = re.compile(r"^Anonymous:\s*(\d+) kB$", re.MULTILINE)


def most_written(tasks: t.Sequence[_proc.Task], memory: _preflight_container.Memory) -> int:
    """As many bytes as CRIU will write at the most. CRIU writes the memory of each process, also what the kernel shares
    between parent and child."""
    return sum(task.anonymous for task in tasks) * 1024 + memory.shared


def least_written(tasks: t.Sequence[_proc.Task], proc: str = "/proc") -> int:
    """As many bytes as CRIU will write at the least: every private page that no file backs.

    Not counted is what CRIU may leave out or compress: shared memory and tmpfs. Nor is a child of a process that waits
    (state D), as after vfork(2): it may use its parent's memory.
    """
    found = 0
    for task in tasks:
        status = _proc.status(_files.text_of(f"{proc}/{task.pid}/status"))
        if not status or task.state in "ZX" or _waits(status.get("PPid", "0"), proc):
            continue
        # Only where it counts, since the kernel walks the page tables for it.
        match = _ANONYMOUS.search(_files.text_of(f"{proc}/{task.pid}/smaps_rollup"))
        swapped = int(status.get("VmSwap", "0").split()[0])
        found += int(match.group(1)) * 1024 if match else 0
        found += max(0, swapped * 1024 - _COUNTER_ERROR)
    return found


def _waits(pid: str, proc: str) -> bool:
    """Whether a thread of a process is in uninterruptible sleep."""
    try:
        threads = os.listdir(f"{proc}/{pid}/task")
    except OSError:
        return False
    texts = (_files.text_of(f"{proc}/{pid}/task/{thread}/stat") for thread in threads)
    return any(text.rpartition(") ")[2].startswith("D") for text in texts)


def findings(
    tasks: t.Sequence[_proc.Task],
    memory: _preflight_container.Memory,
    space: _preflight_container.Space,
    directory: str,
    least: t.Callable[[], int],
) -> list[_findings.Finding]:
    """What of the room in a file system stands in the way. least: asked for what is surely written, where that counts."""
    found = []
    files = _FILES_OF_ALL + _FILES_A_PROCESS * sum(1 for task in tasks if task.state not in "ZX")
    if space.inodes is not None and space.inodes < files and space.type in _COUNTED_FILE_SYSTEMS:
        found.append(
            _finding(
                _findings.BLOCKS, directory, f"{space.inodes} more files fit, and a checkpoint has at least {files}."
            )
        )
    most = most_written(tasks, memory)
    if space.free >= most:
        return found
    sure = least()
    free = f"{_preflight_container.mib(space.free)} are free"
    if space.free < sure and space.type in _PLAIN_FILE_SYSTEMS:
        text = f"{free}, and at least {_preflight_container.mib(sure)} of memory are to be written."
        return [*found, _finding(_findings.BLOCKS, directory, text)]
    text = f"{free}, and up to {_preflight_container.mib(max(most, sure))} of memory are to be written."
    return [*found, _finding(_findings.MAY_FAIL, directory, text)]


def _finding(severity: str, directory: str, what: str) -> _findings.Finding:
    return _findings.Finding("space", severity, directory, what, "Make room, or name a directory elsewhere.")

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures of time that no test can hold a machine to: many processes, and hashing beside reading."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import resource
import shutil
import sys
import time
import typing as t
from pathlib import Path

from lab import BASE, IMAGES, LXC_PATH, NAME, BenchError, Lab, run

_PACKAGE = "ansible_collections.stasis.lxc.plugins"
_TROUBLE = Path(__file__).resolve().parents[2] / "tests/integration/trouble.c"
_PROCESSES = 200
_MIB = 256


def measure(lab: Lab) -> str:
    """All of them, a line each."""
    return "".join(f"{line}\n" for line in (*_crowd(lab), *_hashing(BASE / "large")))


def _crowd(lab: Lab) -> list[str]:
    lab.start_program(_TROUBLE, "crowd", str(_PROCESSES))
    try:
        preflight = [_module("lxc_checkpoint_preflight", name=NAME, lxc_path=str(LXC_PATH)) for _round in range(3)]
        over = [_over_criu() for _round in range(3)]
    finally:
        lab.stop()
    wall, processor = (min(one[at] for one in preflight) for at in (1, 2))
    return [
        f"preflight of {_PROCESSES} processes, the whole module: {wall:.2f} s, {processor:.2f} s of processor time",
        f"checkpoint of {_PROCESSES} processes, longer than CRIU: {min(over):.2f} s",
    ]


def _over_criu() -> float:
    directory = IMAGES / "crowd"
    given = {"name": NAME, "lxc_path": str(LXC_PATH), "directory": str(directory), "state": "checkpointed"}
    wall = _module("lxc_checkpoint", **given)[1]
    # CRIU's log counts from its start.
    last = re.findall(r"^\((\d+\.\d+)\)", (directory / "dump.log").read_text("utf-8"), re.MULTILINE)[-1]
    shutil.rmtree(directory)
    return wall - float(last)


def _module(module: str, **options: object) -> tuple[dict[str, t.Any], float, float]:
    """The answer, its seconds, and the processor's."""
    path = BASE / "arguments.json"
    path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": options}), "utf-8")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text, seconds = run([sys.executable, "-m", f"{_PACKAGE}.modules.{module}", str(path)], timeout=180)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = json.loads(text)
    if answer.get("failed"):
        raise BenchError(f"{module} failed: {answer['msg']}")
    return answer, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _hashing(folder: Path) -> list[str]:
    integrity = importlib.import_module(f"{_PACKAGE}.module_utils._integrity")
    ahead = importlib.import_module(f"{_PACKAGE}.module_utils._ahead")
    folder.mkdir()
    path = folder / "pages-1.img"
    with open(path, "wb") as stream:
        for _mebibyte in range(_MIB):
            stream.write(os.urandom(1 << 20))
        os.fsync(stream.fileno())

    def as_restore_does() -> None:
        list(ahead.Ahead(str(folder)).entries())

    # Each round: from the disk, then what is in memory is hashed, then both at once, as a restore after a reboot.
    wall = time.perf_counter
    rounds = [
        (
            _seconds(path, lambda: _read(path), wall, cold=True),
            _seconds(path, as_restore_does, wall),
            _seconds(path, as_restore_does, wall, cold=True),
        )
        for _round in range(7)
    ]
    reading, hashing, both = (min(column) for column in zip(*rounds))
    # What the processors work; others that want them too make it no longer.
    least, work = (
        min(sum(_seconds(path, one, time.process_time) for one in parts) for _round in range(5))
        for parts in ((lambda: _read(path), _sha256_alone), (lambda: integrity.hash_files(str(folder), [path.name]),))
    )
    shutil.rmtree(folder)
    processors = min(8, len(os.sched_getaffinity(0)))
    return [
        f"{_MIB} MiB: read from the disk in {reading:.2f} s, hashed from memory in {hashing:.2f} s, both at once in {both:.2f} s",
        f"{_MIB} MiB: {work:.3f} s of {processors} processors to hash, {least:.3f} s of one to read and to hash at the least",
    ]


def _seconds(path: Path, work: t.Callable[[], object], clock: t.Callable[[], float], *, cold: bool = False) -> float:
    if cold:
        with open(path, "rb") as stream:
            # As after a reboot: nothing of it is in memory.
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = clock()
    work()
    return clock() - began


def _read(path: Path) -> None:
    buffer = bytearray(1 << 18)
    with open(path, "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def _sha256_alone() -> None:
    block, digest = os.urandom(1 << 18), hashlib.sha256()
    for _quarter in range(4 * _MIB):
        digest.update(block)

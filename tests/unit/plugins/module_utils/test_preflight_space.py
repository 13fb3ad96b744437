# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import mmap
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _dumpable, _findings, _preflight_space
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._preflight_container import Memory, Space
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Task
from ansible_collections.stasis.lxc.tests.unit.support.make import write

MIB = 1 << 20
SHARED = Memory(shared=20 * MIB)


def tasks(*mib: int, state: str = "S") -> list[Task]:
    return [Task(100 + number, 1, "app", state, anonymous=one * 1024) for number, one in enumerate(mib)]


def found(space: Space, sure: int, *mib: int) -> list[tuple[str, str]]:
    given = _preflight_space.findings(tasks(*mib), SHARED, space, "/srv/web1", lambda: sure * MIB)
    assert {one.id for one in given} <= {"space"}
    return [(one.severity, one.what) for one in given]


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
def test_what_surely_does_not_fit_blocks_and_both_numbers_are_told(kind: str) -> None:
    assert found(Space(26 * MIB, kind), 41, 41) == [
        ("blocks", "26.0 MiB are free, and at least 41.0 MiB of memory are to be written.")
    ]


def test_what_may_fit_is_only_warned_of() -> None:
    # Shared memory may be written compressed.
    warned = [("may fail", "45.0 MiB are free, and up to 61.0 MiB of memory are to be written.")]
    assert found(Space(45 * MIB, "ext4"), 41, 41) == warned


def test_file_system_that_compresses_does_not_block() -> None:
    assert [one[0] for one in found(Space(26 * MIB, "btrfs"), 41, 41)] == ["may fail"]


def test_what_fits_is_not_looked_at_closely() -> None:
    def fails() -> t.NoReturn:
        raise AssertionError("the page tables were walked for nothing")

    assert _preflight_space.findings(tasks(41), SHARED, Space(61 * MIB, "ext4"), "/srv", fails) == []


@pytest.mark.parametrize(("inodes", "severities"), [(13, ["blocks"]), (14, []), (None, [])])
def test_files_that_do_not_fit_block(inodes: int | None, severities: list[str]) -> None:
    given = found(Space(900 * MIB, "ext4", inodes), 1, 1)
    assert [one[0] for one in given] == severities
    assert all("at least 14" in one[1] and "13 more files" in one[1] for one in given)


def test_number_of_files_that_a_file_system_only_estimates_does_not_block() -> None:
    assert found(Space(900 * MIB, "xfs", 1), 1, 1) == []


def test_memory_that_is_surely_written_is_what_the_kernel_counts_as_private() -> None:
    def own() -> int:
        return _preflight_space.least_written([Task(os.getpid(), 1, "test", "S")])

    before = own()
    with mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as private:
        for page in range(0, len(private), mmap.PAGESIZE):
            private[page] = 1
        grown = own() - before
    assert 31 * MIB < grown < 40 * MIB
    before = own()
    with mmap.mmap(-1, 32 * MIB) as shared:
        for page in range(0, len(shared), mmap.PAGESIZE):
            shared[page] = 1
        assert own() - before < 8 * MIB


def test_memory_that_parent_and_child_share_is_written_for_each() -> None:
    with mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as private:
        for page in range(0, len(private), mmap.PAGESIZE):
            private[page] = 1
        hold, release = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(release)
            os.read(hold, 1)
            os._exit(0)
        try:
            both = [Task(pid, 1, "test", "S") for pid in (os.getpid(), child)]
            assert _preflight_space.least_written(both) > 63 * MIB
        finally:
            os.close(hold)
            os.close(release)
            os.waitpid(child, 0)


def process(proc: Path, pid: int, parent: int, anonymous: int, swapped: int = 0, state: str = "S") -> None:
    status = f"Name:\tapp\nState:\t{state} (x)\nPPid:\t{parent}\nVmSwap:\t{swapped} kB\n"
    write(f"{proc}/{pid}/status", status)
    write(f"{proc}/{pid}/smaps_rollup", f"Rss: 9 kB\nAnonymous:        {anonymous} kB\nLazyFree: 7 kB\n")
    write(f"{proc}/{pid}/task/{pid}/stat", f"{pid} (a) D) {state} 1 1")


def test_each_process_counts_with_what_is_swapped(tmp_path: Path) -> None:
    process(tmp_path, 100, 1, 5 * 1024)
    process(tmp_path, 101, 100, 5 * 1024, swapped=3 * 1024)
    # The counter of swapped pages may be too high by a MiB.
    assert _preflight_space.least_written(tasks(0, 0), str(tmp_path)) == 12 * MIB


def test_child_that_may_use_its_parents_memory_does_not_count(tmp_path: Path) -> None:
    process(tmp_path, 100, 1, 5 * 1024, state="D")
    process(tmp_path, 101, 100, 5 * 1024)
    assert _preflight_space.least_written(tasks(0, 0), str(tmp_path)) == 5 * MIB


def test_process_that_is_gone_or_a_zombie_does_not_count(tmp_path: Path) -> None:
    process(tmp_path, 100, 1, 5 * 1024)
    assert _preflight_space.least_written(tasks(0, 0), str(tmp_path)) == 5 * MIB
    assert _preflight_space.least_written(tasks(0, state="Z"), str(tmp_path)) == 0


@pytest.mark.parametrize(("diagnosis", "told"), [("disk_full", True), ("read_only", False)])
def test_failure_for_a_full_disk_tells_the_numbers(diagnosis: str, told: bool) -> None:
    numbers = "45.0 MiB are free, and up to 61.0 MiB of memory are to be written."
    one = _findings.Finding("space", _findings.MAY_FAIL, "/srv", numbers, "Make room.")
    other = _findings.Finding("nic", _findings.NOTE, "x", "y.", "z.")
    failure = StasisError("web1 was not dumped.", "Free space.", diagnoses=[{"id": diagnosis}])
    _dumpable.add_numbers(failure, [other, one])
    assert failure.what == "web1 was not dumped." + (f" Preflight: {numbers}" if told else "")

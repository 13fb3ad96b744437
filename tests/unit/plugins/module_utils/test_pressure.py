# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _files, _pressure

pytestmark = pytest.mark.interpreter

EPOLL = """pos:	0
flags:	02000002
mnt_id:	16
ino:	1057
tfd:       29 events:       19 data:     55b7a0c2f3d0  pos:0 ino:421 sdev:10
tfd:       30 events:       1a data:     55b1c2d3e4f0  pos:0 ino:4026532018 sdev:39
tfd:        3 events:       1a data:     55b1c2d3e4f0  pos:0 ino:4026532018 sdev:39
"""


def test_entries_of_one_descriptor_are_read_in_hex() -> None:
    assert _pressure.entries(EPOLL, 30) == [(0x1A, 0x55B1C2D3E4F0)]
    assert _pressure.entries(EPOLL, 2) == []


@pytest.mark.parametrize(
    ("environment", "written"),
    [
        (b"", b"some 200000 2000000\0"),
        (b"A=b\0MEMORY_PRESSURE_WRITE=c29tZSAxMDAwMDAgMTAwMDAwMAA=\0", b"some 100000 1000000\0"),
        (b"MEMORY_PRESSURE_WRITE=***\0", b"some 200000 2000000\0"),
        (b"MEMORY_PRESSURE_WRITE=\0", b"some 200000 2000000\0"),
    ],
)
def test_trigger_is_what_systemd_told_the_service(environment: bytes, written: bytes) -> None:
    assert _pressure.trigger(environment) == written


@pytest.mark.parametrize(
    ("target", "matches"),
    [
        ("/proc/pressure/memory", True),
        ("/sys/fs/cgroup/init.scope/memory.pressure", True),
        ("/sys/fs/cgroup/x/cpu.pressure", True),
        ("/proc/pressure/memory (deleted)", False),
        ("/srv/memory.pressure.txt", False),
    ],
)
def test_only_files_that_take_triggers_are_looked_at(target: str, matches: bool) -> None:
    assert bool(_pressure._PRESSURE.search(target)) is matches


def test_no_other_descriptor_costs_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(path: str) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(_files, "text_of", look)
    assert _pressure.arm([os.getpid()]) == []


def test_process_that_is_gone_has_nothing_to_arm() -> None:
    assert _pressure.arm([2**22 + 1]) == []


def test_another_file_under_the_number_is_left_alone() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # so that it polls as a file without its trigger does, and writing fails
    try:
        _pressure._arm(_pressure.Watch(os.getpid(), writer, "/sys/fs/cgroup/a/memory.pressure", b"some", ()))
    finally:
        os.close(writer)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_files
from ansible_collections.stasis.lxc.plugins.module_utils._criu_files import OpenFile

FIXTURES = Path(__file__).parents[2] / "fixtures" / "images"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Images of CRIU 4.2.1: a container with a log, locked files, a deleted one and one under another name."""
    for path in FIXTURES.glob("*.img"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_files_of_a_real_image(image: Path) -> None:
    found = {one.path: one for one in _criu_files.read(os.fspath(image))}
    assert found["/bin/workload"] == OpenFile("/bin/workload", 893936, 0o100755, True)
    # Opened for appending only, so CRIU does not compare the size.
    assert found["/tmp/log"] == OpenFile("/tmp/log", None, 0o100644, False)
    assert found["/tmp/files/posix"] == OpenFile("/tmp/files/posix", 33, 0o100644, False)
    assert found["/"].mode == 0o40755
    # The name that CRIU gave it, not the one that is gone.
    assert found["/tmp/files/link_remap.14"] == OpenFile("/tmp/files/link_remap.14", 24, 0o100644, False)
    assert not {"/tmp/files/name1", "/tmp/files/ghost", "/dev/null"} & set(found)
    assert list(found) == sorted(found)


def test_number_of_files_is_bounded(image: Path) -> None:
    assert len(_criu_files.read(os.fspath(image), limit=3)) == 3


@pytest.mark.parametrize("name", ["files.img", "mountpoints-13.img", "remap-fpath.img"])
def test_every_cut_image_is_no_image_or_a_shorter_one_and_never_a_crash(image: Path, name: str) -> None:
    whole = (image / name).read_bytes()
    for size in range(0, len(whole), 7):
        (image / name).write_bytes(whole[:size])
        assert isinstance(_criu_files.read(os.fspath(image)), list)


@pytest.mark.parametrize("name", ["files.img", "mountpoints-13.img", "remap-fpath.img"])
def test_flipped_bits_never_crash(image: Path, name: str) -> None:
    whole = (image / name).read_bytes()
    for position in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[position] ^= 1 << (position % 8)
        (image / name).write_bytes(changed)
        assert isinstance(_criu_files.read(os.fspath(image)), list)


def test_image_without_files_has_none(tmp_path: Path) -> None:
    assert _criu_files.read(os.fspath(tmp_path)) == []


def core(path: Path, *, thread: bool = False, state: int = 1) -> None:
    """A core image as CRIU writes it: a task has a `tc` (3) with its state (1), a thread has none."""
    entry = b"\x08\x01" + (b"" if thread else b"\x1a\x02\x08" + bytes([state]))
    path.write_bytes(struct.pack("<III", 0x54564319, 0x55053847, len(entry)) + entry)


def test_tasks_that_were_stopped_are_known_by_their_state(tmp_path: Path) -> None:
    core(tmp_path / "core-1.img")
    core(tmp_path / "core-7.img", state=3)
    core(tmp_path / "core-8.img", thread=True)
    core(tmp_path / "core-9.img", state=6)
    core(tmp_path / "core-x.img", state=3)
    assert _criu_files.stopped(os.fspath(tmp_path)) == [7]


def test_core_image_that_is_cut_names_nobody(tmp_path: Path) -> None:
    core(tmp_path / "core-7.img", state=3)
    (tmp_path / "core-8.img").write_bytes(b"\x19")
    assert _criu_files.stopped(os.fspath(tmp_path)) == []

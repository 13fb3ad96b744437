# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_files, _exe_links, _protobuf

FIXTURES = Path(__file__).parents[2] / "fixtures" / "images"
PATH_FLAGS = os.O_PATH | os.O_CLOEXEC


def field(number: int, value: int | bytes) -> bytes:
    """A field of protobuf, its numbers as short as they can be."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    return _protobuf.padded(value, max(1, -(-value.bit_length() // 7)))


def image(magic: int, *entries: bytes) -> bytes:
    return struct.pack("<II", 0x54564319, magic) + b"".join(struct.pack("<I", len(one)) + one for one in entries)


def regular(number: int, flags: int, name: bytes) -> bytes:
    """An entry of files.img; the id is in it twice."""
    return field(1, 1) + field(2, number) + field(3, field(1, number) + field(2, flags) + field(3, 0) + field(6, name))


def process(exe: int) -> bytes:
    return field(1, 0x400000) + field(12, exe) + field(13, 1)


def write(folder: Path, files: list[bytes], programs: list[int]) -> None:
    (folder / "files.img").write_bytes(image(0x56303138, *files))
    for pid, exe in enumerate(programs, 1):
        (folder / f"mm-{pid}.img").write_bytes(image(0x57492820, process(exe)))


def flags(folder: Path) -> dict[int, int]:
    found = {}
    for _at, entry in _criu_files.located(os.fspath(folder), "files.img", "files"):
        one = _protobuf.numbers(_protobuf.texts(entry)[3])
        found[one[1]] = one[2]
    return found


def test_program_that_is_also_open_with_o_path_loses_that_flag_and_nothing_else(tmp_path: Path) -> None:
    # 31 is a program, 240 only a descriptor; 300 is a program that is open for reading.
    write(
        tmp_path,
        [regular(31, PATH_FLAGS, b"/executor"), regular(240, PATH_FLAGS, b"/dir"), regular(300, 0, b"/init")],
        [300, 31, 31],
    )
    before = (tmp_path / "files.img").read_bytes()
    assert _exe_links.mend(os.fspath(tmp_path)) == 1
    assert flags(tmp_path) == {31: os.O_CLOEXEC, 240: PATH_FLAGS, 300: 0}
    assert len((tmp_path / "files.img").read_bytes()) == len(before)
    # A run that completes what an interrupted one left does it again.
    assert _exe_links.mend(os.fspath(tmp_path)) == 0


def test_image_without_such_a_program_is_not_touched(tmp_path: Path) -> None:
    for path in FIXTURES.glob("*.img"):
        shutil.copy(path, tmp_path)
    os.utime(tmp_path / "files.img", (1, 1))
    assert _exe_links.mend(os.fspath(tmp_path)) == 0
    assert (tmp_path / "files.img").stat().st_mtime == 1


@pytest.mark.parametrize("name", ["files.img", "mm-1.img"])
def test_image_that_is_cut_off_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    write(tmp_path, [regular(31, PATH_FLAGS, b"/executor")], [31])
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-1])
    files = (tmp_path / "files.img").read_bytes()
    assert _exe_links.mend(os.fspath(tmp_path)) == 0
    assert (tmp_path / "files.img").read_bytes() == files


def test_image_without_files_has_nothing_to_mend(tmp_path: Path) -> None:
    assert _exe_links.mend(os.fspath(tmp_path)) == 0

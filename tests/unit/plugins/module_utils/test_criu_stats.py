# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_stats
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each

# Captured from CRIU 4.2 with a process of 8 MiB; the numbers are what protoc makes of them with CRIU's stats.proto.
FIXTURES = Path(__file__).parents[2] / "fixtures" / "criu_stats"

DUMP = {
    "freezing_time": 100,
    "frozen_time": 14459,
    "memdump_time": 9041,
    "memwrite_time": 7320,
    "pages_scanned": 2811,
    "pages_skipped_parent": 0,
    "pages_written": 2743,
    "irmap_resolve": 0,
    "pages_lazy": 0,
    "page_pipes": 8,
    "page_pipe_bufs": 8,
    "shpages_scanned": 0,
    "shpages_skipped_parent": 0,
    "shpages_written": 0,
}
RESTORE = {
    "pages_compared": 0,
    "pages_skipped_cow": 0,
    "forking_time": 2,
    "restore_time": 10136,
    "pages_restored": 2743,
}


def image(message: bytes) -> bytes:
    return struct.pack("<III", 0x55105940, 0x57093306, len(message)) + message


def test_a_captured_dump_gives_every_number_under_crius_own_name() -> None:
    assert _criu_stats.decode((FIXTURES / "stats-dump").read_bytes()) == DUMP


def test_a_captured_restore_gives_every_number_under_crius_own_name() -> None:
    assert _criu_stats.decode((FIXTURES / "stats-restore").read_bytes()) == RESTORE


def test_a_number_of_64_bits_is_read_whole() -> None:
    # dump { pages_written: 2**64 - 1 }
    assert _criu_stats.decode(image(b"\x0a\x0b\x38" + b"\xff" * 9 + b"\x01")) == {"pages_written": 2**64 - 1}


@pytest.mark.parametrize(
    "unknown",
    [
        pytest.param(b"\xa0\x06\x05", id="varint"),
        pytest.param(b"\xa1\x06" + b"12345678", id="64 bit"),
        pytest.param(b"\xa2\x06\x03abc", id="bytes"),
        pytest.param(b"\xa5\x06" + b"1234", id="32 bit"),
    ],
)
def test_a_field_of_a_newer_criu_is_skipped(unknown: bytes) -> None:
    inner = unknown + b"\x10\x07"
    message = unknown + b"\x0a" + bytes([len(inner)]) + inner
    assert _criu_stats.decode(image(message)) == {"frozen_time": 7}


def test_a_field_of_another_kind_than_ours_is_skipped() -> None:
    # dump { 2: bytes "x" }
    assert _criu_stats.decode(image(b"\x0a\x03\x12\x01x")) == {}


@each("length", range(47))
def test_a_file_that_is_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(StasisError, match="not CRIU's statistics"):
        _criu_stats.decode((FIXTURES / "stats-dump").read_bytes()[:length])


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x0a", id="no length"),
        pytest.param(b"\x0a\x05\x08", id="length past the end"),
        pytest.param(b"\x0a\x02\x08\x80", id="number cut off"),
        pytest.param(b"\x0a\x02\x09\x01", id="fixed size cut off"),
    ],
)
def test_a_message_that_is_cut_off_within_its_length_is_refused(message: bytes) -> None:
    with pytest.raises(StasisError, match="cut off"):
        _criu_stats.decode(image(message))


def test_a_number_that_never_ends_is_refused() -> None:
    with pytest.raises(StasisError, match="64 bits"):
        _criu_stats.decode(image(b"\x08" + b"\xff" * 20))


def test_an_unknown_wire_type_is_refused() -> None:
    with pytest.raises(StasisError, match="unknown kind"):
        _criu_stats.decode(image(b"\x0b"))


def test_another_image_of_criu_is_refused() -> None:
    with pytest.raises(StasisError, match="magic"):
        _criu_stats.decode(struct.pack("<III", 0x54564319, 0x58313116, 0))


def test_a_directory_after_dump_and_restore_gives_the_numbers_of_both() -> None:
    assert _criu_stats.read(str(FIXTURES)) == {**DUMP, **RESTORE}


def test_a_directory_after_a_dump_gives_the_numbers_of_the_dump(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "stats-dump", tmp_path)
    assert _criu_stats.read(os.fspath(tmp_path)) == DUMP


def test_a_directory_without_statistics_gives_none(tmp_path: Path) -> None:
    assert _criu_stats.read(os.fspath(tmp_path)) == {}


def test_a_damaged_file_does_not_make_a_finished_dump_fail(tmp_path: Path) -> None:
    (tmp_path / "stats-dump").write_bytes(b"\0" * 40)
    assert _criu_stats.read(os.fspath(tmp_path)) == {}

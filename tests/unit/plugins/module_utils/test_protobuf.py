# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _protobuf


def test_numbers_and_texts_are_told_apart_and_the_last_one_counts() -> None:
    message = b"\x08\x05" + b"\x12\x02hi" + b"\x08\xac\x02" + b"\x1d\x00\x00\x00\x00" + b"\x21" + bytes(8)
    assert list(_protobuf.fields(message)) == [(1, 5), (2, b"hi"), (1, 300)]
    assert _protobuf.numbers(message) == {1: 300}
    assert _protobuf.texts(message) == {2: b"hi"}


@pytest.mark.parametrize(("value", "number"), [(0, 0), (1, -1), (2, 1), (3, -2), (260, 130)])
def test_signed_numbers(value: int, number: int) -> None:
    assert _protobuf.signed(value) == number


@pytest.mark.parametrize("message", [b"\x08", b"\x12\x05ab", b"\x0b", b"\x08" + b"\xff" * 10, b"\x1d\x00", b"\x80"])
def test_what_is_no_message_is_an_error(message: bytes) -> None:
    with pytest.raises(_protobuf.MalformedError):
        list(_protobuf.fields(message))

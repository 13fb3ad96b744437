# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The fields of a protobuf message, as far as CRIU uses protobuf."""

from __future__ import annotations

import typing as t

_VARINT = 0
_LENGTH_DELIMITED = 2
_FIXED_SIZES = {1: 8, 5: 4}


class MalformedError(ValueError):
    """This is no message, or it is cut off."""


def fields(message: bytes) -> t.Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; those of fixed size, which CRIU has none of, are skipped."""
    return ((number, value) for number, value, _begin, _end in located(message))


def located(message: bytes) -> t.Iterator[tuple[int, int | bytes, int, int]]:
    """As fields(), each with where its value begins and ends in the message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            begin = at
            value, at = _varint(message, at)
            yield number, value, begin, at
        elif kind == _LENGTH_DELIMITED:
            size, at = _varint(message, at)
            yield number, message[at : _end(message, at, size)], at, at + size
            at += size
        elif kind in _FIXED_SIZES:
            at = _end(message, at, _FIXED_SIZES[kind])
        else:
            raise MalformedError(f"it has a field of the unknown kind {kind}")


def padded(value: int, size: int) -> bytes:
    """A number in so many bytes, at least as many as it needs: a smaller one can take the place of a larger."""
    last = size - 1
    return bytes((value >> 7 * at & 0x7F) | (0x80 if at < last else 0) for at in range(size))


def numbers(message: bytes) -> dict[int, int]:
    """The last value of each numeric field."""
    return {number: value for number, value in fields(message) if isinstance(value, int)}


def texts(message: bytes) -> dict[int, bytes]:
    """The last value of each field that holds bytes, a text or another message."""
    return {number: value for number, value in fields(message) if isinstance(value, bytes)}


def signed(value: int) -> int:
    """The number behind one of the types sint32 and sint64."""
    return (value >> 1) ^ -(value & 1)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise MalformedError("it is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedError("it has a number of more than 64 bits")


def _end(message: bytes, at: int, size: int) -> int:
    if at + size > len(message):
        raise MalformedError("it is cut off")
    return at + size

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What iproute2 prints with -j. Pure."""

from __future__ import annotations

import json
import re
import typing as t

# An escape that JSON has not, which iproute2's writer makes of an apostrophe; not where the backslash itself is escaped.
_APOSTROPHE = re.compile(r"((?<!\\)(?:\\\\)*)\\'")


def parse(text: str) -> list[t.Mapping[str, t.Any]]:
    """The objects in its answer. Raises ValueError where it is no JSON.

    Names and aliases of interfaces stand in it as the container has chosen them: iproute2 does not escape every control character.
    """
    # Where there is nothing to list, iproute2 prints nothing at all, or one empty object.
    found = json.loads(_APOSTROPHE.sub(r"\1'", text).strip() or "[]", strict=False)
    if not isinstance(found, list):
        raise ValueError("it is no list")
    return [one for one in found if one and isinstance(one, dict)]


def documents(text: str) -> tuple[list[list[dict[str, t.Any]]], str]:
    """The JSON lists at the start of what a batch prints, and the text that follows them."""
    found: list[list[dict[str, t.Any]]] = []
    decoder = json.JSONDecoder(strict=False)
    rest = _APOSTROPHE.sub(r"\1'", text).lstrip()
    while rest:
        try:
            one, end = decoder.raw_decode(rest)
        except ValueError:
            break
        found.append([each for each in one if each and isinstance(each, dict)] if isinstance(one, list) else [])
        rest = rest[end:].lstrip()
    return found, rest

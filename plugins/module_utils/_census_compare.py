# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What the kernel shows of a container, as text, and what of it is lost between two looks. Pure.

A census of before comes with a checkpoint from anywhere: decode() takes no other form than encode() writes, and nothing is done
with it but to compare.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files

# The file's name in the image directory.
NAME = "census.json"
LARGEST = 32 << 20
# Instead of a value that nobody wants to read.
DIGEST = "sha256:"
_FORMAT = 1
_LONGEST = 160

Items = t.Mapping[str, str]


@dataclass(frozen=True)
class Subject:
    """A process, a thread, a namespace or a cgroup, which has a name that says more than its place in the census.

    values: each is compared where both looks have it. things: of each kind all that there are, so that one that is missing
    in the second look is lost; a kind that the second look does not have could not be seen.
    """

    name: str = ""
    values: Items = field(default_factory=dict)
    things: t.Mapping[str, Items] = field(default_factory=dict)


Census = t.Mapping[str, Subject]


def stable(one: Census, later: Census) -> dict[str, Subject]:
    """What a later look at a container that runs, which need not see everything, does not show otherwise: the rest changes by
    itself."""
    found = {}
    for key, first in one.items():
        second = later.get(key)
        if second is not None and second.name == first.name:
            values = {item: value for item, value in first.values.items() if second.values.get(item, value) == value}
            found[key] = Subject(first.name, values, first.things)
    return found


def compare(before: Census, after: Census) -> list[str]:
    """A sentence for each thing that is lost or is another one now, in the order of the census of before.

    A subject that is not there any more, or has another name by now, has ended or changed by itself.
    """
    lost = []
    for key, one in before.items():
        now = after.get(key)
        if now is None or now.name != one.name:
            continue
        label = _short(f"{key} ({one.name})" if one.name else key)
        lost += [
            _sentence(label, item, value, now.values[item])
            for item, value in one.values.items()
            if now.values.get(item, value) != value
        ]
        for kind, things in one.things.items():
            there = now.things.get(kind)
            for item, value in things.items() if there is not None else ():
                if there is not None and there.get(item) != value:
                    lost.append(_sentence(label, f"{kind} {item}".strip(), value, there.get(item)))
    return lost


def _sentence(label: str, item: str, value: str, now: str | None) -> str:
    if now is None:
        return f"{label}: {_short(item)} is gone{f' ({_short(value)})' if value and not _is_digest(value) else ''}."
    if _is_digest(value):
        return f"{label}: {_short(item)} has changed."
    return f"{label}: {_short(item)} was {_short(value)}, and is {_short(now)}."


def _is_digest(value: str) -> bool:
    return value.startswith(DIGEST)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def encode(census: Census) -> bytes:
    """The text of the file."""
    subjects = {key: {"name": one.name, "values": one.values, "things": one.things} for key, one in census.items()}
    # Names that are not UTF-8 become escapes of JSON, and come back as they are.
    return _files.encoded(json.dumps({"format": _FORMAT, "subjects": subjects}, indent=0) + "\n")


def decode(data: bytes) -> dict[str, Subject]:
    """The census in a file. Raises RecordError where it is no such text."""
    if len(data) > LARGEST:
        raise _errors.RecordError(NAME, "size", str(len(data)))
    try:
        found = json.loads(_files.decoded(data))
    except (ValueError, RecursionError) as exc:
        raise _errors.RecordError(NAME, "JSON", str(exc)) from exc
    if not isinstance(found, dict) or found.get("format") != _FORMAT or not isinstance(found.get("subjects"), dict):
        raise _errors.RecordError(NAME, "format", str(found)[:_LONGEST])
    return {key: _subject(key, one) for key, one in found["subjects"].items()}


def _subject(key: str, found: t.Any) -> Subject:
    sound = (
        isinstance(found, dict)
        and isinstance(found.get("name"), str)
        and _is_items(found.get("values"))
        and isinstance(found.get("things"), dict)
        and all(_is_items(one) for one in found["things"].values())
    )
    if not sound:
        raise _errors.RecordError(NAME, "subject", key)
    return Subject(found["name"], found["values"], found["things"])


def _is_items(found: t.Any) -> bool:
    return isinstance(found, dict) and all(isinstance(value, str) for value in found.values())

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""manifest.json: what a sealed image says of itself."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from dataclasses import fields

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _nics

FORMAT = 1
NAME = "manifest.json"
SIGNATURE = "manifest.sig"
# CRIU's name for the link to the image that an incremental one builds on.
PARENT = "parent"
# What the modules and the hook write beside CRIU's files.
DRAFT = "draft.json"
COMMIT = "committed"
CONSUMED = "consumed"
FINGERPRINT = "fingerprint.json"
# What may stand in a sealed image beside the files of its manifest; draft and commit only after an interruption.
BESIDE = frozenset({NAME, SIGNATURE, CONSUMED, FINGERPRINT, DRAFT, COMMIT})
LARGEST = 64 << 20

Manifest = dict[str, t.Any]

_DAMAGED = "The checkpoint is damaged; make a new one."
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
# A unit that a restore enables again: only ever LXC's own template.
_UNIT = re.compile(r"lxc@[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\.service\Z")
_LONGEST_NAME = 255

# Shapes: a type, [shape] for a list of it, {"*": shape} for a mapping with any keys, {"key": shape} for a mapping
# with these keys ("key?" may be missing; no other key may be there). A bool is no int.
_KINDS: dict[str, t.Any] = {
    "int": int,
    "str": str,
    "t.Mapping[str, str]": {"*": str},
    "tuple[str, ...]": [str],
}
# As the class has them: a restore makes one of each entry.
_NIC: dict[str, t.Any] = {
    one.name + ("" if one.name in ("index", "kind") else "?"): _KINDS[str(one.type)] for one in fields(_nics.Nic)
}
_REQUIRED: dict[str, t.Any] = {
    "format": int,
    "container": str,
    "lxc_path": str,
    "generation": int,
    "created": str,
    "stopped": bool,
    "versions": {"*": str},
    "architecture": str,
    "nics": [_NIC],
    "options": dict,
    "command": [str],
    "stats": {"*": int},
    "files": dict,
    "size": int,
    "identity": dict,
    "config_digest": str,
}
# What a draft has not, since CRIU has not run yet.
_LATER = frozenset({"stats", "files", "size"})
# Values that a restore uses as they are; an older manifest has none of some.
_OPTIONAL: dict[str, t.Any] = {
    "init": {"pid": int, "start": int, "boot_id": str},
    "init_name": str,
    "sequence": int,
    "cpu": str,
    "terminals": [str],
    "cgroups": [{"controllers": [str], "mount": str, "path": str, "unified": bool}],
    "autostart_units": [str],
    "lsm": {"kind": str, "label": str},
    "addresses": [{"nic": str, "address": str}],
    "open_files": {"*": [int]},
    "overlay_work": str,
    "parent": {"link": str, "sha256": str},
}
_OPTIONS: dict[str, t.Any] = {
    **dict.fromkeys(("tcp_established", "file_locks", "link_remap"), bool),
    "manage_cgroups": str,
    "external_mounts": [{"target": str, "source": str}],
}
_FINGERPRINT: dict[str, t.Any] = {"digest": str, "newest": int, "newest_path": str}


def parse(text: str, where: str) -> Manifest:
    """A manifest from its text; raises StasisError where it is not one that this version understands.

    The text has to be, byte for byte, what dump() makes of it: a flipped bit anywhere in it is found. That is no
    proof of who wrote it; a signature is.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise _errors.StasisError(f"{where} is not JSON: {exc}.", _DAMAGED) from exc
    if not isinstance(found, dict):
        raise _errors.StasisError(f"{where} is not a manifest.", _DAMAGED)
    if found.get("format").__class__ is not int or found["format"] != FORMAT:
        raise _errors.StasisError(
            f"{where} has format {str(found.get('format'))[:40]!r}, this version of stasis.lxc knows {FORMAT}.",
            "Use the version of the collection that made the checkpoint.",
        )
    _check_shapes(found, where)
    _check_files(found, where)
    if not is_fingerprint(found.get("fingerprint")):
        raise _errors.StasisError(f"{where} has no valid 'fingerprint'.", _DAMAGED)
    if dump(found) != text:
        raise _errors.StasisError(f"{where} was changed since it was written: its own checksum is another.", _DAMAGED)
    return found


def check_draft(draft: t.Mapping[str, t.Any]) -> None:
    """Raise StasisError where a draft would become a manifest that nobody can read: before the freeze, not after."""
    found = json.loads(json.dumps(dict(draft)))
    _check_shapes(found, "The draft of the manifest", _LATER)


def _check_shapes(found: Manifest, where: str, without: t.Container[str] = ()) -> None:
    for key, shape in _REQUIRED.items():
        if key not in without and not _fits(found.get(key), shape):
            raise _errors.StasisError(f"{where} has no valid {key!r}.", _DAMAGED)
    for key, shape in _OPTIONAL.items():
        if found.get(key) is not None and not _fits(found[key], shape):
            raise _errors.StasisError(f"{where} has no valid {key!r}.", _DAMAGED)
    for key, shape in _OPTIONS.items():
        if key in found["options"] and not _fits(found["options"][key], shape):
            raise _errors.StasisError(f"{where} has no valid {key!r} among the options.", _DAMAGED)
    if not all(len(one) in (3, 5) for one in (found.get("open_files") or {}).values()):
        raise _errors.StasisError(f"{where} has no valid 'open_files'.", _DAMAGED)
    if not all(_UNIT.match(unit) for unit in found.get("autostart_units") or []):
        raise _errors.StasisError(f"{where} has no valid 'autostart_units'.", _DAMAGED)


def _check_files(found: Manifest, where: str) -> None:
    for name, one in found["files"].items():
        if not is_plain(name) or name in BESIDE or name == PARENT:
            raise _errors.StasisError(f"{where} lists {name!r}, which is not the name of a file of an image.", _DAMAGED)
        known = isinstance(one, dict) and _fits(one.get("size"), int) and one["size"] >= 0
        digests = [one[key] for key in ("sha256", "sha256_pieces") if key in one] if known else []
        if len(digests) != 1 or not (isinstance(digests[0], str) and _DIGEST.match(digests[0])):
            raise _errors.StasisError(f"{where} has no valid entry for {name}.", _DAMAGED)
    if found["size"] != sum(one["size"] for one in found["files"].values()):
        raise _errors.StasisError(f"{where} has no valid 'size': it is not the sum of its files.", _DAMAGED)


def is_plain(name: str) -> bool:
    """Whether this can be the name of a file in an image: no path, nothing that a terminal would act on."""
    return name not in ("", ".", "..") and "/" not in name and name.isprintable() and len(name) <= _LONGEST_NAME


def is_fingerprint(value: t.Any) -> bool:
    """Whether a value out of a file is a fingerprint's as_dict(), or null where there was none."""
    return value is None or (
        isinstance(value, dict) and all(_fits(value.get(key), kind) for key, kind in _FINGERPRINT.items())
    )


def _fits(value: t.Any, shape: t.Any) -> bool:
    if isinstance(shape, type):
        return value.__class__ is shape
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(one, shape[0]) for one in value)
    if not isinstance(value, dict):
        return False
    if "*" in shape:
        return all(_fits(one, shape["*"]) for one in value.values())
    known = {key.rstrip("?"): kind for key, kind in shape.items()}
    needed = {key for key in shape if not key.endswith("?")}
    return needed <= set(value) <= set(known) and all(_fits(one, known[key]) for key, one in value.items())


def dump(manifest: t.Mapping[str, t.Any]) -> str:
    """The text of a manifest, with the checksum of its own text (`checksum`) in it."""
    return _text(with_checksum(manifest))


def with_checksum(manifest: t.Mapping[str, t.Any]) -> Manifest:
    """The manifest with its checksum: SHA-256 of the text that it has without."""
    bare = {key: value for key, value in manifest.items() if key != "checksum"}
    return {**bare, "checksum": hashlib.sha256(_text(bare).encode()).hexdigest()}


def _text(manifest: Manifest) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"

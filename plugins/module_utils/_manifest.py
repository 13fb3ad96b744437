# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""manifest.json: what a sealed image says of itself."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError

FORMAT = 1
NAME = "manifest.json"
_CHUNK = 1 << 20

Manifest = dict[str, t.Any]

_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "container": str,
    "lxc_path": str,
    "generation": int,
    "created": str,
    "stopped": bool,
    "versions": dict,
    "architecture": str,
    "nics": list,
    "options": dict,
    "command": list,
    "stats": dict,
    "files": dict,
    "size": int,
    "identity": dict,
    "config_digest": str,
}


def parse(text: str, where: str) -> Manifest:
    """A manifest from its text; raises StasisError where it is not one that this version understands."""
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise StasisError(f"{where} is not JSON: {exc}.", "The checkpoint is damaged; make a new one.") from exc
    if not isinstance(found, dict):
        raise StasisError(f"{where} is not a manifest.", "The checkpoint is damaged; make a new one.")
    if found.get("format") != FORMAT:
        raise StasisError(
            f"{where} has format {found.get('format')!r}, this version of stasis.lxc knows {FORMAT}.",
            "Use the version of the collection that made the checkpoint.",
        )
    for key, kind in _REQUIRED.items():
        if not isinstance(found.get(key), kind):
            raise StasisError(f"{where} has no valid {key!r}.", "The checkpoint is damaged; make a new one.")
    for name, one in found["files"].items():
        if not (isinstance(one, dict) and isinstance(one.get("size"), int) and isinstance(one.get("sha256"), str)):
            raise StasisError(f"{where} has no valid entry for {name}.", "The checkpoint is damaged; make a new one.")
    if not is_fingerprint(found.get("fingerprint")):
        raise StasisError(f"{where} has no valid 'fingerprint'.", "The checkpoint is damaged; make a new one.")
    return found


def is_fingerprint(value: t.Any) -> bool:
    """Whether a value out of a file is a fingerprint's as_dict(), or null where there was none."""
    wanted = {"digest": str, "newest": int, "newest_path": str}
    return value is None or (
        isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in wanted.items())
    )


def dump(manifest: Manifest) -> str:
    """The text of a manifest."""
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def hash_files(directory: str, names: t.Iterable[str]) -> dict[str, dict[str, t.Any]]:
    """Size and SHA-256 of files in a directory, read in pieces; hashlib lets go of the interpreter's lock, so
    several files are hashed at once."""
    ordered = sorted(names)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda name: _hash(os.path.join(directory, name)), ordered))
    return dict(zip(ordered, found))


def _hash(path: str) -> dict[str, t.Any]:
    digest = hashlib.sha256()
    size = 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        while True:
            piece = stream.read(_CHUNK)
            if not piece:
                break
            size += len(piece)
            digest.update(piece)
    return {"size": size, "sha256": digest.hexdigest()}


def faults(directory: str, manifest: Manifest, ignore: t.Container[str], *, content: bool) -> list[str]:
    """Where a directory differs from its manifest, a line each; empty where it does not.

    ignore: names that may be there beside the manifest's files, of any size. content: compare hashes too, not only sizes.
    """
    found = []
    present: set[str] = set()
    for entry in os.scandir(directory):
        present.add(entry.name)
        status = entry.stat(follow_symlinks=False)
        recorded = manifest["files"].get(entry.name)
        beside = entry.name in ignore
        if recorded is None and not beside:
            found.append(f"{entry.name} is not in the manifest.")
        elif not stat.S_ISREG(status.st_mode):
            found.append(f"{entry.name} is not a regular file.")
        elif status.st_uid != 0 or status.st_mode & 0o022:
            found.append(f"{entry.name} could have been changed by somebody other than root.")
        elif recorded is not None and not beside and status.st_size != recorded["size"]:
            found.append(f"{entry.name} has {status.st_size} bytes, the manifest says {recorded['size']}.")
    found += [f"{name} is missing." for name in sorted(set(manifest["files"]) - present)]
    if content and not found:
        for name, now in hash_files(directory, manifest["files"]).items():
            if now["sha256"] != manifest["files"][name]["sha256"]:
                found.append(f"{name} has another content than the manifest says.")
    return sorted(found)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What the role stasis.lxc.criu wrote down about this host: where CRIU, the hook and the launcher are."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from dataclasses import dataclass, fields

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _names

RECORD_PATH = "/etc/stasis/lxc.json"
FORMAT = 1
# How the modules, the hook and the launcher talk to each other. Raised when that changes.
PROTOCOL = 1
AGAIN = "Apply the role stasis.lxc.criu again."

_LARGEST = 65536


@dataclass(frozen=True)
class InstallRecord:
    """The record as the role wrote it. Paths are absolute; the hashes are SHA-256 in lower case hexadecimal."""

    format: int
    protocol: int
    collection_version: str
    criu_path: str
    criu_version: str
    criu_install_method: str
    hook: str
    hook_sha256: str
    launcher: str
    launcher_sha256: str


def read(path: str = RECORD_PATH) -> InstallRecord | None:
    """The record of this host; None where the role was never applied to it.

    Raises StasisError where somebody other than root could have written it, where it is damaged, and where it
    was written for another format or protocol than this collection's.
    """
    if not os.path.lexists(path):
        return None
    _owned(path, "The install record")
    try:
        with open(path, "rb") as stream:
            content = json.loads(stream.read(_LARGEST).decode("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _errors.StasisError(f"The install record {path} cannot be read: {exc.strerror}.", AGAIN) from exc
    except ValueError as exc:
        raise _errors.StasisError(f"The install record {path} is damaged.", AGAIN) from exc
    if not isinstance(content, dict):
        raise _errors.StasisError(f"The install record {path} is damaged.", AGAIN)
    for key, ours in (("format", FORMAT), ("protocol", PROTOCOL)):
        theirs = content.get(key)
        if isinstance(theirs, bool) or theirs != ours:
            raise _errors.StasisError(
                f"The install record {path} has {key} {theirs!r}, and this version of stasis.lxc needs {ours}.", AGAIN
            )
    return _record(content, path)


def verify(record: InstallRecord) -> None:
    """Raise StasisError unless hook and launcher are there, root's alone, executable, and as the role wrote them.

    CRIU runs the hook as root in the middle of a dump, so a changed one is refused before anything is frozen.
    """
    for what, path, digest in (
        ("The hook", record.hook, record.hook_sha256),
        ("The launcher", record.launcher, record.launcher_sha256),
    ):
        _owned(path, what, executable=True)
        try:
            with open(path, "rb") as stream:
                found = hashlib.sha256(stream.read()).hexdigest()
        except OSError as exc:
            raise _errors.StasisError(f"{what} {path} cannot be read: {exc.strerror}.", AGAIN) from exc
        if found != digest:
            raise _errors.StasisError(f"{what} {path} is not the one that the role installed.", AGAIN)


def _owned(path: str, what: str, *, executable: bool = False) -> None:
    try:
        _names.check_owned(path, what, executable=executable)
    except _errors.StasisError as exc:
        raise _errors.StasisError(exc.what, AGAIN) from exc


def _record(content: dict[str, t.Any], path: str) -> InstallRecord:
    words = [field.name for field in fields(InstallRecord) if field.name not in ("format", "protocol")]
    for word in words:
        if not isinstance(content.get(word), str):
            raise _errors.StasisError(f"The install record {path} is damaged: it has no {word}.", AGAIN)
    for word in ("criu_path", "hook", "launcher"):
        if not os.path.isabs(content[word]) or "\0" in content[word]:
            raise _errors.StasisError(f"The install record {path} is damaged: {word} is not an absolute path.", AGAIN)
    return InstallRecord(FORMAT, PROTOCOL, **{word: content[word] for word in words})

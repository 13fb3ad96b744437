# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that look like root's to the code under test, whoever runs the tests and wherever pytest keeps its files."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _names

NOBODY = 65534


@dataclass
class OwnedFiles:
    """A directory of files that belong to root, but for those in `owners`. The check of parents is not part of it."""

    directory: Path
    owners: dict[str, int] = field(default_factory=dict)

    def executable(self, name: str, text: str = "#!/bin/sh\n") -> str:
        """Make a file with mode 0755; returns its path."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return os.fspath(path)

    def record(self, **changes: t.Any) -> str:
        """Make a whole installation with its record, with changes (None takes a key out); returns the record's path."""
        hook, launcher = self.executable("restore-net", "hook\n"), self.executable("launcher", "launcher\n")
        content: dict[str, t.Any] = {
            "format": 1,
            "protocol": 1,
            "collection_version": "0.1.0",
            "criu_path": self.executable("criu"),
            "criu_version": "4.2",
            "criu_install_method": "source",
            "hook": hook,
            "hook_sha256": hashlib.sha256(b"hook\n").hexdigest(),
            "launcher": launcher,
            "launcher_sha256": hashlib.sha256(b"launcher\n").hexdigest(),
        }
        content.update(changes)
        path = self.directory / "lxc.json"
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}), encoding="utf-8")
        path.chmod(0o644)
        return os.fspath(path)


def owned_files(directory: Path, monkeypatch: pytest.MonkeyPatch) -> OwnedFiles:
    """For a fixture: an empty OwnedFiles, with os.lstat saying what it says."""
    files = OwnedFiles(directory)
    lstat = os.lstat

    def fake(path: t.Any, **keywords: t.Any) -> os.stat_result:
        status = lstat(path, **keywords)
        if not os.fspath(path).startswith(os.fspath(directory)):
            return status
        values = list(status)
        values[4] = files.owners.get(os.fspath(path), 0)
        return os.stat_result(values)

    monkeypatch.setattr(os, "lstat", fake)
    monkeypatch.setattr(_names, "check_parents", lambda path, what: None)
    return files

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Hash the large files of an image in a process of its own, while the task's own code is still being compiled.

A thread would not do: it waits for the interpreter's lock for as long as something is compiled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _integrity
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError


class Prehash:
    """The hashes of what is in a directory. Nothing of it is believed that has changed since, nor needed: whoever
    asks hashes himself what is not here."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pid = 0
        self._pipe = -1
        if not any(size >= _integrity.PIECE for _name, size in _sizes(directory)):
            return
        with contextlib.suppress(OSError):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
            if pid == 0:
                _work(directory, writer)
            os.close(writer)
            self._pid, self._pipe = pid, reader

    def entries(self) -> dict[str, _integrity.Entry]:
        """The manifest's entries of the files that are now as they were before they were hashed; waits for them."""
        if not self._pid:
            return {}
        with open(self._pipe, encoding="utf-8", closefd=False) as stream:
            text = stream.read()
        self.close()
        try:
            found: dict[str, t.Any] = json.loads(text)
        except ValueError:
            return {}
        return {
            name: entry
            for name, (before, entry) in found.items()
            if list(_integrity.identity(os.path.join(self._directory, name)) or ()) == before
        }

    def close(self) -> None:
        """End the process, if it has not ended yet."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._pipe)
        self._pid = 0


def begin(params: t.Mapping[str, t.Any]) -> Prehash:
    """Begin, where the task is going to verify an image; what it asks for has not been looked at yet."""
    wanted = params["state"] == "restored" and params["verify"] in (None, _integrity.FULL)
    return Prehash(str(params["directory"]) if wanted else "")


def _sizes(directory: str) -> list[tuple[str, int]]:
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory) if directory.startswith("/") else ():
            if entry.is_file(follow_symlinks=False):
                found.append((entry.name, entry.stat(follow_symlinks=False).st_size))
    return found


def _work(directory: str, writer: int) -> t.NoReturn:
    try:
        settled = time.time_ns() - _integrity.SETTLED_NS
        before = {}
        for name, size in _sizes(directory):
            now = _integrity.identity(os.path.join(directory, name))
            if size >= _integrity.PIECE and now is not None and now[3] < settled:
                before[name] = now
        hashed = _integrity.hash_files(directory, before)
        with open(writer, "w", encoding="utf-8") as stream:
            json.dump({name: [before[name], entry] for name, entry in hashed.items()}, stream)
    except (OSError, ValueError, StasisError):
        # Whoever needs the hashes makes them then, and says what is wrong.
        pass
    finally:
        os._exit(0)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Hash the files of an image while the task waits for the disk or for LXC, and believe none that changed since.

Nothing should write them any more when it begins; what is believed is what the kernel says of each.
"""

from __future__ import annotations

import os
import threading
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _errors,
    _integrity,
)

_LOOK_SECONDS = 0.005


class Ahead:
    """The hashes of what is in a directory, from a thread of their own.

    ready: whether it may begin; it is asked again and again until begin() is called.
    """

    def __init__(self, directory: str, ready: t.Callable[[], bool] = lambda: True) -> None:
        self._directory = directory
        self._ready = ready
        self._go = threading.Event()
        self._cancelled = False
        self._before: dict[str, _integrity.Identity] = {}
        self._hashed: dict[str, _integrity.Entry] = {}
        self._thread = threading.Thread(target=self._work, name="hashes", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Begin now, if it has not yet."""
        self._go.set()

    def cancel(self) -> None:
        """Nobody will ask for the hashes."""
        self._cancelled = True
        self._go.set()

    def entries(self) -> dict[str, _integrity.Entry]:
        """The manifest's entries of the files that are now as they were before they were hashed; waits for them."""
        self.begin()
        self._thread.join()
        return {name: entry for name, entry in self._hashed.items() if self._identity(name) == self._before[name]}

    def _work(self) -> None:
        while not self._ready() and not self._go.wait(_LOOK_SECONDS):
            pass
        if self._cancelled:
            return
        try:
            newest = time.time_ns() - _integrity.SETTLED_NS
            for name in os.listdir(self._directory):
                found = self._identity(name)
                if found is not None and found[3] < newest:
                    self._before[name] = found
            self._hashed = _integrity.hash_files(self._directory, self._before)
        except (OSError, _errors.StasisError):
            # Whoever needs the hashes makes them then, and says what is wrong.
            return

    def _identity(self, name: str) -> _integrity.Identity | None:
        return _integrity.identity(os.path.join(self._directory, name))

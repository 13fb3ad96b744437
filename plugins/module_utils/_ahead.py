# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Hash the files of an image while the task does other things, and believe none that changed since.

A process of its own does it, since Python gives a thread little time beside one that loads modules; and a task that has no
threads can start programs and other processes as it likes. It also is what the kernel may kill for a file that it has mapped.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import threading
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _integrity

_LOOK_SECONDS = 0.005
_WATCH_SECONDS = 0.05


class Ahead:
    """The hashes of what is in a directory.

    ready: whether it may begin; it is asked again and again, in the other process, until begin() is called. Whoever makes
    one calls entries() or cancel(); where that never comes, the process ends with this one.
    """

    def __init__(self, directory: str, ready: t.Callable[[], bool] = lambda: True) -> None:
        self._directory = directory
        self._found: list[tuple[str, list[int], _integrity.Entry]] = []
        parent = os.getpid()
        asked, self._ask = os.pipe()
        self._answer, tell = os.pipe()
        try:
            self._child = os.fork()
        except OSError:
            # Whoever needs the hashes makes them then.
            self._child = 0
            os.close(self._ask)
            os.close(self._answer)
        else:
            if self._child == 0:
                _work(directory, ready, parent, asked, tell)
        os.close(asked)
        os.close(tell)

    def begin(self) -> None:
        """Begin now, if it has not yet."""
        if self._child:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._ask, b"b")

    def cancel(self) -> None:
        """Nobody will ask for the hashes any more."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            # One that waits for a disk that does not answer cannot be waited for.
            self._end(os.WNOHANG)

    def entries(self) -> dict[str, _integrity.Entry]:
        """The manifest's entries of the files that are now as they were before they were hashed; waits for them."""
        self.begin()
        if self._child:
            with open(self._answer, "rb", closefd=False) as stream, contextlib.suppress(ValueError):
                self._found = json.loads(stream.read())
            self._end()
        return {name: entry for name, before, entry in self._found if _identity(self._directory, name) == tuple(before)}

    def _end(self, options: int = 0) -> None:
        os.waitpid(self._child, options)
        self._child = 0
        os.close(self._ask)
        os.close(self._answer)


def _identity(directory: str, name: str) -> _integrity.Identity | None:
    return _integrity.identity(os.path.join(directory, name))


def _work(directory: str, ready: t.Callable[[], bool], parent: int, asked: int, tell: int) -> t.NoReturn:
    """In the other process: wait, hash, tell."""
    try:
        # Ansible waits for whoever has the task's output, and a disk that does not answer holds this process, killed or not.
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        # The locks of the task above all, which would be held until this ends.
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if descriptor > 2 and descriptor not in (asked, tell):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        while not ready() and not select.select([asked], [], [], _LOOK_SECONDS)[0]:
            if os.getppid() != parent:
                os._exit(1)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
        data = json.dumps(_hashes(directory)).encode()
        with open(tell, "wb") as stream:
            stream.write(data)
    finally:
        # Whatever happened is found out again, and told, by whoever needs the hashes then.
        os._exit(0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def _hashes(directory: str) -> list[tuple[str, _integrity.Identity, _integrity.Entry]]:
    newest = time.time_ns() - _integrity.SETTLED_NS
    before = {name: _identity(directory, name) for name in os.listdir(directory)}
    settled = {name: found for name, found in before.items() if found is not None and found[3] < newest}
    hashed = _integrity.hash_files(directory, settled, mapped=True)
    return [(name, settled[name], entry) for name, entry in hashed.items()]

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One TCP connection that a container's echo server answers all the time, and how long it ever stayed silent."""

from __future__ import annotations

import multiprocessing as mp
import select
import socket
import time
import typing as t
from multiprocessing.connection import Connection

_EVERY = 0.002


class Client:
    """A process of its own, so that nothing this one does delays it. Every byte that comes back is checked."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._pipe, theirs = mp.Pipe()
        self._process = mp.get_context("fork").Process(target=_talk, args=(address, theirs, self._pipe), daemon=True)
        self._process.start()
        theirs.close()
        self._ask("hello", 15.0)

    def reset(self) -> None:
        """Forget the silences so far."""
        self._ask("reset", 15.0)

    def silence(self) -> float:
        """The largest silence since the last reset, in seconds; waits until the server has answered again."""
        return self._ask("silence", 60.0)

    def close(self) -> None:
        """End the connection."""
        self._pipe.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, word: str, timeout: float) -> float:
        self._pipe.send(word)
        if not self._pipe.poll(timeout):
            raise TimeoutError(f"The TCP connection into the container did not come back within {timeout:.0f} s.")
        answer: t.Any = self._pipe.recv()
        if isinstance(answer, str):
            raise ConnectionError(f"The TCP connection into the container is lost: {answer}")
        return float(answer)


def _talk(address: tuple[str, int], pipe: Connection, ours: Connection) -> None:
    # Else this process would hold both ends, and never see that the other one has gone.
    ours.close()
    try:
        _Talk(address, pipe).run()
    except (OSError, ValueError) as exc:
        pipe.send(f"{type(exc).__name__}: {exc}")
    except EOFError:
        pass


class _Talk:
    def __init__(self, address: tuple[str, int], pipe: Connection) -> None:
        self.pipe = pipe
        self.server = socket.create_connection(address, timeout=10.0)
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The workload's word for echo.
        self.server.sendall(b"E\n")
        self.server.setblocking(False)
        self.sent = self.got = 0
        self.heard = time.monotonic()
        self.longest = 0.0
        # An answer to pipe waits for an echo of a byte that was sent after the question.
        self.owed: tuple[str, int] | None = None

    def run(self) -> None:
        watched: list[t.Any] = [self.server, self.pipe]
        while True:
            ready = select.select(watched, [], [], _EVERY)[0]
            if self.server in ready:
                self._receive()
            if self.pipe in ready:
                self.owed = (self.pipe.recv(), self.sent)
            if self.owed and self.got > self.owed[1]:
                self._answer(self.owed[0])
            self._send()

    def _receive(self) -> None:
        data = self.server.recv(65536)
        if not data:
            raise ConnectionError("closed by the container")
        if data != bytes((self.got + index) % 251 for index in range(len(data))):
            raise ValueError("other bytes came back than were sent")
        now = time.monotonic()
        self.longest = max(self.longest, now - self.heard)
        self.heard = now
        self.got += len(data)

    def _answer(self, word: str) -> None:
        self.owed = None
        self.pipe.send(self.longest)
        if word == "reset":
            self.longest = 0.0

    def _send(self) -> None:
        try:
            self.sent += self.server.send(bytes([self.sent % 251]))
        except BlockingIOError:
            return

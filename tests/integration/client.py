# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that keep one TCP socket over dumps and restores, and verify every byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from containers import until

PERIOD = 65521
BLOCK = 65536


def _pattern() -> bytes:
    """The bytes that the workload sends too."""
    made = bytearray()
    state = 1
    for _number in range(PERIOD):
        state = (state * 1103515245 + 12345) & 0xFFFFFFFF
        made.append((state >> 16) & 0xFF)
    return bytes(made) + bytes(made) + bytes(made)


PATTERN = _pattern()


class Talker:
    """Asks the counter now and then, over one socket."""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection((address, port), timeout=100)
        self.socket.settimeout(200)
        self.port = self.socket.getsockname()[1]

    def ask(self) -> tuple[int, int]:
        """The counter, and how many connections its server has accepted."""
        self.socket.sendall(b"G\n")
        line = b""
        while not line.endswith(b"\n"):
            got = self.socket.recv(64)
            assert got, "the server closed the connection"
            line += got
        counter, accepts = line.split()
        return int(counter), int(accepts)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


class _Streaming:
    """A thread with one socket; `failure` says what went wrong, `total` how many bytes were right."""

    command = b""

    def __init__(self, address: str, port: int) -> None:
        self.socket = socket.create_connection((address, port), timeout=100)
        self.socket.settimeout(300)
        self.port = self.socket.getsockname()[1]
        self.failure = ""
        self.total = 0
        self.silence = 0.0
        self._last = time.monotonic()
        self._ended = threading.Event()
        self.socket.sendall(self.command)
        self.threads = [threading.Thread(target=self._receive, daemon=True)]

    def begin(self) -> None:
        for thread in self.threads:
            thread.start()

    def _receive(self) -> None:
        try:
            while not self._ended.is_set():
                got = self.socket.recv(BLOCK)
                now = time.monotonic()
                self.silence = max(self.silence, now - self._last)
                self._last = now
                if not got:
                    self._fail("the server closed the connection")
                    return
                start = self.total % PERIOD
                if PATTERN[start : start + len(got)] != got:
                    self._fail(f"wrong bytes after {self.total}")
                    return
                self.total += len(got)
                time.sleep(0.003)
        except OSError as exc:
            self._fail(f"{exc!r} after {self.total} bytes")

    def _fail(self, what: str) -> None:
        if not self._ended.is_set() and not self.failure:
            self.failure = what

    def assert_flows(self, seconds: float = 15.0) -> None:
        """Right bytes still come, and no wrong one came before."""
        before = self.total
        until(lambda: self.failure or self.total > before + BLOCK, seconds, f"bytes flow again after {before}")
        assert not self.failure, self.failure

    def close(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(50)
        self.socket.close()


class Listener(_Streaming):
    """Reads the pattern that the server sends without an end."""

    command = b"S\n"


class Echo(_Streaming):
    """Sends the pattern without an end, and reads it back."""

    command = b"E\n"

    def __init__(self, address: str, port: int) -> None:
        super().__init__(address, port)
        self.sent = 0
        self.threads.append(threading.Thread(target=self._send, daemon=True))

    def _send(self) -> None:
        try:
            while not self._ended.is_set():
                start = self.sent % PERIOD
                self.sent += self.socket.send(PATTERN[start : start + BLOCK // 2])
        except OSError as exc:
            self._fail(f"{exc!r} while sending")

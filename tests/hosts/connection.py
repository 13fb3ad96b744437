# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP connection to a container's counter, held by a process of its own while plays come and go.

connection.py ask PLACE         prints what the counter answers: its number, and how many connections it has had
connection.py hold PLACE PORT   connects, prints that as well, and stays in the background; one that was held at PLACE before ends
connection.py drop PLACE        ends
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

# A container that was just restored is there, but its client's TCP may be waiting for a minute to send again.
PATIENCE = 180


def ask_counter(connection: socket.socket) -> bytes:
    connection.sendall(b"G\n")
    answer = b""
    while not answer.endswith(b"\n"):
        got = connection.recv(64)
        if not got:
            return b"the server closed the connection\n"
        answer += got
    return answer


def hold(place: str, port: int) -> None:
    with contextlib.suppress(OSError):
        call(place, b"drop")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)
    deadline = time.monotonic() + 60
    while True:
        # QEMU accepts at once, whoever listens behind it: an answer alone proves a connection.
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        try:
            answer = ask_counter(connection)
            if answer[:1].isdigit():
                break
        except OSError:
            pass
        connection.close()
        if time.monotonic() > deadline:
            sys.exit(f"nothing answers behind port {port}")
        time.sleep(1)
    control = socket.socket(socket.AF_UNIX)
    control.bind(place)
    control.listen(4)
    print(answer.decode(), end="", flush=True)
    if os.fork():
        return
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    while True:
        asker, _address = control.accept()
        with asker:
            if asker.recv(16) == b"drop":
                return
            try:
                answer = ask_counter(connection)
            except OSError as exc:
                answer = f"no answer over the connection: {exc}\n".encode()
            with contextlib.suppress(OSError):
                asker.sendall(answer)


def call(place: str, word: bytes) -> str:
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(PATIENCE + 20)
        asker.connect(place)
        asker.sendall(word)
        return asker.recv(256).decode().strip()


def main() -> None:
    command, place, *port = sys.argv[1:]
    if command == "hold":
        hold(place, int(port[0]))
    elif command == "drop":
        with contextlib.suppress(OSError):
            call(place, b"drop")
    else:
        answer = call(place, b"ask")
        if not answer[:1].isdigit():
            sys.exit(answer or "the connection is not held any more")
        print(answer)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP connection to a container, held by a process of its own while plays come and go: to its counter, or a login over ssh.

connection.py ask PLACE               prints what the other end answers: the counter its number, and how many connections it has had;
                                      the login's shell how often it was asked, and its pid
connection.py hold PLACE PORT [KEY]   connects, with KEY by ssh, prints that as well, and stays in the background; one that was held at
                                      PLACE before ends
connection.py drop PLACE              ends
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

# A container that was just restored is there, but its client's TCP may be waiting for a minute to send again.
PATIENCE = 600
# Answers as a counter does.
SHELL = "asked=0; while read word; do asked=$((asked + 1)); echo $asked $$; done"


def connect(port: int, key: str | None) -> socket.socket:
    # QEMU accepts at once, whoever listens behind it: an answer alone proves a connection.
    if key is None:
        return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")
    words = ["ssh", "-F", "none", "-i", key, "-p", str(port), *(f"-o{option}" for option in options)]
    with theirs:
        # It ends with its standard input, which is our end of the pair.
        subprocess.Popen([*words, "root@127.0.0.1", SHELL], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    return ours


def ask_counter(connection: socket.socket) -> bytes:
    connection.sendall(b"G\n")
    answer = b""
    while not answer.endswith(b"\n"):
        got = connection.recv(64)
        if not got:
            return b"the server closed the connection\n"
        answer += got
    return answer


def hold(place: str, port: int, key: str | None = None) -> None:
    with contextlib.suppress(OSError):
        call(place, b"drop")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = connect(port, key)
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
    command, place, *where = sys.argv[1:]
    if command == "hold":
        hold(place, int(where[0]), *where[1:])
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

# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a container with a counter goes to disk and comes back, while a client keeps one TCP connection.

tools/demonstration run|clean CHECKOUT, started by tools/demo. Each claim on the screen is checked; one that does not
hold ends the demo with status 1.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import typing as t
from pathlib import Path

from cleaning import clean
from commands import Log
from container import HOME, OURS, RECORD
from screen import DemoError, Interrupted, end_progress, paint
from story import story


def alone() -> socket.socket:
    """An abstract socket as a lock: it goes with its process, however that ends."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind("\0stasis-demo")
    except OSError:
        sys.exit("demo: another demo is running on this machine\ndemo: wait for it, or end it with Ctrl-C")
    return lock


def interrupted(number: int, _frame: t.Any) -> None:
    raise Interrupted(signal.Signals(number).name)


def main() -> int:
    action, checkout = sys.argv[1], Path(sys.argv[2])
    lock = alone()
    log = Log(checkout)
    log.begin()
    keep = os.environ.get("KEEP", "") not in ("", "0")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    with lock:
        if action == "clean":
            return finish(log, checkout, keep=keep, told="Nothing of the demo is left.")
        print(paint("1", "stasis.lxc: a running container goes to disk and comes back"), flush=True)
        status = 1
        try:
            # A CRIU that an interrupted demo installed is taken over, and its mark with it.
            if left := clean(log, checkout, criu=False, mark=False):
                raise DemoError(f"an earlier demo left what cannot be removed: {'; '.join(left)}")
            HOME.mkdir(mode=0o700, exist_ok=True)
            story(log, checkout)
            status = 0
        except DemoError as exc:
            print(paint("1;31", f"FAILED: {exc}"), flush=True)
        except Interrupted as exc:
            end_progress()
            print(f"Interrupted ({exc}); cleaning up ...", flush=True)
            status = 130
        finally:
            kept = ", except CRIU (KEEP=1)" if keep and OURS.exists() and RECORD.exists() else ""
            cleaned = finish(log, checkout, keep=keep, told=f"Everything is removed again{kept}.")
        print(f"The full output of all commands: {log.path}", flush=True)
        return status or cleaned


def finish(log: Log, checkout: Path, *, keep: bool, told: str) -> int:
    # Once it has begun, a second Ctrl-C must not leave half of it behind.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    left = clean(log, checkout, criu=not keep, mark=True)
    if left:
        print(paint("1;31", f"Not removed: {'; '.join(left)}. Run make demo-clean."), flush=True)
        return 1
    print(told, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

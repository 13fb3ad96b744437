# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of the demo, and how it fails."""

from __future__ import annotations

import os
import shutil
import sys


class DemoError(Exception):
    """A claim that does not hold, or a step that failed."""


class Interrupted(BaseException):
    """Ctrl-C or a polite kill."""


COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOURS else text


def step(number: int, text: str) -> None:
    print(paint("1;36", f"{number}. {text}"), flush=True)


def tell(text: str) -> None:
    print(f"   {text}", flush=True)


def progress(text: str) -> None:
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        print(f"\r\033[K   {text}"[: width + 4], end="", flush=True)


def end_progress() -> None:
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)


#

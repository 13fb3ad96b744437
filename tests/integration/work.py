# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a run of the module does, counted: it is the same on a slow machine."""

from __future__ import annotations

import collections
import dataclasses
import typing as t
from pathlib import Path

from module import Module

# Python's own audit events (sys.addaudithook), a line each, also those of processes that the module forks.
_HOOK = """\
import os, sys
_out = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
_WORDS = dict.fromkeys(("open", "os.scandir", "os.listdir"), b"file\\n")
_WORDS.update(dict.fromkeys(("subprocess.Popen", "os.posix_spawn", "os.exec"), b"program\\n"))
def _count(event, _arguments):
    if event in _WORDS:
        os.write(_out, _WORDS[event])
sys.addaudithook(_count)
"""


@dataclasses.dataclass(frozen=True)
class Work:
    """files: files and directories opened by Python. programs: programs started."""

    files: int
    programs: int


def count(module: Module, folder: Path, do: t.Callable[[Module], object]) -> Work:
    """What `do` has a module do that it is given. folder: is made."""
    folder.mkdir()
    log = folder / "log"
    (folder / "sitecustomize.py").write_text(_HOOK.format(path=str(log)))
    do(dataclasses.replace(module, core=str(folder)))
    found = collections.Counter(log.read_text().split())
    return Work(found["file"], found["program"])

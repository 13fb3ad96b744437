# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts for the pure checks of the preflight: an ordinary container with what a test changes."""

from __future__ import annotations

import os
import stat
import typing as t
from dataclasses import replace
from pathlib import Path

from ansible_collections.stasis.lxc.plugins.module_utils import _proc
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import CriuOptions
from ansible_collections.stasis.lxc.plugins.module_utils._findings import Facts, Finding, Options
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Task

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/proc"
OWN = {name: f"{name.replace('time_for_children', 'time')}:[1]" for name in _proc.NAMESPACES}
INSIDE = {name: link.replace("[1]", "[2]") for name, link in OWN.items()}
INIT = Task(100, 1, "init", "S", namespaces=INSIDE, filters=1)


def text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def facts(*tasks: Task, **changes: t.Any) -> Facts:
    return Facts(**{"tasks": (INIT, *tasks), "own_namespaces": OWN, "criu_version": "4.2", **changes})


def process(**changes: t.Any) -> Task:
    return replace(Task(101, 2, "app", "S", namespaces=INSIDE), **changes)


def options(**criu: t.Any) -> Options:
    return Options(criu=CriuOptions(**criu))


def words(found: t.Iterable[Finding]) -> list[tuple[str, str]]:
    return [(one.id, one.severity) for one in found]


def status(mode: int, rdev: tuple[int, int] = (0, 0), nlink: int = 1, size: int = 0) -> t.Any:
    """What os.stat() answers, as far as the checks ask."""

    class Status:
        st_mode = mode
        st_rdev = os.makedev(*rdev)
        st_nlink = nlink
        st_blocks = size // 512
        st_dev = 5
        st_ino = 6

    return Status()


REGULAR = stat.S_IFREG | 0o644
CHARACTER = stat.S_IFCHR | 0o600

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _incoming, _proc

WITH = "372 366 0:57 /systemd/propagate/a.service /run/systemd/incoming ro,nosuid,nodev master:20 - tmpfs tmpfs rw\n"
NAMES = {1: "mnt:[1]", 2: "mnt:[2]", 3: "mnt:[2]", 4: "mnt:[4]", 5: "mnt:[5]", 6: "mnt:[1]"}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Six processes in four mount namespaces; that of 5 has no such mount. What was unmounted."""
    done: list[int] = []

    def unmount(pid: int) -> int:
        done.append(pid)
        return 1 if pid == 4 else 0

    monkeypatch.setattr(_incoming, "_namespace", lambda pid: NAMES.get(pid, ""))
    monkeypatch.setattr(_incoming, "_mounts", lambda pid: _proc.mounts("" if pid == 5 else WITH))
    monkeypatch.setattr(_incoming, "_unmount", unmount)
    return done


def test_each_namespace_of_a_service_is_freed_once_and_init_is_left_alone(house: list[int]) -> None:
    faults = _incoming.unmount(1, [6, 5, 4, 3, 2, 1, 99])
    assert house == [2, 4]
    assert [fault for fault in faults if "process 4" in fault and os.strerror(1) in fault] == faults


def test_single_service_is_left_alone_because_criu_restores_it(house: list[int]) -> None:
    assert _incoming.unmount(1, [1, 2, 3, 5, 6]) == []
    assert house == []


def test_process_that_is_gone_has_no_namespace() -> None:
    assert _incoming.namespaces(os.getpid(), [2**22 + 1]) == {}

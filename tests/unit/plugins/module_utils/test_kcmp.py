# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparing processes and threads by the kernel: what they share."""

from __future__ import annotations

import os
import threading
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _kcmp

pytestmark = pytest.mark.skipif(
    _kcmp.compare(os.getpid(), os.getpid(), _kcmp.VM) != 0, reason="NOT TESTED: this kernel or machine has no kcmp"
)


@pytest.fixture
def thread() -> t.Iterator[int]:
    found: list[int] = []
    ready, end = threading.Event(), threading.Event()

    def run() -> None:
        found.append(threading.get_native_id())
        ready.set()
        end.wait()

    one = threading.Thread(target=run)
    one.start()
    ready.wait()
    yield found[0]
    end.set()
    one.join()


def test_thread_shares_everything_with_its_process(thread: int) -> None:
    for kind in (_kcmp.VM, _kcmp.FILES, _kcmp.FS):
        assert _kcmp.compare(os.getpid(), thread, kind) == 0


def test_only_what_is_shared_makes_a_group(thread: int) -> None:
    pids = [os.getppid(), thread, os.getpid(), 1]
    assert _kcmp.sharing(pids, _kcmp.VM) == [tuple(sorted((thread, os.getpid())))]


def test_process_that_is_gone_is_in_no_group() -> None:
    assert _kcmp.compare(2**22 + 1, os.getpid(), _kcmp.VM) is None
    assert _kcmp.sharing([2**22 + 1, os.getpid()], _kcmp.VM) == []


def test_machine_that_is_not_known_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kcmp, "_libc", lambda: None)
    assert _kcmp.sharing([1, os.getpid(), os.getpid()], _kcmp.VM) == []

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _systemd
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process

INIT = Process(77, 1, "systemd")


@pytest.mark.parametrize(
    ("comm", "kernel", "told"),
    [
        ("systemd", "6.9.0", True),
        ("systemd", "6.18.44-fc-v595", True),
        ("systemd", "6.8.12", False),
        ("systemd", "6.1.0-40-amd64", False),
        ("init", "6.18.0", False),
        ("systemd-logind", "6.18.0", False),
    ],
)
def test_systemd_alone_is_told_where_the_kernel_has_pidfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comm: str, kernel: str, told: bool
) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "comm").write_text(comm + "\n")
    sent: list[tuple[Process, int]] = []
    monkeypatch.setattr(Process, "send", lambda process, number: sent.append((process, number)))
    _systemd.reload(INIT, proc=str(tmp_path), kernel=kernel)
    assert sent == ([(INIT, signal.SIGHUP)] if told else [])
    assert _systemd.note(comm, kernel) == ([_systemd.RELOADED] if told else [])


def test_init_that_has_ended_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Process] = []
    monkeypatch.setattr(Process, "send", lambda process, _number: tried.append(process) or False)
    _systemd.reload(INIT, proc=str(tmp_path), kernel="6.18")
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "comm").write_text("systemd\n")
    _systemd.reload(INIT, proc=str(tmp_path), kernel="6.18")
    assert tried == [INIT]

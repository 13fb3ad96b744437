# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _tcp_repair

pytestmark = pytest.mark.interpreter


@pytest.fixture
def listening() -> t.Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as ours:
        ours.bind(("127.0.0.1", 0))
        yield ours


def test_a_socket_that_is_not_in_repair_is_not_found(listening: socket.socket) -> None:
    assert not _tcp_repair.find([os.getpid()])


def test_a_socket_in_repair_is_found_once_whoever_holds_it(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = os.fstat(listening.fileno()).st_ino
    monkeypatch.setattr(_tcp_repair, "_in_repair", lambda ours: os.fstat(ours.fileno()).st_ino == inode)
    copy = listening.dup()
    found = _tcp_repair.find([os.getpid(), os.getpid()])
    copy.close()
    assert [(one.pid, one.inode) for one in found] == [(os.getpid(), inode)]


def test_releasing_one_that_is_out_of_it_says_so(listening: socket.socket) -> None:
    inode = os.fstat(listening.fileno()).st_ino
    assert _tcp_repair.release(_tcp_repair.Repaired(os.getpid(), listening.fileno(), inode))


def test_one_that_stays_in_repair_is_not_called_released(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tcp_repair, "_in_repair", lambda _ours: True)
    inode = os.fstat(listening.fileno()).st_ino
    assert not _tcp_repair.release(_tcp_repair.Repaired(os.getpid(), listening.fileno(), inode))


def test_another_socket_under_its_number_is_left_alone(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[object] = []
    monkeypatch.setattr(_tcp_repair, "_in_repair", changed.append)
    assert not _tcp_repair.release(_tcp_repair.Repaired(os.getpid(), listening.fileno(), 1))
    assert changed == []


def test_a_process_that_has_gone_is_no_error() -> None:
    assert _tcp_repair.find([2**22 + 1]) == []
    assert not _tcp_repair.release(_tcp_repair.Repaired(2**22 + 1, 3, 1))


def test_other_sockets_are_left_alone() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM):
        assert _tcp_repair.find([os.getpid()]) == []

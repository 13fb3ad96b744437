# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _pidfd

pytestmark = pytest.mark.interpreter


def test_the_copy_is_the_very_open_file_of_the_other_process() -> None:
    read, write = os.pipe()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[write])
    os.close(write)
    try:
        with _pidfd.opened(other.pid) as handle:
            copied = _pidfd.copy(handle, write)
        assert not os.get_inheritable(copied)
        os.write(copied, b"x")
        os.close(copied)
        assert os.read(read, 1) == b"x"
    finally:
        other.communicate(b"\n")
        os.close(read)


def test_a_signal_goes_to_the_process_of_the_handle_and_to_no_later_one() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with _pidfd.opened(child.pid) as handle:
        _pidfd.send(handle, signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL
        child.communicate()
        with pytest.raises(ProcessLookupError):
            _pidfd.send(handle, signal.SIGKILL)


def test_a_python_that_knows_no_pidfd_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with _pidfd.opened(os.getpid()) as handle:
        os.close(_pidfd.copy(handle, 0))


def test_a_process_that_has_gone_is_told_from_other_failures() -> None:
    with pytest.raises(ProcessLookupError), _pidfd.opened(2**22 - 1):
        pass


def test_a_descriptor_that_is_not_there_is_an_error() -> None:
    with _pidfd.opened(os.getpid()) as handle, pytest.raises(OSError, match="Bad file descriptor"):
        _pidfd.copy(handle, 2**20)

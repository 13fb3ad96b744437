# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import platform
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _device_rules

pytestmark = pytest.mark.interpreter

PROGRAMS = [bytes(range(16)), b"\1" * 552]


def test_programs_are_the_same_out_of_the_record() -> None:
    assert _device_rules.decode(_device_rules.encode(PROGRAMS)) == PROGRAMS
    assert _device_rules.encode([]) == ""
    assert _device_rules.decode("") == []


@pytest.mark.parametrize("text", ["{", "{}", '"aa"', "[1]", '["zz"]', '["0102"]', '[""]', f'["{"00" * 40000}"]'])
def test_record_that_something_else_has_written_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        _device_rules.decode(text)


def test_list_of_cgroup_v1_is_taken_unless_it_allows_everything(tmp_path: Path) -> None:
    (tmp_path / "devices.list").write_text("c *:* m\nb 8:0 r\n")
    assert _device_rules.listed(os.fspath(tmp_path)) == "c *:* m\nb 8:0 r\n"
    _device_rules.check_list(_device_rules.listed(os.fspath(tmp_path)))
    (tmp_path / "devices.list").write_text("a *:* rwm\n")
    assert _device_rules.listed(os.fspath(tmp_path)) == ""


@pytest.mark.parametrize("text", ["a *:* rwm\n", "c 1:3\n", "c 1:3 rwx\n", "c *:* m\n../x\n", "c 1:3 rwm \n"])
def test_list_that_something_else_has_written_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        _device_rules.check_list(text)


class Kernel:
    """What was attached, and where."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: OSError | None = None) -> None:
        self.done: list[tuple[str, int]] = []
        self._fault = fault
        monkeypatch.setattr(_device_rules, "attach", self.attach)

    def attach(self, cgroup: str, programs: list[bytes]) -> None:
        if self._fault:
            raise self._fault
        self.done.append((cgroup, len(programs)))


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_rules_are_attached_as_soon_as_the_cgroup_is_named_and_then_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch)
    with _device_rules.Attaching(PROGRAMS, "/cg", os.fspath(tmp_path)) as devices:
        assert devices.environment == {"STASIS_DEVICES": "1"}
        # Half a line is no name yet.
        (tmp_path / "cgroup").write_text("lxc.payload")
        time.sleep(0.02)
        assert kernel.done == []
        (tmp_path / "cgroup").write_text("lxc.payload.web1\n")
        wait_for(tmp_path / "devices")
        assert kernel.done == [("/cg/lxc.payload.web1", 2)]
    assert devices.fault == ""


def test_rules_that_cannot_be_attached_are_told_and_nobody_says_that_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kernel(monkeypatch, OSError(errno.EPERM, "no"))
    (tmp_path / "cgroup").write_text("/lxc.payload.web1\n")
    with _device_rules.Attaching(PROGRAMS, "/cg", os.fspath(tmp_path)) as devices:
        while not devices.fault:
            time.sleep(0.001)
    assert "could not be attached to /lxc.payload.web1: no" in devices.fault
    assert not (tmp_path / "devices").exists()


def test_restore_that_fails_before_there_is_a_cgroup_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(monkeypatch)
    with _device_rules.Attaching(PROGRAMS, "/cg", os.fspath(tmp_path)):
        pass
    assert kernel.done == []


def test_container_without_rules_costs_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with _device_rules.Attaching([], "/cg", os.fspath(tmp_path)) as devices:
        assert threading.active_count() == before
        assert devices.environment == {}


def test_processor_whose_number_of_bpf_is_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="vax"):
        _device_rules._bpf(16, b"")

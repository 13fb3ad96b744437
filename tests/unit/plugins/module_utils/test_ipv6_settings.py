# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _container,
    _errors,
    _interrupted,
    _ipv6_settings,
    _journal,
    _leftovers,
    _mend,
)
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.plugins.module_utils._journal import RESTORE, Journal
from ansible_collections.stasis.lxc.plugins.module_utils._leftovers import Left
from ansible_collections.stasis.lxc.tests.unit.support.make import container, write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import StrictRunner

DAD = "/proc/sys/net/ipv6/conf/lo/accept_dad"
BIND = "/proc/sys/net/ipv6/ip_nonlocal_bind"


class Network:
    """A network namespace with a process in it, as the hook has left it for a restore."""

    def __init__(self, work: Path) -> None:
        self.work = work
        script = f"echo 0 >{DAD} && echo 1 >{BIND} && echo ready && exec sleep 60"
        self.process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        init = _container.process(self.process.pid)
        assert init is not None
        self.init = init
        write(f"{work}/init", f"{init.pid} {init.start}\n")
        write(f"{work}/ipv6", f"{DAD} 2\n{BIND} 0\n")

    def values(self) -> list[str]:
        inside = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "cat", DAD, BIND]
        return subprocess.run(inside, check=True, capture_output=True, text=True).stdout.split()


@pytest.fixture
def network(tmp_path: Path) -> t.Iterator[Network]:
    made = Network(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def test_settings_of_a_killed_restore_are_found_and_put_back(network: Network, tmp_path: Path) -> None:
    found = _ipv6_settings.find(str(tmp_path))
    assert found is not None
    assert found.settings == ((DAD, "2"), (BIND, "0"))
    assert found.names == "conf/lo/accept_dad, ip_nonlocal_bind"
    assert network.values() == ["0", "1"], "looking changes nothing"
    _ipv6_settings.put_back(found)
    assert network.values() == ["2", "0"]
    assert _ipv6_settings.find(str(tmp_path)) is None


def test_a_setting_that_the_container_has_changed_since_is_its_own(network: Network, tmp_path: Path) -> None:
    inside = ["nsenter", f"--net=/proc/{network.process.pid}/ns/net", "sh", "-c", f"echo 1 >{DAD}"]
    subprocess.run(inside, check=True)
    found = _ipv6_settings.find(str(tmp_path))
    assert found is not None
    assert found.settings == ((BIND, "0"),)


def test_another_process_with_its_pid_is_left_alone(network: Network, tmp_path: Path) -> None:
    write(f"{tmp_path}/init", f"{network.init.pid} {network.init.start + 1}\n")
    assert _ipv6_settings.find(str(tmp_path)) is None
    assert network.values() == ["0", "1"]


@pytest.mark.parametrize(
    "line",
    [
        "/proc/sys/net/ipv6/conf/../../../kernel/sysrq 1",
        "/proc/sys/net/ipv6/conf/a/b/accept_dad 1",
        "/etc/passwd 1",
        f"{DAD} x",
        f"{DAD} ",
        f"{DAD} 0",
    ],
)
def test_only_what_the_hook_changes_is_read_from_the_record(line: str) -> None:
    assert _ipv6_settings.parse(f"{line}\n{BIND} 0\n") == ((BIND, "0"),)


def test_the_first_value_of_a_setting_is_the_one_of_before() -> None:
    assert _ipv6_settings.parse(f"{DAD} 2\n{DAD} 1\n") == ((DAD, "2"),)


def test_a_run_without_a_record_has_nothing_to_put_back(tmp_path: Path) -> None:
    assert _ipv6_settings.find(str(tmp_path)) is None


def test_recovery_puts_them_back_and_says_so(network: Network, tmp_path: Path) -> None:
    journal = Journal(RESTORE, "/srv/a", str(tmp_path))
    left = Left(ipv6=_ipv6_settings.find(str(tmp_path)))
    told = _mend.carry_out(_mend.decide(left, "web1"), journal, container(), StrictRunner())
    assert told == [
        "put back in web1 the settings of IPv6 that the hook had changed for a restore: "
        "conf/lo/accept_dad, ip_nonlocal_bind"
    ]
    assert network.values() == ["2", "0"]


def test_in_a_container_that_lxc_does_not_know_any_more_they_are_put_back_too(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Left(unsupervised=(network.init,), ipv6=_ipv6_settings.find(str(tmp_path)))
    monkeypatch.setattr(_leftovers, "of_stopped", lambda *_arguments: left)
    journal = Journal(RESTORE, "/srv/a", str(tmp_path))
    for act in (False, True):
        with pytest.raises(_errors.StasisError, match="without LXC") as told:
            _interrupted._mend_all(journal, container("STOPPED"), StrictRunner(), act=act)
        assert "settings of IPv6" in told.value.data["recovered"][0]
        assert (network.values() == ["2", "0"]) is act


def test_a_restore_whose_hook_was_killed_at_its_last_event_puts_them_back(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(_leftovers, "detached", lambda *_arguments: [])
    monkeypatch.setattr(_journal, "end", lambda name, _lxc_path: ended.append(name))
    told = _mend.finish(Journal(RESTORE, "/srv/a", str(tmp_path)), container(), StrictRunner())
    assert len(told) == 1
    assert network.values() == ["2", "0"]
    assert ended == ["web1"]


def test_what_cannot_be_put_back_keeps_the_journal(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_changed: Process) -> None:
        raise _errors.StasisError("It cannot be written.")

    monkeypatch.setattr(_ipv6_settings, "put_back", fail)
    monkeypatch.setattr(_leftovers, "detached", lambda *_arguments: [])
    monkeypatch.setattr(_journal, "end", lambda *_arguments: pytest.fail("the journal ended"))
    told = _mend.finish(Journal(RESTORE, "/srv/a", str(tmp_path)), container(), StrictRunner())
    assert told[0].startswith(_mend.NOT_DONE)

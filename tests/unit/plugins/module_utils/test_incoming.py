# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _incoming, _proc

pytestmark = pytest.mark.interpreter

TTY = "380 366 0:52 /1 /dev/tty1 rw shared:48 master:15 - devpts devpts rw\n"
WITH = "372 366 0:57 /systemd/propagate/a.service /run/systemd/incoming ro,nosuid,nodev master:20 - tmpfs tmpfs rw\n"
NAMES = {1: "mnt:[1]", 2: "mnt:[2]", 3: "mnt:[2]", 4: "mnt:[4]", 5: "mnt:[5]", 6: "mnt:[1]"}


class House:
    """Six processes in four mount namespaces; that of 5 has no such mount. What was unmounted and put back."""

    def __init__(self) -> None:
        self.gone: list[int] = []
        self.back: list[int] = []
        self.freed: dict[int, list[str]] = {}


@pytest.fixture(name="house")
def house_fixture(monkeypatch: pytest.MonkeyPatch) -> House:
    house = House()

    class Holder:
        def __init__(self, pid: int, targets: list[str], name: str) -> None:
            assert name == NAMES[pid]
            self.pid = pid
            self.targets = targets
            house.freed[pid] = targets
            self.code = 1 if pid == 4 else 0
            house.gone.append(pid)

        def put_back(self) -> None:
            house.back.append(self.pid)

    monkeypatch.setattr(_incoming, "_namespace", lambda pid: NAMES.get(pid, ""))
    monkeypatch.setattr(_incoming, "_mounts", lambda pid: _proc.mounts("" if pid == 5 else WITH))
    monkeypatch.setattr(_incoming, "_Holder", Holder)
    return house


def test_each_namespace_of_a_service_is_freed_once_and_init_is_left_alone(house: House) -> None:
    with _incoming.unmounted(1, [6, 5, 4, 3, 2, 1, 99]) as faults:
        assert (house.gone, house.back) == ([2, 4], [])
    assert house.back == [2, 4]
    assert [fault for fault in faults if "process 4" in fault and os.strerror(1) in fault] == faults


def test_mounts_are_put_back_after_a_dump_that_failed(house: House) -> None:
    with pytest.raises(KeyError), _incoming.unmounted(1, [2, 4]):
        raise KeyError
    assert house.back == [2, 4]


def test_single_service_is_left_alone_because_criu_restores_it(house: House) -> None:
    with _incoming.unmounted(1, [1, 2, 3, 5, 6]) as faults:
        assert faults == []
    assert house.gone == []


def test_copies_of_terminals_are_unmounted_even_of_a_single_service(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {1: WITH + TTY, 2: WITH + TTY, 5: TTY}
    monkeypatch.setattr(_incoming, "_mounts", lambda pid: _proc.mounts(texts.get(pid, "")))
    with _incoming.unmounted(1, [1, 2, 5], ["/dev/tty1", "/dev/tty2"]):
        assert house.freed == {2: ["/dev/tty1"], 5: ["/dev/tty1"]}
    assert house.back == [2, 5]


def test_terminals_are_left_alone_where_nobody_asks_for_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_incoming, "_mounts", lambda _pid: _proc.mounts(WITH + TTY))
    with _incoming.unmounted(1, [2, 4]):
        assert house.freed == {2: ["/run/systemd/incoming"], 4: ["/run/systemd/incoming"]}


def test_process_that_is_gone_has_no_namespace() -> None:
    assert _incoming.namespaces(os.getpid(), [2**22 + 1]) == {}


def has_own_mounts() -> bool:
    """Whether a mount namespace can be made here."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


class Service:
    """A process with a mount namespace of its own, and a directory mounted at `target` in it."""

    def __init__(self, root: Path) -> None:
        self.target = root / "incoming"
        self.target.mkdir()
        (root / "propagate").mkdir()
        (root / "propagate/file").touch()
        script = f"mount --make-rprivate / && mount --bind {root}/propagate {self.target} && echo up && exec cat"
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    def mounts(self) -> str:
        return "".join(one.target + " " for one in _incoming._mounts(self.process.pid) if "incoming" in one.target)

    def end(self) -> None:
        self.process.communicate(b"")


@pytest.fixture(name="services")
def services_fixture(tmp_path: Path) -> t.Iterator[list[Service]]:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(Service(tmp_path / name))
    yield made
    for one in made:
        one.end()


def namespace(service: Service) -> str:
    return os.readlink(f"/proc/{service.process.pid}/ns/mnt")


@pytest.mark.skipif(not has_own_mounts(), reason="needs root, and a kernel that makes mount namespaces")
def test_mount_is_gone_in_its_namespace_and_comes_back(services: list[Service]) -> None:
    service = services[0]
    before = service.mounts()
    assert before
    holder = _incoming._Holder(service.process.pid, [os.fspath(service.target)], namespace(service))
    assert (holder.code, service.mounts()) == (0, "")
    holder.put_back()
    assert service.mounts() == before


@pytest.mark.skipif(not has_own_mounts(), reason="needs root, and a kernel that makes mount namespaces")
def test_mounts_of_another_namespace_than_was_found_are_left_alone(services: list[Service]) -> None:
    """As where the process has ended, and its number is another one's."""
    before = services[1].mounts()
    holder = _incoming._Holder(services[1].process.pid, [os.fspath(services[1].target)], namespace(services[0]))
    assert (holder.code, services[1].mounts()) == (0, before)
    holder.put_back()
    assert services[1].mounts() == before


@pytest.mark.skipif(not has_own_mounts(), reason="needs root, and a kernel that makes mount namespaces")
def test_what_is_not_mounted_is_told_and_nothing_is_put_in_its_place(services: list[Service]) -> None:
    targets = [os.fspath(services[1].target) + "/absent"]
    holder = _incoming._Holder(services[1].process.pid, targets, namespace(services[1]))
    assert holder.code != 0
    before = services[1].mounts()
    holder.put_back()
    assert services[1].mounts() == before

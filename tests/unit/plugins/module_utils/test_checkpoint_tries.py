# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight on the way, and a dump that fails and is tried again."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _diagnosis, _dump, _preflight, _retry
from ansible_collections.stasis.lxc.plugins.module_utils._attempts import RunError
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._findings import Finding
from ansible_collections.stasis.lxc.tests.unit.support.house import (
    BPF,
    NETLINK,
    RESTORED,
    RISKS,
    House,
    acts_are_faked,
    build,
)
from ansible_collections.stasis.lxc.tests.unit.support.make import write


@pytest.fixture
def house(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(safe_dir, monkeypatch)


def test_what_may_fail_is_told_in_a_line_for_each_kind_and_what_the_dump_has_settled_is_not(house: House) -> None:
    house.findings = RISKS
    result = house.run(check_mode=True)
    assert [one["id"] for one in result.findings] == ["fanotify", "netlink-data", "fanotify", "zombie"]
    assert result.warnings == [
        "Preflight, fanotify, may fail: av (pid 8) (and 1 more of this kind, see findings): "
        "It watches a file system. Stop it.",
        "Preflight, netlink-data, may fail: udevd (pid 9): 9 bytes wait. Run it again.",
    ]
    acts_are_faked(house.monkeypatch, house)
    done = house.run(check_mode=False)
    assert done.findings == result.findings
    assert done.warnings == result.warnings[:1]


def test_refusal_carries_every_finding(house: House) -> None:
    house.findings = [BPF, *RISKS]
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True)
    assert len(refusal.value.data["findings"]) == 5
    assert refusal.value.remedy == "Nothing was frozen. Stop it. With preflight: warn, CRIU tries all the same."


def test_what_blocks_is_tried_all_the_same_where_the_task_says_so(house: House) -> None:
    house.findings = [BPF, *RISKS]
    predicted = house.run(check_mode=True, preflight="warn")
    assert predicted.action == "dump"
    assert predicted.warnings[0] == "Preflight, descriptor, blocks: systemd (pid 7): It is open on bpf-prog. Stop it."
    acts_are_faked(house.monkeypatch, house)
    done = house.run(check_mode=False, preflight="warn")
    assert done.changed
    assert not any("bpf" in line for line in done.warnings), "it was dumped, so it did not block"


def test_preflight_knows_what_the_configuration_of_criu_allows(house: House) -> None:
    asked = []

    def findings(_runner: object, _container: object, _host: object, options: t.Any) -> list[Finding]:
        asked.append(options)
        return []

    house.monkeypatch.setattr(_preflight, "findings", findings)
    path = write(f"{house.top}/criu.conf", "# ours\nshell-job\nenable-fs ramfs # odd\n")
    house.run(check_mode=True, stop=True, criu_config=path, criu_args=["--allow-uprobes"])
    (options,) = asked
    assert (options.stop, options.directory) == (True, house.directory)
    assert options.allows.shell_job
    assert options.allows.uprobes
    assert options.allows.file_systems == {"ramfs"}


def unread(**changes: t.Any) -> RunError:
    line = "(00.1) Error (criu/sk-netlink.c:77): netlink: The socket has data to read"
    given: dict[str, t.Any] = {"diagnoses": _diagnosis.diagnose(line), "as_before": True, "rc": 1, **changes}
    return RunError("web1 was not dumped.", "Try again.", **given)


def failing(house: House, *failures: StasisError) -> list[tuple[t.Any, ...]]:
    """The dumps to come: they fail in this way, and then work. Returns what each was given."""
    acts_are_faked(house.monkeypatch, house)
    works, left, given = _dump.dump, list(failures), []

    def dump(*arguments: t.Any) -> t.Any:
        given.append(arguments)
        if left:
            raise left.pop(0)
        return works(*arguments)

    house.monkeypatch.setattr(_dump, "dump", dump)
    house.monkeypatch.setattr(_retry, "delay", lambda _attempt: 0.0)
    return given


def test_dump_is_tried_again_with_what_is_there_then(house: House) -> None:
    given = failing(house, unread())
    first = house.found
    now = replace(first, terminals=("dev/tty1",))

    def observe(*_arguments: t.Any) -> Container:
        return now if given else first

    house.monkeypatch.setattr(_container, "observe", observe)
    done = house.run(check_mode=False)
    assert done.changed
    assert [one["id"] for one in done.retried] == ["netlink_unread"]
    assert [arguments[1] for arguments in given] == [first, now]
    assert "/dev/tty1:dev/tty1" in given[1][3].argv


def test_failure_that_stays_is_told_with_the_tries_before_it_and_the_findings(house: House) -> None:
    house.findings = [NETLINK]
    given = failing(house, unread(), unread(), unread())
    with pytest.raises(StasisError) as failure:
        house.run(check_mode=False)
    assert len(given) == 3
    assert [one["id"] for one in failure.value.data["retried"]] == ["netlink_unread"] * 2
    assert failure.value.data["diagnoses"][0]["class"] == "transient"
    assert failure.value.data["findings"][0]["id"] == "netlink-data"


def test_container_that_is_another_by_then_is_not_dumped(house: House) -> None:
    given = failing(house, unread())
    first = house.found
    house.monkeypatch.setattr(
        _container, "observe", lambda *_arguments: replace(first, init=RESTORED) if given else first
    )
    with pytest.raises(StasisError, match="not what it was at the first try"):
        house.run(check_mode=False)
    assert len(given) == 1

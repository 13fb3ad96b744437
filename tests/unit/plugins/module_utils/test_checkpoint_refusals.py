# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the way refuses before anything is touched: the host, the user, scripts, CRIU's configuration, the directory."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _directory, _host, _image, _install_record
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.house import HOST, House, build
from ansible_collections.stasis.lxc.tests.unit.support.make import write


@pytest.fixture
def house(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(safe_dir, monkeypatch)


def test_host_without_the_role_is_told_its_name(house: House) -> None:
    house.monkeypatch.setattr(_install_record, "read", lambda: None)
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True)
    assert refusal.value.remedy == "Apply the role stasis.lxc.criu to it."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"criu_version": ""}, "There is no working CRIU at /opt/criu-4.2/sbin/criu."),
        ({"criu_version": "3.17.1"}, "CRIU 3.17.1 does not work on kernel 6.18.5, which needs"),
    ],
)
def test_host_without_a_criu_that_works_is_refused(house: House, changes: dict[str, str], words: str) -> None:
    house.monkeypatch.setattr(_host, "observe", lambda *_arguments: replace(HOST, **changes))
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True)
    assert words in refusal.value.what


def test_user_who_is_not_root_is_told_to_become(house: House) -> None:
    house.monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StasisError, match="needs root") as refusal:
        house.run(check_mode=True)
    assert refusal.value.remedy == "Set become: true for the task."


def test_script_that_somebody_else_could_change_is_refused(house: House) -> None:
    script = write(f"{house.top}/script", "#!/bin/sh\n", 0o777)
    with pytest.raises(StasisError, match="could be changed by somebody other than root"):
        house.run(check_mode=True, action_scripts=[script])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("leave-running\n", "criu_config may not set --leave-running"),
        ("# a comment\n\n  tcp-close # another\n", "criu_config may not set --tcp-close"),
        ("timeout 30\nno-file-locks\n", "criu_config may not set --no-file-locks"),
        ("leave-r\n", "criu_config may not set --leave-r"),
        ("v 4\n", "criu_config may not set --v"),
        ("--images-dir /srv\n", "criu_config may not set --images-dir"),
    ],
)
def test_configuration_of_criu_may_not_touch_what_is_managed(house: House, text: str, words: str) -> None:
    path = write(f"{house.top}/criu.conf", text)
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True, criu_config=path)
    assert words in refusal.value.what


def test_directory_is_checked_before_anything_is_observed(house: House) -> None:
    def never(*_arguments: t.Any) -> t.NoReturn:
        raise AssertionError("observed too early")

    checked: list[str] = []
    check, observe = _directory.check, _container.observe

    def checking(path: str) -> None:
        checked.append(path)
        check(path)

    def observing(*arguments: t.Any) -> t.Any:
        assert checked, "observed too early"
        return observe(*arguments)

    house.monkeypatch.setattr(_install_record, "read", never)
    house.monkeypatch.setattr(_image, "look", never)
    house.monkeypatch.setattr(_directory, "check", checking)
    house.monkeypatch.setattr(_container, "observe", observing)
    for state in ("checkpointed", "restored", "absent"):
        checked.clear()
        with pytest.raises(StasisError, match="above directory") as refusal:
            house.run(check_mode=True, state=state, directory="/tmp/web1")
        assert refusal.value.data["state"] == "unknown"

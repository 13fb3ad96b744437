# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _journal, _workspace
from ansible_collections.stasis.lxc.plugins.module_utils._journal import Journal
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.tests.unit.support.make import write


@pytest.fixture(autouse=True)
def _locks(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workspace, "LOCKS", f"{safe_dir}/run")


def test_what_was_written_down_is_read_again() -> None:
    journal = Journal(
        _journal.RESTORE, "/srv/a", "/var/log/a", nics=({"index": 0, "kind": "veth"},), units=("x",), links={"/a": 7}
    )
    _journal.begin("web1", "/lxc", journal)
    assert _journal.read("web1", "/lxc") == journal


def test_another_container_and_another_path_have_another_journal() -> None:
    _journal.begin("web1", "/lxc", Journal(_journal.DUMP, "/srv/a", "/w"))
    assert _journal.read("web2", "/lxc") is None
    assert _journal.read("web1", "/other") is None


def test_after_the_end_there_is_none_and_a_second_end_does_no_harm() -> None:
    _journal.begin("web1", "/lxc", Journal(_journal.DUMP, "/srv/a", "/w"))
    _journal.end("web1", "/lxc")
    _journal.end("web1", "/lxc")
    assert _journal.read("web1", "/lxc") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"action": "dump"}'])
def test_a_journal_that_says_nothing_is_none(text: str) -> None:
    write(_journal.path("web1", "/lxc"), text)
    assert _journal.read("web1", "/lxc") is None


def test_fields_of_a_newer_release_are_passed_over() -> None:
    write(_journal.path("web1", "/lxc"), '{"action": "dump", "directory": "/d", "work": "/w", "later": 1}')
    assert _journal.read("web1", "/lxc") == Journal(_journal.DUMP, "/d", "/w")


def test_the_network_comes_back_as_it_was_observed() -> None:
    journal = Journal(
        _journal.DUMP,
        "/d",
        "/w",
        nics=({"index": 0, "kind": "veth", "veth": "v1", "addresses": ["02:00:00:00:00:01"], "later": 1},),
    )
    assert journal.network() == [Nic(0, "veth", veth="v1", addresses=("02:00:00:00:00:01",))]

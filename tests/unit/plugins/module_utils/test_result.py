# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _result
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._plan import Plan


def test_result_of_nothing_has_every_key_but_the_warnings_that_ansible_carries() -> None:
    assert _result.Result().as_dict() == {
        "changed": False,
        "action": "none",
        "state": "unknown",
        "container_state": "unknown",
        "checkpoint": {},
        "command": [],
        "stats": {},
        "proof": {},
        "lost": [],
        "init_pid": -1,
        "log_path": "",
        "log_errors": [],
        "findings": [],
        "diagnoses": [],
        "retried": [],
        "rc": 0,
        "stale_reasons": [],
        "notes": [],
        "recovered": [],
        "diff": {},
    }


def test_result_is_json_and_a_copy() -> None:
    result = _result.Result()
    assert json.loads(json.dumps(result.as_dict())) == result.as_dict()
    result.as_dict()["changed"] = True
    assert result.changed is False


def test_two_results_share_nothing() -> None:
    _result.Result().warnings.append("x")
    assert _result.Result().warnings == []


def test_situation_speaks_in_small_letters() -> None:
    assert _result.situation("RUNNING", "sealed") == {"container": "running", "checkpoint": "sealed"}


@pytest.mark.parametrize(("action", "changed"), [("dump", True), ("restore", True), ("remove", True), ("none", False)])
def test_plan_changes_something_unless_it_does_nothing(action: str, changed: bool) -> None:
    after = _result.situation("STOPPED", "sealed")
    plan = Plan(action, _result.situation("RUNNING", "absent"), after)
    assert (plan.changed, plan.state) == (changed, "sealed")


def test_error_is_one_message_with_what_and_remedy_and_its_data() -> None:
    error = StasisError("It failed.", "Do this.", rc=3, log_path="/x")
    assert (error.message, str(error), error.data) == ("It failed. Do this.", "It failed.", {"rc": 3, "log_path": "/x"})
    assert StasisError("It failed.").message == "It failed."

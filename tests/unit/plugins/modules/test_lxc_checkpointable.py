# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointable, _relaxations
from ansible_collections.stasis.lxc.plugins.modules import lxc_checkpointable as module

SPEC = _checkpointable.argument_spec()
DOCUMENTATION: dict[str, t.Any] = yaml.safe_load(module.DOCUMENTATION)
RETURN: dict[str, t.Any] = yaml.safe_load(module.RETURN)
EXAMPLES: list[dict[str, t.Any]] = yaml.safe_load(module.EXAMPLES)


def test_every_option_is_documented_and_no_other() -> None:
    assert set(DOCUMENTATION["options"]) == set(SPEC)


@pytest.mark.parametrize("option", sorted(SPEC))
def test_documentation_has_the_type_and_shape_of_the_spec(option: str) -> None:
    documented, spec = DOCUMENTATION["options"][option], SPEC[option]
    for key in ("type", "elements", "choices", "default", "aliases"):
        assert documented.get(key) == spec.get(key), key


def test_every_value_is_documented_and_no_other() -> None:
    assert set(RETURN) == set(_checkpointable.Report.__dataclass_fields__) - {"changed"}


def test_every_relaxation_is_documented_and_no_other() -> None:
    text = DOCUMENTATION["options"]["relax"]["description"][1]
    named = {word for word in re.findall(r"V\(([^)]*)\)", text) if "." not in word} - {"all"}
    assert named == set(_relaxations.IDS)


def test_examples_use_options_that_there_are() -> None:
    tasks = [task for entry in EXAMPLES for task in entry.get("tasks", [entry])]
    used = [task["stasis.lxc.lxc_checkpointable"] for task in tasks if "stasis.lxc.lxc_checkpointable" in task]
    assert len(used) >= 2
    for one in used:
        assert set(one) <= set(SPEC)

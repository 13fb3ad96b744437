# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module says of itself: its options are those that it takes, its examples use no others."""

from __future__ import annotations

import importlib
import typing as t

import pytest
import yaml
from ansible_collections.stasis.lxc.plugins.module_utils import _bounds

NAMES = (
    "criu_info",
    "criu_log_info",
    "lxc_checkpoint",
    "lxc_checkpoint_info",
    "lxc_checkpoint_preflight",
    "lxc_checkpointable",
)


class Taken(BaseException):
    """Carries the spec out of main()."""


def module(name: str) -> t.Any:
    return importlib.import_module(f"ansible_collections.stasis.lxc.plugins.modules.{name}")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    def take(argument_spec: dict[str, t.Any], **_more: object) -> t.NoReturn:
        raise Taken(argument_spec)

    monkeypatch.setattr(module(name), "AnsibleModule", take)
    with pytest.raises(Taken) as taken:
        module(name).main()
    return dict(taken.value.args[0])


def test_every_option_is_documented_and_no_other(name: str, spec: dict[str, t.Any]) -> None:
    assert set(yaml.safe_load(module(name).DOCUMENTATION)["options"]) == set(spec)


def test_every_number_has_bounds_and_they_are_documented(name: str, spec: dict[str, t.Any]) -> None:
    options = yaml.safe_load(module(name).DOCUMENTATION)["options"]
    for option, one in spec.items():
        if one["type"] in ("int", "float") and "choices" not in one:
            bound = _bounds.BOUNDS[option]
            assert f"From {bound.least} to {bound.most}" in " ".join(options[option]["description"]), option


def test_documentation_has_the_type_and_shape_of_the_spec(name: str, spec: dict[str, t.Any]) -> None:
    options = yaml.safe_load(module(name).DOCUMENTATION)["options"]
    for option, one in spec.items():
        for key in ("type", "elements", "choices", "default", "aliases"):
            assert options[option].get(key) == one.get(key), f"{option}: {key}"
        assert bool(options[option].get("required")) == bool(one.get("required")), option


def test_examples_use_options_that_there_are(name: str, spec: dict[str, t.Any]) -> None:
    plays = yaml.safe_load(module(name).EXAMPLES)
    tasks = [task for play in plays for task in play.get("tasks", [play])]
    used = [task[f"stasis.lxc.{name}"] or {} for task in tasks if f"stasis.lxc.{name}" in task]
    assert used
    for one in used:
        assert set(one) <= set(spec)

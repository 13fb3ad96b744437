# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _checkpoint, _kept_code
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._result import Result
from ansible_collections.stasis.lxc.plugins.modules import lxc_checkpoint
from ansible_collections.stasis.lxc.tests.unit.support.each import each

SPEC = _argspec.argument_spec()
DOCUMENTATION: dict[str, t.Any] = yaml.safe_load(lxc_checkpoint.DOCUMENTATION)
OPTIONS: dict[str, dict[str, t.Any]] = DOCUMENTATION["options"]
RETURN: dict[str, t.Any] = yaml.safe_load(lxc_checkpoint.RETURN)
EXAMPLES: list[dict[str, t.Any]] = yaml.safe_load(lxc_checkpoint.EXAMPLES)


def text(option: str) -> str:
    described = OPTIONS[option]["description"]
    return " ".join([described] if isinstance(described, str) else described)


@pytest.mark.parametrize("option", sorted(option for option in SPEC if "options" in SPEC[option]))
def test_documentation_has_the_suboptions_of_the_spec(option: str) -> None:
    documented, spec = OPTIONS[option], SPEC[option]
    suboptions = documented.get("suboptions", {})
    assert set(suboptions) == set(spec.get("options", {}))
    for name, one in spec.get("options", {}).items():
        assert suboptions[name]["type"] == one["type"]
        assert bool(suboptions[name].get("required")) == bool(one.get("required"))


@each("option", sorted(_argspec.APPLIES))
def test_documentation_names_the_states_of_an_option(option: str) -> None:
    named = re.search(r"For (O\(state=\w+\)(?: and O\(state=\w+\))*)", text(option))
    assert named, text(option)
    assert tuple(re.findall(r"state=(\w+)", named.group(1))) == tuple(
        sorted(_argspec.APPLIES[option][0], key=["checkpointed", "restored", "absent"].index)
    )


@each("option", sorted(option for option, row in _argspec.APPLIES.items() if row[1] not in (None, "", [])))
def test_documentation_names_the_default(option: str) -> None:
    default = _argspec.APPLIES[option][1]
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    assert f"the default is V({shown})" in text(option)


@pytest.mark.parametrize("option", sorted(_argspec.REMEMBERED))
def test_documentation_says_what_a_restore_takes_over_from_the_dump(option: str) -> None:
    assert re.search(r"for a restore (?:the default is )?what the dump used", text(option))


def test_documentation_says_of_no_other_option_that_it_is_taken_over() -> None:
    taken_over = {option for option in OPTIONS if "what the dump used" in text(option)}
    assert taken_over == set(_argspec.REMEMBERED)


def test_every_returned_key_is_documented() -> None:
    # Ansible itself documents these.
    own = set(Result().as_dict()) - {"changed", "diff"}
    assert own <= set(RETURN)
    assert set(RETURN) - own <= {"warnings"}
    assert {key: RETURN[key]["returned"] for key in own} == dict.fromkeys(own, "always")


def test_documented_types_of_returned_keys_are_those_of_the_result() -> None:
    types = {"str": str, "int": int, "list": list, "dict": dict}
    for key, empty in Result().as_dict().items():
        if key in RETURN:
            assert empty.__class__ is types[RETURN[key]["type"]], key


@pytest.mark.parametrize(
    "task", [task for task in EXAMPLES if "stasis.lxc.lxc_checkpoint" in task], ids=lambda task: task["name"]
)
def test_example_is_a_task_that_is_accepted(task: dict[str, t.Any]) -> None:
    options = task["stasis.lxc.lxc_checkpoint"]
    assert set(options) <= set(SPEC)
    found = _argspec.wanted({**dict.fromkeys(SPEC), "lxc_path": "/var/lib/lxc", **options})
    assert found.name == options["name"]


def test_every_state_has_an_example() -> None:
    tasks = [task["stasis.lxc.lxc_checkpoint"] for task in EXAMPLES if "stasis.lxc.lxc_checkpoint" in task]
    assert {task["state"] for task in tasks} == {"checkpointed", "restored", "absent"}


class Ended(BaseException):
    """What exit_json and fail_json do instead of ending the process."""

    def __init__(self, failed: bool, answer: dict[str, t.Any]) -> None:
        super().__init__(answer)
        self.failed = failed
        self.answer = answer


class FakeModule:
    """AnsibleModule's part in main()."""

    check_mode = True
    params: t.ClassVar[dict[str, t.Any]] = {"name": "web1"}
    warned: t.ClassVar[list[str]] = []

    def __init__(self, argument_spec: dict[str, t.Any], supports_check_mode: bool) -> None:
        assert argument_spec == SPEC
        assert supports_check_mode

    def warn(self, warning: str) -> None:
        self.warned.append(warning)

    def exit_json(self, **answer: t.Any) -> t.NoReturn:
        raise Ended(False, answer)

    def fail_json(self, **answer: t.Any) -> t.NoReturn:
        raise Ended(True, answer)


class FakeKept:
    """Of the compiled code: how often it was written."""

    kept: t.ClassVar[int] = 0

    def keep(self) -> None:
        FakeKept.kept += 1


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[t.Callable[[], Result]], Ended]:
    def ended(outcome: t.Callable[[], Result]) -> Ended:
        def run(params: dict[str, t.Any], _runner: object, *, check_mode: bool) -> Result:
            assert (params, check_mode) == ({"name": "web1"}, FakeModule.check_mode)
            return outcome()

        monkeypatch.setattr(lxc_checkpoint, "AnsibleModule", FakeModule)
        monkeypatch.setattr(_checkpoint, "run", run)
        monkeypatch.setattr(_kept_code, "use", FakeKept)
        monkeypatch.setattr(FakeKept, "kept", 0)
        monkeypatch.setattr(FakeModule, "warned", [])
        with pytest.raises(Ended) as end:
            lxc_checkpoint.main()
        return end.value

    return ended


def test_success_returns_the_result_and_its_warnings(faked: t.Callable[[t.Callable[[], Result]], Ended]) -> None:
    result = Result(changed=True, action="dump", warnings=["Mind this."])
    end = faked(lambda: result)
    assert (end.failed, end.answer) == (False, result.as_dict())
    assert FakeModule.warned == ["Mind this."]


@pytest.mark.parametrize("check_mode", [True, False])
def test_compiled_code_is_kept_but_not_in_check_mode(
    faked: t.Callable[[t.Callable[[], Result]], Ended], monkeypatch: pytest.MonkeyPatch, check_mode: bool
) -> None:
    monkeypatch.setattr(FakeModule, "check_mode", check_mode)
    faked(Result)
    assert FakeKept.kept == (0 if check_mode else 1)


def test_failure_returns_the_same_keys_and_a_message(faked: t.Callable[[t.Callable[[], Result]], Ended]) -> None:
    def fail() -> Result:
        raise StasisError("It failed.", "Do this.", rc=3, log_errors=["Error (x.c:1): y"])

    end = faked(fail)
    assert end.failed
    assert end.answer.pop("msg") == "It failed. Do this."
    assert end.answer == {**Result().as_dict(), "rc": 3, "log_errors": ["Error (x.c:1): y"]}

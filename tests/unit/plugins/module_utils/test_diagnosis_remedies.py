# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a remedy tells the user to set is what the module takes: the option, its value, its state."""

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _criu_command
from ansible_collections.stasis.lxc.plugins.module_utils._argspec import APPLIES, CHECKPOINTED, RESTORED
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_rules import RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_types import BOTH, DUMP, RESTORE, Rule
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each

SPEC: t.Mapping[str, t.Any] = _argspec.argument_spec()
STATES = {DUMP: (CHECKPOINTED,), RESTORE: (RESTORED,), BOTH: (CHECKPOINTED, RESTORED)}
# Options that are words of English, too, are meant only where they have a value.
UNMISTAKABLE = {option for option in SPEC if "_" in option} | {"nics"}
VALUE = re.compile(r"\b(?P<option>[a-z_]+)(?:: | to )(?P<value>\[[^]]*\]|[a-z]+)(?P<more>(?:(?:, | or )[a-z]+)*)")
BOOLEANS = {"true": True, "false": False}


class Advice(t.NamedTuple):
    """One option that a remedy names. value: empty where it names none."""

    state: str
    option: str
    value: str = ""


def clauses(rule: Rule) -> t.Iterator[tuple[str, tuple[str, ...]]]:
    """The parts of a remedy with the states that each is for: it says so itself, or is for when the rule is."""
    for clause in rule.remedy.rstrip(".").split("; "):
        said = tuple(
            state for state, word in ((CHECKPOINTED, "dump"), (RESTORED, "restore")) if f"at the {word}" in clause
        )
        compares = re.search(r"\bas\b[^,]* at the ", clause)
        yield clause, said if said and not compares else STATES[rule.when]


def values(match: re.Match[str]) -> t.Iterator[str]:
    """`X to A, B or C` names three."""
    yield match["value"]
    choices = SPEC[match["option"]].get("choices", ())
    yield from (word for word in re.split(", | or ", match["more"])[1:] if word in choices)


def advice(rule: Rule) -> set[Advice]:
    found = set()
    for clause, states in clauses(rule):
        given = [match for match in VALUE.finditer(clause) if match["option"] in SPEC]
        for state in states:
            found |= {Advice(state, word) for word in re.findall("[a-z_]+", clause) if word in UNMISTAKABLE}
            found |= {Advice(state, match["option"], value) for match in given for value in values(match)}
    return found


def parameters(one: Advice) -> dict[str, t.Any]:
    """The task with what the remedy says in it."""
    kind = SPEC[one.option]["type"]
    value: t.Any = one.value
    if kind == "list":
        value = one.value.strip("[]").split(", ")
    elif kind == "bool":
        value = BOOLEANS[one.value]
    assert value in SPEC[one.option].get("choices", [value])
    return {
        **dict.fromkeys(APPLIES),
        "name": "web1",
        "state": one.state,
        "directory": "/var/lib/stasis/web1",
        "lxc_path": "/var/lib/lxc",
        one.option: value,
    }


ADVICE = [
    pytest.param(one, id=f"{rule.id}: {one.state} {one.option} {one.value}".rstrip())
    for rule in RULES
    for one in sorted(advice(rule))
]


def test_the_remedies_name_options_values_and_arguments() -> None:
    found = {one for rule in RULES for one in advice(rule)}
    assert len({one.option for one in found}) > 10
    assert Advice(CHECKPOINTED, "network_lock", "skip") in found
    assert Advice(RESTORED, "criu_args", "[--mntns-compat-mode]") in found


@each("one", ADVICE)
def test_what_a_remedy_names_applies_to_the_state_and_is_accepted(one: Advice) -> None:
    assert one.state in APPLIES.get(one.option, ((CHECKPOINTED, RESTORED),))[0]
    if one.value:
        _argspec.wanted(parameters(one))


@pytest.mark.parametrize("rule", [rule for rule in RULES if "criu_args: [" in rule.remedy], ids=lambda rule: rule.id)
def test_arguments_for_criu_that_a_remedy_names_are_not_managed(rule: Rule) -> None:
    for words in re.findall(r"criu_args: \[([^]]*)\]", rule.remedy):
        _criu_command.check_extra_arguments(words.split(", "), "criu_args")


@pytest.mark.parametrize(
    ("when", "remedy"),
    [
        (DUMP, "Set tcp_close to true."),
        (DUMP, "Try again, or tcp_close may help."),
        (BOTH, "Set network_lock to bridge or skip."),
        (RESTORE, "Install it, or restore with network_lock: skip."),
        (DUMP, "At the end; at the restore set network_lock to skip."),
    ],
)
def test_an_option_of_the_other_state_would_be_found(when: str, remedy: str) -> None:
    found = advice(Rule("x", "environment", when, ("x",), "X.", remedy, "x"))
    assert any(one.state not in APPLIES[one.option][0] for one in found)


@pytest.mark.parametrize(
    "remedy",
    [
        "Set criu_args: [--libdir, DIRECTORY].",
        "Set criu_args: [--tcp-close].",
        "Set ghost_limit above it, and network_lock to bridge or skip, or criu_args: [-L, x].",
    ],
)
def test_a_managed_argument_would_be_found(remedy: str) -> None:
    found = advice(Rule("x", "environment", DUMP, ("x",), "X.", remedy, "x"))
    with pytest.raises(StasisError):
        for one in found:
            if one.value:
                _argspec.wanted(parameters(one))

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from dataclasses import fields

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _argspec
from ansible_collections.stasis.lxc.plugins.module_utils._argspec import APPLIES
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import CriuOptions, MountMap
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import params, wanted

STATES = ["checkpointed", "restored", "absent"]
# A value of each option that is not its default.
OTHER: dict[str, t.Any] = {
    "stop": True,
    "prove": True,
    "overwrite": True,
    "force": True,
    "allow_stale": True,
    "allow_unsigned": True,
    "autostart": "inhibit",
    "preflight": "warn",
    "verify": "size",
    "sign_key": "/etc/stasis/sign.pem",
    "verify_key": "/etc/stasis/sign.pub",
    "tcp_established": False,
    "tcp_close": True,
    "skip_in_flight": False,
    "file_locks": False,
    "link_remap": False,
    "force_irmap": False,
    "ghost_limit": 7,
    "external_mounts": [{"target": "/srv/data", "source": "/mnt/data"}],
    "manage_cgroups": "soft",
    "network_lock": "iptables",
    "action_scripts": ["/usr/local/bin/script"],
    "nics": [{"name": "eth0", "bridge": "br1", "veth": None}],
    "lsm_profile": "apparmor:web",
    "criu_args": ["--timeout", "30"],
    "criu_path": "/opt/criu/sbin/criu",
    "criu_config": "/etc/criu/web.conf",
    "verbosity": 1,
    "retries": 5,
    "timeout": 9,
    "kill_timeout": 8,
}
# What each becomes where it is not the value itself.
BECOMES: dict[str, t.Any] = {
    "external_mounts": (MountMap("srv/data", "/mnt/data"),),
    "action_scripts": ("/usr/local/bin/script",),
    "nics": ({"name": "eth0", "bridge": "br1", "veth": None},),
    "criu_args": ("--timeout", "30"),
}
OF_CRIU = {field.name for field in fields(CriuOptions)}
CASES = [(option, state, state in APPLIES[option][0]) for option in sorted(APPLIES) for state in STATES]


def value(found: _argspec.Wanted, option: str) -> t.Any:
    return getattr(found.criu if option in OF_CRIU else found, option)


def test_table_of_states_holds_every_option_but_those_that_always_apply() -> None:
    assert set(_argspec.argument_spec()) - set(APPLIES) == {"name", "state", "directory", "lxc_path"}
    assert set(APPLIES) <= set(_argspec.argument_spec())
    assert set(OTHER) == set(APPLIES)


def test_options_of_the_table_have_no_default_in_the_spec() -> None:
    spec = _argspec.argument_spec()
    assert not [option for option in APPLIES if "default" in spec[option] or spec[option].get("required")]


@each("option", sorted(APPLIES))
def test_default_is_of_the_type_and_among_the_choices_of_the_spec(option: str) -> None:
    spec, default = _argspec.argument_spec()[option], APPLIES[option][1]
    types = {"bool": bool, "int": int, "str": str, "path": str, "list": list}
    assert default is None or default.__class__ is types[spec["type"]]
    assert default is None or default in spec.get("choices", [default])


@each(("option", "state"), [case[:2] for case in CASES if case[2]])
def test_option_is_taken_where_it_applies(option: str, state: str) -> None:
    found = wanted(state=state, **{option: OTHER[option]})
    assert value(found, option) == BECOMES.get(option, OTHER[option])
    assert found.set_options == {option}


@each(("option", "state"), [case[:2] for case in CASES if not case[2]])
def test_option_is_refused_where_it_does_not_apply(option: str, state: str) -> None:
    with pytest.raises(StasisError, match=f"{option} has no meaning with state={state}") as refusal:
        wanted(state=state, **{option: OTHER[option]})
    assert all(f"{other}" in refusal.value.remedy for other in APPLIES[option][0])


@each(("option", "state"), [case[:2] for case in CASES if not case[2] and APPLIES[case[0]][1] is not None])
def test_even_the_default_is_refused_where_the_option_does_not_apply(option: str, state: str) -> None:
    with pytest.raises(StasisError, match="has no meaning"):
        wanted(state=state, **{option: APPLIES[option][1]})


@pytest.mark.parametrize("state", STATES)
def test_task_that_sets_nothing_gets_the_defaults(state: str) -> None:
    found = wanted(state=state)
    assert found.set_options == frozenset()
    for option, (_states, default) in APPLIES.items():
        expected = tuple(default) if isinstance(default, list) else default
        assert value(found, option) == expected, option


def test_defaults_of_criu_are_those_of_the_builder() -> None:
    assert wanted().criu == CriuOptions()


def test_default_that_is_set_counts_as_set() -> None:
    assert wanted(tcp_established=True).set_options == {"tcp_established"}


def test_options_that_a_restore_takes_over_apply_to_both() -> None:
    for option in _argspec.REMEMBERED:
        assert set(APPLIES[option][0]) == {"checkpointed", "restored"}
        assert option in OF_CRIU


@each(
    ("changes", "words"),
    [
        ({"name": "../x"}, "is not a container name"),
        ({"name": "-n"}, "is not a container name"),
        ({"directory": "relative"}, "directory 'relative' is not an absolute path"),
        ({"directory": "/srv/../etc"}, "is not a plain path"),
        ({"directory": "/srv/a b"}, "contains ' '"),
        ({"lxc_path": "var/lib/lxc"}, "lxc_path 'var/lib/lxc' is not an absolute path"),
        ({"criu_path": "criu"}, "criu_path 'criu' is not an absolute path"),
        ({"criu_config": "x.conf"}, "criu_config 'x.conf' is not an absolute path"),
        ({"action_scripts": ["/ok", "/not ok"]}, "action_scripts '/not ok' contains ' '"),
        ({"action_scripts": ["script"]}, "action_scripts 'script' is not an absolute path"),
        ({"sign_key": "sign.pem"}, "sign_key 'sign.pem' is not an absolute path"),
        ({"state": "restored", "verify_key": "/x y"}, "verify_key '/x y' contains ' '"),
        ({"state": "restored", "verify_key": "/x", "verify": "size"}, "verify_key has no meaning with verify=size"),
        (
            {"state": "restored", "verify_key": "/x", "allow_unsigned": True},
            "allow_unsigned has no meaning with verify_key",
        ),
        ({"state": "restored", "verify_key": "/x", "verify": "none"}, "verify_key has no meaning with verify=none"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": 3_000_000}, "timeout is 3000000"),
        ({"kill_timeout": -1}, "kill_timeout is -1"),
        ({"kill_timeout": 86_401}, "kill_timeout is 86401"),
        ({"retries": -1}, "retries is -1"),
        ({"retries": 21}, "retries is 21"),
        ({"ghost_limit": -1}, "ghost_limit is -1"),
        ({"ghost_limit": 1 << 32}, "ghost_limit is 4294967296"),
        ({"criu_args": ["--leave-running"]}, "criu_args may not set --leave-running"),
        ({"criu_args": [""]}, "criu_args contains an empty word"),
        ({"external_mounts": [{"target": "/a:b", "source": "/a"}]}, "has a path with a colon"),
        ({"external_mounts": [{"target": "/a", "source": "/a:b"}]}, "has a path with a colon"),
        ({"external_mounts": [{"target": "/../a", "source": "/a"}]}, "external_mounts target '/../a'"),
        ({"external_mounts": [{"target": "/", "source": "/a"}]}, "external_mounts target '/'"),
        ({"external_mounts": [{"target": "/a", "source": "b"}]}, "external_mounts source 'b' is not an absolute"),
        ({"state": "restored", "lsm_profile": "apparmor:a b"}, "lsm_profile 'apparmor:a b' contains white space"),
        ({"state": "restored", "lsm_profile": "apparmor:a\nb"}, "contains white space"),
    ],
    ids=lambda one: None if isinstance(one, str) else repr(one),
)
def test_bad_value_is_refused_in_one_line(changes: dict[str, t.Any], words: str) -> None:
    with pytest.raises(StasisError) as refusal:
        _argspec.wanted(params(**changes))
    assert words in refusal.value.what
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("target", ["/srv/data", "srv/data", "//srv/data"])
def test_target_of_a_mount_loses_its_leading_slashes_as_liblxc_has_it(target: str) -> None:
    found = wanted(external_mounts=[{"target": target, "source": "/mnt"}])
    assert found.criu.external_mounts == (MountMap("srv/data", "/mnt"),)


def test_ghost_limit_of_zero_is_not_taken_for_unset() -> None:
    assert wanted(ghost_limit=0).criu.ghost_limit == 0

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The options of lxc_checkpoint: their spec, where each applies, and their typed form."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _bounds, _criu_command, _errors, _names, _retry

CHECKPOINTED = "checkpointed"
RESTORED = "restored"
ABSENT = "absent"

# The option of the module, the states it applies to, its default. One table: the spec, the refusal of options that
# do not apply and the defaults come from it, and a unit test holds the documentation to it.
_DUMP = (CHECKPOINTED,)
_BACK = (RESTORED,)
_BOTH = (CHECKPOINTED, RESTORED)
APPLIES: dict[str, tuple[tuple[str, ...], t.Any]] = {
    "stop": (_DUMP, False),
    # None: with stop.
    "prove": (_DUMP, None),
    "overwrite": (_DUMP, False),
    "autostart": (_DUMP, "refuse"),
    "preflight": (_DUMP, "refuse"),
    "network_lock": (_DUMP, "auto"),
    "skip_in_flight": (_DUMP, True),
    "force_irmap": (_DUMP, True),
    "ghost_limit": (_DUMP, None),
    "force": ((RESTORED, ABSENT), False),
    "allow_stale": (_BACK, False),
    "allow_unsigned": (_BACK, False),
    "tcp_close": (_BACK, False),
    "nics": (_BACK, []),
    "lsm_profile": (_BACK, ""),
    "verify": (_BACK, "full"),
    "sign_key": (_DUMP, ""),
    "verify_key": (_BACK, ""),
    "tcp_established": (_BOTH, True),
    "file_locks": (_BOTH, True),
    "link_remap": (_BOTH, True),
    "manage_cgroups": (_BOTH, "full"),
    "external_mounts": (_BOTH, []),
    "action_scripts": (_BOTH, []),
    "criu_args": (_BOTH, []),
    "criu_config": (_BOTH, ""),
    "criu_path": (_BOTH, ""),
    "verbosity": (_BOTH, 4),
    "retries": (_BOTH, _retry.DEFAULT_RETRIES),
    "timeout": (_BOTH, 300),
    "kill_timeout": (_BOTH, 60),
}

# Options that a restore takes over from the dump where the task does not set them.
REMEMBERED = ("tcp_established", "file_locks", "link_remap", "manage_cgroups", "external_mounts")


def argument_spec() -> dict[str, t.Any]:
    """The argument spec. Options that apply to some states only have no default there, so that a task that sets
    one where it does not apply can be told from one that does not; their defaults are in APPLIES."""
    return {
        "name": {"type": "str", "required": True, "aliases": ["container"]},
        "state": {"type": "str", "required": True, "choices": [CHECKPOINTED, RESTORED, ABSENT]},
        "directory": {"type": "str", "required": True, "aliases": ["checkpoint_dir"]},
        "lxc_path": {"type": "str", "default": "/var/lib/lxc"},
        "stop": {"type": "bool"},
        "prove": {"type": "bool"},
        "overwrite": {"type": "bool"},
        "force": {"type": "bool"},
        "allow_stale": {"type": "bool"},
        "allow_unsigned": {"type": "bool"},
        "autostart": {"type": "str", "choices": ["refuse", "inhibit", "ignore"]},
        "preflight": {"type": "str", "choices": ["refuse", "warn"]},
        "verify": {"type": "str", "choices": ["full", "size", "none"]},
        # Paths, no secrets.
        "sign_key": {"type": "path", "no_log": False},
        "verify_key": {"type": "path", "no_log": False},
        "tcp_established": {"type": "bool"},
        "tcp_close": {"type": "bool"},
        "skip_in_flight": {"type": "bool"},
        "file_locks": {"type": "bool"},
        "link_remap": {"type": "bool"},
        "force_irmap": {"type": "bool"},
        "ghost_limit": {"type": "int"},
        "external_mounts": {
            "type": "list",
            "elements": "dict",
            "options": {
                "target": {"type": "str", "required": True},
                "source": {"type": "path", "required": True},
            },
        },
        "manage_cgroups": {"type": "str", "choices": list(_criu_command.MANAGE_CGROUPS)},
        "network_lock": {"type": "str", "choices": ["auto", "bridge", "nftables", "iptables", "skip"]},
        "action_scripts": {"type": "list", "elements": "path"},
        "nics": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "bridge": {"type": "str"},
                "veth": {"type": "str"},
            },
        },
        "lsm_profile": {"type": "str"},
        "criu_args": {"type": "list", "elements": "str"},
        "criu_path": {"type": "path"},
        "criu_config": {"type": "path"},
        "verbosity": {"type": "int", "choices": [0, 1, 2, 3, 4]},
        "retries": {"type": "int"},
        "timeout": {"type": "int"},
        "kill_timeout": {"type": "int"},
    }


@dataclass(frozen=True)
class Wanted:
    """What a task wants, checked and with defaults.

    set_options: the names that the task set itself. real_directory: directory without symbolic links above it.
    timeout: seconds until the hook makes CRIU roll back;
    kill_timeout: seconds from then until CRIU is killed.
    """

    name: str
    state: str
    directory: str
    lxc_path: str
    criu: _criu_command.CriuOptions
    set_options: frozenset[str]
    stop: bool
    prove: bool | None
    overwrite: bool
    force: bool
    allow_stale: bool
    allow_unsigned: bool
    autostart: str
    preflight: str
    verify: str
    sign_key: str
    verify_key: str
    network_lock: str
    action_scripts: tuple[str, ...]
    nics: tuple[dict[str, t.Any], ...]
    criu_path: str
    retries: int
    timeout: int
    kill_timeout: int
    real_directory: str = ""

    @property
    def proves(self) -> bool:
        """Whether the image is to be restored on trial: where nothing is said, if it stops the container."""
        return self.stop if self.prove is None else self.prove


def wanted(params: t.Mapping[str, t.Any]) -> Wanted:
    """The task's parameters as a Wanted. Raises StasisError for the first that is not acceptable."""
    state = params["state"]
    given = {option for option in APPLIES if params.get(option) is not None}
    for option in sorted(given):
        states = APPLIES[option][0]
        if state not in states:
            raise _errors.StasisError(
                f"{option} has no meaning with state={state}.", f"Leave it out; it is for state={' and '.join(states)}."
            )
    value = {option: params[option] if option in given else row[1] for option, row in APPLIES.items()}
    _names.check_name(params["name"])
    _names.check_path(params["directory"], "directory")
    _names.check_path(params["lxc_path"], "lxc_path")
    for option in ("criu_path", "criu_config", "sign_key", "verify_key"):
        if value[option]:
            _names.check_path(value[option], option)
    for script in value["action_scripts"]:
        _names.check_path(script, "action_scripts")
    for option in _bounds.BOUNDS:
        _bounds.check(option, value[option])
    if value["verify_key"] and value["verify"] != "full":
        raise _errors.StasisError(
            f"verify_key has no meaning with verify={value['verify']}.",
            "A signature covers the hashes of the files, so leave verify at full.",
        )
    if value["verify_key"] and value["allow_unsigned"]:
        raise _errors.StasisError(
            "allow_unsigned has no meaning with verify_key, which asks for a signature.", "Leave one of them out."
        )
    _criu_command.check_extra_arguments(value["criu_args"], "criu_args")
    return Wanted(
        name=params["name"],
        state=state,
        directory=params["directory"],
        lxc_path=params["lxc_path"],
        criu=_criu_command.CriuOptions(
            tcp_established=value["tcp_established"],
            tcp_close=value["tcp_close"],
            skip_in_flight=value["skip_in_flight"],
            file_locks=value["file_locks"],
            link_remap=value["link_remap"],
            force_irmap=value["force_irmap"],
            ghost_limit=value["ghost_limit"],
            manage_cgroups=value["manage_cgroups"],
            external_mounts=tuple(_mount(one) for one in value["external_mounts"]),
            lsm_profile=_word(value["lsm_profile"], "lsm_profile"),
            criu_args=tuple(value["criu_args"]),
            criu_config=value["criu_config"],
            verbosity=value["verbosity"],
        ),
        set_options=frozenset(given),
        stop=value["stop"],
        prove=value["prove"],
        overwrite=value["overwrite"],
        force=value["force"],
        allow_stale=value["allow_stale"],
        allow_unsigned=value["allow_unsigned"],
        autostart=value["autostart"],
        preflight=value["preflight"],
        verify=value["verify"],
        sign_key=value["sign_key"],
        verify_key=value["verify_key"],
        network_lock=value["network_lock"],
        action_scripts=tuple(value["action_scripts"]),
        nics=tuple(value["nics"]),
        criu_path=value["criu_path"],
        retries=value["retries"],
        timeout=value["timeout"],
        kill_timeout=value["kill_timeout"],
    )


def _mount(one: t.Mapping[str, str]) -> _criu_command.MountMap:
    return _criu_command.MountMap(*_names.check_mount(one["target"], one["source"]))


def _word(text: str, option: str) -> str:
    if any(char.isspace() or ord(char) < 32 for char in text):
        raise _errors.StasisError(f"{option} {text!r} contains white space.", "Give it as LSM:PROFILE.")
    return text

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The result of lxc_checkpoint: one structure, the same keys on success and on failure."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

DUMP = "dump"
RESTORE = "restore"
REMOVE = "remove"
NONE = "none"
# Of a state that could not be found out.
UNKNOWN = "unknown"
ABSENT = "absent"
NO_PID = -1


@dataclass
class Result:
    """What the task answers.

    action: what was done, or in check mode would be: dump, restore, remove or none. state: the state of the
    checkpoint directory afterwards. container_state: LXC's word for the container's, in lower case. command: the argv that
    ran or would run. stats: CRIU's, times in µs. proof: what a trial restore has shown, empty where none was made.
    lost: what the container had before the dump and has not, or has otherwise, after the restore.
    findings: of the preflight. diagnoses: on failure, the causes. retried: the tries before the last one.
    """

    changed: bool = False
    action: str = NONE
    state: str = UNKNOWN
    container_state: str = UNKNOWN
    checkpoint: dict[str, t.Any] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    stats: dict[str, int] = field(default_factory=dict)
    init_pid: int = NO_PID
    log_path: str = ""
    log_errors: list[str] = field(default_factory=list)
    proof: dict[str, t.Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    findings: list[dict[str, t.Any]] = field(default_factory=list)
    diagnoses: list[dict[str, t.Any]] = field(default_factory=list)
    retried: list[dict[str, t.Any]] = field(default_factory=list)
    rc: int = 0
    stale_reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    diff: dict[str, t.Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, t.Any]:
        """For exit_json or fail_json; the warnings go their own way, through AnsibleModule.warn()."""
        return {key: value for key, value in vars(self).items() if key != "warnings"}


# What an error takes along from a result that it cut short; the rest is looked at again.
_KEPT = ("command", "findings", "stale_reasons", "warnings", "diff")


@contextlib.contextmanager
def kept(result: Result) -> t.Iterator[None]:
    """Give what a result has so far to a StasisError that cuts it short, so that a failed task tells it too."""
    try:
        yield
    except _errors.StasisError as exc:
        for key in _KEPT:
            exc.data.setdefault(key, getattr(result, key))
        raise


@contextlib.contextmanager
def after_recovery(recovered: list[str]) -> t.Iterator[None]:
    """Give a StasisError the lines about what was put right before it."""
    try:
        yield
    except _errors.StasisError as exc:
        exc.data["recovered"] = recovered + exc.data.get("recovered", [])
        exc.data["changed"] = bool(recovered)
        raise


def situation(container: str, image: str) -> dict[str, str]:
    """One side of the diff."""
    return {"container": container.lower(), "checkpoint": image}

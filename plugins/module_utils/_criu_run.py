# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a dump and a restore have in common: the environment of CRIU, what the hook said, and how a failure is told."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _runner, _workspace

if t.TYPE_CHECKING:
    from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis_types


def environment(wanted: _argspec.Wanted, work: _workspace.Workspace) -> dict[str, str]:
    """What CRIU and our hook get on both ways. CRIU_CONFIG_FILE is not among it: the recorded argv is the truth."""
    found = _runner.clean_environment(
        STASIS_WORK=work.path, STASIS_DEADLINE=str(int(time.clock_gettime(time.CLOCK_BOOTTIME)) + wanted.timeout)
    )
    if wanted.action_scripts:
        found["STASIS_SCRIPTS"] = work.write_lines("scripts", wanted.action_scripts)
    return found


# A container can have hundreds of cgroups, and each may have limits that cannot be set.
_MOST_WARNINGS = 10


class Said(t.NamedTuple):
    """What the hook has written down. refused: why it had CRIU roll back. warnings: what it could not do and went on without."""

    refused: list[str]
    warnings: list[str]


def hook_said(work: str) -> Said:
    """Read what the hook has said in the run with this work directory; to be called when CRIU has ended."""
    refused, warnings = (_lines(os.path.join(work, name)) for name in ("hook.refused", "hook.warnings"))
    told = [f"The hook could not do everything: {line}" for line in warnings[:_MOST_WARNINGS]]
    if len(warnings) > len(told):
        told.append(f"{len(warnings) - len(told)} more of these are in {work}/hook.warnings.")
    return Said(refused, told)


def diagnose(text: str, said: Said) -> list[_diagnosis_types.Diagnosis]:
    """The causes that a log names, without the hook's exit codes that CRIU ignores: those come with a warning."""
    # Here, as in the other places where something has failed: most tasks need none of the rules.
    from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis

    found = _diagnosis.diagnose(text)
    if said.warnings and not said.refused:
        found = [one for one in found if one.id != "hook_failed"]
    return found


def _lines(path: str) -> list[str]:
    # A cgroup's name, which the container chooses, may have anything in it.
    text = _workspace.read_text(path, 1 << 20)
    lines = ["".join(one if one.isprintable() else "?" for one in line) for line in text.split("\n")]
    return list(dict.fromkeys(line for line in lines if line))


def cause_of(diagnoses: t.Sequence[_diagnosis_types.Diagnosis], errors: t.Sequence[str]) -> str:
    """The likeliest cause in a sentence, with the line that says so; "" where the log says nothing."""
    if diagnoses:
        return f"{diagnoses[0].cause} The log says: {diagnoses[0].evidence}"
    return f"CRIU: {errors[0]}" if errors else ""

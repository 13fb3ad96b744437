# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a dump and a restore have in common: the environment of CRIU, and how its failure is told."""

from __future__ import annotations

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


def cause_of(diagnoses: t.Sequence[_diagnosis_types.Diagnosis], errors: t.Sequence[str]) -> str:
    """The likeliest cause in a sentence, with the line that says so; "" where the log says nothing."""
    if diagnoses:
        return f"{diagnoses[0].cause} The log says: {diagnoses[0].evidence}"
    return f"CRIU: {errors[0]}" if errors else ""

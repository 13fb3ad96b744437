# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""state=absent: a checkpoint that nobody needs any more goes."""

from __future__ import annotations

import os

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _autostart,
    _image,
    _interrupted,
    _plan_remove,
    _recover,
    _result,
    _runner,
    _situation,
)


def remove(wanted: _argspec.Wanted, runner: _runner.Runner, *, check_mode: bool) -> _result.Result:
    """Carry it out, or in check mode up to its plan. Raises StasisError."""
    container = None
    if os.path.lexists(os.path.join(wanted.lxc_path, wanted.name, "config")):
        container, recovered = _interrupted.recover(wanted, runner, None, act=not check_mode)
    else:
        recovered = _recover.recover(
            wanted.directory, wanted.name, wanted.lxc_path, None, act=not check_mode, runner=runner
        )
    with _result.after_recovery(recovered):
        image = _situation.look(wanted, container, check_mode=check_mode)
        stale = _situation.stale_reasons(container, image) if container else ["The container does not exist any more."]
        plan = _plan_remove.plan_remove(container.state if container else "", image, wanted, stale)
        result = _situation.result_of(plan, image, container)
        with _result.kept(result):
            if plan.action != _result.NONE and not check_mode:
                _image.remove(wanted.directory)
                if container and (image.manifest or {}).get("autostart_inhibited"):
                    # What it was switched off for does not exist any more.
                    _autostart.allow((image.manifest or {})["autostart_units"], container.config_path, runner)
    result.recovered = recovered
    result.changed = result.changed or bool(recovered)
    if plan.action != _result.NONE:
        result.checkpoint = {}
    return result

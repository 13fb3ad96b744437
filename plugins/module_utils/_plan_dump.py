# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Decide what state=checkpointed does. Pure: observed and wanted in, plan out, or a refusal raised."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _container, _errors, _image, _plan, _result


def plan_dump(
    container: _container.Container, image: _image.Image, wanted: _argspec.Wanted, stale: t.Sequence[str]
) -> _plan.Plan:
    """What state=checkpointed does. stale: why the image there is not fresh (empty: it is, or there is none)."""
    _plan.check_owner(image, wanted)
    before = _result.situation(container.state, image.state)
    have = image.state == _image.SEALED
    if container.state == _container.STOPPED:
        return _plan_stopped(container, image, wanted, stale)
    if have and not wanted.stop and not wanted.overwrite:
        return _plan.Plan(_result.NONE, before, before, stale_reasons=tuple(stale))
    if container.state == _container.FROZEN:
        raise _errors.StasisError(
            f"{container.name} is frozen, and CRIU would wait for it for ever.",
            f"Run lxc-unfreeze -n {container.name} first.",
        )
    if container.state != _container.RUNNING or container.init is None:
        raise _errors.StasisError(f"{container.name} is {container.state}.", "Wait until it is RUNNING or STOPPED.")
    # One whose manifest cannot be read may be another container's.
    if image.state == _image.DAMAGED and not (wanted.overwrite or (wanted.stop and image.manifest)):
        raise _errors.StasisError(
            f"The checkpoint in {image.path} is damaged: {image.problem}",
            "Set overwrite: true to replace it, or remove it.",
        )
    check_dumpable(container, wanted)
    after = _result.situation(_container.STOPPED if wanted.stop else _container.RUNNING, _image.SEALED)
    starters = container.autostart.reasons
    inhibit = wanted.stop and wanted.autostart == "inhibit" and bool(starters)
    warnings = []
    if wanted.stop and wanted.autostart == "ignore" and starters:
        warnings.append(
            f"{container.name} is started by {' and '.join(starters)}; a start makes the checkpoint stale before it is restored."
        )
    if container.outsiders and not wanted.stop:
        warnings.append(
            f"Not in the checkpoint: {_list_outsiders(container)}, which lxc-attach put beside the container."
        )
    return _plan.Plan(_result.DUMP, before, after, inhibit=inhibit, warnings=tuple(warnings))


def _plan_stopped(
    container: _container.Container, image: _image.Image, wanted: _argspec.Wanted, stale: t.Sequence[str]
) -> _plan.Plan:
    before = _result.situation(container.state, image.state)
    if image.state == _image.ABSENT:
        raise _errors.StasisError(
            f"{container.name} is not running, and there is no checkpoint in {image.path}.",
            "Start the container first.",
        )
    if image.state != _image.SEALED:
        raise _errors.StasisError(
            f"{container.name} is not running, and the checkpoint in {image.path} is {image.state}: {image.problem}",
            "Start the container and make a new checkpoint.",
        )
    created = image.manifest["created"] if image.manifest else ""
    if wanted.overwrite and not wanted.stop:
        raise _errors.StasisError(
            f"{container.name} is not running, so it cannot be dumped anew.", "Start it, or leave out overwrite."
        )
    if wanted.stop and stale:
        raise _errors.StasisError(
            f"{container.name} is not running, and the checkpoint in {image.path}, made {created}, is stale: {' '.join(stale)}",
            "Start the container to checkpoint it as it is now.",
            stale_reasons=list(stale),
        )
    return _plan.Plan(_result.NONE, before, before, stale_reasons=tuple(stale))


def check_dumpable(container: _container.Container, wanted: _argspec.Wanted) -> None:
    """Everything known before the freeze that would lose something or fail."""
    if wanted.stop and container.ephemeral:
        raise _errors.StasisError(
            f"{container.name} is ephemeral: LXC destroys it when it stops.",
            "Set lxc.ephemeral = 0, or leave out stop.",
        )
    if wanted.stop and wanted.autostart == "refuse" and container.autostart.reasons:
        raise _errors.StasisError(
            f"{container.name} would be started by {' and '.join(container.autostart.reasons)}, which makes the checkpoint stale.",
            "Set autostart: inhibit to switch that off until the restore, or autostart: ignore.",
        )
    problems = [problem for nic in container.nics for problem in nic.problems]
    if problems:
        raise _errors.StasisError(
            f"{container.name}: {' '.join(problems)}", "Nothing was frozen; change the network device first."
        )
    if wanted.stop and container.outsiders:
        raise _errors.StasisError(
            f"{container.name} has processes that are not children of its init: {_list_outsiders(container)}.",
            "End the lxc-attach sessions first; CRIU would not dump them and they would be killed.",
        )
    if f"{wanted.real_directory or wanted.directory}/".startswith(tuple(f"{own}/" for own in container.own_paths)):
        raise _errors.StasisError(
            f"{wanted.directory} is inside the container's own directory.",
            "Keep checkpoints outside of it, where lxc-destroy leaves them.",
        )


def _list_outsiders(container: _container.Container) -> str:
    return ", ".join(f"{one.command} (pid {one.pid})" for one in container.outsiders[:5])

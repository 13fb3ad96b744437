# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Decide what state=restored does. Pure: observed and wanted in, plan out, or a refusal raised."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _container, _errors, _image, _plan, _result


def plan_restore(
    container: _container.Container, image: _image.Image, wanted: _argspec.Wanted, stale: t.Sequence[str], boot_id: str
) -> _plan.Plan:
    """What state=restored does. stale: why the image is not fresh; boot_id: of this host now."""
    before = _result.situation(container.state, image.state)
    if image.state == _image.ABSENT:
        raise _errors.StasisError(f"There is no checkpoint in {image.path}.", "Name the directory of a checkpoint.")
    _plan.check_owner(image, wanted)
    if image.state != _image.SEALED:
        raise _errors.StasisError(
            f"The checkpoint in {image.path} is {image.state}: {image.problem or 'it was never completed.'}",
            "Restore from another checkpoint.",
        )
    if container.state != _container.STOPPED and was_restored_from(container, image, boot_id):
        if container.state == _container.FROZEN:
            raise _errors.StasisError(
                f"{container.name} was restored from {image.path}, and is frozen.",
                f"Run lxc-unfreeze -n {container.name}.",
            )
        return _plan.Plan(_result.NONE, before, before)
    if not (image.made_here or wanted.verify_key or wanted.allow_unsigned):
        raise _errors.StasisError(
            f"The checkpoint in {image.path} is not signed with a verify_key of this task, and nothing proves that this host "
            "made it (manifest.host).",
            "Name the key of its signer in verify_key, or set allow_unsigned: true if nobody else can have written it "
            "(for a checkpoint of an older version of stasis.lxc, for example).",
        )
    running = container.state != _container.STOPPED
    if running and not wanted.force:
        raise _errors.StasisError(
            f"{container.name} is {container.state} and was not restored from {image.path}.",
            "Stop it first, or set force: true to have it stopped; what it does now is lost then.",
            stale_reasons=list(stale),
        )
    if stale and not wanted.allow_stale:
        raise _errors.StasisError(
            f"The checkpoint in {image.path} is not fresh: {' '.join(stale)}",
            "Restoring old memory onto newer files destroys data; set allow_stale: true only where that is acceptable.",
            stale_reasons=list(stale),
        )
    return _plan.Plan(
        _result.RESTORE,
        before,
        _result.situation(_container.RUNNING, _image.SEALED),
        stop_first=running,
        stale_reasons=tuple(stale),
    )


def was_restored_from(container: _container.Container, image: _image.Image, boot_id: str) -> bool:
    """Whether the running container is the one that was last resumed from this image: boot, init pid, start time."""
    if container.init is None or not image.consumed:
        return False
    last = image.consumed[-1]
    return (last.boot_id, last.init_pid, last.init_start) == (boot_id, container.init.pid, container.init.start)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Decide what state=restored does. Pure: observed and wanted in, plan out, or a refusal raised."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _container, _image, _result
from ansible_collections.stasis.lxc.plugins.module_utils._argspec import Wanted
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._image import Image
from ansible_collections.stasis.lxc.plugins.module_utils._plan import Plan, check_owner


def plan_restore(container: Container, image: Image, wanted: Wanted, stale: t.Sequence[str], boot_id: str) -> Plan:
    """What state=restored does. stale: why the image is not fresh; boot_id: of this host now."""
    before = _result.situation(container.state, image.state)
    if image.state == _image.ABSENT:
        raise StasisError(f"There is no checkpoint in {image.path}.", "Name the directory of a checkpoint.")
    check_owner(image, wanted)
    if image.state != _image.SEALED:
        raise StasisError(
            f"The checkpoint in {image.path} is {image.state}: {image.problem or 'it was never completed.'}",
            "Restore from another checkpoint.",
        )
    if container.state != _container.STOPPED and was_restored_from(container, image, boot_id):
        if container.state == _container.FROZEN:
            raise StasisError(
                f"{container.name} was restored from {image.path}, and is frozen.",
                f"Run lxc-unfreeze -n {container.name}.",
            )
        return Plan(_result.NONE, before, before)
    running = container.state != _container.STOPPED
    if running and not wanted.force:
        raise StasisError(
            f"{container.name} is {container.state} and was not restored from {image.path}.",
            "Stop it first, or set force: true to have it stopped; what it does now is lost then.",
            stale_reasons=list(stale),
        )
    if stale and not wanted.allow_stale:
        raise StasisError(
            f"The checkpoint in {image.path} is not fresh: {' '.join(stale)}",
            "Restoring old memory onto newer files destroys data; set allow_stale: true only where that is acceptable.",
            stale_reasons=list(stale),
        )
    return Plan(
        _result.RESTORE,
        before,
        _result.situation(_container.RUNNING, _image.SEALED),
        stop_first=running,
        stale_reasons=tuple(stale),
    )


def was_restored_from(container: Container, image: Image, boot_id: str) -> bool:
    """Whether the running container is the one that was last resumed from this image: boot, init pid, start time."""
    if container.init is None or not image.consumed:
        return False
    last = image.consumed[-1]
    return (last.boot_id, last.init_pid, last.init_start) == (boot_id, container.init.pid, container.init.start)

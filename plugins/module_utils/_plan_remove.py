# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Decide what state=absent does. Pure: observed and wanted in, plan out, or a refusal raised."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _container, _errors, _image, _plan, _result


def plan_remove(state: str, image: _image.Image, wanted: _argspec.Wanted, stale: t.Sequence[str]) -> _plan.Plan:
    """What state=absent does. state: the container's, or "" where LXC does not have it any more."""
    before = _result.situation(state or "absent", image.state)
    if image.state == _image.ABSENT:
        return _plan.Plan(_result.NONE, before, before)
    _plan.check_owner(image, wanted)
    if (
        state == _container.STOPPED
        and image.state in (_image.SEALED, _image.COMMITTED)
        and not stale
        and not wanted.force
    ):
        raise _errors.StasisError(
            f"{image.path} is the only fresh checkpoint of {wanted.name}, which is stopped: its running state would be lost.",
            "Restore it first, or set force: true.",
        )
    return _plan.Plan(_result.REMOVE, before, _result.situation(state or "absent", _image.ABSENT))

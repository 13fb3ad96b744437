# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Decide what state=absent does. Pure: observed and wanted in, plan out, or a refusal raised."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _container, _image, _result
from ansible_collections.stasis.lxc.plugins.module_utils._argspec import Wanted
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._image import Image
from ansible_collections.stasis.lxc.plugins.module_utils._plan import Plan, check_owner


def plan_remove(state: str, image: Image, wanted: Wanted, stale: t.Sequence[str]) -> Plan:
    """What state=absent does. state: the container's, or "" where LXC does not have it any more."""
    before = _result.situation(state or "absent", image.state)
    if image.state == _image.ABSENT:
        return Plan(_result.NONE, before, before)
    check_owner(image, wanted)
    if (
        state == _container.STOPPED
        and image.state in (_image.SEALED, _image.COMMITTED)
        and not stale
        and not wanted.force
    ):
        raise StasisError(
            f"{image.path} is the only fresh checkpoint of {wanted.name}, which is stopped: its running state would be lost.",
            "Restore it first, or set force: true.",
        )
    return Plan(_result.REMOVE, before, _result.situation(state or "absent", _image.ABSENT))

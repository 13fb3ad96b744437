# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a plan is, and the refusal that all of them share."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _errors, _image, _result


@dataclass(frozen=True)
class Plan:
    """What will be done.

    action: of _result. before, after: for the diff. stop_first: a running container is stopped before a restore.
    inhibit: its autostart is switched off with the dump. state: of the directory afterwards.
    """

    action: str
    before: t.Mapping[str, str]
    after: t.Mapping[str, str]
    stop_first: bool = False
    inhibit: bool = False
    warnings: tuple[str, ...] = ()
    stale_reasons: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything will be different."""
        return self.action != _result.NONE

    @property
    def state(self) -> str:
        """The state of the checkpoint directory when it is done."""
        return self.after["checkpoint"]


def check_owner(image: _image.Image, wanted: _argspec.Wanted) -> None:
    """Refuse a directory that is not ours or belongs to another container."""
    if image.state == _image.FOREIGN:
        raise _errors.StasisError(
            f"{image.path} is not a checkpoint. {image.problem}",
            "Name a directory that is absent or holds a checkpoint.",
        )
    known = image.manifest is not None or image.draft is not None
    if known and not image.belongs_to(wanted.name, wanted.lxc_path):
        raise _errors.StasisError(
            f"{image.path} is a checkpoint of {image.owner}, not of {wanted.name} in {wanted.lxc_path}.",
            "Name its own directory for each container.",
        )

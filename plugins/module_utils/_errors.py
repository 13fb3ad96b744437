# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The one exception that crosses the rooms of the house."""

from __future__ import annotations

import typing as t


class StasisError(Exception):
    """Something is refused or has failed.

    what: one line that says what is wrong.
    remedy: one line that says what to do about it.
    data: facts for the result (`rc`, `log_path`, `stale_reasons` ...); JSON types only,
    and never anything out of a container's memory.
    """

    def __init__(self, what: str, remedy: str = "", **data: t.Any) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.data = data

    @property
    def message(self) -> str:
        """Both lines as one message, for C(msg)."""
        return f"{self.what} {self.remedy}".strip()


class RecordError(StasisError):
    """A record of a checkpoint holds what this collection never writes. file: its name. field: the part that is wrong.

    value: shown in the message, with what no terminal or log could take spelled out: whoever made the checkpoint chose it.
    """

    def __init__(
        self,
        file: str,
        field: str,
        value: object,
        remedy: str = "Use another checkpoint; nothing was done with this one.",
    ) -> None:
        super().__init__(f"{file} has no valid {field!r}: {ascii(value)[:160]}.", remedy)
        self.file = file
        self.field = field

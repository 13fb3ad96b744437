# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The bounds of every number that a module takes. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors


class Bound(t.NamedTuple):
    """The least and the most that an option may be. unit: for the message, "" for a mere number."""

    least: int
    most: int
    unit: str = ""


# poll(2) takes milliseconds in 31 bits, and both timeouts are added; CRIU keeps the limit of a ghost file in 32 bits.
BOUNDS = {
    "timeout": Bound(1, 604_800, "seconds"),
    "kill_timeout": Bound(1, 86_400, "seconds"),
    # Each try holds the container still for a moment.
    "retries": Bound(0, 20),
    "ghost_limit": Bound(0, 4_294_967_295, "bytes"),
}


def check(option: str, value: int | None) -> None:
    """Raise StasisError where an option that is set is outside its bounds."""
    bound = BOUNDS[option]
    if value is not None and not bound.least <= value <= bound.most:
        of_unit = f" of {bound.unit}" if bound.unit else ""
        raise _errors.StasisError(
            f"{option} is {value}.", f"Give a whole number{of_unit} from {bound.least} to {bound.most}."
        )

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a bridge port has that a fresh port has not."""

from __future__ import annotations


def read_port(veth: str, sysfs: str = "/sys") -> dict[str, str]:
    """The attributes of a bridge port, by their names in sysfs, whose values are not a fresh port's."""
    return {}

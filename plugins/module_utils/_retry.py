# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether to try again, and after how long; pure."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis_types


DEFAULT_RETRIES = 2
# Netlink messages, accepts and exits are a matter of milliseconds; a service that starts takes seconds.
FIRST_DELAY = 0.5
LONGEST_DELAY = 4.0


def decide(diagnoses: t.Sequence[_diagnosis_types.Diagnosis], attempt: int, retries: int = DEFAULT_RETRIES) -> bool:
    """Whether to try again after the attempt-th try, counted from 1, has failed with these causes."""
    # Here, as in the other places where something has failed: most tasks need none of the rules.
    from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis

    return attempt <= retries and _diagnosis.is_transient(diagnoses)


def delay(attempt: int) -> float:
    """Seconds to wait after the attempt-th try, counted from 1: each time twice as long."""
    # min() before the power: an absurd number of retries must not make an absurd float.
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(max(attempt, 1) - 1, 16))

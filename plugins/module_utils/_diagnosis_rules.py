# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Everything that is known to go wrong, as data: one entry a rule. docs/diagnoses.md is made from it."""

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _diagnosis_dump,
    _diagnosis_host,
    _diagnosis_image,
    _diagnosis_network,
    _diagnosis_restore,
    _diagnosis_sockets,
    _diagnosis_tasks,
    _diagnosis_types,
)

# For one line of a log the first rule that fits counts, so the special stand before the general.
RULES: tuple[_diagnosis_types.Rule, ...] = (
    *_diagnosis_dump.DUMP_RULES,
    *_diagnosis_sockets.SOCKET_RULES,
    *_diagnosis_tasks.TASK_RULES,
    *_diagnosis_image.IMAGE_RULES,
    *_diagnosis_restore.RESTORE_RULES,
    *_diagnosis_network.NETWORK_RULES,
    *_diagnosis_host.HOST_RULES,
)

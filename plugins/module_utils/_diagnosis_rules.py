# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Everything that is known to go wrong, as data: one entry a rule. docs/diagnoses.md is made from it."""

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_dump import DUMP_RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_host import HOST_RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_image import IMAGE_RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_network import NETWORK_RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_restore import RESTORE_RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_sockets import SOCKET_RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_tasks import TASK_RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_types import Rule

# For one line of a log the first rule that fits counts, so the special stand before the general.
RULES: tuple[Rule, ...] = (
    *DUMP_RULES,
    *SOCKET_RULES,
    *TASK_RULES,
    *IMAGE_RULES,
    *RESTORE_RULES,
    *NETWORK_RULES,
    *HOST_RULES,
)

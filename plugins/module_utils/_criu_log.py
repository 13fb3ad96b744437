# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The lines of a log that say what went wrong."""

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils import _log_lines

MOST_LINES = 20


def error_lines(text: str) -> list[str]:
    """The lines that say what went wrong, literally and in their order.

    text: dump.log, restore.log, or standard error and log of lxc-checkpoint. Out come at most 20 lines of at most 500
    characters: lines that CRIU writes on success too are left out, and so are repetitions and all that only
    follows from an earlier line. Where nothing else is left, what follows is kept. Characters that would upset a
    terminal become `?`.
    """
    return _log_lines.errors(text.split("\n"), MOST_LINES)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of options in docs/options.md says what the module does."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from ansible_collections.stasis.lxc.plugins.module_utils._argspec import APPLIES, argument_spec

STATES = ("checkpointed", "restored", "absent")
ROW = re.compile(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|", re.MULTILINE)


def documented() -> dict[str, tuple[str, ...]]:
    text = (Path(__file__).parents[4] / "docs" / "options.md").read_text(encoding="utf-8")
    return {row[0]: tuple(state for state, cell in zip(STATES, row[1:]) if cell.strip()) for row in ROW.findall(text)}


def test_every_option_stands_in_the_table_with_its_states() -> None:
    spec: t.Mapping[str, t.Any] = argument_spec()
    wanted = {name: STATES if name not in APPLIES else APPLIES[name][0] for name in spec}
    assert documented() == wanted

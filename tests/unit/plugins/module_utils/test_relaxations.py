# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils import _relaxations
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_plan import Facts
from ansible_collections.stasis.lxc.tests.unit.support.each import each


@each("rule", _relaxations.RULES, ids=_relaxations.IDS)
def test_every_rule_is_whole(rule: _relaxations.Rule) -> None:
    assert rule.lost.endswith(".") and (not rule.kept or rule.kept.endswith("."))
    assert rule.evidence and rule.reference and rule.directives
    for directive in rule.directives:
        assert directive.settings and all("=" in line for line in directive.settings)
        assert directive.kind in ("lines", "word", "mentions", "bare", "starts")
    assert Facts().has(rule.needs)


def test_ids_are_unique() -> None:
    assert len(set(_relaxations.IDS)) == len(_relaxations.IDS)

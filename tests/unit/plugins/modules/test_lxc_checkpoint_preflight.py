# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import yaml
from ansible_collections.stasis.lxc.plugins.module_utils import _preflight
from ansible_collections.stasis.lxc.plugins.modules import lxc_checkpoint_preflight as module

RETURN: dict[str, t.Any] = yaml.safe_load(module.RETURN)


def test_every_value_is_documented_and_no_other() -> None:
    assert set(RETURN) == set(_preflight.Report.__dataclass_fields__)

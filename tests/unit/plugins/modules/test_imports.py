# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every file that runs on a managed host is one that this Python can import."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.each import each

pytestmark = pytest.mark.interpreter

PLUGINS = Path(__file__).parents[3].parent / "plugins"
NAMES = sorted(
    f"{directory}.{path.stem}"
    for directory in ("module_utils", "modules")
    for path in (PLUGINS / directory).glob("*.py")
)


@each("name", NAMES)
def test_every_file_imports(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.stasis.lxc.plugins.{name}")
    assert module.__file__ and Path(module.__file__).samefile(PLUGINS / f"{name.replace('.', '/')}.py")


def test_both_directories_were_read() -> None:
    assert {"module_utils._runner", "modules.lxc_checkpoint"} <= set(NAMES)

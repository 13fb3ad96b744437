# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script of the role that says what is the role's own, and so what it removes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.hook_bench import SHELLS

SCRIPT = Path(__file__).resolve().parents[3] / "roles" / "criu" / "files" / "prefix"


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_what_others_have_named_like_a_working_directory_is_not_removed(shell: str, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    for name in ("stasis-criu-work.aB3xYz", "stasis-criu-work.x\n.ssh", "stasis-criu-work.x\n.."):
        (build / name).mkdir()
    argv = [*SHELLS[shell], str(SCRIPT), "owned", str(build), str(tmp_path / "hooks"), ""]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    lines = done.stdout.splitlines()
    assert all(line.startswith("/") for line in lines), lines
    assert [line for line in lines if line.startswith(str(tmp_path))] == [f"{build}/stasis-criu-work.aB3xYz"]

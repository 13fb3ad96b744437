# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _apparmor

PROFILE = "lxc-web1_</var/lib/lxc>"
LABEL = f"{PROFILE}//&:lxc-web1_<-var-lib-lxc>:unconfined (enforce)"


@pytest.mark.parametrize(
    ("label", "configured", "loaded", "missing"),
    [
        # LXC makes it at the restore, whether or not it is there before.
        (LABEL, "generated", "", ""),
        (LABEL, "generated", f"{PROFILE} (enforce)", ""),
        # It will not: the configuration is another by now, or the image is another container's.
        (LABEL, "unconfined", "", PROFILE),
        (LABEL, "", f"{PROFILE} (enforce)", ""),
        ("lxc-web10_</x> (enforce)", "generated", "", "lxc-web10_</x>"),
        # The host's own.
        ("lxc-container-default-cgns (enforce)\n\0", "", "lxc-container-default-cgns (enforce)", ""),
        ("lxc-container-default-cgns (enforce)", "", "lxc-container-default (enforce)", "lxc-container-default-cgns"),
        ("web (complain)", "web", "web (complain)", ""),
        ("web", "web", "/usr/bin/web (enforce)", "web"),
        ("unconfined\n", "", "", ""),
        ("", "generated", "", ""),
    ],
)
def test_profile_that_a_restore_would_not_find(
    label: str, configured: str, loaded: str, missing: str, tmp_path: Path
) -> None:
    (tmp_path / "profiles").write_text(f"/usr/bin/lxc-start (enforce)\n{loaded}\nlxc-stop (unconfined)\n")
    assert _apparmor.missing(label, "web1", configured, os.fspath(tmp_path / "profiles")) == missing


def test_nothing_is_missing_where_the_kernel_does_not_say(tmp_path: Path) -> None:
    assert _apparmor.missing("web (enforce)", "web1", "web", os.fspath(tmp_path / "absent")) == ""

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _user_namespace
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError

pytestmark = pytest.mark.interpreter


@pytest.mark.parametrize(
    ("idmaps", "root"),
    [
        ([], None),
        (["u 0 100000 65536", "g 0 200000 65536"], 100000),
        (["g 0 200000 65536", "u 0 100000 1000", "u 1000 1000 1"], 100000),
        (["b 0 5 65536"], 5),
    ],
)
def test_root_is_who_the_configuration_maps_it_to(idmaps: list[str], root: int | None) -> None:
    assert _user_namespace.mapped_root(idmaps) == root


@pytest.mark.parametrize("idmaps", [["u 1000 1000 1"], ["nonsense"], ["g 0 100000 65536"]])
def test_a_container_without_a_root_is_refused(idmaps: list[str]) -> None:
    with pytest.raises(StasisError, match="maps no root"):
        _user_namespace.mapped_root(idmaps)


def test_without_a_user_namespace_the_directory_is_read_where_it_is(tmp_path: Path) -> None:
    mode = tmp_path.stat().st_mode
    with _user_namespace.view(str(tmp_path), None) as path:
        assert path == str(tmp_path)
    assert tmp_path.stat().st_mode == mode


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StasisError, match="cannot be shown"), _user_namespace.view(f"{tmp_path}/none", 100000):
        pass


def test_the_group_root_may_read_the_clocks_and_nothing_else(tmp_path: Path) -> None:
    for name in ("timens-0.img", "timens-13.img", "pages-1.img", "timens-x.img"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o600)
        os.chown(tmp_path / name, -1, 0)
    os.chown(tmp_path, -1, 0)
    _user_namespace._set_modes(str(tmp_path), 0o710, 0o640)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"timens-0.img": 0o640, "timens-13.img": 0o640, "pages-1.img": 0o600, "timens-x.img": 0o600}
    assert tmp_path.stat().st_mode & 0o777 == 0o710


def _modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (directory, *directory.iterdir())}


@pytest.mark.parametrize("mounts", [True, False], ids=["restored", "no idmapped mounts"])
def test_the_group_root_is_let_in_only_while_a_restore_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: bool
) -> None:
    for name in ("timens-0.img", "pages-1.img"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o600)
    tmp_path.chmod(0o700)
    before = _modes(tmp_path)
    seen = []

    def mount(directory: str, _root: int) -> int:
        seen.append(_modes(Path(directory)))
        if not mounts:
            raise OSError(22, "Invalid argument")
        return os.open(directory, os.O_RDONLY)

    monkeypatch.setattr(_user_namespace, "mount", mount)
    with contextlib.suppress(StasisError), _user_namespace.view(str(tmp_path), 100000):
        assert mounts
    assert seen == [{tmp_path.name: 0o710, "timens-0.img": 0o640, "pages-1.img": 0o600}]
    assert _modes(tmp_path) == before

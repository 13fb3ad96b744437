# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _origin
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError


@pytest.fixture(autouse=True)
def key(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> str:
    path = f"{safe_dir}/etc/host.key"
    monkeypatch.setattr(_origin, "KEY", path)
    return path


def test_key_is_made_once_and_for_root_alone(key: str) -> None:
    before = os.umask(0)
    try:
        _origin.ready(act=True)
    finally:
        os.umask(before)
    with open(key, "rb") as stream:
        first = stream.read()
    assert len(first) == 32
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(key)).st_mode) == 0o700
    assert os.listdir(os.path.dirname(key)) == ["host.key"]
    _origin.ready(act=True)
    with open(key, "rb") as stream:
        assert stream.read() == first


def test_check_mode_and_looking_make_no_key(key: str) -> None:
    _origin.ready(act=False)
    assert not _origin.made(b"x", b"y")
    assert not os.path.lexists(key)


def test_key_that_another_task_has_made_meanwhile_is_kept(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def other_first(source: str, target: str) -> None:
        with open(target, "wb") as stream:
            stream.write(b"o" * 32)
        os.chmod(target, 0o600)
        link(source, target)

    monkeypatch.setattr(os, "link", other_first)
    _origin.ready(act=True)
    with open(key, "rb") as stream:
        assert stream.read() == b"o" * 32
    assert os.listdir(os.path.dirname(key)) == ["host.key"]


def test_mark_holds_for_its_manifest_only() -> None:
    mark = _origin.mark(b"a manifest")
    assert _origin.made(b"a manifest", mark)
    for data, given in ((b"a manifesT", mark), (b"a manifest", mark[:-1]), (b"a manifest", b""), (b"a manifest", None)):
        assert not _origin.made(data, given)


def test_mark_of_a_draft_is_none_of_a_manifest_and_holds_for_its_directory_only() -> None:
    mark = _origin.mark_draft(b"text", 7)
    assert _origin.made_draft(b"text", 7, mark)
    assert not _origin.made_draft(b"text", 8, mark)
    assert not _origin.made_draft(b"7\0text", 0, mark)
    assert not _origin.made(b"text", mark.encode())


@pytest.mark.parametrize("fault", ["mode", "short", "owner", "link"])
def test_key_that_proves_nothing_is_not_used_and_said_before_a_dump(key: str, fault: str) -> None:
    mark = _origin.mark(b"x")
    if fault == "mode":
        os.chmod(key, 0o640)
    elif fault == "short":
        with open(key, "wb") as stream:
            stream.write(b"short")
    elif fault == "owner":
        os.chown(key, 12345, 0)
    else:
        os.rename(key, key + ".there")
        os.symlink(key + ".there", key)
    assert not _origin.made(b"x", mark)
    for act in (True, False):
        with pytest.raises(StasisError):
            _origin.ready(act=act)


def test_key_that_cannot_be_made_is_said(key: str) -> None:
    with open(os.path.dirname(key), "w", encoding="ascii"):
        pass
    with pytest.raises(StasisError, match="cannot be made"):
        _origin.ready(act=True)

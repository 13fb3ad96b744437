# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _install_record
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._install_record import InstallRecord
from ansible_collections.stasis.lxc.tests.unit.support.owned_files import NOBODY, OwnedFiles, owned_files


@pytest.fixture(name="files")
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnedFiles:
    return owned_files(tmp_path, monkeypatch)


def read(path: str) -> InstallRecord:
    record = _install_record.read(path)
    assert record is not None
    return record


def test_a_host_without_a_record_is_one_that_the_role_was_not_applied_to(tmp_path: Path) -> None:
    assert _install_record.read(os.fspath(tmp_path / "lxc.json")) is None


def test_the_record_is_read_as_the_role_wrote_it(files: OwnedFiles) -> None:
    record = read(files.record(criu_version="4.2.1", criu_install_method="archive"))
    assert (record.criu_version, record.criu_install_method) == ("4.2.1", "archive")


def test_a_key_that_a_later_role_adds_is_left_alone(files: OwnedFiles) -> None:
    assert read(files.record(colour="blue")).collection_version == "0.1.0"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_record_that_others_can_write_is_refused(files: OwnedFiles, mode: int) -> None:
    path = files.record()
    os.chmod(path, mode)
    with pytest.raises(StasisError, match="changed by somebody other than root"):
        _install_record.read(path)


def test_a_record_of_another_owner_is_refused(files: OwnedFiles) -> None:
    path = files.record()
    files.owners[path] = NOBODY
    with pytest.raises(StasisError, match="changed by somebody other than root"):
        _install_record.read(path)


def test_a_record_that_is_a_symbolic_link_is_refused(files: OwnedFiles) -> None:
    link = files.directory / "link.json"
    link.symlink_to(files.record())
    with pytest.raises(StasisError, match="not a regular file"):
        _install_record.read(os.fspath(link))


def test_a_dangling_link_is_not_taken_for_a_host_without_the_role(files: OwnedFiles) -> None:
    link = files.directory / "link.json"
    link.symlink_to("nowhere")
    with pytest.raises(StasisError, match="not a regular file"):
        _install_record.read(os.fspath(link))


@pytest.mark.parametrize("key", ["format", "protocol"])
@pytest.mark.parametrize("value", [2, 0, "1", True, None])
def test_another_format_or_protocol_asks_for_the_role_again(files: OwnedFiles, key: str, value: t.Any) -> None:
    with pytest.raises(StasisError) as failure:
        _install_record.read(files.record(**{key: value}))
    assert failure.value.remedy == "Apply the role stasis.lxc.criu again."


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"format": 1', id="cut off"),
        pytest.param(b"[1]", id="a list"),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
)
def test_a_damaged_record_is_refused(files: OwnedFiles, text: bytes) -> None:
    path = files.record()
    Path(path).write_bytes(text)
    with pytest.raises(StasisError, match="is damaged"):
        _install_record.read(path)


@pytest.mark.parametrize("key", ["criu_path", "hook_sha256", "launcher", "collection_version"])
@pytest.mark.parametrize("value", [None, 1])
def test_a_record_without_one_of_its_texts_is_refused(files: OwnedFiles, key: str, value: t.Any) -> None:
    with pytest.raises(StasisError, match=f"it has no {key}"):
        _install_record.read(files.record(**{key: value}))


@pytest.mark.parametrize("key", ["criu_path", "hook", "launcher"])
@pytest.mark.parametrize("value", ["sbin/criu", "", "/a\0b"])
def test_a_record_with_a_path_that_is_not_absolute_is_refused(files: OwnedFiles, key: str, value: str) -> None:
    with pytest.raises(StasisError, match=f"{key} is not an absolute path"):
        _install_record.read(files.record(**{key: value}))


def test_a_whole_installation_is_verified(files: OwnedFiles) -> None:
    _install_record.verify(read(files.record()))


@pytest.mark.parametrize("name", ["restore-net", "launcher"])
def test_a_script_that_is_gone_is_named(files: OwnedFiles, name: str) -> None:
    record = read(files.record())
    (files.directory / name).unlink()
    with pytest.raises(StasisError, match=f"{name} cannot be read: No such file"):
        _install_record.verify(record)


@pytest.mark.parametrize("name", ["restore-net", "launcher"])
def test_a_script_with_another_content_is_named(files: OwnedFiles, name: str) -> None:
    record = read(files.record())
    (files.directory / name).write_text("changed\n", encoding="utf-8")
    with pytest.raises(StasisError, match=f"{name} is not the one that the role installed"):
        _install_record.verify(record)


@pytest.mark.parametrize("name", ["restore-net", "launcher"])
def test_a_script_that_cannot_be_executed_is_named(files: OwnedFiles, name: str) -> None:
    record = read(files.record())
    (files.directory / name).chmod(0o644)
    with pytest.raises(StasisError, match=f"{name} is not executable"):
        _install_record.verify(record)


@pytest.mark.parametrize("name", ["restore-net", "launcher"])
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_script_that_others_can_write_is_named(files: OwnedFiles, name: str, mode: int) -> None:
    record = read(files.record())
    (files.directory / name).chmod(mode)
    with pytest.raises(StasisError, match=f"{name} could be changed by somebody other than root"):
        _install_record.verify(record)


@pytest.mark.parametrize("name", ["restore-net", "launcher"])
def test_a_script_of_another_owner_is_named(files: OwnedFiles, name: str) -> None:
    record = read(files.record())
    files.owners[os.fspath(files.directory / name)] = NOBODY
    with pytest.raises(StasisError, match=f"{name} could be changed by somebody other than root"):
        _install_record.verify(record)


def test_whatever_is_wrong_with_a_script_the_role_puts_it_right(files: OwnedFiles) -> None:
    record = read(files.record())
    (files.directory / "launcher").unlink()
    with pytest.raises(StasisError) as failure:
        _install_record.verify(record)
    assert failure.value.remedy == "Apply the role stasis.lxc.criu again."

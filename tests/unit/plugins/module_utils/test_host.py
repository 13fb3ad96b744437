# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _host, _install_record
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._install_record import InstallRecord
from ansible_collections.stasis.lxc.tests.unit.support.owned_files import NOBODY, OwnedFiles, owned_files
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

FIXTURES = Path(__file__).parents[2] / "fixtures" / "criu_cli"
LXC = ["lxc-checkpoint", "--version"]


@pytest.fixture(name="files")
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnedFiles:
    return owned_files(tmp_path, monkeypatch)


def asked(path: str) -> list[str]:
    return [path, "--no-default-config", "--version"]


def recorded(files: OwnedFiles, path: str | None = None) -> InstallRecord:
    record = _install_record.read(files.record(**({"criu_path": path} if path else {})))
    assert record is not None
    return record


def observed(*calls: Call, criu_path: str | None = None, record: InstallRecord | None = None) -> _host.Host:
    runner = StrictRunner(*calls)
    host = _host.observe(runner, criu_path, record)
    runner.assert_done()
    return host


@pytest.mark.parametrize(("name", "expected"), [("4.1.1", ("4.1.1", "")), ("4.2", ("4.2", "v4.2"))])
def test_version_and_git_id_are_read_from_what_criu_says(name: str, expected: tuple[str, str]) -> None:
    text = (FIXTURES / f"version-{name}.txt").read_text(encoding="utf-8")
    assert _host.parse_criu_version(text) == expected


def test_the_path_in_the_options_goes_before_the_recorded_one(files: OwnedFiles) -> None:
    path = files.executable("other")
    assert _host.resolve_criu(path, recorded(files)) == path


@pytest.mark.parametrize("option", [None, ""])
def test_without_an_option_the_recorded_criu_is_taken(files: OwnedFiles, option: str | None) -> None:
    record = recorded(files)
    assert _host.resolve_criu(option, record) == record.criu_path


def test_without_option_and_record_there_is_no_criu() -> None:
    assert _host.resolve_criu(None, None) == ""


@pytest.mark.parametrize("path", ["criu", "./criu", "../criu", "-x"])
def test_a_path_that_is_not_absolute_is_refused(path: str) -> None:
    with pytest.raises(StasisError, match="not an absolute path"):
        _host.resolve_criu(path, None)


@pytest.mark.parametrize("path", ["/a b", "/a\nb", "/a\0b", "/x/../y", "/a;b", "/"])
def test_a_hostile_path_is_refused(path: str) -> None:
    with pytest.raises(StasisError, match="criu_path"):
        _host.resolve_criu(path, None)


def test_a_path_where_nothing_is_is_refused(files: OwnedFiles) -> None:
    with pytest.raises(StasisError, match="No such file"):
        _host.resolve_criu(os.fspath(files.directory / "none"), None)


def test_a_directory_is_refused(files: OwnedFiles) -> None:
    (files.directory / "criu.d").mkdir()
    with pytest.raises(StasisError, match="not a regular file"):
        _host.resolve_criu(os.fspath(files.directory / "criu.d"), None)


def test_a_criu_of_another_owner_is_refused(files: OwnedFiles) -> None:
    path = files.executable("criu")
    files.owners[path] = NOBODY
    with pytest.raises(StasisError, match="changed by somebody other than root"):
        _host.resolve_criu(path, None)


def test_a_criu_that_others_can_write_is_refused(files: OwnedFiles) -> None:
    path = files.executable("criu")
    os.chmod(path, 0o775)
    with pytest.raises(StasisError, match="changed by somebody other than root"):
        _host.resolve_criu(path, None)


def test_a_criu_that_cannot_be_executed_is_refused(files: OwnedFiles) -> None:
    path = files.executable("criu")
    os.chmod(path, 0o644)
    with pytest.raises(StasisError, match="not executable"):
        _host.resolve_criu(path, None)


def test_a_recorded_criu_that_is_gone_asks_for_the_role_again(files: OwnedFiles) -> None:
    record = recorded(files)
    os.unlink(record.criu_path)
    with pytest.raises(StasisError) as failure:
        _host.resolve_criu(None, record)
    assert failure.value.remedy == "Apply the role stasis.lxc.criu again."


def test_criu_and_lxc_are_each_asked_once(files: OwnedFiles) -> None:
    path = files.executable("criu")
    host = observed(
        Call(asked(path), stdout="Version: 4.2\nGitID: v4.2\n"), Call(LXC, stdout="5.0.2\n"), criu_path=path
    )
    assert (host.criu_path, host.criu_version, host.criu_git_id, host.lxc_version) == (path, "4.2", "v4.2", "5.0.2")


def test_without_criu_only_lxc_is_asked() -> None:
    assert observed(Call(LXC, stdout="6.0.4\n")).criu_version == ""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"rc": 1}, id="fails"),
        pytest.param({"stdout": ""}, id="says nothing"),
        pytest.param({"stdout": "true (GNU coreutils) 9.1\n"}, id="is another program"),
        pytest.param({"rc": -9, "timed_out": True}, id="hangs"),
        pytest.param({"raises": StasisError("could not be started")}, id="cannot be started"),
    ],
)
def test_a_criu_that_does_not_answer_has_no_version(files: OwnedFiles, answer: dict[str, object]) -> None:
    path = files.executable("criu")
    host = observed(Call(asked(path), **answer), Call(LXC, stdout="5.0.2\n"), criu_path=path)  # type: ignore[arg-type]
    assert host.criu_version == ""


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"raises": StasisError("could not be started")}, id="not installed"),
        pytest.param({"rc": 127}, id="fails"),
        pytest.param({"stdout": "what?\n"}, id="says something else"),
    ],
)
def test_a_host_without_lxc_has_no_lxc_version(answer: dict[str, object]) -> None:
    assert observed(Call(LXC, **answer)).lxc_version == ""  # type: ignore[arg-type]


def test_a_development_version_of_lxc_is_kept_whole() -> None:
    assert observed(Call(LXC, stdout="6.0.0-devel\n")).lxc_version == "6.0.0-devel"


def test_the_kernels_facts_come_from_proc(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("10a9de40-719f\n", encoding="utf-8")
    (tmp_path / "uptime").write_text("3189.58 5432.56\n", encoding="utf-8")
    (tmp_path / "cpuinfo").write_text("cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n", encoding="utf-8")
    host = _host.observe(StrictRunner(Call(LXC, stdout="5.0.2")), None, None, proc=os.fspath(tmp_path))
    assert (host.boot_id, host.uptime, host.cpu) == ("10a9de40-719f", 3189.58, "AMD EPYC")


def test_the_release_is_the_running_kernels() -> None:
    assert observed(Call(LXC, stdout="5.0.2")).kernel == os.uname().release


@pytest.mark.parametrize(("uid", "root"), [(0, True), (1000, False)])
def test_root_is_told_from_others(monkeypatch: pytest.MonkeyPatch, uid: int, root: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert observed(Call(LXC, stdout="5.0.2")).is_root is root

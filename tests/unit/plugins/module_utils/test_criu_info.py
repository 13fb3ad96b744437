# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_info
from ansible_collections.stasis.lxc.plugins.module_utils._criu_info import CriuInfo
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.owned_files import OwnedFiles, owned_files
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import AnyOrder, Call, StrictRunner

FIXTURES = Path(__file__).parents[2] / "fixtures" / "criu_cli"
LXC = Call(["lxc-checkpoint", "--version"], stdout="5.0.2\n")


class World:
    """A host of kernel 6.18.44 where root asks, with an installation in a directory of the test's own."""

    def __init__(self, files: OwnedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = files
        self.criu = os.fspath(files.directory / "criu")
        self._monkeypatch = monkeypatch
        self.kernel("6.18.44")
        self.uid(0)

    def kernel(self, release: str) -> None:
        name = types.SimpleNamespace(release=release, machine="x86_64")
        self._monkeypatch.setattr(os, "uname", lambda: name)

    def uid(self, number: int) -> None:
        self._monkeypatch.setattr(os, "geteuid", lambda: number)

    def call(self, *arguments: str, **answer: t.Any) -> Call:
        return Call([self.criu, "--no-default-config", *arguments], **answer)

    def version(self, number: str = "4.2") -> Call:
        return self.call("--version", stdout=f"Version: {number}\n")

    def good(self) -> Call:
        return self.call("check", stdout="Looks good.\n")

    def gather(
        self, *calls: Call | AnyOrder, criu_path: str | None = None, features: t.Sequence[str] | None = ()
    ) -> CriuInfo:
        runner = StrictRunner(*calls)
        path = os.fspath(self.files.directory / "lxc.json")
        info = _criu_info.gather(runner, criu_path, features, record_path=path)
        runner.assert_done()
        return info


@pytest.fixture(name="world")
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(owned_files(tmp_path, monkeypatch), monkeypatch)


def test_a_criu_that_the_role_installed_and_that_checks_is_usable(world: World) -> None:
    world.files.record()
    info = world.gather(world.version(), LXC, world.good())
    assert (info.usable, info.reasons) == (True, [])


def test_who_installed_it_is_said(world: World) -> None:
    world.files.record(criu_install_method="package")
    assert world.gather(world.version(), LXC, world.good()).installed_by == "package"


def test_a_criu_beside_the_recorded_one_was_not_installed_by_the_role(world: World) -> None:
    other = world.files.executable("other")
    world.files.record(criu_path=other)
    world.files.executable("criu")
    assert world.gather(world.version(), LXC, world.good(), criu_path=world.criu).installed_by == ""


def test_a_host_that_the_role_was_not_applied_to_is_no_failure(world: World) -> None:
    info = world.gather(LXC)
    assert not info.usable and "was not applied" in info.reasons[0]


def test_a_criu_by_path_is_usable_without_the_role(world: World) -> None:
    world.files.executable("criu")
    assert world.gather(world.version(), LXC, world.good(), criu_path=world.criu).usable


def test_a_path_where_nothing_is_is_a_reason_and_no_failure(world: World) -> None:
    info = world.gather(LXC, criu_path=world.criu)
    assert len(info.reasons) == 1 and "No such file" in info.reasons[0]


def test_a_relative_path_is_a_failure(world: World) -> None:
    with pytest.raises(StasisError, match="not an absolute path"):
        world.gather(criu_path="sbin/criu")


def test_a_recorded_criu_that_is_gone_is_a_reason(world: World) -> None:
    world.files.record()
    os.unlink(world.criu)
    info = world.gather(LXC)
    assert not info.usable and "Apply the role stasis.lxc.criu again." in info.reasons[0]


def test_a_hook_that_was_changed_is_a_reason(world: World) -> None:
    world.files.record(hook_sha256="0" * 64)
    info = world.gather(world.version(), LXC, world.good())
    assert not info.usable and "is not the one that the role installed" in info.reasons[0]


def test_a_hook_that_was_changed_is_only_a_warning_for_another_criu(world: World) -> None:
    other = world.files.executable("other")
    world.files.record(hook_sha256="0" * 64, criu_path=other)
    info = world.gather(world.version(), LXC, world.good(), criu_path=world.criu)
    assert info.usable and "is not the one that the role installed" in info.warnings[0]


def test_a_damaged_record_is_a_reason(world: World) -> None:
    world.files.record(protocol=2)
    info = world.gather(LXC)
    assert len(info.reasons) == 1 and "has protocol 2" in info.reasons[0]


def test_a_version_other_than_the_recorded_one_is_a_reason(world: World) -> None:
    world.files.record(criu_version="4.2.1")
    info = world.gather(world.version("4.2"), LXC, world.good())
    assert not info.usable and "installed CRIU 4.2.1" in info.reasons[0]


def test_a_criu_too_old_for_the_kernel_is_not_usable_though_it_checks(world: World) -> None:
    world.files.record(criu_version="3.17.1")
    info = world.gather(world.version("3.17.1"), LXC, world.good())
    assert info.reasons == ["CRIU 3.17.1 does not work on kernel 6.18.44, which needs 4.2 or newer."]


def test_the_same_criu_is_usable_on_an_older_kernel(world: World) -> None:
    world.kernel("6.1.0-40-amd64")
    world.files.record(criu_version="3.17.1")
    assert world.gather(world.version("3.17.1"), LXC, world.good()).usable


def test_a_program_that_is_no_criu_is_not_asked_further(world: World) -> None:
    world.files.record()
    info = world.gather(world.call("--version", stdout="9.1\n"), LXC)
    assert not info.usable and "does not say its version" in info.reasons[0]


def test_without_root_criu_is_not_asked_further(world: World) -> None:
    world.uid(1000)
    world.files.record()
    info = world.gather(world.version(), LXC)
    assert not info.usable and "become" in info.reasons[0]


def test_a_check_that_fails_is_a_reason_with_what_it_says(world: World) -> None:
    world.files.record()
    bad = world.call("check", rc=1, stderr="Error (criu/cr-check.c:1): no kcmp\n")
    info = world.gather(world.version(), LXC, bad)
    assert info.reasons == ["criu check says: Error (criu/cr-check.c:1): no kcmp"]


def test_a_check_that_fails_without_a_word_is_a_reason_with_its_exit_code(world: World) -> None:
    world.files.record()
    info = world.gather(world.version(), LXC, world.call("check", rc=3))
    assert info.reasons == ["criu check says: nothing, and ends with 3"]


def test_a_check_that_hangs_is_a_reason(world: World) -> None:
    world.files.record()
    info = world.gather(world.version(), LXC, world.call("check", rc=-9, timed_out=True))
    assert info.reasons == ["criu check did not end within 60 s."]


def test_a_check_is_given_a_deadline(world: World) -> None:
    world.files.record()
    check = world.call("check", stdout="Looks good.\n", timeout=60.0)
    assert world.gather(world.version(), LXC, check).check


def test_a_long_answer_of_the_check_is_cut(world: World) -> None:
    world.files.record()
    info = world.gather(world.version(), LXC, world.call("check", stdout="x" * 100000))
    assert len(info.check_output) == 4000


def test_a_feature_is_there_if_its_check_succeeds(world: World) -> None:
    world.files.record()
    info = world.gather(
        world.version(),
        LXC,
        world.good(),
        AnyOrder(
            world.call("check", "--feature", "uffd-noncoop", timeout=20.0),
            world.call("check", "--feature", "mem_dirty_track", rc=1, timeout=20.0),
        ),
        features=["mem_dirty_track", "uffd-noncoop"],
    )
    assert info.features == {"mem_dirty_track": False, "uffd-noncoop": True}


def test_a_missing_feature_does_not_make_criu_unusable(world: World) -> None:
    world.files.record()
    missing = world.call("check", "--feature", "mem_dirty_track", rc=1)
    assert world.gather(world.version(), LXC, world.good(), missing, features=["mem_dirty_track"]).usable


def test_a_feature_named_twice_is_checked_once(world: World) -> None:
    world.files.record()
    feature = world.call("check", "--feature", "uffd")
    info = world.gather(world.version(), LXC, world.good(), feature, features=["uffd", "uffd"])
    assert info.features == {"uffd": True}


def test_a_feature_that_this_criu_does_not_know_is_warned_about(world: World) -> None:
    world.files.record()
    unknown = world.call(
        "check", "--feature", "list", rc=1, stderr="Error (criu/cr-check.c:1866): Unknown feature list\n"
    )
    info = world.gather(world.version(), LXC, world.good(), unknown, features=["list"])
    assert info.warnings == ["This CRIU knows no feature list."]


def test_a_feature_whose_check_hangs_is_warned_about_and_not_there(world: World) -> None:
    world.files.record()
    hangs = world.call("check", "--feature", "uffd", rc=-9, timed_out=True)
    info = world.gather(world.version(), LXC, world.good(), hangs, features=["uffd"])
    assert (info.features, len(info.warnings)) == ({"uffd": False}, 1)


@pytest.mark.parametrize("name", ["-x", "a b", "", "a\nb", "Tun"])
def test_a_name_that_cannot_be_a_features_is_refused(world: World, name: str) -> None:
    with pytest.raises(StasisError, match="is not the name of a feature"):
        world.gather(features=[name])


def test_without_the_option_every_feature_in_crius_help_is_checked(world: World) -> None:
    world.files.record()
    help_text = (
        "Check options:\n  --feature FEAT        only check a particular feature, one of:\n   tun, uffd\n\n* Log:\n"
    )
    info = world.gather(
        world.version(),
        LXC,
        world.good(),
        world.call("--help", stdout=help_text),
        AnyOrder(world.call("check", "--feature", "tun"), world.call("check", "--feature", "uffd")),
        features=None,
    )
    assert list(info.features) == ["tun", "uffd"]


def test_a_help_without_features_is_warned_about(world: World) -> None:
    world.files.record()
    info = world.gather(world.version(), LXC, world.good(), world.call("--help", stdout="?\n"), features=None)
    assert len(info.warnings) == 1


@pytest.mark.parametrize(("version", "count"), [("4.1.1", 42), ("4.2", 45)])
def test_all_features_are_found_in_a_captured_help(version: str, count: int) -> None:
    text = (FIXTURES / f"help-{version}.txt").read_text(encoding="utf-8")
    assert len(_criu_info.feature_names(text)) == count


def test_a_feature_name_with_a_dash_is_found_in_a_captured_help() -> None:
    text = (FIXTURES / "help-4.2.txt").read_text(encoding="utf-8")
    assert "uffd-noncoop" in _criu_info.feature_names(text)

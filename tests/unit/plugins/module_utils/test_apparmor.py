# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _apparmor
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

PROFILE = "lxc-web1_</var/lib/lxc>"
LABEL = f"{PROFILE}//&:lxc-web1_<-var-lib-lxc>:unconfined (enforce)"
TEXT = f'#include <tunables/global>\nprofile "{PROFILE}" flags=(attach_disconnected,mediate_deleted) {{\n  file,\n}}\n'


@dataclass(frozen=True)
class Place:
    """LXC's directory, an image, the kernel's list and LXC's cache, all below a test's own directory."""

    root: Path

    @property
    def image(self) -> str:
        return os.fspath(self.root / "image")

    @property
    def record(self) -> str:
        return os.path.join(self.image, _apparmor.RECORD)

    @property
    def own(self) -> Path:
        return self.root / "lxc/web1/apparmor/lxc-web1_<-var-lib-lxc>"

    def list_profiles(self, *lines: str) -> None:
        (self.root / "profiles").write_text("".join(f"{line}\n" for line in lines))

    def dump(self, label: str = LABEL) -> None:
        _apparmor.record(label, os.fspath(self.root / "lxc"), "web1", self.image)

    def load(self, runner: StrictRunner, label: str = LABEL) -> None:
        listing, cache = os.fspath(self.root / "profiles"), os.fspath(self.root / "cache")
        _apparmor.load(self.image, label, os.fspath(self.root / "lxc"), "web1", runner, listing=listing, cache=cache)
        runner.assert_done()


@pytest.fixture(name="place")
def place_fixture(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.own.parent.mkdir(parents=True)
    place.own.write_text(TEXT)
    os.mkdir(place.image)
    (tmp_path / "cache").mkdir()
    place.list_profiles()
    return place


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (LABEL, PROFILE),
        (f"{PROFILE} (enforce)\n", PROFILE),
        ("lxc-container-default-cgns (enforce)\n\0", "lxc-container-default-cgns"),
        ("web (complain)", "web"),
        ("unconfined\n", ""),
        ("", ""),
    ],
)
def test_profile_of_a_label(label: str, name: str) -> None:
    assert _apparmor.name_of(label) == name


def test_profiles_that_a_text_declares() -> None:
    assert _apparmor.declares(TEXT) == [PROFILE]
    assert _apparmor.declares(TEXT + "profile other {\n}\n") == [PROFILE, "other"]
    assert _apparmor.declares("# nothing\n  file,\n") == []


def test_kernels_list_without_the_modes(place: Place) -> None:
    place.list_profiles(f"{PROFILE} (enforce)", "/usr/bin/lxc-start (enforce)", "lxc-stop (unconfined)")
    assert _apparmor.loaded(os.fspath(place.root / "profiles")) == {PROFILE, "/usr/bin/lxc-start", "lxc-stop"}
    assert _apparmor.loaded(os.fspath(place.root / "absent")) == frozenset()


def test_dump_copies_the_text_and_a_restore_finds_it(place: Place) -> None:
    assert not _apparmor.recorded(place.image, LABEL)
    place.dump()
    assert Path(place.record).read_text() == TEXT
    assert _apparmor.recorded(place.image, LABEL)
    assert not _apparmor.recorded(place.image, "lxc-web2_</var/lib/lxc> (enforce)")


@pytest.mark.parametrize(
    "label", ["unconfined", "", "lxc-container-default-cgns (enforce)", "lxc-web10_</x> (enforce)"]
)
def test_profile_that_lxc_has_not_generated_for_it_is_not_copied(place: Place, label: str) -> None:
    place.dump(label)
    assert os.listdir(place.image) == []


def test_dump_is_refused_where_lxcs_text_is_gone(place: Place) -> None:
    place.own.write_text(TEXT.replace("web1", "web2"))
    with pytest.raises(StasisError, match="LXC's text of it is not in") as caught:
        place.dump()
    assert "Start the container anew" in str(caught.value.remedy)
    assert os.listdir(place.image) == []


def test_text_behind_a_link_is_not_taken(place: Place) -> None:
    other = place.root / "other"
    other.write_text(TEXT)
    place.own.unlink()
    place.own.symlink_to(other)
    with pytest.raises(StasisError):
        place.dump()


def loading(place: Place, *argv: str, **changes: t.Any) -> StrictRunner:
    """A parser after which the kernel has the profile, unless it fails."""
    rc = changes.get("rc", 0)
    lines = [] if rc else [f"{PROFILE} (enforce)"]
    return StrictRunner(
        Call(["apparmor_parser", "--replace", *argv], effect=lambda: place.list_profiles(*lines), **changes)
    )


def test_lxcs_own_file_is_loaded_from_its_cache_where_it_is_the_same(place: Place) -> None:
    place.dump()
    cache = os.fspath(place.root / "cache")
    place.load(loading(place, "--write-cache", "--cache-loc", cache, os.fspath(place.own)))


def test_text_of_the_image_is_loaded_where_lxc_has_another_by_now(place: Place) -> None:
    place.dump()
    place.own.write_text(TEXT.replace("file,", "network,"))
    place.load(loading(place, "--skip-cache", place.record))


def test_text_of_the_image_is_loaded_on_a_host_where_it_never_started(place: Place) -> None:
    place.dump()
    place.own.unlink()
    place.own.parent.rmdir()
    place.load(loading(place, "--skip-cache", place.record))


@pytest.mark.parametrize("label", ["", "unconfined", "lxc-container-default-cgns (enforce)"])
def test_nothing_is_loaded_for_other_labels(place: Place, label: str) -> None:
    place.dump()
    place.load(StrictRunner(), label)


def test_parser_that_fails_stops_the_restore(place: Place) -> None:
    place.dump()
    place.own.unlink()
    with pytest.raises(StasisError, match="could not be loaded: syntax error"):
        place.load(loading(place, "--skip-cache", place.record, rc=1, stderr="syntax error\n"))


def test_parser_that_loads_nothing_stops_the_restore(place: Place) -> None:
    place.dump()
    place.own.unlink()
    runner = StrictRunner(Call(["apparmor_parser", "--replace", "--skip-cache", place.record]))
    with pytest.raises(StasisError, match="the kernel does not list it"):
        place.load(runner)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _versions
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("4.2", (4, 2)),
        ("4.2.1-1", (4, 2, 1)),
        ("3.17.1", (3, 17, 1)),
        ("v4.1", (4, 1)),
        (" 5.0.2\n", (5, 0, 2)),
        ("6.0.4~rc1", (6, 0, 4)),
        ("0.0", (0,)),
    ],
)
def test_a_version_is_the_numbers_that_it_starts_with(text: str, numbers: tuple[int, ...]) -> None:
    assert _versions.parse(text) == numbers


def test_versions_are_compared_as_numbers_and_not_as_text() -> None:
    assert _versions.at_least("10.0", "2.4")


def test_a_version_is_at_least_itself_with_a_zero_added() -> None:
    assert _versions.at_least("4.1", "4.1.0")


def test_a_version_is_not_at_least_a_newer_one() -> None:
    assert not _versions.at_least("3.17.1", "4.1")


@pytest.mark.parametrize("text", ["", "unknown", "-1", "."])
def test_a_text_without_a_leading_number_is_refused(text: str) -> None:
    with pytest.raises(StasisError, match="is not a version"):
        _versions.parse(text)


@pytest.mark.parametrize(
    ("release", "numbers"),
    [
        ("6.18.44-fc-v595", (6, 18, 44)),
        ("6.12.48+deb13-amd64", (6, 12, 48)),
        ("6.13-rc1", (6, 13, 0)),
        ("6.10.0-7", (6, 10, 0)),
        ("5.15.167.4-microsoft-standard-WSL2", (5, 15, 167)),
    ],
)
def test_a_kernel_release_has_three_numbers(release: str, numbers: tuple[int, int, int]) -> None:
    assert _versions.kernel(release) == numbers


@each(
    ("release", "criu"),
    [
        ("5.10.0-30-amd64", "3.16"),
        ("6.9.12", "3.16"),
        ("6.12.48+deb13-amd64", "3.16"),
        ("6.13.0", "4.1"),
        ("6.13-rc1", "4.1"),
        ("6.15.9", "4.1"),
        ("6.16.0", "4.2"),
        ("6.18.44", "4.2"),
        ("7.0.1", "4.2"),
    ],
)
def test_a_kernel_needs_the_first_criu_that_dumps_and_restores_on_it(release: str, criu: str) -> None:
    assert _versions.minimum_criu(release) == criu

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loop over cases that the other tests use: a case that fails must show, and must not hide the others."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.each import each

pytestmark = pytest.mark.interpreter


@pytest.fixture(autouse=True)
def _looped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STASIS_EACH_ALONE", raising=False)


def failure(test: t.Callable[..., None], **fixtures: object) -> str:
    with pytest.raises(pytest.fail.Exception) as caught:
        test(**fixtures)
    return str(caught.value)


def test_every_case_runs_once() -> None:
    seen: list[tuple[int, str]] = []

    @each("number, word", [(1, "a"), pytest.param(2, "b", id="two")])
    def looped(number: int, word: str) -> None:
        seen.append((number, word))

    looped()
    assert seen == [(1, "a"), (2, "b")]


def test_every_case_that_fails_is_named_with_its_reason_and_line() -> None:
    @each(("number",), [(1,), (2,), pytest.param(3, id="the third")])
    def looped(number: int) -> None:
        assert number == 2

    words = failure(looped)
    assert "2 of 3 cases failed" in words
    assert "case 1\n" in words and "case the third\n" in words and "case 2\n" not in words
    assert words.count("test_each.py:") == 2 and words.count("assert ") == 2


def test_an_error_a_missing_refusal_and_a_skip_are_failures_of_their_case_alone() -> None:
    seen = []

    @each("how", ["error", "no refusal", "skip", "well"])
    def looped(how: str) -> None:
        seen.append(how)
        if how == "error":
            raise KeyError(how)
        if how == "no refusal":
            with pytest.raises(ValueError):
                pass
        if how == "skip":
            pytest.skip("not here")

    words = failure(looped)
    assert seen == ["error", "no refusal", "skip", "well"]
    assert "3 of 4 cases failed" in words and "DID NOT RAISE" in words and "not here" in words


def test_two_of_them_make_every_combination() -> None:
    seen = set()

    @each("first", [1, 2], ids=["one", "two"])
    @each("second", "ab", ids=str.upper)
    def looped(first: int, second: str) -> None:
        seen.add((first, second))
        assert (first, second) != (2, "b")

    words = failure(looped)
    assert seen == {(1, "a"), (1, "b"), (2, "a"), (2, "b")}
    assert "1 of 4 cases failed" in words and "case B, two\n" in words


def test_cases_never_share_a_fixture() -> None:
    @each("number", [1, 2])
    def looped(number: int, tmp_path: str) -> None:
        raise AssertionError("ran")

    assert "the cases would share tmp_path" in failure(looped, tmp_path="/x")


def test_no_case_and_a_case_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="no case"):
        each("number", [])
    with pytest.raises(ValueError, match="3 values"):
        each("first, second", [(1, 2, 3)])

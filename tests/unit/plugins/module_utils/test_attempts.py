# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _attempts, _diagnosis
from ansible_collections.stasis.lxc.plugins.module_utils._attempts import RunError
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError

NETLINK = "(00.1) Error (criu/sk-netlink.c:77): netlink: The socket has data to read"
TCP = "(00.1) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option."


def failure(line: str = NETLINK, *, as_before: bool = True) -> RunError:
    return RunError("w.", "r.", diagnoses=_diagnosis.diagnose(line), as_before=as_before, log_path="/log")


@dataclass
class Course:
    """What becomes of each try, each taking a second; and how long was waited between them."""

    outcomes: list[StasisError | str]
    takes: float = 1.0
    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    given: list[tuple[int, int]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def do(self, attempt: int, seconds: int) -> str:
        self.given.append((attempt, seconds))
        self.now += self.takes
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, StasisError):
            raise outcome
        return outcome

    def run(self, retries: int = 2, timeout: int = 300) -> tuple[str, list[dict[str, t.Any]]]:
        return _attempts.persist(self.do, retries=retries, timeout=timeout, clock=lambda: self.now, sleep=self.sleep)


def test_what_works_at_once_was_not_retried() -> None:
    course = Course(["done"])
    assert course.run() == ("done", [])
    assert course.waits == []


def test_what_passes_by_itself_is_tried_again_and_told() -> None:
    course = Course([failure(), failure(), "done"])
    done, retried = course.run()
    assert done == "done"
    assert [one["id"] for one in retried] == ["netlink_unread"] * 2
    assert [one["waited"] for one in retried] == course.waits == [0.5, 1.0]
    assert retried[0]["evidence"] == NETLINK
    assert (retried[0]["log_path"], retried[0]["seconds"]) == ("/log", 1.0)


def test_all_tries_together_have_the_time_of_one() -> None:
    course = Course([failure(), failure(), "done"])
    course.run(timeout=10)
    assert course.given == [(1, 10), (2, 8), (3, 6)]


@pytest.mark.parametrize(("retries", "tries"), [(0, 1), (1, 2), (2, 3), (5, 6)])
def test_what_stays_is_given_up_after_so_many_retries(retries: int, tries: int) -> None:
    course = Course([failure() for _number in range(9)])
    with pytest.raises(RunError) as last:
        course.run(retries)
    assert len(course.given) == tries
    assert len(last.value.data["retried"]) == tries - 1


@pytest.mark.parametrize(
    "final",
    [failure(TCP), failure("(00.1) Error (x.c:1): unheard of"), failure(as_before=False), failure(f"{NETLINK}\n{TCP}")],
    ids=["another cause", "unknown cause", "not as before", "another cause beside"],
)
def test_what_does_not_pass_or_has_changed_something_is_not_tried_again(final: RunError) -> None:
    course = Course([failure(), final, "done"])
    with pytest.raises(RunError) as last:
        course.run()
    assert last.value is final
    assert len(last.value.data["retried"]) == 1


def test_failure_of_ours_is_not_tried_again() -> None:
    course = Course([StasisError("refused")])
    with pytest.raises(StasisError, match="refused"):
        course.run()
    assert course.waits == []


def test_nothing_is_begun_after_the_timeout() -> None:
    course = Course([failure(), "done"], takes=9.6)
    with pytest.raises(RunError):
        course.run(timeout=10)
    assert course.waits == []


def test_diagnoses_are_in_the_data() -> None:
    assert [one["id"] for one in failure().data["diagnoses"]] == ["netlink_unread"]

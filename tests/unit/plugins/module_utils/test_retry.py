# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis, _retry

NETLINK = _diagnosis.diagnose("Error (criu/sk-netlink.c:77): netlink: The socket has data to read")
TCP = _diagnosis.diagnose(
    "Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option."
)


@pytest.mark.parametrize(("attempt", "expected"), [(1, True), (2, True), (3, False), (9, False)])
def test_a_transient_cause_is_tried_again_twice(attempt: int, expected: bool) -> None:
    assert _retry.decide(NETLINK, attempt) is expected


def test_no_retries_means_none() -> None:
    assert not _retry.decide(NETLINK, 1, 0)


@pytest.mark.parametrize("attempt", [1, 2])
def test_another_cause_is_not_tried_again(attempt: int) -> None:
    assert not _retry.decide(TCP, attempt)


def test_an_unknown_cause_is_not_tried_again() -> None:
    assert not _retry.decide([], 1)


def test_a_transient_cause_beside_another_is_not_tried_again() -> None:
    assert not _retry.decide([*NETLINK, *TCP], 1)


def test_each_time_the_wait_is_twice_as_long_up_to_a_limit() -> None:
    assert [_retry.delay(attempt) for attempt in (1, 2, 3, 4, 5, 10**6)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import select

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _bounds
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError


@pytest.mark.parametrize("option", list(_bounds.BOUNDS))
def test_bounds_themselves_are_taken_and_the_next_numbers_are_not(option: str) -> None:
    bound = _bounds.BOUNDS[option]
    for good in (bound.least, bound.most, None):
        _bounds.check(option, good)
    for bad in (bound.least - 1, bound.most + 1, 10**30, -(10**30)):
        with pytest.raises(StasisError, match=f"{option} is {bad}") as refusal:
            _bounds.check(option, bad)
        assert f"from {bound.least} to {bound.most}" in refusal.value.remedy


def test_both_timeouts_together_are_not_too_much_for_poll() -> None:
    most = _bounds.BOUNDS["timeout"].most + _bounds.BOUNDS["kill_timeout"].most
    poll = select.poll()
    with open("/dev/null", "rb") as stream:
        # Always ready, so that it does not wait; a time that does not fit is an OverflowError.
        poll.register(stream, select.POLLIN)
        assert poll.poll(most * 1000)

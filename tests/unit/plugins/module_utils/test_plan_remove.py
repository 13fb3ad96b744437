# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _image, _plan_remove
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import image, manifest, wanted

STALE = ["It is stale."]
IMAGES: dict[str, _image.Image] = {
    "absent": image(_image.ABSENT),
    "staging": image(_image.STAGING),
    "committed": image(_image.COMMITTED),
    "sealed": image(_image.SEALED),
    "damaged": image(_image.DAMAGED),
    "foreign": image(_image.FOREIGN),
    "other name": image(_image.SEALED, manifest=manifest(container="web2")),
    "other lxc_path": image(_image.SEALED, manifest=manifest(lxc_path="/srv/lxc")),
}
NOT_OURS = {
    "foreign": "/srv/checkpoints/web1 is not a checkpoint. It has no manifest",
    "other name": "is a checkpoint of web2 in /var/lib/lxc, not of web1 in /var/lib/lxc",
    "other lxc_path": "is a checkpoint of web1 in /srv/lxc, not of web1 in /var/lib/lxc",
}
# "": LXC does not have the container any more.
STATES = ["", "RUNNING", "STOPPED", "FROZEN"]


def expected(state: str, found: str, force: bool, stale: bool) -> str:
    """The action, or words of the refusal."""
    if found == "absent":
        return "none"
    if found in NOT_OURS:
        return NOT_OURS[found]
    if state == "STOPPED" and found in ("sealed", "committed") and not stale and not force:
        return "is the only fresh checkpoint of web1, which is stopped: its running state would be lost."
    return "remove"


@each("found", list(IMAGES))
@each("state", STATES)
def test_every_state_and_situation(state: str, found: str) -> None:
    for force, stale in itertools.product((False, True), repeat=2):
        check(state, found, force, stale)


def check(state: str, found: str, force: bool, stale: bool) -> None:
    outcome = expected(state, found, force, stale)
    options = wanted(state="absent", force=force)
    reasons = STALE if stale else []
    if outcome not in ("none", "remove"):
        with pytest.raises(StasisError) as refusal:
            _plan_remove.plan_remove(state, IMAGES[found], options, reasons)
        assert outcome in refusal.value.what
        assert refusal.value.remedy
        return
    plan = _plan_remove.plan_remove(state, IMAGES[found], options, reasons)
    assert (plan.action, plan.changed, plan.state) == (outcome, outcome == "remove", "absent")
    assert dict(plan.before) == {"container": state.lower() or "absent", "checkpoint": IMAGES[found].state}
    assert dict(plan.after) == {"container": state.lower() or "absent", "checkpoint": "absent"}

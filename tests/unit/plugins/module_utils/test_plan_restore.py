# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _image, _plan_restore
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container, Process
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._freshness import Consumed
from ansible_collections.stasis.lxc.plugins.module_utils._plan import Plan
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import BOOT, INIT, container, image, manifest, wanted

STALE = ["It is stale."]
OURS = Consumed(BOOT, INIT.pid, INIT.start)
IMAGES: dict[str, _image.Image] = {
    "absent": image(_image.ABSENT),
    "staging": image(_image.STAGING),
    "committed": image(_image.COMMITTED),
    "sealed": image(_image.SEALED),
    "restored": image(_image.SEALED, consumed=(OURS,)),
    "damaged": image(_image.DAMAGED),
    "foreign": image(_image.FOREIGN),
    "other name": image(_image.SEALED, manifest=manifest(container="web2")),
    "other lxc_path": image(_image.SEALED, manifest=manifest(lxc_path="/srv/lxc")),
}
REFUSED = {
    "absent": "There is no checkpoint in /srv/checkpoints/web1.",
    "staging": "The checkpoint in /srv/checkpoints/web1 is staging: it was never completed.",
    "committed": "The checkpoint in /srv/checkpoints/web1 is committed: it was never completed.",
    "damaged": "The checkpoint in /srv/checkpoints/web1 is damaged: pages-1.img is missing.",
    "foreign": "/srv/checkpoints/web1 is not a checkpoint. It has no manifest",
    "other name": "is a checkpoint of web2 in /var/lib/lxc, not of web1 in /var/lib/lxc",
    "other lxc_path": "is a checkpoint of web1 in /srv/lxc, not of web1 in /var/lib/lxc",
}
STATES = ["RUNNING", "STOPPED", "FROZEN", "STARTING", "STOPPING"]


def expected(state: str, found: str, force: bool, allow_stale: bool, stale: bool) -> str:
    """The action, or words of the refusal."""
    if found in REFUSED:
        return REFUSED[found]
    if state == "FROZEN" and found == "restored":
        return "web1 was restored from /srv/checkpoints/web1, and is frozen."
    if state != "STOPPED" and found == "restored":
        return "none"
    if state != "STOPPED" and not force:
        return f"web1 is {state} and was not restored from /srv/checkpoints/web1."
    if stale and not allow_stale:
        return "The checkpoint in /srv/checkpoints/web1 is not fresh: It is stale."
    return "restore"


@each("found", list(IMAGES))
@each("state", STATES)
def test_every_state_and_situation(state: str, found: str) -> None:
    for force, allow_stale, stale in itertools.product((False, True), repeat=3):
        check(state, found, force, allow_stale, stale)


def check(state: str, found: str, force: bool, allow_stale: bool, stale: bool) -> None:
    outcome = expected(state, found, force, allow_stale, stale)

    def planned() -> Plan:
        options = wanted(state="restored", force=force, allow_stale=allow_stale)
        return _plan_restore.plan_restore(container(state), IMAGES[found], options, STALE if stale else [], BOOT)

    if outcome not in ("none", "restore"):
        with pytest.raises(StasisError) as refusal:
            planned()
        assert outcome in refusal.value.what
        assert refusal.value.remedy
        assert "\n" not in refusal.value.message
        return
    plan = planned()
    before = {"container": state.lower(), "checkpoint": "sealed"}
    assert (plan.action, plan.changed, dict(plan.before)) == (outcome, outcome == "restore", before)
    if outcome == "none":
        assert dict(plan.after) == before
        assert not plan.stop_first
    else:
        assert dict(plan.after) == {"container": "running", "checkpoint": "sealed"}
        assert plan.stop_first is (state != "STOPPED")
        assert list(plan.stale_reasons) == (STALE if stale else [])


@pytest.mark.parametrize("state", ["RUNNING", "STOPPED"])
def test_refusal_carries_every_stale_reason(state: str) -> None:
    reasons = ["It is stale.", "Very stale."]
    with pytest.raises(StasisError) as refusal:
        _plan_restore.plan_restore(container(state), IMAGES["sealed"], wanted(state="restored"), reasons, BOOT)
    assert refusal.value.data == {"stale_reasons": reasons}


def test_force_never_allows_what_is_stale() -> None:
    with pytest.raises(StasisError, match="is not fresh"):
        _plan_restore.plan_restore(
            container(), IMAGES["sealed"], wanted(state="restored", force=True), ["The container is running."], BOOT
        )


RESTORED_FROM: dict[str, tuple[Container, tuple[Consumed, ...], bool]] = {
    "the very one": (container(), (OURS,), True),
    "the last of several": (container(), (Consumed(BOOT, 1, 2), OURS), True),
    "frozen since": (container("FROZEN"), (OURS,), True),
    "an earlier one of several": (container(), (OURS, Consumed(BOOT, 1, 2)), False),
    "nobody": (container(), (), False),
    "another boot": (container(), (Consumed("other", INIT.pid, INIT.start),), False),
    "another pid": (container(), (Consumed(BOOT, INIT.pid + 1, INIT.start),), False),
    "another process under the same pid": (container(), (Consumed(BOOT, INIT.pid, INIT.start + 1),), False),
    "stopped": (container("STOPPED"), (OURS,), False),
}


@each("case", list(RESTORED_FROM))
def test_was_restored_from_asks_for_boot_pid_and_start_time(case: str) -> None:
    found, consumed, answer = RESTORED_FROM[case]
    assert _plan_restore.was_restored_from(found, image(consumed=consumed), BOOT) is answer


def test_name_of_inits_program_does_not_matter() -> None:
    renamed = container(init=Process(INIT.pid, INIT.start, "other"))
    assert _plan_restore.was_restored_from(renamed, image(consumed=(OURS,)), BOOT)

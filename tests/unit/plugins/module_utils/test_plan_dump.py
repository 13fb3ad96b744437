# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _image, _plan_dump
from ansible_collections.stasis.lxc.plugins.module_utils._autostart import Autostart
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container, Process
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.plugins.module_utils._plan import Plan
from ansible_collections.stasis.lxc.plugins.module_utils._rootfs import Rootfs
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import container, image, manifest, wanted

STALE = ["It is stale.", "Very stale."]
IMAGES: dict[str, _image.Image] = {
    "absent": image(_image.ABSENT),
    "staging": image(_image.STAGING),
    "committed": image(_image.COMMITTED),
    "sealed": image(_image.SEALED),
    "damaged": image(_image.DAMAGED),
    "unreadable": _image.Image("/srv/checkpoints/web1", _image.DAMAGED, problem="manifest.json is not JSON."),
    "foreign": image(_image.FOREIGN),
    "other name": image(_image.SEALED, manifest=manifest(container="web2")),
    "other lxc_path": image(_image.SEALED, manifest=manifest(lxc_path="/srv/lxc")),
    "other's draft": image(_image.STAGING, draft={"container": "web2", "lxc_path": "/var/lib/lxc"}),
}
NOT_OURS = {
    "foreign": "is not a checkpoint. It has no manifest",
    "other name": "is a checkpoint of web2 in /var/lib/lxc, not of web1 in /var/lib/lxc",
    "other lxc_path": "is a checkpoint of web1 in /srv/lxc, not of web1 in /var/lib/lxc",
    "other's draft": "is a checkpoint of web2 in /var/lib/lxc",
}
FROZEN = "web1 is frozen, and CRIU would wait for it for ever"
NONE_THERE = "web1 is not running, and there is no checkpoint"
STATES = ["RUNNING", "STOPPED", "FROZEN", "STARTING", "STOPPING", "ABORTING", "FREEZING", "THAWED"]
OPTIONS = {
    "": {},
    "stop": {"stop": True},
    "overwrite": {"overwrite": True},
    "stop overwrite": {"stop": True, "overwrite": True},
}


def running(found: str, options: str) -> str:
    """What is expected of a running container: the action, or words of the refusal."""
    if found == "sealed" and not options:
        return "none"
    if found == "damaged" and not options:
        return "is damaged: "
    # Whose an unreadable one is cannot be known, so it is not replaced by the way.
    if found == "unreadable" and "overwrite" not in options:
        return "is damaged: "
    return "dump"


def stopped(found: str, options: str, stale: bool) -> str:
    """The same of a stopped one."""
    if found == "absent":
        return NONE_THERE
    if found != "sealed":
        state = "damaged" if found == "unreadable" else found
        return f"web1 is not running, and the checkpoint in /srv/checkpoints/web1 is {state}: "
    if options == "overwrite":
        return "web1 is not running, so it cannot be dumped anew"
    if "stop" in options and stale:
        return "made 2026-11-22T22:00:00.000000Z, is stale: It is stale. Very stale."
    return "none"


def expected(state: str, found: str, options: str, stale: bool) -> str:
    if found in NOT_OURS:
        return NOT_OURS[found]
    if state == "RUNNING":
        return running(found, options)
    if state == "STOPPED":
        return stopped(found, options, stale)
    if found == "sealed" and not options:
        return "none"
    return FROZEN if state == "FROZEN" else f"web1 is {state}."


def planned(state: str, found: str, options: str, stale: bool) -> Plan:
    return _plan_dump.plan_dump(container(state), IMAGES[found], wanted(**OPTIONS[options]), STALE if stale else [])


@each("found", list(IMAGES))
@each("state", STATES)
def test_every_state_and_situation(state: str, found: str) -> None:
    for options in OPTIONS:
        for stale in (False, True):
            check(state, found, options, stale)


def check(state: str, found: str, options: str, stale: bool) -> None:
    outcome = expected(state, found, options, stale)
    if outcome not in ("none", "dump"):
        with pytest.raises(StasisError) as refusal:
            planned(state, found, options, stale)
        assert outcome in refusal.value.what
        assert refusal.value.remedy
        assert "\n" not in refusal.value.message
        return
    plan = planned(state, found, options, stale)
    before = {"container": state.lower(), "checkpoint": IMAGES[found].state}
    assert (plan.action, plan.changed, dict(plan.before)) == (outcome, outcome == "dump", before)
    if outcome == "none":
        assert dict(plan.after) == before
        assert list(plan.stale_reasons) == (STALE if stale else [])
    else:
        after = "stopped" if "stop" in options else "running"
        assert dict(plan.after) == {"container": after, "checkpoint": "sealed"}
    assert plan.state == plan.after["checkpoint"]
    assert (plan.stop_first, plan.inhibit, plan.warnings) == (False, False, ())


def test_refusal_of_a_stale_checkpoint_carries_its_reasons() -> None:
    with pytest.raises(StasisError) as refusal:
        planned("STOPPED", "sealed", "stop", True)
    assert refusal.value.data == {"stale_reasons": STALE}


def test_running_container_whose_init_has_just_gone_is_not_dumped() -> None:
    with pytest.raises(StasisError, match="web1 is RUNNING"):
        _plan_dump.plan_dump(container("RUNNING", init=None), IMAGES["absent"], wanted(), [])


def plan(found: Container, **options: t.Any) -> Plan:
    return _plan_dump.plan_dump(found, IMAGES["absent"], wanted(**options), [])


def refused(found: Container, **options: t.Any) -> str:
    with pytest.raises(StasisError) as refusal:
        plan(found, **options)
    assert "\n" not in refusal.value.message
    return refusal.value.message


def test_ephemeral_container_is_not_stopped_because_lxc_would_destroy_it() -> None:
    assert "web1 is ephemeral: LXC destroys it when it stops." in refused(container(ephemeral=True), stop=True)
    assert plan(container(ephemeral=True)).action == "dump"


STARTERS: dict[str, tuple[Autostart, str]] = {
    "config": (Autostart(True, ()), "lxc.start.auto = 1 in its configuration"),
    "unit": (Autostart(False, ("lxc@web1.service",)), "the enabled unit lxc@web1.service"),
    "both": (
        Autostart(True, ("lxc@web1.service",)),
        "lxc.start.auto = 1 in its configuration and the enabled unit lxc@web1.service",
    ),
}


@pytest.mark.parametrize("who", list(STARTERS))
def test_container_that_starts_by_itself_is_refused_by_default(who: str) -> None:
    autostart, words = STARTERS[who]
    found = container(autostart=autostart)
    assert f"web1 would be started by {words}, which makes the checkpoint stale." in refused(found, stop=True)
    assert refused(found, stop=True) == refused(found, stop=True, autostart="refuse")


@pytest.mark.parametrize("who", list(STARTERS))
def test_autostart_can_be_inhibited(who: str) -> None:
    found = plan(container(autostart=STARTERS[who][0]), stop=True, autostart="inhibit")
    assert (found.action, found.inhibit, found.warnings) == ("dump", True, ())


@pytest.mark.parametrize("who", list(STARTERS))
def test_autostart_can_be_ignored_with_a_warning(who: str) -> None:
    autostart, words = STARTERS[who]
    found = plan(container(autostart=autostart), stop=True, autostart="ignore")
    assert (found.action, found.inhibit) == ("dump", False)
    assert found.warnings == (f"web1 is started by {words}; a start makes the checkpoint stale before it is restored.",)


@pytest.mark.parametrize("way", ["refuse", "inhibit", "ignore"])
def test_autostart_does_not_matter_to_a_container_that_runs_on(way: str) -> None:
    found = plan(container(autostart=STARTERS["both"][0]), autostart=way)
    assert (found.action, found.inhibit, found.warnings) == ("dump", False, ())


@pytest.mark.parametrize("way", ["refuse", "inhibit", "ignore"])
def test_container_that_nobody_starts_needs_no_inhibition(way: str) -> None:
    found = plan(container(), stop=True, autostart=way)
    assert (found.inhibit, found.warnings) == (False, ())


OUTSIDERS = tuple(Process(pid, 1, "sh") for pid in range(100, 107))


def test_processes_of_lxc_attach_are_not_killed_silently() -> None:
    message = refused(container(outsiders=OUTSIDERS[:2]), stop=True)
    assert "web1 has processes that are not children of its init: sh (pid 100), sh (pid 101)." in message


def test_processes_of_lxc_attach_are_a_warning_where_the_container_runs_on() -> None:
    found = plan(container(outsiders=OUTSIDERS[:1]))
    assert found.action == "dump"
    assert found.warnings == ("Not in the checkpoint: sh (pid 100), which lxc-attach put beside the container.",)


def test_many_outsiders_do_not_make_a_long_message() -> None:
    assert "pid 104" in refused(container(outsiders=OUTSIDERS), stop=True)
    assert "pid 105" not in refused(container(outsiders=OUTSIDERS), stop=True)


@pytest.mark.parametrize("stop", [False, True])
def test_nic_that_cannot_be_kept_is_refused_by_name_before_the_freeze(stop: bool) -> None:
    nics = (
        Nic(0, "veth", name="eth0"),
        Nic(1, "ipvlan", name="eth1", problems=("eth1 is an ipvlan.",)),
        Nic(2, "veth", name="eth2", problems=("eth2 has a VLAN.", "eth2 has a qdisc.")),
    )
    message = refused(container(nics=nics), stop=stop)
    assert message.startswith("web1: eth1 is an ipvlan. eth2 has a VLAN. eth2 has a qdisc. Nothing was frozen")


INSIDE = [
    "/var/lib/lxc/web1",
    "/var/lib/lxc/web1/checkpoint",
    "/var/lib/lxc/web1/rootfs",
    "/var/lib/lxc/web1/rootfs/var/checkpoint",
]


@pytest.mark.parametrize("directory", INSIDE)
def test_directory_inside_the_containers_own_is_refused(directory: str) -> None:
    assert f"{directory} is inside the container's own directory." in refused(container(), directory=directory)


@pytest.mark.parametrize("directory", ["/srv/roots/web1", "/srv/roots/web1/x"])
def test_directory_inside_a_rootfs_elsewhere_is_refused(directory: str) -> None:
    found = container(rootfs=Rootfs("dir:/srv/roots/web1", "/srv/roots/web1", 5, 7))
    assert "is inside the container's own directory." in refused(found, directory=directory)


@pytest.mark.parametrize(
    "directory", ["/var/lib/lxc/web1-checkpoint", "/var/lib/lxc/web10", "/var/lib/lxc/web1.d/x", "/var/lib/stasis/web1"]
)
def test_directory_beside_it_is_taken(directory: str) -> None:
    assert plan(container(), directory=directory).action == "dump"


def test_container_without_a_rootfs_of_its_own_can_be_dumped_anywhere_else() -> None:
    assert plan(container(rootfs=Rootfs("", "", 0, 0))).action == "dump"


def test_nothing_of_this_is_asked_where_nothing_is_dumped() -> None:
    awkward = container(
        ephemeral=True,
        outsiders=OUTSIDERS,
        autostart=STARTERS["both"][0],
        nics=(Nic(0, "ipvlan", problems=("no",)),),
    )
    found = _plan_dump.plan_dump(awkward, IMAGES["sealed"], wanted(), [])
    assert (found.action, found.warnings) == ("none", ())

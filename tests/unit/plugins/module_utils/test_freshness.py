# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import _freshness, _image
from ansible_collections.stasis.lxc.plugins.module_utils._freshness import Consumed, Now, Then
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import FINGERPRINT, IDENTITY

CREATED = "2026-11-22T22:00:00.000000Z"
THEN = Then(CREATED, True, IDENTITY, "c1", FINGERPRINT, ())
NOW = Now(False, 0, IDENTITY, "c1", FINGERPRINT)
LATER = {**FINGERPRINT, "digest": "d2", "newest": 1_700_000_100_000_000_000, "newest_path": "/var/log/messages"}
SHRUNK = {**FINGERPRINT, "digest": "d3"}

LEFT_RUNNING = f"The container was left running when it was dumped at {CREATED}, so it has moved on."
CONSUMED = "A container was already resumed from this checkpoint (init pid 4444), so it has moved on."
RUNNING = "The container is running (init pid 4321)."
OTHER = "The root file system is not the one that was dumped: the container was created anew or moved."
CONFIG = "The configuration of the container has changed since the dump."
NEVER_TAKEN = (
    "The root file system was not fingerprinted when the container stopped, so nothing shows that it is unchanged."
)
UNREADABLE = "The root file system cannot be read, so nothing shows that it is unchanged."
WRITTEN = "The root file system was written to after the dump: /var/log/messages at 2023-11-14T22:15:00Z."
REMOVED = "The root file system is not as the dump left it: something in it was written to, removed or replaced."
UNSEEN_THEN = (
    "The root file system could not be seen whole when the container stopped, so nothing shows that it is unchanged."
)
UNSEEN_NOW = (
    "The root file system could not be seen whole now (/dev/vg/web1 is mounted or in use), "
    "so nothing shows that it is unchanged."
)


def test_stopped_by_the_dump_and_untouched_is_fresh() -> None:
    assert _freshness.reasons(THEN, NOW) == []


@each(
    ("then", "now", "reason"),
    [
        ({"stopped": False}, {}, LEFT_RUNNING),
        ({"consumed": (Consumed("b", 4444, 5),)}, {}, CONSUMED),
        ({}, {"running": True, "init_pid": 4321, "fingerprint": None}, RUNNING),
        ({}, {"identity": {**IDENTITY, "inode": 78}}, OTHER),
        ({}, {"identity": {**IDENTITY, "backing": "/srv/moved"}}, OTHER),
        ({}, {"config_digest": "c2"}, CONFIG),
        ({"fingerprint": None}, {}, NEVER_TAKEN),
        ({}, {"fingerprint": None}, UNREADABLE),
        ({"fingerprint": {**FINGERPRINT, "complete": False}}, {}, UNSEEN_THEN),
        ({"fingerprint": {key: FINGERPRINT[key] for key in FINGERPRINT if key != "complete"}}, {}, UNSEEN_THEN),
        (
            {},
            {
                "fingerprint": {
                    **FINGERPRINT,
                    "complete": False,
                    "incomplete_because": "/dev/vg/web1 is mounted or in use",
                }
            },
            UNSEEN_NOW,
        ),
        ({}, {"fingerprint": LATER}, WRITTEN),
        ({}, {"fingerprint": SHRUNK}, REMOVED),
    ],
    ids=[
        *["left running", "consumed", "running", "created anew", "moved", "config"],
        *["never fingerprinted", "unreadable", "cut off", "perhaps cut off", "unseen now", "written to", "removed"],
    ],
)
def test_each_reason_alone_makes_it_stale(then: dict[str, t.Any], now: dict[str, t.Any], reason: str) -> None:
    assert _freshness.reasons(replace(THEN, **then), replace(NOW, **now)) == [reason]


def test_all_reasons_are_given_at_once_in_a_fixed_order() -> None:
    then = replace(THEN, consumed=(Consumed("b", 1, 2), Consumed("b", 4444, 5)))
    now = Now(False, 0, {**IDENTITY, "inode": 78}, "c2", LATER)
    assert _freshness.reasons(then, now) == [CONSUMED, OTHER, CONFIG, WRITTEN]


def test_running_container_left_running_by_the_dump_has_both_reasons_and_no_guess_about_files() -> None:
    now = replace(NOW, running=True, init_pid=4321, fingerprint=None)
    assert _freshness.reasons(replace(THEN, stopped=False), now) == [LEFT_RUNNING, RUNNING]


def test_the_device_of_the_rootfs_may_change_over_a_reboot() -> None:
    assert "device" not in IDENTITY
    assert _freshness.reasons(THEN, replace(NOW, identity=dict(IDENTITY))) == []


def test_fewer_details_in_the_fingerprint_of_an_older_version_do_not_matter() -> None:
    assert _freshness.reasons(THEN, replace(NOW, fingerprint={**FINGERPRINT, "entries": 99})) == []


# What the hook writes, and what is taken back after a restore that ran nothing.
RECORDS: dict[str, tuple[str, list[Consumed]]] = {
    "none": ("", []),
    "one": ("restored B1 10 20 99\n", [Consumed("B1", 10, 20)]),
    "one without its time": ("restored B1 10 20\n", [Consumed("B1", 10, 20)]),
    "two": ("restored B1 10 20 99\nrestored B2 11 21 5\n", [Consumed("B1", 10, 20), Consumed("B2", 11, 21)]),
    "taken back": ("restored B1 10 20 99\nundone B1 10 20\n", []),
    "the other taken back": (
        "restored B1 10 20 99\nrestored B1 11 21 99\nundone B1 10 20\n",
        [Consumed("B1", 11, 21)],
    ),
    "restored again after it was taken back": (
        "restored B1 10 20 9\nundone B1 10 20\nrestored B1 30 40 9\n",
        [Consumed("B1", 30, 40)],
    ),
    "undone of another": ("restored B1 10 20 99\nundone B2 10 20\n", [Consumed("B1", 10, 20)]),
    "undone before": ("undone B1 10 20\nrestored B1 10 20 99\n", [Consumed("B1", 10, 20)]),
    "cut off by a power failure": ("restored B1 10 20 99\nrestored B1 11", [Consumed("B1", 10, 20)]),
    "other words": ("hello\n\nrestored\nrestored B x y 1\nresumed B1 10 20 9\n", []),
}


@each("case", list(RECORDS))
def test_records_of_the_hook(case: str) -> None:
    text, found = RECORDS[case]
    assert _image.parse_consumed(text) == found

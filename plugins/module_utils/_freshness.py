# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether an image is fresh: the container was stopped by this dump and has not run since. Pure.

Restoring memory onto a file system that has moved on destroys data, so everything that is not fresh is refused
with its reasons. A fingerprint of the root file system cannot prove that nothing ran.
"""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class Consumed:
    """One resume of a container from an image, as the hook wrote it at post-restore."""

    boot_id: str
    init_pid: int
    init_start: int


@dataclass(frozen=True)
class Now:
    """What is known of the container now.

    fingerprint: of its root file system, or None where it could not be read or the container runs.
    """

    running: bool
    init_pid: int
    identity: t.Mapping[str, t.Any]
    config_digest: str
    fingerprint: t.Mapping[str, t.Any] | None


@dataclass(frozen=True)
class Then:
    """What the image says of the container when it was dumped."""

    created: str
    stopped: bool
    identity: t.Mapping[str, t.Any]
    config_digest: str
    fingerprint: t.Mapping[str, t.Any] | None
    consumed: tuple[Consumed, ...]


def reasons(then: Then, now: Now) -> list[str]:
    """Why the image is not fresh, one sentence each; empty where it is."""
    found = []
    if not then.stopped:
        found.append(f"The container was left running when it was dumped at {then.created}, so it has moved on.")
    if then.consumed:
        last = then.consumed[-1]
        found.append(
            f"A container was already resumed from this checkpoint (init pid {last.init_pid}), so it has moved on."
        )
    if now.running:
        found.append(f"The container is running (init pid {now.init_pid}).")
    if dict(now.identity) != dict(then.identity):
        found.append("The root file system is not the one that was dumped: the container was created anew or moved.")
    if now.config_digest != then.config_digest:
        found.append("The configuration of the container has changed since the dump.")
    if not now.running and then.stopped:
        found += _fingerprint_reasons(then, now)
    return found


def _fingerprint_reasons(then: Then, now: Now) -> list[str]:
    if then.fingerprint is None:
        return [
            "The root file system was not fingerprinted when the container stopped, so nothing shows that it is unchanged."
        ]
    if now.fingerprint is None:
        return ["The root file system cannot be read, so nothing shows that it is unchanged."]
    for one, moment in ((then.fingerprint, "when the container stopped"), (now.fingerprint, "now")):
        if one.get("complete") is not True:
            why = f" ({one['incomplete_because']})" if one.get("incomplete_because") else ""
            return [
                f"The root file system could not be seen whole {moment}{why}, so nothing shows that it is unchanged."
            ]
    if now.fingerprint["digest"] == then.fingerprint["digest"]:
        return []
    if now.fingerprint["newest"] > then.fingerprint["newest"]:
        when = datetime.datetime.fromtimestamp(now.fingerprint["newest"] / 1e9, datetime.timezone.utc)
        return [
            f"The root file system was written to after the dump: {now.fingerprint['newest_path']} "
            f"at {when.strftime('%Y-%m-%dT%H:%M:%SZ')}."
        ]
    return ["The root file system is not as the dump left it: something in it was written to, removed or replaced."]

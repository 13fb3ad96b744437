# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Refuse, before anything is stopped or restored, an image that is not what it was or that cannot run here."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _ahead,
    _argspec,
    _compatibility,
    _container,
    _criu_command,
    _errors,
    _host,
    _image,
    _integrity,
    _nics,
    _runner,
    _surroundings,
)


def trust(path: str, runner: _runner.Runner) -> _image.Trust | None:
    """What a manifest's signature is held to, or None where no key is named. Raises StasisError for a bad key."""
    if not path:
        return None
    from ansible_collections.stasis.lxc.plugins.module_utils import _signing

    key = _signing.load(path, "verify_key")
    return lambda data, signature: _signing.problem(data, signature, key, runner)


def check_seal(wanted: _argspec.Wanted, image: _image.Image, ahead: _ahead.Ahead | None) -> None:
    """Raise StasisError where the image does not match its seal; before anything but the manifest is read of it.

    ahead: what has begun to hash it.
    """
    # One that an interrupted run left is hashed when it is completed, not before.
    found = _image.verify(image, wanted.verify, ahead) if image.path == wanted.directory else []
    if found:
        raise _errors.StasisError(
            f"The checkpoint in {image.path} does not match its seal: {_integrity.summary(found)}",
            "Restore from another checkpoint; nothing was read from this one.",
        )


def check_host(
    wanted: _argspec.Wanted,
    runner: _runner.Runner,
    host: _host.Host,
    container: _container.Container,
    image: _image.Image,
    options: _criu_command.CriuOptions,
    awaited: t.AbstractSet[str] = frozenset(),
) -> list[str]:
    """Compare an image that matches its seal with this host; returns what may matter, raises StasisError for what does.

    options: CRIU's, as the restore will have them. awaited: files that will be there by then, as the image has them.
    """
    manifest = image.manifest or {}
    here = _surroundings.observe(manifest, image.path, container, host, runner)
    differences = _compatibility.compare(
        manifest,
        replace(here, files={path: state for path, state in here.files.items() if path not in awaited}),
        manage_cgroups=options.manage_cgroups,
        lsm_profile=options.lsm_profile,
    )
    refused = [
        one for one in differences if one.severity == _compatibility.REFUSE and not (one.forced and wanted.force)
    ]
    if refused:
        raise _errors.StasisError(
            f"{wanted.name} cannot be restored here. {' '.join(one.what for one in refused)}", refused[0].remedy
        )
    return [f"{one.what} {one.remedy}" for one in differences]


def check_writable(wanted: _argspec.Wanted, image: _image.Image) -> None:
    """Raise StasisError where the record of the restore could not be written beside the image: CRIU would be rolled back."""
    if not os.access(image.path, os.W_OK):
        raise _errors.StasisError(
            f"{wanted.directory} cannot be written, and a restore writes there that it happened.",
            "Make the file system writable, or copy the image to one that is.",
        )


def check_network(
    container: _container.Container, nics: t.Sequence[_nics.Nic], runner: _runner.Runner, *, will_stop: bool
) -> None:
    """Raise StasisError for bridges that are missing and names that are taken, but by the container that will be stopped."""
    faults = _nics.free_names(nics, runner)
    own = {nic.veth for nic in container.nics} if will_stop else set()
    faults = [fault for fault in faults if not any(veth and veth in fault.split() for veth in own)]
    if faults:
        raise _errors.StasisError(
            " ".join(faults), "Name another bridge or veth in the option nics, or put it right on the host."
        )

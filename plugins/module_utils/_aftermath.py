# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a failed or refused task tells: container and checkpoint are looked at again, so that nothing is told as planned."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _container,
    _errors,
    _image,
    _restorable,
    _result,
    _runner,
    _situation,
)


def complete(error: _errors.StasisError, wanted: _argspec.Wanted, runner: _runner.Runner, *, check_mode: bool) -> None:
    """Put into the error's data how container and checkpoint are now; what cannot be found out is called unknown, with a warning.

    Replace the keys that the error already has: they describe the state before the failure.
    """
    data = error.data
    result = _result.Result()
    doubts: list[str] = []
    container = _look_at_container(wanted, runner, result, doubts)
    image = _look_at_image(wanted, container, runner, result, doubts, check_mode=check_mode)
    if container is not None and image is not None:
        try:
            data["stale_reasons"] = _situation.stale_reasons(container, image)
        except (OSError, ValueError, _errors.StasisError) as exc:
            doubts.append(f"Whether the checkpoint is fresh could not be found out: {_why(exc)}")
    now = _result.situation(result.container_state, result.state)
    before = (data.get("diff") or {}).get("before") or now
    data["changed"] = bool(data.get("changed")) or before != now
    data["diff"] = {"before": before, "after": now}
    data["warnings"] = [*data.get("warnings", []), *doubts]
    for key in ("state", "container_state", "init_pid", "checkpoint"):
        data[key] = getattr(result, key)


def _look_at_container(
    wanted: _argspec.Wanted, runner: _runner.Runner, result: _result.Result, doubts: list[str]
) -> _container.Container | None:
    if not os.path.lexists(os.path.join(wanted.lxc_path, wanted.name, "config")):
        result.container_state, result.init_pid = _result.ABSENT, 0
        return None
    try:
        container = _container.observe(runner, wanted.name, wanted.lxc_path)
    except (OSError, ValueError, _errors.StasisError) as exc:
        doubts.append(f"The state of {wanted.name} could not be found out: {_why(exc)}")
        # LXC's own word needs less.
        with contextlib.suppress(OSError, _errors.StasisError):
            state, pid = _container.query(runner, wanted.name, wanted.lxc_path)
            result.container_state, result.init_pid = state.lower(), pid
            doubts.pop()
        return None
    result.container_state = container.state.lower()
    result.init_pid = container.init.pid if container.init else 0
    return container


def _look_at_image(
    wanted: _argspec.Wanted,
    container: _container.Container | None,
    runner: _runner.Runner,
    result: _result.Result,
    doubts: list[str],
    *,
    check_mode: bool,
) -> _image.Image | None:
    if not wanted.real_directory:
        # The directory was refused: users other than root may change its contents.
        return None
    try:
        image = _situation.look(wanted, container, _trust(wanted, runner), check_mode=check_mode)
    except (OSError, ValueError, _errors.StasisError) as exc:
        doubts.append(f"The state of the checkpoint in {wanted.directory} could not be found out: {_why(exc)}")
        return None
    result.state = image.state
    result.checkpoint = dict(image.manifest or {})
    return image


def _trust(wanted: _argspec.Wanted, runner: _runner.Runner) -> _image.Trust | None:
    if wanted.state == _argspec.ABSENT:
        return None
    try:
        return _restorable.trust(wanted.verify_key, runner)
    except _errors.StasisError as exc:
        # Without the key nothing in a manifest is believed.
        why = exc.what
        return lambda _data, _signature: why


def _why(exc: Exception) -> str:
    return exc.what if isinstance(exc, _errors.StasisError) else str(exc)

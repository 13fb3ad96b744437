# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a task finds: the image, whether it is fresh, and the result so far."""

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _container,
    _freshness,
    _image,
    _integrity,
    _interrupted,
    _plan,
    _result,
    _rootfs,
)

# Whoever stopped the container has waited for its teardown, so that a device in use now is in use by somebody else.
_SETTLE_SECONDS = 1.0


def look(
    wanted: _argspec.Wanted,
    container: _container.Container | None,
    trust: _image.Trust | None = None,
    *,
    check_mode: bool,
) -> _image.Image:
    """The image that the task is about; in check mode as it would be after what is to be recovered.

    trust: as for _image.look().
    """
    level = _integrity.NONE if wanted.verify == _integrity.NONE else _integrity.SIZE
    if check_mode:
        return _interrupted.foreseen(wanted, container, trust, level)
    return _image.look(wanted.directory, trust, level)


def stale_reasons(container: _container.Container, image: _image.Image) -> list[str]:
    """Why a checkpoint is not fresh, a sentence each; empty where it is, and where there is none."""
    manifest = image.manifest
    if manifest is None:
        return []
    running = container.init is not None
    found = None if running else _rootfs.fingerprint(container.rootfs, settle=_SETTLE_SECONDS)
    return _freshness.reasons(
        _freshness.Then(
            created=manifest["created"],
            stopped=manifest["stopped"],
            identity=manifest["identity"],
            config_digest=manifest["config_digest"],
            fingerprint=image.fingerprint,
            consumed=image.consumed,
        ),
        _freshness.Now(
            running=running,
            init_pid=container.init.pid if container.init else 0,
            identity=container.rootfs.identity(),
            config_digest=container.config.digest,
            fingerprint=found.as_dict() if found else None,
        ),
    )


def result_of(plan: _plan.Plan, image: _image.Image, container: _container.Container | None) -> _result.Result:
    """The result as the plan has it; what is done later completes it."""
    runs = (
        container is not None and container.init is not None and plan.after["container"] != _container.STOPPED.lower()
    )
    return _result.Result(
        changed=plan.changed,
        action=plan.action,
        state=plan.state,
        container_state=plan.after["container"] or _result.ABSENT,
        checkpoint=dict(image.manifest or {}),
        init_pid=container.init.pid if runs and container and container.init else 0,
        stale_reasons=list(plan.stale_reasons),
        warnings=list(plan.warnings),
        diff={"before": dict(plan.before), "after": dict(plan.after)},
    )

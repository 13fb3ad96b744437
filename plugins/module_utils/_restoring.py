# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""state=restored: from the sealed image to the running container."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _ahead,
    _argspec,
    _attempts,
    _census,
    _container,
    _criu_command,
    _errors,
    _host,
    _image,
    _install_record,
    _interrupted,
    _nic_records,
    _nics,
    _plan_restore,
    _records,
    _restorable,
    _restore,
    _result,
    _rootfs,
    _runner,
    _situation,
    _systemd,
    _user_namespace,
)

NO_REBOOT = (
    "LXC's monitor of a restored container does not start it again: a reboot inside leaves it stopped "
    "(every liblxc release; start it with lxc-start then)."
)


def restore(
    wanted: _argspec.Wanted,
    runner: _runner.Runner,
    host: _host.Host,
    record: _install_record.InstallRecord,
    container: _container.Container,
    trust: _image.Trust | None,
    *,
    check_mode: bool,
    ahead: _ahead.Ahead | None,
) -> _result.Result:
    """Carry it out, or in check mode up to its plan. trust: as for _image.look(). ahead: what has begun to hash the image.
    Raises StasisError; its data goes into the result."""
    image = _situation.look(wanted, container, trust, check_mode=check_mode)
    stale = _situation.stale_reasons(container, image)
    plan = _plan_restore.plan_restore(container, image, wanted, stale, host.boot_id)
    result = _situation.result_of(plan, image, container)
    if plan.action == _result.NONE:
        return result
    with _result.kept(result):
        _restorable.check_seal(wanted, image, ahead)
        _records.check(image.path)
        _restorable.check_writable(wanted, image)
        order = replace(_restore_order(wanted, host, record, container, image), fresh=not stale)
        result.command = [host.criu_path, "restore", *order.arguments("WORKDIR", wanted.directory)]
        result.notes += [NO_REBOOT, *_systemd.note((image.manifest or {}).get("init_name", ""), host.kernel)]
        awaited = _interrupted.awaited_links(wanted, container) if check_mode else frozenset()
        result.warnings += _restorable.check_host(wanted, runner, host, container, image, order.options, awaited)
        _restorable.check_network(container, order.nics, runner, will_stop=plan.stop_first)
        if check_mode:
            return result
        if plan.stop_first:
            _restore.stop(container, runner, wanted)

        def once(attempt: int, seconds: int) -> _restore.Restored:
            if attempt > 1:
                _restorable.check_network(container, order.nics, runner, will_stop=plan.stop_first)
            return _restore.restore(runner, container, image, replace(wanted, timeout=seconds), record, order)

        restored, result.retried = _attempts.persist(once, retries=wanted.retries, timeout=wanted.timeout)
        result.command = restored.command
        result.stats = restored.stats
        result.init_pid = restored.init.pid
        result.log_path = restored.log_path
        result.warnings += restored.warnings
        result.lost, more = _census.losses(runner, restored.init.pid, image.path)
        result.warnings += more
        return result


def _restore_order(
    wanted: _argspec.Wanted,
    host: _host.Host,
    record: _install_record.InstallRecord,
    container: _container.Container,
    image: _image.Image,
) -> _restore.RestoreOrder:
    manifest = image.manifest or {}
    options = _remembered(wanted, manifest["options"], trusted=image.made_here or bool(wanted.verify_key))
    # The records are LXC's own form and know veths only; the manifest knows the others.
    others = [_nics.Nic(**one) for one in manifest["nics"] if one["kind"] != "veth"]
    nics = tuple(_nics.retarget([*_nic_records.read_records(image.path), *others], list(wanted.nics)))
    overlay = _rootfs.overlay_options(container.rootfs.spec, manifest.get("overlay_work", ""))
    root = _user_namespace.mapped_root(container.config.values("lxc.idmap"))

    def arguments(work: str, images: str) -> list[str]:
        return _criu_command.restore(
            options,
            _criu_command.RestoreFacts(
                images=images,
                work=work,
                hook=record.hook,
                mounts=container.mounts,
                externals=tuple(_nics.criu_externals(nics, made_before=root is not None)),
                terminals=tuple(manifest.get("terminals") or ()),
            ),
        )

    return _restore.RestoreOrder(host.criu_path, options, arguments, nics, int(manifest["generation"]), root, overlay)


def _remembered(
    wanted: _argspec.Wanted, recorded: t.Mapping[str, t.Any], *, trusted: bool
) -> _criu_command.CriuOptions:
    """The task's options; what it does not set is taken over from the dump, but paths of this host only from one that is
    trusted: they would be mounted into the container."""
    changes: dict[str, t.Any] = {}
    for option in _argspec.REMEMBERED:
        if option not in wanted.set_options and option in recorded:
            value = recorded[option]
            if option == "external_mounts":
                if value and not trusted:
                    asked = ", ".join(f"{one['source']} at {one['target']}" for one in value)
                    raise _errors.StasisError(
                        f"The checkpoint asks for bind mounts of this host, and nothing proves who made it: {asked}.",
                        "Set external_mounts to those that it may have.",
                    )
                value = tuple(_criu_command.MountMap(**one) for one in value)
            changes[option] = value
    return replace(wanted.criu, **changes)

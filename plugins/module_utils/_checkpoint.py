# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The way of a task through the house: parameters, observe, plan, act, result."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _attempts,
    _autostart,
    _container,
    _criu_command,
    _directory,
    _errors,
    _host,
    _image,
    _install_record,
    _interrupted,
    _names,
    _nic_records,
    _nics,
    _plan_remove,
    _plan_restore,
    _recover,
    _restorable,
    _restore,
    _result,
    _rootfs,
    _runner,
    _situation,
    _systemd,
    _user_namespace,
    _versions,
    _workspace,
)

NO_REBOOT = (
    "LXC's monitor of a restored container does not start it again: a reboot inside leaves it stopped "
    "(every liblxc release; start it with lxc-start then)."
)


def run(params: t.Mapping[str, t.Any], runner: _runner.Runner, *, check_mode: bool) -> _result.Result:
    """Carry one task out, or in check mode up to its plan. Raises StasisError; its data goes into the result."""
    wanted = _argspec.wanted(params)
    if os.geteuid() != 0:
        raise _errors.StasisError("This module needs root.", "Set become: true for the task.")
    _directory.check(wanted.directory)
    wanted = replace(wanted, real_directory=os.path.realpath(wanted.directory))
    if check_mode:
        return _run(wanted, runner, check_mode=True, locks=())
    with contextlib.ExitStack() as held:
        # Always in this order, so that no two tasks wait for each other.
        places = ((wanted.name, wanted.lxc_path), ("directory", wanted.real_directory))
        locks = tuple(held.enter_context(_workspace.locked(*place, timeout=wanted.timeout)) for place in places)
        return _run(wanted, runner, check_mode=False, locks=locks)


def _run(
    wanted: _argspec.Wanted, runner: _runner.Runner, *, check_mode: bool, locks: tuple[int, ...]
) -> _result.Result:
    if wanted.state == _argspec.ABSENT:
        return _remove(wanted, runner, check_mode=check_mode)
    trust = _restorable.trust(wanted.verify_key, runner)
    record, host = _prepared_host(wanted, runner)
    container, recovered = _interrupted.recover(wanted, runner, trust, act=not check_mode)
    try:
        if wanted.state == _argspec.CHECKPOINTED:
            # Here, since each task compiles what it loads, and a restore needs nothing of it.
            from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointing

            result = _checkpointing.checkpoint(
                wanted, runner, host, record, container, check_mode=check_mode, locks=locks
            )
        else:
            result = _restore_container(wanted, runner, host, record, container, trust, check_mode=check_mode)
    except _errors.StasisError as exc:
        exc.data["recovered"] = recovered + exc.data.get("recovered", [])
        raise
    result.recovered = recovered
    result.changed = result.changed or bool(recovered)
    return result


def _prepared_host(wanted: _argspec.Wanted, runner: _runner.Runner) -> tuple[_install_record.InstallRecord, _host.Host]:
    record = _install_record.read()
    if record is None:
        raise _errors.StasisError(
            "This host has no CRIU, hook and launcher from the role stasis.lxc.criu.",
            "Apply the role stasis.lxc.criu to it.",
        )
    _install_record.verify(record)
    for script in wanted.action_scripts:
        _names.check_owned(script, "action_scripts", executable=True)
    if wanted.criu.criu_config:
        from ansible_collections.stasis.lxc.plugins.module_utils import _dumpable

        _names.check_owned(wanted.criu.criu_config, "criu_config")
        _criu_command.check_extra_arguments(_dumpable.configured(wanted.criu.criu_config), "criu_config")
    host = _host.observe(runner, wanted.criu_path or None, record)
    if not host.criu_version:
        raise _errors.StasisError(
            f"There is no working CRIU at {host.criu_path}.", "Apply the role stasis.lxc.criu, or correct criu_path."
        )
    minimum = _versions.minimum_criu(host.kernel)
    if _versions.parse(host.criu_version) < _versions.parse(minimum):
        raise _errors.StasisError(
            f"CRIU {host.criu_version} does not work on kernel {host.kernel}, which needs {minimum} or newer.",
            "Apply the role stasis.lxc.criu, or name a newer CRIU in criu_path.",
        )
    return record, host


def _restore_container(
    wanted: _argspec.Wanted,
    runner: _runner.Runner,
    host: _host.Host,
    record: _install_record.InstallRecord,
    container: _container.Container,
    trust: _image.Trust | None,
    *,
    check_mode: bool,
) -> _result.Result:
    image = _situation.look(wanted, container, trust, check_mode=check_mode)
    stale = _situation.stale_reasons(container, image)
    plan = _plan_restore.plan_restore(container, image, wanted, stale, host.boot_id)
    result = _situation.result_of(plan, image, container)
    if plan.action == _result.NONE:
        return result
    _restorable.check_seal(wanted, image)
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
    return result


def _restore_order(
    wanted: _argspec.Wanted,
    host: _host.Host,
    record: _install_record.InstallRecord,
    container: _container.Container,
    image: _image.Image,
) -> _restore.RestoreOrder:
    manifest = image.manifest or {}
    options = _remembered(wanted, manifest["options"])
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


def _remembered(wanted: _argspec.Wanted, recorded: t.Mapping[str, t.Any]) -> _criu_command.CriuOptions:
    """The task's options; what it does not set is taken over from the dump."""
    changes: dict[str, t.Any] = {}
    for option in _argspec.REMEMBERED:
        if option not in wanted.set_options and option in recorded:
            value = recorded[option]
            if option == "external_mounts":
                value = tuple(_criu_command.MountMap(**one) for one in value)
            changes[option] = value
    return replace(wanted.criu, **changes)


def _remove(wanted: _argspec.Wanted, runner: _runner.Runner, *, check_mode: bool) -> _result.Result:
    container = None
    if os.path.lexists(os.path.join(wanted.lxc_path, wanted.name, "config")):
        container, recovered = _interrupted.recover(wanted, runner, None, act=not check_mode)
    else:
        recovered = _recover.recover(
            wanted.directory, wanted.name, wanted.lxc_path, None, act=not check_mode, runner=runner
        )
    image = _situation.look(wanted, container, check_mode=check_mode)
    stale = _situation.stale_reasons(container, image) if container else ["The container does not exist any more."]
    plan = _plan_remove.plan_remove(container.state if container else "", image, wanted, stale)
    result = _situation.result_of(plan, image, container)
    result.recovered = recovered
    result.changed = result.changed or bool(recovered)
    if plan.action != _result.NONE and not check_mode:
        _image.remove(wanted.directory)
        if container and (image.manifest or {}).get("autostart_inhibited"):
            # What it was switched off for does not exist any more.
            _autostart.allow((image.manifest or {})["autostart_units"], container.config_path, runner)
    if plan.action != _result.NONE:
        result.checkpoint = {}
    return result

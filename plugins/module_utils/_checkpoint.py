# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The way of a task through the house: parameters, observe, plan, act, result."""

from __future__ import annotations

import contextlib
import datetime
import os
import typing as t
from dataclasses import asdict, replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _attempts,
    _autostart,
    _cgroup_yard,
    _cgroups,
    _criu_command,
    _directory,
    _dump,
    _freshness,
    _host,
    _image,
    _install_record,
    _integrity,
    _interrupted,
    _manifest,
    _names,
    _network_lock,
    _nic_records,
    _nics,
    _plan_dump,
    _plan_remove,
    _plan_restore,
    _recover,
    _restorable,
    _restore,
    _result,
    _rootfs,
    _signing,
    _surroundings,
    _user_namespace,
    _versions,
    _workspace,
)
from ansible_collections.stasis.lxc.plugins.module_utils._argspec import Wanted
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._host import Host
from ansible_collections.stasis.lxc.plugins.module_utils._image import Image, Trust
from ansible_collections.stasis.lxc.plugins.module_utils._install_record import InstallRecord
from ansible_collections.stasis.lxc.plugins.module_utils._plan import Plan
from ansible_collections.stasis.lxc.plugins.module_utils._result import Result
from ansible_collections.stasis.lxc.plugins.module_utils._runner import Runner

NO_REBOOT = (
    "LXC's monitor of a restored container does not start it again: a reboot inside leaves it stopped "
    "(every liblxc release; start it with lxc-start then)."
)


def run(params: t.Mapping[str, t.Any], runner: Runner, *, check_mode: bool) -> Result:
    """Carry one task out, or in check mode up to its plan. Raises StasisError; its data goes into the result."""
    wanted = _argspec.wanted(params)
    if os.geteuid() != 0:
        raise StasisError("This module needs root.", "Set become: true for the task.")
    _directory.check(wanted.directory)
    wanted = replace(wanted, real_directory=os.path.realpath(wanted.directory))
    if check_mode:
        return _run(wanted, runner, check_mode=True, locks=())
    with contextlib.ExitStack() as held:
        # Always in this order, so that no two tasks wait for each other.
        places = ((wanted.name, wanted.lxc_path), ("directory", wanted.real_directory))
        locks = tuple(held.enter_context(_workspace.locked(*place, timeout=wanted.timeout)) for place in places)
        return _run(wanted, runner, check_mode=False, locks=locks)


def _run(wanted: Wanted, runner: Runner, *, check_mode: bool, locks: tuple[int, ...]) -> Result:
    if wanted.state == _argspec.ABSENT:
        return _remove(wanted, runner, check_mode=check_mode)
    trust = _restorable.trust(wanted.verify_key, runner)
    record, host = _prepared_host(wanted, runner)
    container, recovered = _interrupted.recover(wanted, runner, trust, act=not check_mode)
    try:
        if wanted.state == _argspec.CHECKPOINTED:
            result = _checkpoint(wanted, runner, host, record, container, check_mode=check_mode, locks=locks)
        else:
            result = _restore_container(wanted, runner, host, record, container, trust, check_mode=check_mode)
    except StasisError as exc:
        exc.data["recovered"] = recovered + exc.data.get("recovered", [])
        raise
    result.recovered = recovered
    result.changed = result.changed or bool(recovered)
    return result


def _prepared_host(wanted: Wanted, runner: Runner) -> tuple[InstallRecord, Host]:
    record = _install_record.read()
    if record is None:
        raise StasisError(
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
        raise StasisError(
            f"There is no working CRIU at {host.criu_path}.", "Apply the role stasis.lxc.criu, or correct criu_path."
        )
    minimum = _versions.minimum_criu(host.kernel)
    if _versions.parse(host.criu_version) < _versions.parse(minimum):
        raise StasisError(
            f"CRIU {host.criu_version} does not work on kernel {host.kernel}, which needs {minimum} or newer.",
            "Apply the role stasis.lxc.criu, or name a newer CRIU in criu_path.",
        )
    return record, host


def _checkpoint(
    wanted: Wanted,
    runner: Runner,
    host: Host,
    record: InstallRecord,
    container: Container,
    *,
    check_mode: bool,
    locks: tuple[int, ...],
) -> Result:
    image = _look(wanted, container, check_mode=check_mode)
    stale = _stale_reasons(container, image)
    plan = _plan_dump.plan_dump(container, image, wanted, stale)
    result = _result_of(plan, image, container)
    if container.init is not None and _autostart.inhibited(_workspace.read_text(container.config_path)):
        result.warnings.append(
            f"An earlier checkpoint switched the autostart of {container.name} off, and it was started by hand since: "
            "restoring or removing that checkpoint switches it on again."
        )
    if plan.action == _result.NONE:
        return result
    # Here, since a restore needs none of the preflight: a fifth of all that is compiled for each task.
    from ansible_collections.stasis.lxc.plugins.module_utils import _dumpable

    found = _dumpable.check(wanted, runner, container, host)
    result.findings = [asdict(one) for one in found]
    if wanted.sign_key:
        # Tried before anything is frozen.
        _signing.try_key(_signing.load(wanted.sign_key, "sign_key"), runner)
    order = _dump_order(wanted, host, record, container, plan, runner)
    result.command = list(order.argv)
    result.warnings += _dumpable.warnings(found, dumped=not check_mode)
    if check_mode:
        return result

    def once(attempt: int, seconds: int) -> tuple[_manifest.Manifest, list[str]]:
        now, current = container, order
        if attempt > 1:
            now = _dumpable.again(container, runner)
            current = _dump_order(wanted, host, record, now, plan, runner)
        return _dump.dump(runner, now, replace(wanted, timeout=seconds), current, locks)

    try:
        done, result.retried = _attempts.persist(once, retries=wanted.retries, timeout=wanted.timeout)
    except StasisError as exc:
        exc.data.setdefault("findings", result.findings)
        raise
    result.checkpoint, warnings = done
    result.stats = result.checkpoint["stats"]
    result.init_pid = 0 if wanted.stop else result.init_pid
    result.log_path = os.path.join(wanted.directory, "dump.log")
    result.warnings += warnings
    return result


def _look(wanted: Wanted, container: Container | None, trust: Trust | None = None, *, check_mode: bool) -> Image:
    level = _integrity.NONE if wanted.verify == _integrity.NONE else _integrity.SIZE
    if check_mode:
        return _interrupted.foreseen(wanted, container, trust, level)
    return _image.look(wanted.directory, trust, level)


def _dump_order(
    wanted: Wanted,
    host: Host,
    record: InstallRecord,
    container: Container,
    plan: Plan,
    runner: Runner,
) -> _dump.DumpOrder:
    lock_method = _network_lock.choose(
        wanted.network_lock, container.nics, container.connections, runner, host.criu_path
    )
    init = container.init
    if init is None:
        raise StasisError(f"{container.name} has no init process.", "Wait until it is RUNNING.")
    yard = _cgroup_yard.observe()
    argv = _criu_command.dump(
        host.criu_path,
        wanted.criu,
        _criu_command.DumpFacts(
            init_pid=init.pid,
            images=_image.staging_path(wanted.directory),
            hook=record.hook,
            cgroup_roots=tuple(_cgroups.criu_roots(container.cgroups)),
            cgroup_yard=_cgroup_yard.PATH if yard else "",
            mounts=container.mounts,
            terminals=container.terminals,
            network_lock=lock_method.criu,
            leave_running=not wanted.stop,
        ),
    )
    draft = {
        "format": 1,
        "container": container.name,
        "lxc_path": container.lxc_path,
        "generation": _restore.running_generation(container) + 1,
        "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "stopped": wanted.stop,
        "init": {"pid": init.pid, "start": init.start, "boot_id": host.boot_id},
        "versions": {
            "kernel": host.kernel,
            "criu": host.criu_version,
            "lxc": host.lxc_version,
            "collection": record.collection_version,
        },
        "architecture": host.architecture,
        "cpu": host.cpu,
        "nics": [asdict(nic) for nic in container.nics],
        "terminals": list(container.terminals),
        "cgroups": [asdict(hierarchy) for hierarchy in container.cgroups],
        "options": {**asdict(wanted.criu), "network_lock": lock_method.name},
        "command": argv,
        "identity": container.rootfs.identity(),
        "config_digest": container.config.digest,
        **_surroundings.record(container, runner),
        "sign_key": wanted.sign_key,
        "autostart_inhibited": plan.inhibit,
        "autostart_units": list(container.autostart.units) if plan.inhibit else [],
    }
    _manifest.check_draft(draft)
    return _dump.DumpOrder(tuple(argv), lock_method.by_hook, draft, plan.inhibit, yard, record.hook)


def _restore_container(
    wanted: Wanted,
    runner: Runner,
    host: Host,
    record: InstallRecord,
    container: Container,
    trust: Trust | None,
    *,
    check_mode: bool,
) -> Result:
    image = _look(wanted, container, trust, check_mode=check_mode)
    stale = _stale_reasons(container, image)
    plan = _plan_restore.plan_restore(container, image, wanted, stale, host.boot_id)
    result = _result_of(plan, image, container)
    if plan.action == _result.NONE:
        return result
    _restorable.check_seal(wanted, image)
    order = replace(_restore_order(wanted, host, record, container, image), fresh=not stale)
    result.command = [host.criu_path, "restore", *order.arguments("WORKDIR", wanted.directory)]
    result.notes.append(NO_REBOOT)
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
    wanted: Wanted, host: Host, record: InstallRecord, container: Container, image: Image
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


def _remembered(wanted: Wanted, recorded: t.Mapping[str, t.Any]) -> _criu_command.CriuOptions:
    """The task's options; what it does not set is taken over from the dump."""
    changes: dict[str, t.Any] = {}
    for option in _argspec.REMEMBERED:
        if option not in wanted.set_options and option in recorded:
            value = recorded[option]
            if option == "external_mounts":
                value = tuple(_criu_command.MountMap(**one) for one in value)
            changes[option] = value
    return replace(wanted.criu, **changes)


def _remove(wanted: Wanted, runner: Runner, *, check_mode: bool) -> Result:
    container = None
    if os.path.lexists(os.path.join(wanted.lxc_path, wanted.name, "config")):
        container, recovered = _interrupted.recover(wanted, runner, None, act=not check_mode)
    else:
        recovered = _recover.recover(
            wanted.directory, wanted.name, wanted.lxc_path, None, act=not check_mode, runner=runner
        )
    image = _look(wanted, container, check_mode=check_mode)
    stale = _stale_reasons(container, image) if container else ["The container does not exist any more."]
    plan = _plan_remove.plan_remove(container.state if container else "", image, wanted, stale)
    result = _result_of(plan, image, container)
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


def _stale_reasons(container: Container, image: Image) -> list[str]:
    manifest = image.manifest
    if manifest is None:
        return []
    running = container.init is not None
    found = None if running else _rootfs.fingerprint(container.rootfs)
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


def _result_of(plan: Plan, image: Image, container: Container | None) -> Result:
    return Result(
        changed=plan.changed,
        action=plan.action,
        state=plan.state,
        checkpoint=dict(image.manifest or {}),
        init_pid=container.init.pid if container and container.init else 0,
        stale_reasons=list(plan.stale_reasons),
        warnings=list(plan.warnings),
        diff={"before": dict(plan.before), "after": dict(plan.after)},
    )

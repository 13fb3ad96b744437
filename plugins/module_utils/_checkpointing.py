# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""state=checkpointed: from the parameters to the sealed image."""

from __future__ import annotations

import datetime
import os
from dataclasses import asdict, replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _attempts,
    _autostart,
    _cgroup_tree,
    _cgroup_yard,
    _cgroups,
    _container,
    _criu_command,
    _dump,
    _dumpable,
    _errors,
    _host,
    _image,
    _install_record,
    _manifest,
    _network_lock,
    _origin,
    _plan,
    _plan_dump,
    _proof,
    _restore,
    _result,
    _runner,
    _signing,
    _situation,
    _surroundings,
    _systemd,
    _trial,
    _user_namespace,
    _workspace,
)


def checkpoint(
    wanted: _argspec.Wanted,
    runner: _runner.Runner,
    host: _host.Host,
    record: _install_record.InstallRecord,
    container: _container.Container,
    *,
    check_mode: bool,
    locks: tuple[int, ...],
) -> _result.Result:
    """Carry it out, or in check mode up to its plan. locks: descriptors that CRIU inherits, so that they are held for as
    long as it works. Raises StasisError; its data goes into the result."""
    image = _situation.look(wanted, container, check_mode=check_mode)
    stale = _situation.stale_reasons(container, image)
    plan = _plan_dump.plan_dump(container, image, wanted, stale)
    result = _situation.result_of(plan, image, container)
    with _result.kept(result):
        if container.init is not None and _autostart.inhibited(_workspace.read_text(container.config_path)):
            result.warnings.append(
                f"An earlier checkpoint switched the autostart of {container.name} off, and it was started by hand since: "
                "restoring or removing that checkpoint switches it on again."
            )
        if plan.action == _result.NONE:
            return result
        found = _dumpable.check(wanted, runner, container, host)
        result.findings = [asdict(one) for one in found]
        if wanted.sign_key:
            # Tried before anything is frozen.
            _signing.try_key(_signing.load(wanted.sign_key, "sign_key"), runner)
        _origin.ready(act=not check_mode)

        def ordered(now: _container.Container) -> _dump.DumpOrder:
            order = _dump_order(wanted, host, record, now, plan, runner)
            # Counts the dumps into one place, so that a later run can tell which of two images is the newer.
            sequence = int((image.manifest or {}).get("sequence") or 0) + 1
            return replace(order, draft={**order.draft, "sequence": sequence})

        order = ordered(container)
        result.command = list(order.argv)
        result.warnings += _dumpable.warnings(found, dumped=not check_mode)
        if check_mode:
            return result

        def once(attempt: int, seconds: int) -> _dump.Dumped:
            now, current = container, order
            if attempt > 1:
                now = _dumpable.again(container, runner)
                current = ordered(now)
            return _dump.dump(runner, now, replace(wanted, timeout=seconds), current, locks)

        try:
            done, result.retried = _attempts.persist(once, retries=wanted.retries, timeout=wanted.timeout)
        except _errors.StasisError as exc:
            _dumpable.add_numbers(exc, found)
            raise
        result.checkpoint = done.manifest
        result.proof = done.proof.as_dict() if done.proof else {}
        result.stats = result.checkpoint["stats"]
        result.log_path = os.path.join(wanted.directory, "dump.log")
        result.warnings += done.warnings
        return result


def _dump_order(
    wanted: _argspec.Wanted,
    host: _host.Host,
    record: _install_record.InstallRecord,
    container: _container.Container,
    plan: _plan.Plan,
    runner: _runner.Runner,
) -> _dump.DumpOrder:
    lock_method = _network_lock.choose(
        wanted.network_lock, container.nics, container.connections, runner, host.criu_path
    )
    init = container.init
    if init is None:
        raise _errors.StasisError(f"{container.name} has no init process.", "Wait until it is RUNNING.")
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
        "init_name": _systemd.name(init.pid),
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
    _cgroup_tree.check_names(container.cgroups)
    unprovable, trial = "", None
    if wanted.proves:
        unprovable = _proof.hindrance(container.nics, wanted.criu.criu_args, container.cgroups)
    if wanted.proves and not unprovable:
        trial = replace(
            _trial_order(wanted, host, record, container),
            ipv6=any(":" in one["address"] for one in draft["addresses"]),
        )
    return _dump.DumpOrder(tuple(argv), lock_method.by_hook, draft, plan.inhibit, yard, record.hook, trial, unprovable)


def _trial_order(
    wanted: _argspec.Wanted,
    host: _host.Host,
    record: _install_record.InstallRecord,
    container: _container.Container,
) -> _trial.Order:
    return _trial.Order(
        criu=host.criu_path,
        hook=record.hook,
        images=_image.staging_path(wanted.directory),
        work="",
        init_pid=container.init.pid if container.init else 0,
        options=wanted.criu,
        nics=container.nics,
        mounts=container.mounts,
        terminals=container.terminals,
        cgroups=container.cgroups,
        key=_workspace.key(wanted.name, wanted.lxc_path),
        root=_user_namespace.mapped_root(container.config.values("lxc.idmap")),
    )

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The way of a task through the house: observe, plan, act, result."""

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _ahead,
    _argspec,
    _criu_command,
    _errors,
    _host,
    _install_record,
    _interrupted,
    _names,
    _restorable,
    _result,
    _runner,
    _versions,
)


def carry_out(
    wanted: _argspec.Wanted,
    runner: _runner.Runner,
    *,
    check_mode: bool,
    locks: tuple[int, ...],
    ahead: _ahead.Ahead | None,
) -> _result.Result:
    """Carry a task out whose locks are held, or in check mode up to its plan. ahead: what hashes the image meanwhile.

    Each state loads only what it needs. Raises StasisError; its data goes into the result.
    """
    if wanted.state == _argspec.ABSENT:
        from ansible_collections.stasis.lxc.plugins.module_utils import _removing

        return _removing.remove(wanted, runner, check_mode=check_mode)
    trust = _restorable.trust(wanted.verify_key, runner)
    record, host = _prepared_host(wanted, runner)
    container, recovered = _interrupted.recover(wanted, runner, trust, act=not check_mode)
    with _result.after_recovery(recovered):
        if wanted.state == _argspec.CHECKPOINTED:
            from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointing

            result = _checkpointing.checkpoint(
                wanted, runner, host, record, container, check_mode=check_mode, locks=locks
            )
        else:
            from ansible_collections.stasis.lxc.plugins.module_utils import _restoring

            result = _restoring.restore(
                wanted, runner, host, record, container, trust, check_mode=check_mode, ahead=ahead
            )
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

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The way of a task into the house: its parameters, its locks, and the image being hashed before anybody needs that."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _ahead,
    _argspec,
    _directory,
    _errors,
    _image,
    _integrity,
    _result,
    _runner,
    _workspace,
)


def run(params: t.Mapping[str, t.Any], runner: _runner.Runner, *, check_mode: bool) -> _result.Result:
    """Carry one task out, or in check mode up to its plan. Raises StasisError; its data goes into the result."""
    wanted = _argspec.wanted(params)
    if os.geteuid() != 0:
        raise _errors.StasisError("This module needs root.", "Set become: true for the task.")
    with contextlib.ExitStack() as held:
        try:
            _directory.check(wanted.directory)
            wanted = replace(wanted, real_directory=os.path.realpath(wanted.directory))
            return _run(wanted, runner, held, check_mode=check_mode)
        except _errors.StasisError as exc:
            from ansible_collections.stasis.lxc.plugins.module_utils import _aftermath

            # Here, where the locks are still held.
            _aftermath.complete(exc, wanted, runner, check_mode=check_mode)
            raise


def _run(
    wanted: _argspec.Wanted, runner: _runner.Runner, held: contextlib.ExitStack, *, check_mode: bool
) -> _result.Result:
    locks: tuple[int, ...] = ()
    if not check_mode:
        # Always in this order, so that no two tasks wait for each other.
        places = ((wanted.name, wanted.lxc_path), ("directory", wanted.real_directory))
        locks = tuple(held.enter_context(_workspace.locked(*place, timeout=wanted.timeout)) for place in places)
    ahead = None
    if wanted.state == _argspec.RESTORED and wanted.verify == _integrity.FULL and _image.is_sealed(wanted.directory):
        ahead = _ahead.Ahead(wanted.directory)
        held.callback(ahead.cancel)
    # Here, so that the image is being hashed while Python loads the rest.
    from ansible_collections.stasis.lxc.plugins.module_utils import _task

    return _task.carry_out(wanted, runner, check_mode=check_mode, locks=locks, ahead=ahead)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Refuse, before anything is frozen, a container that CRIU cannot dump; keep what else the preflight says for the result."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _container,
    _errors,
    _findings,
    _host,
    _preflight,
    _runner,
    _workspace,
)

REFUSE = "refuse"
# What a dump that went well does not settle: it shows at the restore, or is left out without a word of CRIU's.
_OUTLIVES_THE_DUMP = frozenset(("fanotify", "nested-mount-namespace", "nested-network-namespace"))


def check(
    wanted: _argspec.Wanted, runner: _runner.Runner, container: _container.Container, host: _host.Host
) -> list[_findings.Finding]:
    """What the preflight finds. Raises StasisError where one of it blocks, unless preflight is warn."""
    criu = replace(wanted.criu, criu_args=(*wanted.criu.criu_args, *configured(wanted.criu.criu_config)))
    found = _preflight.findings(
        runner, container, host, _findings.Options(wanted.stop, wanted.autostart, wanted.directory, criu)
    )
    if wanted.preflight == REFUSE:
        _preflight.refuse(container, found)
    return found


def again(container: _container.Container, runner: _runner.Runner) -> _container.Container:
    """The same container as it is now, for another try. Raises StasisError where it is not what it was."""
    now = _container.observe(runner, container.name, container.lxc_path)
    if (now.state, now.init) != (container.state, container.init):
        raise _errors.StasisError(
            f"{now.name} is {now.state}, and not what it was at the first try.", "Run the task again."
        )
    return now


def add_numbers(failure: _errors.StasisError, found: t.Iterable[_findings.Finding]) -> None:
    """Where the disk was full, add to the message what the preflight said of the room."""
    if any(one.get("id") == "disk_full" for one in failure.data.get("diagnoses", ())):
        failure.what += "".join(f" Preflight: {one.what}" for one in found if one.id == "space")


def configured(path: str) -> list[str]:
    """The options in a configuration file of CRIU's as words of a command line; [] where none is named."""
    words = (line.split("#", 1)[0].split() for line in _workspace.read_text(path).splitlines()) if path else ()
    return [word for line in words if line for word in (f"--{line[0].lstrip('-')}", *line[1:])]


def warnings(found: t.Iterable[_findings.Finding], *, dumped: bool) -> list[str]:
    """A line for each kind of finding that is more than a note.

    dumped: CRIU has dumped it meanwhile, so that only what may go wrong later is worth a word.
    """
    kinds: dict[str, list[_findings.Finding]] = {}
    for one in found:
        later = one.severity == _findings.LOSES or one.id in _OUTLIVES_THE_DUMP
        if one.severity != _findings.NOTE and (not dumped or later):
            kinds.setdefault(one.id, []).append(one)
    return [_line(alike) for alike in kinds.values()]


def _line(alike: t.Sequence[_findings.Finding]) -> str:
    first, more = alike[0], len(alike) - 1
    others = f" (and {more} more of this kind, see findings)" if more else ""
    return f"Preflight, {first.id}, {first.severity}: {first.subject}{others}: {first.what} {first.remedy}"

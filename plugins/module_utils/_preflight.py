# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The preflight: what would make a checkpoint fail, or lose something, said before anything is frozen."""

from __future__ import annotations

import os
import typing as t
from dataclasses import asdict, dataclass, field, replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _bounds,
    _container,
    _criu_command,
    _errors,
    _findings,
    _host,
    _install_record,
    _names,
    _preflight_attributes,
    _preflight_container,
    _preflight_files,
    _preflight_look,
    _preflight_losses,
    _preflight_mounts,
    _preflight_network,
    _preflight_processes,
    _preflight_sockets,
    _preflight_space,
    _proc_files,
    _runner,
)

# One program with the same trouble a hundred times is one thing to put right.
_REPEATED = 5


def findings(
    runner: _runner.Runner, container: _container.Container, host: _host.Host, options: _findings.Options
) -> list[_findings.Finding]:
    """What stands in the way of a checkpoint of this container, the worst first. Reads only."""
    found = _preflight_container.host_findings(host)
    state = _preflight_container.state_finding(container)
    if state is not None:
        return _ordered([*found, state])
    facts = _preflight_look.gather(runner, container, host)
    found += _preflight_container.container_findings(container, options)
    found += _preflight_container.cgroup_findings(container)
    found += _preflight_processes.check(facts)
    found += _preflight_attributes.check(facts)
    found += _preflight_losses.check(facts, _proc_files.read("/proc/self/coredump_filter").strip())
    found += _preflight_losses.check_segments(
        _preflight_losses.removed_segments(runner, facts.init, facts.own_namespaces.get("ipc", ""))
    )
    found += _preflight_files.check(facts, options)
    found += _preflight_sockets.check(facts, options)
    found += _preflight_mounts.check(facts, _mapped(container, options), options.allows.file_systems)
    found += _preflight_network.check(_preflight_network.look(runner, facts.tasks, facts.own_namespaces.get("net", "")))
    room = _preflight_look.space(options.directory) if options.directory else None
    found += _preflight_container.user_namespace_findings(container, host.kernel, room)
    memory = _preflight_look.memory(container)
    found += _preflight_container.memory_findings(facts, memory, container.name)
    if room is not None:
        found += _preflight_space.findings(
            facts.tasks, memory, room, options.directory, lambda: _preflight_space.least_written(facts.tasks)
        )
    return _ordered(found)


def refuse(container: _container.Container, found: t.Sequence[_findings.Finding]) -> None:
    """Raise StasisError, with every finding in its data, where one of them blocks."""
    blocking = [one for one in found if one.refused]
    if blocking:
        first, more = blocking[0], len(blocking) - 1
        others = f" {more} more finding{'s' if more > 1 else ''} of this kind." if more else ""
        raise _errors.StasisError(
            f"{container.name} cannot be checkpointed. {first.subject}: {first.what}{others}",
            f"Nothing was frozen. {first.remedy} With preflight: warn, CRIU tries all the same.",
            findings=[asdict(one) for one in found],
        )


def argument_spec() -> dict[str, t.Any]:
    """The options of the module."""
    return {
        "name": {"type": "list", "elements": "str", "aliases": ["container"]},
        "lxc_path": {"type": "str", "default": "/var/lib/lxc"},
        "directory": {"type": "str", "aliases": ["checkpoint_dir"]},
        "stop": {"type": "bool", "default": False},
        "autostart": {"type": "str", "choices": ["refuse", "inhibit", "ignore"], "default": "refuse"},
        "ghost_limit": {"type": "int"},
        "tcp_established": {"type": "bool", "default": True},
        "skip_in_flight": {"type": "bool", "default": True},
        "file_locks": {"type": "bool", "default": True},
        "link_remap": {"type": "bool", "default": True},
        "external_mounts": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "target": {"type": "str", "required": True},
                "source": {"type": "path", "required": True},
            },
        },
        "criu_args": {"type": "list", "elements": "str", "default": []},
        "criu_path": {"type": "path"},
    }


@dataclass
class Report:
    """What the module answers."""

    verdict: str = _findings.READY
    findings: list[dict[str, t.Any]] = field(default_factory=list)
    containers: list[dict[str, t.Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    summary: list[str] = field(default_factory=list)
    kernel: str = ""
    criu_path: str = ""
    criu_version: str = ""


def run(params: t.Mapping[str, t.Any], runner: _runner.Runner) -> Report:
    """Carry the module out. Raises StasisError for parameters that are not acceptable and containers that are not there."""
    lxc_path = _names.check_path(params["lxc_path"], "lxc_path")
    options = _options(params)
    host, found = _look_at_host(params["criu_path"], runner)
    names = [_names.check_name(name) for name in params["name"]] if params["name"] else None
    looked = []
    if host.is_root:
        for name in running(runner, lxc_path) if names is None else names:
            ours = options
            if options.directory and (names is None or len(names) > 1):
                ours = replace(options, directory=os.path.join(options.directory, name))
            looked.append(_one(runner, name, lxc_path, host, ours, found, named=names is not None))
    findings_of_all = [{"container": "", **asdict(one)} for one in found] if not looked else []
    findings_of_all += [{"container": one["name"], **each} for one in looked for each in one["findings"]]
    worst = {one["verdict"] for one in looked} or {_findings.verdict(found)}
    return Report(
        verdict=next(word for word in (_findings.BLOCKED, _findings.RISKY, _findings.READY) if word in worst),
        findings=findings_of_all,
        containers=looked,
        counts=_counts(findings_of_all),
        summary=summary(looked, findings_of_all),
        kernel=host.kernel,
        criu_path=host.criu_path,
        criu_version=host.criu_version,
    )


def running(runner: _runner.Runner, lxc_path: str) -> list[str]:
    """The names of the containers below lxc_path that run or are frozen."""
    done = runner.run(["lxc-ls", "-P", lxc_path, "-1", "--active"], timeout=60)
    if done.rc != 0:
        raise _errors.StasisError(
            f"lxc-ls could not list {lxc_path}: {done.stderr.strip()[:300]}", "Correct lxc_path, or install LXC."
        )
    return sorted(name for name in done.stdout.split() if os.path.isfile(os.path.join(lxc_path, name, "config")))


def summary(looked: t.Sequence[t.Mapping[str, t.Any]], found: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """A table for people: a line for each container, and below it one for each finding."""
    lines = [_line(one) for one in found if not one["container"]]
    width = max((len(one["name"]) for one in looked), default=0)
    for one in looked:
        numbers = ", ".join(
            f"{one['counts'][severity]} {severity}" for severity in _findings.SEVERITIES if one["counts"][severity]
        )
        lines.append(f"{one['name']:{width}}  {one['verdict']:7}  {numbers or 'nothing found'}")
        lines += [f"    {_line(each)}" for each in one["findings"]]
    return lines


def _line(one: t.Mapping[str, t.Any]) -> str:
    return f"{one['severity']:8}  {one['id']:22}  {one['subject']}: {one['what']} {one['remedy']}"


def _one(
    runner: _runner.Runner,
    name: str,
    lxc_path: str,
    host: _host.Host,
    options: _findings.Options,
    host_found: t.Sequence[_findings.Finding],
    *,
    named: bool,
) -> dict[str, t.Any]:
    try:
        container = _container.observe(runner, name, lxc_path)
        found = _ordered([*host_found, *findings(runner, container, host, options)])
        state = container.state.lower()
    except _errors.StasisError as exc:
        if named:
            raise
        # One that ends while it is looked at must not hide what was found in the others.
        found, state = (
            [_findings.Finding("unreadable", _findings.MAY_FAIL, name, exc.what, exc.remedy or "Run it again.")],
            "",
        )
    each = [asdict(one) for one in found]
    return {
        "name": name,
        "state": state,
        "verdict": _findings.verdict(found),
        "counts": _counts(each),
        "findings": each,
    }


def _look_at_host(criu_path: str | None, runner: _runner.Runner) -> tuple[_host.Host, list[_findings.Finding]]:
    """The host, and what is wrong with it; a record that cannot be trusted is a finding and not a failure."""
    faults = []
    try:
        record = _install_record.read()
        if record is not None:
            _install_record.verify(record)
        elif not criu_path:
            faults.append(
                _findings.Finding(
                    "not-installed",
                    _findings.BLOCKS,
                    "host",
                    "The role stasis.lxc.criu has not been applied, so there is no CRIU, hook and launcher.",
                    "Apply the role stasis.lxc.criu.",
                )
            )
        host = _host.observe(runner, criu_path, record)
    except _errors.StasisError as exc:
        faults.append(_findings.Finding("not-installed", _findings.BLOCKS, "host", exc.what, exc.remedy))
        host = _host.observe(runner, None, None)
    ours = _preflight_container.host_findings(host)
    return host, faults + [one for one in ours if not (faults and one.id == "no-criu")]


def _options(params: t.Mapping[str, t.Any]) -> _findings.Options:
    directory = params["directory"] or ""
    if directory:
        _names.check_path(directory, "directory")
    limit = params["ghost_limit"]
    _bounds.check("ghost_limit", limit)
    return _findings.Options(
        stop=params["stop"],
        autostart=params["autostart"],
        directory=directory,
        criu=_criu_command.CriuOptions(
            tcp_established=params["tcp_established"],
            skip_in_flight=params["skip_in_flight"],
            file_locks=params["file_locks"],
            link_remap=params["link_remap"],
            ghost_limit=limit,
            external_mounts=tuple(
                _criu_command.MountMap(one["target"], one["source"]) for one in params["external_mounts"]
            ),
            criu_args=tuple(params["criu_args"]),
        ),
    )


def _mapped(container: _container.Container, options: _findings.Options) -> set[str]:
    """Where CRIU is told what is mounted, see _criu_command, or to leave it out."""
    targets = {one.target for one in (*container.mounts, *options.criu.external_mounts)}
    targets |= options.allows.skipped_mounts
    return {one.lstrip("/") for one in targets} | set(container.terminals)


def _ordered(found: t.Iterable[_findings.Finding]) -> list[_findings.Finding]:
    """Without doubles, the worst first; where processes of one name have the same trouble, some of them and a number."""
    series: dict[tuple[str, str, str], list[_findings.Finding]] = {}
    for one in sorted(dict.fromkeys(found), key=lambda each: _findings.SEVERITIES.index(each.severity)):
        series.setdefault((one.id, one.subject.partition(" (pid")[0], one.what), []).append(one)
    shown: list[_findings.Finding] = []
    for alike in series.values():
        more = len(alike) - _REPEATED
        shown += alike[:_REPEATED]
        if more > 0:
            shown[-1] = replace(shown[-1], subject=f"{shown[-1].subject} and {more} more like it")
    return shown


def _counts(found: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, int]:
    return {severity: sum(1 for one in found if one["severity"] == severity) for severity in _findings.SEVERITIES}

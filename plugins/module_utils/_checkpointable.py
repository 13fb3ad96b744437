# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Prepare a container so that it can be checkpointed, and take that back: observe, plan, act, result."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _bounds,
    _checkpointable_plan,
    _checkpointable_units,
    _container,
    _errors,
    _lxc_config,
    _names,
    _relaxations,
    _rootfs,
    _runner,
    _tree,
    _units,
    _user_namespace,
    _versions,
)

PRESENT, ABSENT = "present", "absent"


def argument_spec() -> dict[str, t.Any]:
    """The options of the module."""
    return {
        "name": {"type": "str", "required": True, "aliases": ["container"]},
        "lxc_path": {"type": "str", "default": "/var/lib/lxc"},
        "state": {"type": "str", "choices": [PRESENT, ABSENT], "default": PRESENT},
        "relax": {"type": "list", "elements": "str", "default": [_checkpointable_plan.ALL]},
        "restart": {"type": "bool", "default": False},
        "restart_container": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 120},
    }


@dataclass
class Report:
    """What the module answers."""

    changed: bool = False
    container_state: str = ""
    rootfs: str = ""
    relaxations: list[dict[str, t.Any]] = field(default_factory=list)
    blocked: list[dict[str, t.Any]] = field(default_factory=list)
    brief: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    reload_needed: bool = False
    restart_needed: list[str] = field(default_factory=list)
    unmount_needed: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    stop_needed: bool = False
    container_restarted: bool = False
    notes: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)


def run(params: t.Mapping[str, t.Any], runner: _runner.Runner, *, check_mode: bool) -> Report:
    """Carry the module out. Raises StasisError for what is refused or fails."""
    name = _names.check_name(params["name"])
    lxc_path = _names.check_path(params["lxc_path"], "lxc_path")
    relax = _checkpointable_plan.check_relax(params["relax"])
    _bounds.check("timeout", params["timeout"])
    if os.geteuid() != 0:
        raise _errors.StasisError(
            "This module needs root, and does not run as root.", "Set become: true, or connect as root."
        )
    config = _lxc_config.read(lxc_path, name)
    running = _running(runner, name, lxc_path)
    with _root_tree(config, running) as tree:
        ours, foreign = _ours(tree)
        units = _units.Units(tree)
        active = frozenset(units.canonical(one) for one in running.active) if running else frozenset()
        host = HostFacts(
            _checkpointable_units.unified(), _checkpointable_units.has_memory_v2(), units.version, os.uname().release
        )
        facts = facts_of(config, host, active)
        if params["state"] == ABSENT:
            plan = _checkpointable_plan.undo(ours)
            reached = []
        else:
            reached = units.reached(running.active if running else ())
            plan = _checkpointable_plan.decide(reached, facts, relax, ours, tree.missing)
        _refuse_foreign(plan, foreign, tree.root)
        stale = _stale(plan, tree, running)
        mounted = _mounted(plan, running, stale)
        report = _report(plan, running, tree.root, stale, mounted)
        if params["state"] == PRESENT:
            report.brief = _checkpointable_plan.brief(reached, facts)
            report.notes = _notes(plan, units, name)
        restart = bool(params["restart"] and running and (plan.changed or stale or mounted))
        if restart and running:
            running.check_restart(name)
        if not check_mode:
            _act(tree, plan)
            if restart and running:
                inside = _checkpointable_units.Inside(runner, name, lxc_path, params["timeout"])
                report.restarted = _restart(tree, plan, running, inside, stale, mounted)
        if restart:
            report.restart_needed, report.unmount_needed, report.reload_needed = [], [], False
        again = False
        if running and params["state"] == PRESENT:
            again = _free_programs(params, plan, report, running, runner, check_mode=check_mode)
        report.changed = plan.changed or restart or again
        report.summary = summary(report, name)
        return report


def _free_programs(
    params: t.Mapping[str, t.Any],
    plan: _checkpointable_plan.Plan,
    report: Report,
    running: _checkpointable_units.Running,
    runner: _runner.Runner,
    *,
    check_mode: bool,
) -> bool:
    """Say whether systemd holds BPF programs that nothing but its end frees; end and start the container where asked to.

    Returns whether the container is stopped and started. What a setting that stays needs is not held for nothing.
    """
    needed = any(not one.done and one.rule.needs in _relaxations.ALL_BPF for one in plan.relaxations)
    # Until the services are restarted, systemd holds the programs for them.
    if needed or report.restart_needed or not _checkpointable_units.held_programs(running.init):
        return False
    report.stop_needed = not params["restart_container"]
    if not params["restart_container"]:
        return False
    report.container_restarted = True
    if not check_mode:
        running.check_restart(params["name"])
        _checkpointable_units.stop_and_start(runner, params["name"], params["lxc_path"], params["timeout"])
    return True


@dataclass(frozen=True)
class HostFacts:
    """unified, memory: the host has cgroup v2 alone; the memory controller in it. systemd: the container's version, 0
    where it is not known. kernel: its release."""

    unified: bool = True
    memory: bool = True
    systemd: int = 0
    kernel: str = "6.12"


def facts_of(
    config: _lxc_config.LxcConfig, host: HostFacts, active: frozenset[str] = frozenset()
) -> _checkpointable_plan.Facts:
    """What a container's configuration, its systemd and the host say about what has an effect. Pure."""
    dropped = {word for value in config.values("lxc.cap.drop") for word in value.split()}
    kept = {word for value in config.values("lxc.cap.keep") for word in value.split()}
    admin = "sys_admin" not in dropped and (not kept or "sys_admin" in kept)
    mapped = bool(config.values("lxc.idmap"))
    automatic = [word for value in config.values("lxc.mount.auto") for word in value.split()]
    # The last one counts. Where LXC mounts none, systemd does, so that it can write there.
    sysfs = [word for word in automatic if word == "sys" or word.startswith("sys:")][-1:]
    return _checkpointable_plan.Facts(
        bpf=admin and not mapped,
        unified=host.unified,
        namespaces=admin,
        clock=host.systemd < 257,
        pressure=host.memory and not 0 < host.systemd < 254,
        ramfs=0 < host.systemd < 254 or mapped or not _versions.at_least(host.kernel, "6.3"),
        console=config.last("lxc.console.path") != "none",
        terminals=config.last("lxc.tty.max", "0").strip() != "0",
        sys_writable=sysfs in ([], ["sys:rw"]),
        active=active,
    )


def root_of(config: _lxc_config.LxcConfig, init: int) -> str:
    """Where the root file system can be read and written. init: the pid of a running container's, or 0.

    By way of a running init everything is as the container sees it, whatever it lies on; but where LXC maps the ids of
    the mount, we would be nobody there.
    """
    spec = config.last("lxc.rootfs.path")
    if init and "idmap=" not in config.last("lxc.rootfs.options"):
        return f"/proc/{init}/root"
    layers = _rootfs.layers(spec) if spec else []
    if len(layers) == 1:
        return layers[0]
    raise _errors.StasisError(
        f"The root file system {spec or '(none)'} cannot be written from the host while the container is stopped.",
        "Start the container, and run the task again.",
    )


@contextlib.contextmanager
def _root_tree(config: _lxc_config.LxcConfig, running: _checkpointable_units.Running | None) -> t.Iterator[_tree.Tree]:
    root = root_of(config, running.init if running else 0)
    mapped = "idmap=" in config.last("lxc.rootfs.options")
    owner = 0 if mapped else _user_namespace.mapped_root(config.values("lxc.idmap")) or 0
    group = 0 if mapped else _mapped_group(config.values("lxc.idmap"))
    tree = _tree.Tree(root, (owner, group))
    try:
        if tree.is_hosts():
            # By way of a pid that is another process's by now.
            raise _errors.StasisError("The container's init has ended.", "Run the task again.")
        yield tree
    finally:
        tree.close()


def _mapped_group(idmaps: t.Sequence[str]) -> int:
    return (
        _user_namespace.mapped_root([f"u {line.split(None, 1)[1]}" for line in idmaps if line[:1] in ("g", "b")]) or 0
    )


def _running(runner: _runner.Runner, name: str, lxc_path: str) -> _checkpointable_units.Running | None:
    state, init = _container.query(runner, name, lxc_path)
    if state == _container.STOPPED:
        return None
    if state not in (_container.RUNNING, _container.FROZEN) or not init:
        raise _errors.StasisError(f"{name} is {state}.", "Wait until it is running or stopped.")
    return _checkpointable_units.look(init, frozen=state == _container.FROZEN)


def _ours(tree: _tree.Tree) -> tuple[dict[str, str], list[str]]:
    """Our files, path to text; and files of that name which are not ours."""
    ours: dict[str, str] = {}
    foreign: list[str] = []
    for directory in tree.names(_checkpointable_plan.PLACE):
        path = f"{_checkpointable_plan.PLACE}/{directory}/{_checkpointable_plan.FILE}"
        if not directory.endswith(".d") or _checkpointable_plan.FILE not in tree.names(
            f"{_checkpointable_plan.PLACE}/{directory}"
        ):
            continue
        text = tree.text(path) if tree.link(path) is None else None
        if text is not None and text.startswith(_checkpointable_plan.MARK + "\n"):
            ours[path] = text
        else:
            foreign.append(path)
    return ours, foreign


def _refuse_foreign(plan: _checkpointable_plan.Plan, foreign: t.Sequence[str], root: str) -> None:
    for change in plan.files:
        if change.path in foreign:
            raise _errors.StasisError(
                f"{change.path} in {root} is there and was not made by this collection.",
                "Remove it, or give it another name.",
            )


def _stale(
    plan: _checkpointable_plan.Plan, tree: _tree.Tree, running: _checkpointable_units.Running | None
) -> list[str]:
    """Services that run with other settings than their files have, or will have."""
    if running is None:
        return []
    touched = {change.unit for change in plan.files}
    return sorted(
        {
            *(name for unit in touched for name in running.services(unit)),
            *(name for unit, path in plan.units.items() for name in running.older(unit, tree.changed(path))),
        }
    )


def _mounted(
    plan: _checkpointable_plan.Plan, running: _checkpointable_units.Running | None, stale: t.Sequence[str]
) -> list[str]:
    """Where credentials are mounted of units that are to have none; those of a service go when it is restarted."""
    units = {one.unit for one in plan.relaxations if one.done and one.rule.needs == _relaxations.RAMFS} - set(stale)
    return [
        f"{_checkpointable_units.CREDENTIALS}/{name}"
        for name in (running.credentials if running else ())
        if name in units
    ]


def _act(tree: _tree.Tree, plan: _checkpointable_plan.Plan) -> None:
    for change in plan.files:
        if change.after:
            tree.write(change.path, change.after)
        else:
            tree.remove(change.path)
    for directory in plan.directories:
        tree.remove_empty(directory)


def _restart(
    tree: _tree.Tree,
    plan: _checkpointable_plan.Plan,
    running: _checkpointable_units.Running,
    inside: _checkpointable_units.Inside,
    stale: t.Sequence[str],
    mounted: t.Sequence[str],
) -> list[str]:
    """Let it take effect. Where that fails, a service that no longer starts for example, everything is as before."""
    try:
        return running.restart(inside, stale, mounted)
    except _errors.StasisError as exc:
        if not plan.changed:
            raise
        _act(tree, _checkpointable_plan.reverse(plan))
        again = _checkpointable_units.Inside(inside.runner, inside.name, inside.lxc_path, inside.timeout)
        try:
            running.resume(again, stale)
        except _errors.StasisError as more:
            raise _errors.StasisError(
                f"{exc.what} The files are as before, but {more.what}", more.remedy, **exc.data
            ) from exc
        raise _errors.StasisError(
            f"{exc.what} The files are as before, and the services run with them again.",
            "Set restart to false to keep the files, and look at the service by hand.",
            **exc.data,
        ) from exc


def _report(
    plan: _checkpointable_plan.Plan,
    running: _checkpointable_units.Running | None,
    root: str,
    stale: list[str],
    mounted: list[str],
) -> Report:
    report = Report(container_state="running" if running else "stopped", rootfs=root)
    report.restart_needed, report.unmount_needed = list(stale), list(mounted)
    report.reload_needed = bool(running and (plan.changed or stale))
    for one in plan.relaxations:
        row: dict[str, t.Any] = {
            "unit": one.unit,
            "relaxation": one.rule.id,
            "hardening": one.rule.hardening,
            "directives": list(one.directives),
            "settings": list(one.settings),
            "lost": one.rule.lost,
            "kept": one.rule.kept,
            "evidence": one.rule.evidence,
            "reference": one.rule.reference,
        }
        if one.done:
            report.relaxations.append({**row, "path": "/" + plan.units[one.unit]})
        else:
            report.blocked.append({**row, "problem": one.problem or "relax does not allow it."})
    report.files = sorted("/" + path for path in plan.units.values())
    report.removed = sorted("/" + change.path for change in plan.files if not change.after)
    report.diff = [
        {
            "before_header": f"/{change.path}" if change.before else "/dev/null",
            "after_header": f"/{change.path}" if change.after else "/dev/null",
            "before": change.before,
            "after": change.after,
        }
        for change in plan.files
    ]
    return report


def _notes(plan: _checkpointable_plan.Plan, units: _units.Units, name: str) -> list[str]:
    found = [f"relax names {entry}, which is no unit that {name} would start." for entry in plan.unknown]
    if not units.any:
        found.append(f"{name} has no systemd, so there was nothing to look for in its units.")
    return found


def summary(report: Report, name: str) -> list[str]:
    """The result in lines for people. Pure."""
    lines = [
        f"{one['unit']}: {one['relaxation']} relaxed. Lost: {one['lost']}{' Kept: ' + one['kept'] if one['kept'] else ''}"
        f" Why: {one['evidence']} ({', '.join(one['directives'])})"
        for one in report.relaxations
    ]
    lines += [
        f"{one['unit']}: {one['relaxation']} STILL BLOCKS a checkpoint. {one['problem']} ({', '.join(one['directives'])})"
        for one in report.blocked
    ]
    lines += [
        f"{unit}: blocks a checkpoint while it runs, which is for a moment only; left as it is."
        for unit in report.brief
    ]
    lines += [f"{path}: removed." for path in report.removed]
    lines += report.notes
    if report.stop_needed:
        lines.append(
            f"systemd in {name} STILL HOLDS BPF programs of its old settings, which block a checkpoint: stop the container "
            "and start it again, or set restart_container: true."
        )
    steps = ["systemctl daemon-reload"] if report.reload_needed else []
    steps += [f"systemctl try-restart {' '.join(report.restart_needed)}"] if report.restart_needed else []
    steps += [f"umount {' '.join(report.unmount_needed)}"] if report.unmount_needed else []
    if steps:
        lines.append(f"To take effect: `{'`, `'.join(steps)}` in {name}, or restart: true.")
    return lines or [f"{name} needs nothing of this."]

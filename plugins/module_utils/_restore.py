# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Act: restore a container through liblxc, so that LXC supervises it, with our own CRIU command."""

from __future__ import annotations

import json
import os
import shlex
import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _attempts,
    _autostart,
    _cgroup_tree,
    _cgroups,
    _container,
    _criu_command,
    _criu_files,
    _criu_run,
    _criu_stats,
    _device_rules,
    _errors,
    _files,
    _image,
    _install_record,
    _journal,
    _leftovers,
    _link_remaps,
    _mend,
    _nic_records,
    _nics,
    _orphan_veths,
    _pressure,
    _records,
    _rootfs,
    _runner,
    _systemd,
    _user_namespace,
    _workspace,
)


@dataclass(frozen=True)
class RestoreOrder:
    """What to restore: CRIU's arguments after `restore`, without the work directory's, and the NICs as they will be.

    options: as the restore has them. arguments is a function of the work directory and of where the image can be read,
    which are not known before the run. root: the host's uid of the container's root in a user namespace.
    overlay: the options with which its root is mounted, where that is an overlay. fresh: nothing was
    written to the root file system since the dump.
    """

    criu: str
    options: _criu_command.CriuOptions
    arguments: t.Callable[[str, str], list[str]]
    nics: tuple[_nics.Nic, ...]
    generation: int
    root: int | None = None
    overlay: str = ""
    fresh: bool = True


class Restored(t.NamedTuple):
    """What came of it. command: the argv of CRIU, as it ran. stats: CRIU's."""

    init: _container.Process
    command: list[str]
    stats: dict[str, int]
    log_path: str
    warnings: list[str]


def restore(
    runner: _runner.Runner,
    container: _container.Container,
    image: _image.Image,
    wanted: _argspec.Wanted,
    record: _install_record.InstallRecord,
    order: RestoreOrder,
) -> Restored:
    """Restore a stopped container; raises RunError with `log_path`, `log_errors`, `rc` and `command`, and RecordError."""
    # Where it is used, too: check mode has ended before, and so has every other look at the image.
    _records.check(image.path)
    work = _workspace.Workspace(wanted.name, "restore")
    nics = work.file("nics")
    os.mkdir(nics, 0o700)
    _nic_records.write_records(nics, order.nics)
    if order.root is not None:
        _nic_records.write_peers(nics, order.nics)
    _orphan_veths.remove([nic.veth for nic in order.nics], runner)
    journal = _begin(container, image, wanted, record, order, work)
    devices = _rules_of(order, image, work)
    with devices, _user_namespace.view(wanted.directory, order.root) as images:
        work.write_lines("argv", order.arguments(work.path, images))
        done = _runner.run_to_files(
            [
                *["lxc-checkpoint", "-P", container.lxc_path, "-n", container.name, "-r", "-d", "-D", work.path],
                *["--rcfile", _write_rcfile(container, order, work, record.hook)],
                *["-o", work.file("lxc.log"), "-l", "INFO"],
            ],
            environment={**_environment(wanted, record, order, work, nics, image), **devices.environment},
            stdout=work.file("lxc.out"),
            stderr=work.file("lxc.err"),
            timeout=wanted.timeout + wanted.kill_timeout,
            grace=10.0,
        )
        if done.rc != 0:
            # Where only lxc-checkpoint was killed, its monitor and CRIU go on.
            _mend.kill(_mend.settle(journal, wanted.timeout, lambda: _runs(runner, container)))
    command = _files.lines(work.read("argv.ran"))
    state, init_pid = _container.query(runner, container.name, container.lxc_path)
    init = _container.process(init_pid) if init_pid else None
    # lxc-checkpoint can fail after its monitor has taken over.
    ours = done.rc <= 0 or (init is not None and (init.pid, init.start) in revived(journal))
    if not ours or state != _container.RUNNING or init is None:
        nothing_ran = init is None and not _leftovers.may_have_run(_leftovers.telling_lines(work.file("restore.log")))
        mended = _mend.after_restore(journal, container, runner) if state == _container.STOPPED else []
        kept: list[str] = []
        if nothing_ran:
            kept = take_back(container, image, fresh=order.fresh)
            _nic_records.remove_peers(nics, runner)
        undone = any(line.startswith(_mend.NOT_DONE) for line in mended + kept)
        # In any other state nothing was looked at, or something runs: the next run goes on.
        if state == _container.STOPPED and not undone:
            _journal.end(container.name, container.lxc_path)
        failure = _failure(done, container, wanted, work, command, state, nothing_ran=nothing_ran)
        failure.as_before = failure.as_before and not undone
        if devices.fault:
            failure.what += f" {devices.fault}."
        failure.data["recovered"] = mended + kept
        raise failure
    warnings = complete(journal, container, init, runner)
    warnings += [f"{container.name} runs again, but: {line}" for line in _mend.finish(journal, container, runner)]
    if done.rc != 0:
        warnings.append(f"lxc-checkpoint ended with {done.rc}; the restore went on without it.")
    return Restored(init, command, _criu_stats.read(work.path), work.file("restore.log"), warnings)


def complete(
    journal: _journal.Journal, container: _container.Container, init: _container.Process, runner: _runner.Runner
) -> list[str]:
    """Do what follows once the restored container runs, in this run or in the one that finds its journal; returns warnings.

    The journal stays: it ends when the network is looked after, too.
    """
    remember(container, init, journal.generation)
    warnings = _criu_run.hook_said(journal.work).warnings
    warnings += _pressure.arm(_cgroups.processes(_cgroups.observe(init.pid)))
    _systemd.reload(init)
    _autostart.allow(list(journal.units), container.config_path, runner)
    return warnings


def revived(journal: _journal.Journal) -> list[tuple[int, int]]:
    """Pid and start time of every init that this restore has brought back, as the hook recorded it before anything ran."""
    text = _workspace.read_text(os.path.join(journal.directory, _image.CONSUMED))
    return [(one.init_pid, one.init_start) for one in _image.parse_consumed(text)[journal.consumed :]]


def stop(container: _container.Container, runner: _runner.Runner, wanted: _argspec.Wanted) -> None:
    """Stop a running container that is to be restored, and wait until LXC has torn it down."""
    done = runner.run(["lxc-stop", "-P", container.lxc_path, "-n", container.name, "-k"], timeout=wanted.timeout)
    if done.rc != 0 or not _container.wait_stopped(runner, container, 60.0):
        raise _errors.StasisError(
            f"{container.name} could not be stopped: {done.stderr.strip()[:300]}",
            "Stop it by hand, then run the task again.",
        )


def _runs(runner: _runner.Runner, container: _container.Container) -> bool:
    return _container.query(runner, container.name, container.lxc_path)[0] == _container.RUNNING


def _begin(
    container: _container.Container,
    image: _image.Image,
    wanted: _argspec.Wanted,
    record: _install_record.InstallRecord,
    order: RestoreOrder,
    work: _workspace.Workspace,
) -> _journal.Journal:
    manifest = image.manifest or {}
    journal = _journal.Journal(
        _journal.RESTORE,
        wanted.directory,
        work.path,
        hook=record.hook,
        nics=tuple(asdict(nic) for nic in order.nics),
        generation=order.generation,
        units=tuple(manifest.get("autostart_units", ())),
        fresh=order.fresh,
        consumed=len(image.consumed),
        halted=tuple(_criu_files.stopped(image.path)),
        links=_link_remaps.inodes(manifest.get("open_files") or {}, container.rootfs.backing),
    )
    _journal.begin(container.name, container.lxc_path, journal)
    return journal


def _environment(
    wanted: _argspec.Wanted,
    record: _install_record.InstallRecord,
    order: RestoreOrder,
    work: _workspace.Workspace,
    nics: str,
    image: _image.Image,
) -> dict[str, str]:
    env = _criu_run.environment(wanted, work)
    env["STASIS_CRIU"] = order.criu
    env["STASIS_NICS"] = nics
    env["STASIS_LOCK"] = "bridge"
    if order.overlay:
        env["STASIS_OVERLAY"] = order.overlay
    if any(":" in one["address"] for one in (image.manifest or {}).get("addresses") or ()):
        env["STASIS_IPV6"] = "1"
    env["STASIS_RESTORED"] = os.path.join(image.path, _image.CONSUMED)
    env.update(_cgroup_environment(order, image))
    # liblxc takes the first criu on PATH.
    env["PATH"] = os.path.dirname(record.launcher) + ":" + env["PATH"]
    return env


def _cgroup_environment(order: RestoreOrder, image: _image.Image) -> dict[str, str]:
    """The hook's part of the cgroups; the launcher adds the payload cgroup's name, which liblxc alone knows."""
    path = os.path.join(image.path, _cgroup_tree.RECORD)
    mounts = _cgroups.parse_mounts(_files.text_of("/proc/self/mountinfo"))
    mount = mounts.pop("", "")
    # Where CRIU is told to leave the cgroups alone, so do we.
    if order.options.manage_cgroups in ("none", "ignore") or not mount or not os.path.exists(path):
        return {}
    return {"STASIS_CGROUPS": path, "STASIS_CGROUP_MOUNT": mount, "STASIS_CGROUP_V1": "\n".join(mounts.values())}


def _rules_of(order: RestoreOrder, image: _image.Image, work: _workspace.Workspace) -> _device_rules.Attaching:
    """What attaches the rules about device nodes that the image has; where CRIU is told to leave the cgroups alone, so do we."""
    mounts = _cgroups.parse_mounts(_files.text_of("/proc/self/mountinfo"))
    first = next((place for names, place in mounts.items() if "devices" in names.split(",")), "")
    kept = order.options.manage_cgroups not in ("none", "ignore")
    path = os.path.join(image.path, _device_rules.LIST)
    programs = _records.device_programs(image.path) if kept and "" in mounts else []
    environment = (
        {"STASIS_DEVICE_LIST": path, "STASIS_DEVICE_MOUNT": first} if kept and first and os.path.exists(path) else {}
    )
    return _device_rules.Attaching(programs, mounts.get("", ""), work.path, environment)


def _write_rcfile(container: _container.Container, order: RestoreOrder, work: _workspace.Workspace, hook: str) -> str:
    """The container's configuration with the names of its veths, so that LXC knows them (lxc-info: Link), with a
    directory instead of an overlay, and with what cuts off a container that dies of the death of CRIU."""
    with open(container.config_path, encoding="utf-8", errors="surrogateescape") as stream:
        lines = _files.lines(_autostart.without_block(stream.read()))
    if order.overlay:
        # liblxc binds this to the place of the root, where the launcher then mounts the overlay.
        lines.append(f"lxc.rootfs.path = dir:{container.rootfs.backing}")
    # liblxc refuses the whole file where another type is given the name of a veth.
    configured = {nic.index for nic in container.config.networks() if nic.type == "veth"}
    for nic in order.nics:
        if nic.kind == "veth" and nic.index in configured:
            lines.append(f"lxc.net.{nic.index}.veth.pair = {nic.veth}")
            if nic.bridge:
                lines.append(f"lxc.net.{nic.index}.link = {nic.bridge}")
    # liblxc makes terminals at a start only; where it thinks that there is a console, the restored monitor of 5.0.2 dies
    # of a segmentation fault at the next lxc-info, and the container with it.
    lines += ["lxc.console.path = none", "lxc.tty.max = 0"]
    # Before the container's own; and where the hook is not there any more, they are run all the same.
    told = shlex.join(["/bin/sh", "-c", 'test ! -x "$0" || "$0" --lost; exit 0', hook])
    lines.insert(0, f"lxc.hook.stop = {told}")
    path = work.file("config")
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.writelines(line + "\n" for line in lines)
    return path


def take_back(container: _container.Container, image: _image.Image, *, fresh: bool) -> list[str]:
    """Take back what a restore that ran nothing has written: its record, and the fingerprint that it changed.

    Returns why that could not be done: it stays in the journal, and so it is the next run's.
    """
    now = _image.look(image.path)
    try:
        for record in now.consumed[len(image.consumed) :]:
            _image.add_record(image.path, f"undone {record.boot_id} {record.init_pid} {record.init_start}")
        found = _rootfs.fingerprint(container.rootfs)
        if found is not None and fresh and not image.consumed and image.fingerprint is not None:
            _image.set_fingerprint(image.path, found.as_dict())
    except OSError as exc:
        line = f"took back what a restore that ran nothing had written to {image.path}"
        return [f"{_mend.NOT_DONE}: {line}: {exc.strerror or exc}"]
    return []


def _failure(
    done: _runner.Completed,
    container: _container.Container,
    wanted: _argspec.Wanted,
    work: _workspace.Workspace,
    command: list[str],
    state: str,
    *,
    nothing_ran: bool,
) -> _attempts.RunError:
    from ansible_collections.stasis.lxc.plugins.module_utils import _criu_log, _diagnosis

    log = _workspace.read_ends(work.file("restore.log"))
    others = _workspace.read_ends(work.file("lxc.log")) + "\n" + done.stderr
    errors = _criu_log.error_lines(log) or _criu_log.error_lines(others)
    # liblxc says only that CRIU failed, unless it never came to that.
    hook = _criu_run.hook_said(work.path)
    diagnoses = _criu_run.diagnose(log, hook) or [
        one for one in _criu_run.diagnose(others, hook) if not (log and one.id == _diagnosis.NEVER_RAN)
    ]
    launcher = _files.lines(work.read("launcher.error"))
    if done.timed_out:
        cause = f"It did not end within {wanted.timeout} s nor roll back within {wanted.kill_timeout} s more, and was killed."
    elif launcher:
        cause = f"The launcher refused: {launcher[0]}"
    elif hook.refused:
        cause = f"The hook stopped it: {hook.refused[0]}"
    elif diagnoses or errors:
        cause = _criu_run.cause_of(diagnoses, errors)
    elif not command:
        cause = "lxc-checkpoint never called the launcher."
    else:
        cause = f"lxc-checkpoint ended with {done.rc}, the container is {state}."
    log_path = work.first("restore.log", "lxc.log", "lxc.err")
    return _attempts.RunError(
        f"{container.name} was not restored. {cause}",
        f"The checkpoint is still there. {diagnoses[0].remedy if diagnoses else f'Read {log_path}.'}",
        diagnoses=diagnoses,
        as_before=nothing_ran and state == _container.STOPPED and not (done.timed_out or launcher or hook.refused),
        rc=done.rc,
        log_path=log_path,
        log_errors=launcher + hook.refused + errors,
        warnings=hook.warnings,
        command=command or list(done.argv),
    )


def remember(container: _container.Container, init: _container.Process, generation: int) -> None:
    """Which generation runs now, for the next dump; below /run, as it ends with the boot."""
    _files.make_directories(_workspace.LOCKS)
    path = os.path.join(_workspace.LOCKS, _workspace.key(container.name, container.lxc_path) + ".json")
    text = json.dumps({"init_pid": init.pid, "init_start": init.start, "generation": generation})
    _files.write_durably(path, text + "\n")


def running_generation(container: _container.Container) -> int:
    """The generation that the running container was restored from, or 0 where it was started."""
    path = os.path.join(_workspace.LOCKS, _workspace.key(container.name, container.lxc_path) + ".json")
    try:
        found = json.loads(_workspace.read_text(path))
    except ValueError:
        return 0
    init = container.init
    if init is None or (found.get("init_pid"), found.get("init_start")) != (init.pid, init.start):
        return 0
    return int(found["generation"])

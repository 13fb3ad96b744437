# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The first thing that every run does: what an interrupted one was about is waited for, completed, mended or taken back."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _autostart,
    _container,
    _errors,
    _image,
    _journal,
    _leftovers,
    _link_remaps,
    _mend,
    _recover,
    _restore,
    _result,
    _rootfs,
    _runner,
    _systemd,
    _trial_cgroups,
    _user_namespace,
    _workspace,
)


def recover(
    wanted: _argspec.Wanted, runner: _runner.Runner, trust: _image.Trust | None, *, act: bool
) -> tuple[_container.Container, list[str]]:
    """The container as it is, after all that was mended; and a line for each thing that was, or without `act` would be.

    A StasisError has the lines of what was done before it in its data.
    """
    told: list[str] = []
    with _result.after_recovery(told):
        return _recover_all(wanted, runner, trust, told, act=act), told


def _recover_all(
    wanted: _argspec.Wanted, runner: _runner.Runner, trust: _image.Trust | None, told: list[str], *, act: bool
) -> _container.Container:
    journal = _journal.read(wanted.name, wanted.lxc_path)
    told += _wait(journal, wanted, runner, act=act) if journal else []
    if journal is not None and act:
        _await_teardown(journal)
    container = _container.observe(runner, wanted.name, wanted.lxc_path)
    mended = _mend_all(journal, container, runner, act=act)
    told += mended
    if mended and act:
        # Its network and its sockets are others now.
        container = _container.observe(runner, wanted.name, wanted.lxc_path)
    directories = [wanted.directory]
    if journal is not None:
        told += _autostart_again(journal, container, runner, act=act)
        told += _restored(journal, container, runner, act=act)
        told += _trial_left(journal, wanted, act=act)
        directories += [journal.directory] if journal.directory != wanted.directory else []
    for directory in directories:
        told += _recover.recover(
            directory, wanted.name, wanted.lxc_path, container, act=act, runner=runner, trust=trust
        )
    # Between two states nothing was looked at, so nothing has come to its end.
    settled = container.init is not None or container.state == _container.STOPPED
    if act and settled and not any(line.startswith(_mend.NOT_DONE) for line in told):
        _journal.end(wanted.name, wanted.lxc_path)
    return container


def foreseen(
    wanted: _argspec.Wanted, container: _container.Container | None, trust: _image.Trust | None, level: str
) -> _image.Image:
    """The image that recover() will have put at the directory: what check mode plans with."""
    image = _recover.foreseen(wanted.directory, wanted.name, wanted.lxc_path, container, trust, level)
    journal = _journal.read(wanted.name, wanted.lxc_path)
    if journal is None or container is None or journal.directory != wanted.directory:
        return image
    return _undone(journal, container, image) or image


def awaited_links(wanted: _argspec.Wanted, container: _container.Container) -> frozenset[str]:
    """The files of the image, as paths inside, that are missing now and that recover() would link again: for check mode."""
    journal = _journal.read(wanted.name, wanted.lxc_path)
    rootfs = container.rootfs.backing
    if journal is None or journal.action != _journal.RESTORE or not os.path.isdir(rootfs):
        return frozenset()
    return frozenset(_link_remaps.missing(journal.links, rootfs))


def _wait(journal: _journal.Journal, wanted: _argspec.Wanted, runner: _runner.Runner, *, act: bool) -> list[str]:
    """Let what goes on without its module come to its end; it has a deadline of its own, which the hook keeps."""

    def runs() -> bool:
        return _container.query(runner, wanted.name, wanted.lxc_path)[0] == _container.RUNNING

    if not _mend.at_work(journal, runs):
        return []
    line = f"waited for the {journal.action} that an interrupted run had begun"
    left = _mend.settle(journal, wanted.timeout, runs) if act else []
    if not left:
        return [line]
    names = ", ".join(f"{one.command} (pid {one.pid})" for one in left)
    if not _mend.kill(left):
        raise _errors.StasisError(f"{names} of an interrupted {journal.action} do not end.", "Look into it.")
    return [f"killed what an interrupted {journal.action} had left and did not end: {names}"]


def _await_teardown(journal: _journal.Journal) -> None:
    """Of a container that was dumped and has died. LXC calls it stopped before its post-stop hooks have run."""
    init = _container.Process(journal.init_pid, journal.init_start)
    if journal.action == _journal.DUMP and journal.monitor_pid and not init.alive:
        _container.wait_gone(_container.Process(journal.monitor_pid, journal.monitor_start))


def _mend_all(
    journal: _journal.Journal | None, container: _container.Container, runner: _runner.Runner, *, act: bool
) -> list[str]:
    init = container.init
    if init is None:
        if container.state != _container.STOPPED:
            return []
        left = _leftovers.of_stopped(journal, container, time.time())
        if left.unsupervised:
            repairs = _mend.settings(left, container.name)
            raise _errors.StasisError(
                f"{_mend.unsupervised(left, container.name)}.",
                "Save what it holds, end its processes, and run the task again.",
                recovered=_mend.carry_out(repairs, journal, container, runner)
                if act
                else [one.line for one in repairs],
            )
    elif journal is not None and (init.pid, init.start) in _subjects(journal):
        left = _leftovers.of_running(journal, container, runner)
    else:
        return []
    repairs = _mend.decide(left, container.name)
    if not act:
        return [one.line for one in repairs]
    told = _mend.carry_out(repairs, journal, container, runner)
    if init is None and journal is not None:
        _mend.wait_free(journal, runner)
    return told


def _autostart_again(
    journal: _journal.Journal, container: _container.Container, runner: _runner.Runner, *, act: bool
) -> list[str]:
    """A dump that was to stop the container has switched its autostart off; but it has not been dumped."""
    init = container.init
    if not journal.inhibit or init is None or (init.pid, init.start) != (journal.init_pid, journal.init_start):
        return []
    if act:
        _autostart.allow(list(journal.units), container.config_path, runner)
    return [f"switched the autostart of {container.name} on again, which an interrupted dump had switched off"]


def _trial_left(journal: _journal.Journal, wanted: _argspec.Wanted, *, act: bool) -> list[str]:
    """What the kernel does not take back of a trial restore that was killed."""
    key = _workspace.key(wanted.name, wanted.lxc_path)
    if journal.action != _journal.DUMP or not _trial_cgroups.left(key):
        return []
    if act:
        _trial_cgroups.remove(key)
    return ["removed the cgroups of a trial restore that an interrupted run had left"]


def _subjects(journal: _journal.Journal) -> list[tuple[int, int]]:
    """Pid and start time of the inits that the run was about."""
    if journal.action == _journal.DUMP:
        return [(journal.init_pid, journal.init_start)]
    return _restore.revived(journal)


def _restored(
    journal: _journal.Journal, container: _container.Container, runner: _runner.Runner, *, act: bool
) -> list[str]:
    """Complete an interrupted restore whose container runs, or take back what one that ran nothing has written."""
    if journal.action != _journal.RESTORE:
        return []
    if act:
        _user_namespace.shut(journal.directory)
    init = container.init
    if init is not None:
        if (init.pid, init.start) not in _subjects(journal):
            return []
        faults = []
        if act:
            faults = _restore.complete(journal, container, init, runner)
        reloaded = _systemd.note(_systemd.name(init.pid), os.uname().release)
        return [f"completed the restore that an interrupted run had begun from {journal.directory}", *reloaded, *faults]
    image = _image.look(journal.directory)
    before = _undone(journal, container, image)
    if before is None:
        if container.state == _container.STOPPED and _restore.revived(journal):
            return [
                f"left {journal.directory} as it is: {container.name} has run since, until its restore was interrupted"
            ]
        return []
    if (before.consumed, before.fingerprint) == (image.consumed, image.fingerprint):
        return []
    if act:
        kept = _restore.take_back(container, replace(image, consumed=before.consumed), fresh=journal.fresh)
        if kept:
            return kept
    return [f"took back what an interrupted restore had written to {journal.directory} before anything ran"]


def _undone(journal: _journal.Journal, container: _container.Container, image: _image.Image) -> _image.Image | None:
    """The image as it is once an interrupted restore is taken back; None where there is none, or something ran."""
    if journal.action != _journal.RESTORE or container.state != _container.STOPPED or image.state != _image.SEALED:
        return None
    log = _leftovers.telling_lines(os.path.join(journal.work, "restore.log"))
    # Without its log nobody can say that it ran nothing, once the hook has written that it was about to.
    if _leftovers.may_have_run(log) or (not log and _restore.revived(journal)):
        return None
    fingerprint = image.fingerprint
    if journal.fresh and fingerprint is not None and not image.consumed[: journal.consumed]:
        found = _rootfs.fingerprint(container.rootfs)
        fingerprint = found.as_dict() if found is not None else fingerprint
    return replace(image, consumed=image.consumed[: journal.consumed], fingerprint=fingerprint)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Prove that an image can be restored while the container that it was made of can still go on.

The hook asks for a vote at post-dump and waits for it. A process of ours that was prepared before the freeze restores the
image on trial (_trial) and votes. It holds a lock for as long as it lives, so that the hook does not wait for a process
that was killed. Without a vote for it CRIU rolls the dump back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import time
import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _argspec,
    _attempts,
    _cgroups,
    _criu_command,
    _criu_log,
    _criu_run,
    _errors,
    _exe_links,
    _files,
    _leftovers,
    _nics,
    _records,
    _runner,
    _trial,
    _workspace,
)

PROVEN, PARTIAL, SKIPPED, REFUSED = "proven", "partial", "skipped", "refused"
# Written by the hook when it begins to wait, and the file that it reads the vote from; see `ask` and `wait` there.
_ASKED, _VOTE, _LOCK, _VERDICT = "vote.asked", "vote", "vote.lock", "verdict"
_LOOK_SECONDS = 0.002
# What the overlay causes, and not the image: a restore over the root file system itself may well succeed.
_OF_THE_TRIAL = (
    (
        re.compile(r"open_by_handle|[Cc]an't open file handle|fsnotify: .*handle"),
        "an overlay cannot open files by handle",
    ),
    (re.compile(r"No space left on device"), "the files that it writes do not fit into the memory of the trial"),
    (re.compile(r"Read-only file system"), "a bind mount that it writes to can be had read-only on trial"),
)
_LEFT_OUT = (
    re.compile(r"[Cc]an't link .*link_remap"),
    "CRIU removes its names of deleted files when the container goes on",
)
_EXTERNAL_MASTER = re.compile(r"Failed to copy sharing from -1:(.*) to \d+: Invalid argument")


@dataclass(frozen=True)
class Verdict:
    """What a trial has shown. seconds: from the moment at which the image was complete. why: "" where it is proven."""

    verdict: str
    seconds: float = 0.0
    why: str = ""

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)


def hindrance(nics: t.Sequence[_nics.Nic], criu_args: t.Sequence[str], cgroups: t.Sequence[_cgroups.Hierarchy]) -> str:
    """Why a container cannot be restored beside itself, or "". Pure."""
    # CRIU 4.2.1 gives tasks other cgroups by the names of controllers, and those of v2 have none (rewrite_cgroup_roots()).
    if all(one.unified for one in cgroups):
        return (
            "On a host with cgroup v2 alone CRIU would put what it restores on trial into the container's own cgroups."
        )
    if any(nic.kind == "none" for nic in nics):
        return "The container shares the host's network, where its ports are taken by itself."
    if _criu_command.allowances(criu_args).external_unix:
        return "criu_args has its Unix sockets connected to processes of the host, which a trial would reach."
    return ""


def judge(reached: bool, log: str, *, running: bool, binds: t.Collection[str] = ()) -> tuple[str, str]:
    """The verdict and its reason, from CRIU's log of a trial.

    reached: all was restored. running: the container runs on. binds: the paths of the host that it has by bind mounts. Pure.
    """
    if reached:
        return PROVEN, ""
    errors = _criu_log.error_lines(log)
    causes = [*_OF_THE_TRIAL, _LEFT_OUT] if running else _OF_THE_TRIAL
    for pattern, why in causes:
        if any(pattern.search(line) for line in errors):
            return PARTIAL, f"{why[0].upper()}{why[1:]}."
    # CRIU takes one of several bind mounts for the source of what they have in common, and on trial each is a file system of its own.
    shared = {match.group(1) for match in map(_EXTERNAL_MASTER.search, errors) if match}
    if shared & set(binds):
        return PARTIAL, "On trial the bind mounts of a file system of the host cannot be slaves of one mount."
    return REFUSED, errors[0] if errors else "CRIU gave no reason."


class Prover:
    """The process that tries and votes. Whoever makes one calls verdict() or cancel()."""

    def __init__(self, order: _trial.Order, seconds: float, *, running: bool = False) -> None:
        """seconds: how long the trial may take. running: the container runs on, so nobody waits for the vote."""
        self._order = order
        os.makedirs(order.work, 0o700)
        self._child = 0
        # The hook waits with it.
        if shutil.which("flock", path=_runner.clean_environment()["PATH"]) is None:
            self._fault = "the program flock of util-linux is missing"
            return
        ready, tell = os.pipe()
        parent = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            _work(order, seconds, parent, tell, running=running)
        os.close(tell)
        with open(ready, encoding="utf-8") as stream:
            self._fault = stream.read()

    @property
    def environment(self) -> dict[str, str]:
        """For the hook of the dump; {} where there can be no trial."""
        return {} if self._fault else {"STASIS_VOTE": os.path.join(self._order.work, _VOTE)}

    @property
    def asked(self) -> bool:
        """Whether the hook has asked for the vote."""
        return os.path.exists(os.path.join(self._order.work, _ASKED))

    def verdict(self) -> Verdict:
        """What came of it; waits for its end. To be called only once the hook has asked."""
        if self._child:
            os.waitpid(self._child, 0)
            self._child = 0
            _trial.clean(self._order)
        if self._fault:
            return Verdict(SKIPPED, 0.0, f"This host cannot restore on trial: {self._fault}.")
        try:
            return Verdict(**json.loads(_files.text_of(os.path.join(self._order.work, _VERDICT))))
        except (ValueError, TypeError):
            return Verdict(REFUSED, 0.0, "The process that restores on trial ended without a verdict.")

    def log(self) -> str:
        """CRIU's log of the trial."""
        return _workspace.read_text(self.log_path)

    @property
    def log_path(self) -> str:
        return os.path.join(self._order.work, "restore.log")

    def cancel(self) -> None:
        """Nobody waits for a vote any more."""
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = 0
            _trial.clean(self._order)


def failure(wanted: _argspec.Wanted, prover: Prover, proof: Verdict, **data: t.Any) -> _errors.StasisError:
    """The error of a dump whose image could not be restored on trial."""
    log = prover.log()
    said = _criu_run.hook_said(os.path.dirname(prover.log_path))
    diagnoses = _criu_run.diagnose(log, said)
    errors = said.refused + _criu_log.error_lines(log)
    cause = said.refused[0] if said.refused else _criu_run.cause_of(diagnoses, errors) or proof.why
    log_path = prover.log_path if log else ""
    remedy = diagnoses[0].remedy if diagnoses else f"Read {log_path}." if log else "Run the task again."
    if wanted.action_scripts:
        remedy += " If the restore needs what action_scripts do, which are not run on trial, set prove to false."
    return _attempts.RunError(
        f"{wanted.name} was not dumped, because the image could not be restored on trial. {cause}",
        remedy,
        diagnoses=diagnoses,
        as_before=False,
        log_path=log_path,
        log_errors=errors,
        proof=proof.as_dict(),
        **data,
    )


def _work(order: _trial.Order, seconds: float, parent: int, tell: int, *, running: bool) -> t.NoReturn:
    """In the other process: prepare, wait until the hook asks, try, vote.

    Like CRIU it is to outlive a module that is killed, so that the dump comes to its end.
    """
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _let_go(tell)
        lock = os.open(os.path.join(order.work, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        trial = _trial.Trial(order)
        try:
            trial.prepare()
        except OSError as exc:
            os.write(tell, f"{exc.strerror or exc}".encode())
            os._exit(1)
        os.close(tell)
        if running or _await(order, parent):
            found = _try(trial, order, seconds, running=running)
            _trial.write(os.path.join(order.work, _VERDICT), json.dumps(found.as_dict()))
            _trial.write(os.path.join(order.work, _VOTE), "no\n" if found.verdict == REFUSED else "yes\n")
        os.close(lock)
    except Exception as exc:  # noqa: BLE001 # whatever it is, it must not go on in the place of the task
        _trial.write(os.path.join(order.work, "error"), repr(exc))
    finally:
        _trial.clean(order)
        os._exit(0)


def _await(order: _trial.Order, parent: int) -> bool:
    """Wait until the hook asks; False where nobody is left to ask, as the module and its CRIU were killed."""
    asked = os.path.join(order.work, _ASKED)
    while not os.path.exists(asked):
        if os.getppid() != parent and not _leftovers.of_run(os.path.dirname(order.work)):
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _try(trial: _trial.Trial, order: _trial.Order, seconds: float, *, running: bool) -> Verdict:
    began = time.monotonic()
    try:
        _records.check(order.images)
        # As before a restore; what seals the image does it again, should the host fail before this is on disk.
        _exe_links.mend(order.images)
        trial.run(seconds)
        reached = os.path.exists(os.path.join(order.work, "reached"))
        log = _workspace.read_ends(os.path.join(order.work, "restore.log"))
        verdict, why = judge(reached, log, running=running, binds=order.binds)
    except _errors.RecordError as exc:
        verdict, why = REFUSED, exc.what
    except TimeoutError as exc:
        verdict, why = REFUSED, f"The trial: {exc}."
    except OSError as exc:
        verdict, why = SKIPPED, f"The trial could not be made: {exc.strerror or exc}."
    return Verdict(verdict, round(time.monotonic() - began, 3), why)


def _let_go(*kept: int) -> None:
    """Close what the task has open, its locks above all, and take nothing from and give nothing to who started it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):
                os.close(descriptor)

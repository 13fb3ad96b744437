# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Act: dump a running container with CRIU, and seal and publish the image."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t
from dataclasses import asdict, dataclass, field, replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _ahead,
    _argspec,
    _attempts,
    _autostart,
    _census,
    _cgroup_tree,
    _cgroup_yard,
    _cgroups,
    _container,
    _criu_log,
    _criu_run,
    _criu_stats,
    _device_rules,
    _errors,
    _exe_links,
    _files,
    _image,
    _incoming,
    _journal,
    _leftovers,
    _manifest,
    _mend,
    _nic_records,
    _nics,
    _proof,
    _records,
    _rootfs,
    _runner,
    _signing,
    _surroundings,
    _trial,
    _workspace,
)

# LXC's teardown after CRIU has killed the tasks: removes cgroups, runs the stop hooks of the configuration.
_TEARDOWN_SECONDS = 60.0
# CRIU writes it when all the others are written, and calls the hook. A container that is to stop stands still then until
# they are on disk, which needs no processor, so that is when they are hashed. One that runs on is not held up by it.
_LAST_IMAGE = "inventory.img"


@dataclass(frozen=True)
class DumpOrder:
    """What to dump: the argv, the hook's lock method, the draft of the manifest, the links of the cgroup yard, and the hook.

    trial: how the image is restored on trial, or None. `work` in it is not known before the run. unprovable: why it
    cannot be, or "".
    """

    argv: tuple[str, ...]
    lock_by_hook: bool
    draft: t.Mapping[str, t.Any]
    inhibit: bool
    yard: t.Mapping[str, str] = field(default_factory=dict)
    hook: str = ""
    trial: _trial.Order | None = None
    unprovable: str = ""


class Dumped(t.NamedTuple):
    """What came of it."""

    manifest: _manifest.Manifest
    warnings: list[str]
    proof: _proof.Verdict | None


def dump(
    runner: _runner.Runner,
    container: _container.Container,
    wanted: _argspec.Wanted,
    order: DumpOrder,
    locks: t.Sequence[int],
) -> Dumped:
    """Dump, wait for LXC's teardown where the container is to stop, seal, publish.

    Raises RunError with `log_path`, `log_errors`, `rc` and `command`; then
    the container runs as before unless the message says otherwise, and an older checkpoint is still in its place.
    """
    work = _workspace.Workspace(wanted.name, "dump")
    staging = _image.stage(wanted.directory, order.draft)
    inhibited = False
    proof = _proof.Verdict(_proof.SKIPPED, why=order.unprovable) if order.unprovable else None
    journal = _begin(container, wanted, order, work)
    ahead = _ahead.Ahead(staging, lambda: wanted.stop and os.path.exists(os.path.join(staging, _LAST_IMAGE)))
    try:
        _nic_records.write_records(staging, container.nics)
        lost = _record_cgroups(container, staging)
        lost += _census.record(runner, container.init.pid, staging) if container.init else []
        # Whatever the container has named: before anything is frozen.
        unsound = _unsound(staging)
        if unsound:
            raise _errors.StasisError(unsound[0], "Nothing was frozen; change what has that value.")
        _surroundings.record_cpu(runner, order.argv[0], staging)
        if wanted.stop:
            # So that the hook, while the container stands still, has only to sync what came after it.
            _files.sync_files(staging)
        _cgroup_yard.make(order.yard)
        if order.inhibit:
            _autostart.inhibit(container.autostart, container.config_path, runner)
            inhibited = True
        pids = _cgroups.processes(container.cgroups)
        copies = [f"/{one}" for one in container.terminals] if container.config.values("lxc.idmap") else []
        init = container.init.pid if container.init else 0
        with _incoming.unmounted(init, pids, copies) as faults, _prover(wanted, order, work, running=False) as prover:
            warnings = lost + faults + _run_criu(runner, container, wanted, order, work, staging, locks, prover)
            proof = prover.verdict() if prover else proof
        warnings += _unsound(staging)
        if not wanted.stop:
            warnings += [f"After the dump: {line}" for line in _mend.finish(journal, container, runner)]
            proof = _rehearse(wanted, order, work) or proof
    except Exception as exc:
        ahead.cancel()
        work.keep(os.path.join(staging, "dump.log"))
        _roll_back(exc, journal, container, runner, inhibited=inhibited)
        raise
    ahead.begin()
    fingerprint = None
    if wanted.stop:
        fingerprint, more = _stopped(runner, container)
        warnings += more
    manifest = finish(wanted.directory, order.draft, fingerprint, signer(order.draft, runner), ahead)
    if wanted.stop:
        _journal.end(container.name, container.lxc_path)
    # What the host cannot do is in the result; a task that asks for the proof by name is warned as well.
    if proof and (proof.verdict == _proof.PARTIAL or (proof.verdict == _proof.SKIPPED and wanted.prove)):
        warnings.append(f"It is not proven that the checkpoint can be restored. {proof.why}")
    return Dumped(manifest, warnings, proof)


def _roll_back(
    exc: Exception,
    journal: _journal.Journal,
    container: _container.Container,
    runner: _runner.Runner,
    *,
    inhibited: bool,
) -> None:
    """Put right what a failed dump has left, and note that in its error; the journal stays where that was not possible."""
    mended = _mend.after_dump(journal, container, runner)
    if isinstance(exc, _errors.StasisError):
        exc.data["recovered"] = mended
    if isinstance(exc, _attempts.RunError):
        # Only now: what a killed CRIU had left has been put right.
        fate, as_before = _fate(runner, container, mended)
        exc.remedy = f"{fate} {exc.remedy}"
        exc.as_before = exc.as_before and as_before and not mended
    _image.discard(journal.directory)
    if inhibited:
        _autostart.allow(container.autostart.units, container.config_path, runner)
    if not any(line.startswith(_mend.NOT_DONE) for line in mended):
        _journal.end(container.name, container.lxc_path)
    elif isinstance(exc, _attempts.RunError):
        # Another try would write a journal of its own over it.
        exc.as_before = False


def _stopped(runner: _runner.Runner, container: _container.Container) -> tuple[dict[str, t.Any] | None, list[str]]:
    """Wait until LXC has torn the container down; the fingerprint of its root file system, and warnings."""
    warnings = []
    if not _container.wait_stopped(runner, container, _TEARDOWN_SECONDS):
        warnings.append(f"LXC has not finished the teardown of {container.name} after {_TEARDOWN_SECONDS:.0f} s.")
    found = _rootfs.fingerprint(container.rootfs)
    if found is None or not found.complete:
        why = found.incomplete_because if found else "it cannot be read"
        warnings.append(
            f"Nothing will show that the root file system of {container.name} stays unchanged ({why}): "
            "the checkpoint is not fresh, and a restore needs allow_stale: true."
        )
    return found.as_dict() if found else None, warnings


@contextlib.contextmanager
def _prover(
    wanted: _argspec.Wanted, order: DumpOrder, work: _workspace.Workspace, *, running: bool
) -> t.Iterator[_proof.Prover | None]:
    """What restores the image on trial, where that is asked for now. It has ended afterwards."""
    if order.trial is None or running == wanted.stop:
        yield None
        return
    prover = _proof.Prover(replace(order.trial, work=work.file("trial")), wanted.timeout, running=running)
    try:
        yield prover
    finally:
        prover.cancel()


def _rehearse(wanted: _argspec.Wanted, order: DumpOrder, work: _workspace.Workspace) -> _proof.Verdict | None:
    """Restore the image of a container that runs on. Raises StasisError where that does not succeed."""
    with _prover(wanted, order, work, running=True) as prover:
        proof = prover.verdict() if prover else None
        if prover and proof and proof.verdict == _proof.REFUSED:
            raise _proof.failure(wanted, prover, proof)
    return proof


def _begin(
    container: _container.Container, wanted: _argspec.Wanted, order: DumpOrder, work: _workspace.Workspace
) -> _journal.Journal:
    init = container.init
    journal = _journal.Journal(
        _journal.DUMP,
        wanted.directory,
        work.path,
        hook=order.hook,
        nics=tuple(asdict(nic) for nic in container.nics),
        init_pid=init.pid if init else 0,
        init_start=init.start if init else 0,
        monitor_pid=container.monitor.pid if container.monitor else 0,
        monitor_start=container.monitor.start if container.monitor else 0,
        inhibit=order.inhibit,
        halted=tuple(_leftovers.inside(one.pid) for one in _leftovers.standing(_cgroups.processes(container.cgroups))),
        units=tuple(container.autostart.units) if order.inhibit else (),
    )
    _journal.begin(container.name, container.lxc_path, journal)
    return journal


def _record_cgroups(container: _container.Container, staging: str) -> list[str]:
    """Write down what CRIU does not: the v2 cgroups, and the rules about device nodes. Returns what could not be."""
    unified = _cgroup_tree.unified(container.cgroups)
    text = _cgroup_tree.record(_cgroup_tree.observe(unified)) if unified else ""
    if text:
        _files.write_durably(os.path.join(staging, _cgroup_tree.RECORD), os.fsencode(text))
    try:
        programs = _device_rules.encode(_device_rules.read(unified.directory) if unified else [])
        first = next((one for one in container.cgroups if "devices" in one.controllers), None)
        listed = _device_rules.listed(first.directory) if first else ""
    except OSError as exc:
        why = exc.strerror or exc
        return [f"The rules about device nodes could not be read ({why}): a restored container will not have them."]
    for name, rules in ((_device_rules.RECORD, programs), (_device_rules.LIST, listed)):
        if rules:
            _files.write_durably(os.path.join(staging, name), os.fsencode(rules))
    return []


def _unsound(staging: str) -> list[str]:
    """What a restore would refuse of the records, now that the hook has added to them: a checkpoint that is worth a
    warning is worth keeping where the container has stopped."""
    try:
        _records.check(staging)
    except _errors.RecordError as exc:
        return [f"A restore of this checkpoint will be refused: {exc.what}"]
    return []


def signer(draft: t.Mapping[str, t.Any], runner: _runner.Runner) -> t.Callable[[bytes], bytes] | None:
    """What signs the manifest that a draft becomes, or None where no key was named for it.

    It raises StasisError where the key cannot be used any more.
    """
    path = draft.get("sign_key")
    if not path:
        return None
    return lambda data: _signing.sign(data, _signing.load(str(path), "sign_key"), runner)


def finish(
    directory: str,
    draft: t.Mapping[str, t.Any],
    fingerprint: t.Mapping[str, t.Any] | None,
    sign: t.Callable[[bytes], bytes] | None = None,
    ahead: _ahead.Ahead | None = None,
    *,
    made_here: bool = True,
) -> _manifest.Manifest:
    """Seal the staged image of `directory` and publish it; also for one that an interrupted run left committed.

    sign, ahead, made_here: as for _image.seal().
    """
    staging = _image.staging_path(directory)
    _exe_links.mend(staging)
    manifest = {
        **{key: value for key, value in draft.items() if key != "sign_key"},
        "fingerprint": dict(fingerprint) if fingerprint else None,
        "stats": _criu_stats.read(staging),
        "open_files": _surroundings.record_files(staging, str(draft.get("rootfs", ""))),
    }
    try:
        sealed = _image.seal(staging, manifest, sign, ahead, made_here=made_here)
        _image.publish(directory)
    except (OSError, _errors.StasisError) as exc:
        why = exc.what if isinstance(exc, _errors.StasisError) else f"{exc.strerror or exc}."
        # While the container runs on, the next run dumps it anew, see _recover.
        then = "it completes the checkpoint" if draft.get("stopped") else "it makes a new checkpoint"
        raise _errors.StasisError(
            f"The dump is complete in {staging}, but could not be put in its place: {why}",
            f"Put that right and run the task again: {then}.",
        ) from exc
    return sealed


def _run_criu(
    runner: _runner.Runner,
    container: _container.Container,
    wanted: _argspec.Wanted,
    order: DumpOrder,
    work: _workspace.Workspace,
    staging: str,
    locks: t.Sequence[int],
    prover: _proof.Prover | None,
) -> list[str]:
    env = _criu_run.environment(wanted, work)
    env["STASIS_NICS"] = staging
    unified = _cgroup_tree.unified(container.cgroups)
    if unified is not None and os.path.exists(os.path.join(staging, _cgroup_tree.RECORD)):
        env["STASIS_CGROUPS"] = os.path.join(staging, _cgroup_tree.RECORD)
        env["STASIS_CGROUP_DIR"] = unified.directory
    env["STASIS_LOCK"] = "bridge" if order.lock_by_hook else "none"
    if wanted.action_scripts:
        env.update(_hearing(runner))
    env["STASIS_COMMIT"] = os.path.join(staging, _image.COMMIT)
    # A container that runs on has lost nothing if the power fails, so only a stopping one waits for the disk here; see seal().
    env.update(prover.environment if prover else {})
    env["STASIS_SYNC"] = "1" if wanted.stop else "0"
    done = _runner.run_to_files(
        order.argv,
        environment=env,
        stdout=work.file("criu.out"),
        stderr=work.file("criu.err"),
        timeout=wanted.timeout + wanted.kill_timeout,
        grace=10.0,
        keep_open=locks,
        # CRIU makes images 0644, and they hold the container's memory.
        umask=0o077,
        # It would end CRIU as SIGKILL does, with the tasks in its hands (CRIU 4.2.1 has no handler for it), and a host that
        # shuts down sends it to everybody.
        deaf=True,
    )
    committed = os.path.exists(os.path.join(staging, _image.COMMIT))
    if done.rc == 0 and committed:
        return _criu_run.hook_said(work.path).warnings
    if committed and wanted.stop and container.init is not None and container.init.killed:
        # The image is whole and on disk, and CRIU came to its end only while it killed the tasks it had dumped.
        late = f"CRIU ended with {done.rc} after the image was committed and the container had stopped."
        return [late, *_criu_run.hook_said(work.path).warnings]
    if prover and prover.asked and not committed:
        proof = prover.verdict()
        if proof.verdict == _proof.REFUSED:
            raise _proof.failure(wanted, prover, proof, rc=done.rc, command=list(done.argv))
    raise _failure(done, wanted, work, staging, committed)


def _hearing(runner: _runner.Runner) -> dict[str, str]:
    """For the hook, so that it need not try while the container stands still: an `env` that gives SIGTERM back (coreutils 8.31)."""
    path = shutil.which("env", path=_runner.clean_environment()["PATH"])
    if path and runner.run([path, "--default-signal=TERM", "true"]).rc == 0:
        return {"STASIS_ENV": path}
    return {}


def _failure(
    done: _runner.Completed,
    wanted: _argspec.Wanted,
    work: _workspace.Workspace,
    staging: str,
    committed: bool,
) -> _errors.StasisError:
    log = _workspace.read_ends(os.path.join(staging, "dump.log"))
    text = log + "\n" + done.stderr
    errors = _criu_log.error_lines(text)
    hook = _criu_run.hook_said(work.path)
    diagnoses = _criu_run.diagnose(text, hook)
    if done.timed_out:
        cause = f"CRIU did not end within {wanted.timeout} s nor roll back within {wanted.kill_timeout} s more, and was killed."
    elif done.rc == 0 and not committed:
        cause = "CRIU ended as if all were well, but never reached post-dump: this CRIU does not dump, or runs no action script."
    elif hook.refused:
        cause = f"The hook stopped it: {hook.refused[0]}"
    else:
        cause = _criu_run.cause_of(diagnoses, errors) or f"CRIU ended with {done.rc} and gave no reason."
    log_path = work.file("dump.log") if log else work.file("criu.err")
    return _attempts.RunError(
        f"{wanted.name} was not dumped. {cause}",
        diagnoses[0].remedy if diagnoses else f"Read {log_path}.",
        diagnoses=diagnoses,
        as_before=not (done.timed_out or hook.refused or committed),
        rc=done.rc,
        log_path=log_path,
        log_errors=hook.refused + errors,
        warnings=hook.warnings,
        command=list(done.argv),
    )


def _fate(runner: _runner.Runner, container: _container.Container, mended: t.Sequence[str]) -> tuple[str, bool]:
    """What has become of a container that was not dumped, in a sentence; and whether it is as it was before.

    mended: what was put right, or could not be."""
    if container.init is None or not container.init.alive:
        return "The container's init is gone.", False
    with contextlib.suppress(_errors.StasisError):
        state, _pid = _container.query(runner, container.name, container.lxc_path)
        faults = _nics.attached(container.nics, runner) + [f"{line}." for line in _mend.unsettled(mended)]
        if state == _container.RUNNING and not faults:
            return "The container runs on as before.", True
        return f"The container is {state}, but not as before. {' '.join(faults)}".rstrip(), False
    return "The container's init is there, and more could not be found out.", False

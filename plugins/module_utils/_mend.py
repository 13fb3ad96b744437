# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Put right what an interrupted run has left: decided purely, line for line as the task reports it, then done."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _container,
    _errors,
    _files,
    _ipv6_settings,
    _journal,
    _leftovers,
    _link_remaps,
    _nic_records,
    _orphan_veths,
    _runner,
    _scratch_mounts,
    _tcp_repair,
)

ATTACH = "attach"
RELEASE = "release"
TABLE = "table"
CHAIN = "chain"
UNLINK = "unlink"
SCRATCH = "scratch"
RELINK = "relink"
KILL = "kill"
CGROUPS = "cgroups"
TEMPORARY = "temporary"
GHOSTS = "ghosts"
IPV6 = "ipv6"
TELL = "tell"

NOT_DONE = "could not do this"
_LEFT = "left "

# The kernel takes a network namespace apart after its last process has gone.
_NAMESPACE_SECONDS = 10.0
# For a hook that has lost its CRIU, and for liblxc's teardown.
_HOOK_SECONDS = 30.0
# For an action script whose CRIU and liblxc are dead.
_ORPHAN_SECONDS = 2.0


class Repair(t.NamedTuple):
    """One thing to do. line: how it is reported. subject: what it is done to, as the kind wants it."""

    kind: str
    line: str
    subject: t.Any = None


def decide(left: _leftovers.Left, name: str) -> list[Repair]:
    """What to do about what was found, in the order in which it is done. Pure."""
    return _after_restores(left, name) + settings(left, name) + _while_it_runs(left, name)


def settings(left: _leftovers.Left, name: str) -> list[Repair]:
    """What to do about changed settings in a container that runs, also in one that LXC does not know any more. Pure."""
    if left.ipv6 is None:
        return []
    line = f"put back in {name} the settings of IPv6 that the hook had changed for a restore: {left.ipv6.names}"
    return [Repair(IPV6, line, left.ipv6)]


def _after_restores(left: _leftovers.Left, name: str) -> list[Repair]:
    found = []
    if left.half_restored:
        pids = ", ".join(str(one.pid) for one in left.half_restored)
        found.append(
            Repair(
                KILL, f"killed what an interrupted restore had half restored of {name} (pid {pids})", left.half_restored
            )
        )
    if left.unsupervised:
        found.append(Repair(TELL, unsupervised(left, name)))
    if left.cgroups:
        names = sorted({one for path in left.cgroups for one in path.split("/") if one.startswith("lxc.")})
        found.append(Repair(CGROUPS, f"removed empty cgroups: {', '.join(names)}", left.cgroups))
    if left.temporary:
        line = f"removed what an interrupted restore had left: {', '.join(left.temporary)}"
        found.append(Repair(TEMPORARY, line, left.temporary))
    if left.ghosts:
        line = f"removed what an interrupted restore had left: {', '.join(left.ghosts)}"
        found.append(Repair(GHOSTS, line, left.ghosts))
    if left.missing:
        paths = ", ".join(path for path, _inode in left.missing)
        found.append(
            Repair(
                RELINK,
                f"linked again what an interrupted restore had removed from the root file system: {paths}",
                left.missing,
            )
        )
    return found


def _while_it_runs(left: _leftovers.Left, name: str) -> list[Repair]:
    found = []
    for one in left.tables:
        found.append(Repair(TABLE, f"removed the firewall table {one} that a killed CRIU had left in {name}", one))
    for one in left.chains:
        found.append(Repair(CHAIN, f"removed the chain CRIU ({one}) that a killed CRIU had left in {name}", one))
    if left.repair:
        found.append(
            Repair(
                RELEASE,
                f"took {len(left.repair)} TCP sockets of {name} out of the repair mode of a killed CRIU",
                left.repair,
            )
        )
    if left.detached:
        found.append(Repair(ATTACH, f"put the network of {name} back: {' '.join(left.detached)}"))
    for link in left.links:
        found.append(Repair(UNLINK, f"removed {link.path} from {name}, which a killed CRIU had made", link))
    for path in left.scratch:
        found.append(Repair(SCRATCH, f"removed {path} from {name}, where a killed CRIU had looked at a mount", path))
    for task in left.halted:
        found.append(
            Repair(
                TELL,
                f"{_LEFT}{task.command} (pid {task.pid}) of {name} alone, which stands still: look why, or send it SIGCONT",
            )
        )
    return found


def unsupervised(left: _leftovers.Left, name: str) -> str:
    """A restored container that LXC does not know any more: it is alive, so it is nobody's to kill."""
    return f"{_LEFT}{name} alone, which runs (pid {left.unsupervised[0].pid}) without LXC: its monitor has died since the restore"


def carry_out(
    repairs: t.Iterable[Repair],
    journal: _journal.Journal | None,
    container: _container.Container,
    runner: _runner.Runner,
) -> list[str]:
    """Do it; returns the lines of what was done, and in place of one that could not be done the reason."""
    told = []
    for one in repairs:
        try:
            _do(one, journal, container, runner)
            told.append(one.line)
        except (OSError, _errors.StasisError) as exc:
            why = exc.what if isinstance(exc, _errors.StasisError) else str(exc.strerror or exc)
            told.append(f"{NOT_DONE}: {one.line}: {why}")
    return told


def unsettled(told: t.Iterable[str]) -> list[str]:
    """Those of the lines that tell of something that is still not as it was."""
    return [line for line in told if line.startswith((NOT_DONE, _LEFT))]


def settle(journal: _journal.Journal, timeout: float, lxc_done: t.Callable[[], bool]) -> list[_container.Process]:
    """Wait for the processes of an interrupted run; returns those that are at work after that time.

    LXC's monitor is one of them for as long as the container lives, so it is left out once LXC says that it runs.
    A restore whose liblxc has gone comes to no end: its tasks wait for a CRIU that is dead.
    """
    deadline = time.monotonic() + timeout
    orphaned = None
    while True:
        left = at_work(journal, lxc_done)
        now = time.monotonic()
        if not left or now > deadline:
            return left
        if journal.action == "restore" and not any(_is_lxc(one) for one in left):
            orphaned = orphaned or now
            if now - orphaned > _ORPHAN_SECONDS:
                return left
        else:
            orphaned = None
        time.sleep(0.05)


def _is_lxc(one: _container.Process) -> bool:
    return one.command.startswith(("lxc-checkpoint", "[lxc monitor]"))


def at_work(journal: _journal.Journal, lxc_done: t.Callable[[], bool]) -> list[_container.Process]:
    """The processes of an interrupted run that have not come to their end."""
    found = _leftovers.of_run(journal.work)
    if found and all(_is_lxc(one) for one in found) and lxc_done():
        return []
    return found


def kill(processes: t.Iterable[_container.Process], seconds: float = 10.0) -> bool:
    """Kill these very processes, and wait until they have gone; whether they have."""
    left = [one for one in processes if one.send(signal.SIGKILL)]
    deadline = time.monotonic() + seconds
    while any(one.alive for one in left):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def wait_free(journal: _journal.Journal, runner: _runner.Runner, sysfs: str = "/sys") -> None:
    """Wait until the veths of a restore that failed are gone, with their network namespace or without it."""
    with contextlib.suppress(OSError):
        _nic_records.remove_peers(os.path.join(journal.work, "nics"), runner)
    deadline = time.monotonic() + _NAMESPACE_SECONDS
    veths = [nic.veth for nic in journal.network() if nic.veth]
    while any(os.path.exists(f"{sysfs}/class/net/{veth}") for veth in veths) and time.monotonic() < deadline:
        _orphan_veths.remove(veths, runner, sysfs=sysfs)
        time.sleep(0.02)


def _do(one: Repair, journal: _journal.Journal | None, container: _container.Container, runner: _runner.Runner) -> None:
    if one.kind == KILL:
        if not kill(one.subject):
            raise _errors.StasisError("They do not die.", "Look into it.")
    elif one.kind == RELINK:
        _relink(dict(one.subject), container.rootfs.backing)
    elif one.kind == RELEASE:
        stuck = [socket for socket in one.subject if not _tcp_repair.release(socket)]
        if stuck:
            raise _errors.StasisError(f"{len(stuck)} are still in it.", "Restart what holds them.")
    elif one.kind in (TABLE, CHAIN, ATTACH):
        _mend_network(one, journal, container, runner)
    elif one.kind == IPV6:
        _ipv6_settings.put_back(one.subject)
    elif one.kind == SCRATCH:
        if container.init is not None:
            _scratch_mounts.remove(container.init, one.subject)
    else:
        _remove(one)


def _remove(one: Repair) -> None:
    if one.kind == CGROUPS:
        _remove_cgroups(one.subject)
    elif one.kind == TEMPORARY:
        for path in one.subject:
            os.rmdir(path)
    elif one.kind == GHOSTS:
        for path in one.subject:
            os.unlink(path)
    elif one.kind == UNLINK:
        _link_remaps.remove(one.subject)


def _mend_network(
    one: Repair, journal: _journal.Journal | None, container: _container.Container, runner: _runner.Runner
) -> None:
    inside = ["nsenter", f"--net=/proc/{container.init.pid if container.init else 0}/ns/net"]
    if one.kind == TABLE:
        _run(runner, [*inside, "nft", "delete", "table", *one.subject.split()])
    elif one.kind == CHAIN:
        for line in ("-D INPUT -j CRIU", "-D OUTPUT -j CRIU"):
            runner.run([*inside, one.subject, "-w", *line.split()])
        for line in ("-F CRIU", "-X CRIU"):
            _run(runner, [*inside, one.subject, "-w", *line.split()])
    elif journal is not None:
        attach(journal, runner)


def finish(journal: _journal.Journal, container: _container.Container, runner: _runner.Runner) -> list[str]:
    """After a run that went well: put back what the hook, whose failure CRIU ignores there, did not: veths, IPv6.

    The journal stays where that fails, so that the next run tries again.
    """
    faults = _leftovers.detached(journal.network(), runner)
    left: list[str] = []
    if faults:
        with contextlib.suppress(OSError, _errors.StasisError):
            attach(journal, runner)
        left = _leftovers.detached(journal.network(), runner)
    told = left or ([f"its network had to be put back. {' '.join(faults)}"] if faults else [])
    mended = carry_out(
        settings(_leftovers.Left(ipv6=_ipv6_settings.find(journal.work)), container.name), journal, container, runner
    )
    if not left and not any(line.startswith(NOT_DONE) for line in mended):
        _journal.end(container.name, container.lxc_path)
    return told + mended


def attach(journal: _journal.Journal, runner: _runner.Runner) -> None:
    """Have the hook do what it does at network-unlock, for the NICs as the journal has them."""
    records = os.path.join(journal.work, "nics-again")
    _files.remove_tree(records)
    os.mkdir(records, 0o700)
    _nic_records.write_records(records, journal.network())
    given = {"CRTOOLS_SCRIPT_ACTION": "network-unlock", "CRTOOLS_IMAGE_DIR": records, "STASIS_WORK": journal.work}
    _run(runner, ["env", *[f"{key}={value}" for key, value in {**given, "STASIS_NICS": records}.items()], journal.hook])


def _remove_cgroups(paths: t.Iterable[str], seconds: float = 5.0) -> None:
    """The kernel keeps a cgroup for a moment after its last process has died."""
    deadline = time.monotonic() + seconds
    for path in paths:
        while True:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
            except OSError:
                if time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                raise
            break


def _relink(missing: t.Mapping[str, int], rootfs: str) -> None:
    found = _link_remaps.sources(set(missing.values()), rootfs)
    for path, inode in missing.items():
        inside = os.path.dirname(path).strip("/")
        if inode not in found:
            raise _errors.StasisError(f"No other name of {path} is left.", "Use another checkpoint.")
        if os.path.realpath(os.path.join(rootfs, inside)) != os.path.join(os.path.realpath(rootfs), inside).rstrip("/"):
            raise _errors.StasisError(f"{path} is behind a symbolic link.", "Put back the root file system as it was.")
        os.link(found[inode], rootfs.rstrip("/") + path, follow_symlinks=False)


def _run(runner: _runner.Runner, argv: t.Sequence[str]) -> None:
    done = runner.run(argv)
    if done.rc != 0:
        raise _errors.StasisError(f"`{' '.join(argv)}` failed: {done.stderr.strip()[:300]}", "Do it by hand.")


def after_dump(journal: _journal.Journal, container: _container.Container, runner: _runner.Runner) -> list[str]:
    """What there is to mend when a dump has failed: nothing, unless CRIU or the hook was killed."""
    # A hook whose CRIU has died goes on, and would undo what is mended here.
    late = settle(journal, _HOOK_SECONDS, lambda: False)
    kill(late)
    if container.init is None or not container.init.alive:
        return []
    try:
        left = _leftovers.of_running(journal, container, runner)
    except _errors.StasisError as exc:
        return [f"{NOT_DONE}: look for what a killed CRIU leaves: {exc.what}"]
    return carry_out(decide(left, container.name), journal, container, runner)


def after_restore(journal: _journal.Journal, container: _container.Container, runner: _runner.Runner) -> list[str]:
    """What there is to mend when a restore has failed and LXC calls the container stopped."""
    kill(settle(journal, _HOOK_SECONDS, lambda: False))
    left = _leftovers.of_stopped(journal, container, time.time())
    told = carry_out(decide(left, container.name), journal, container, runner)
    wait_free(journal, runner)
    return told

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a run that was interrupted has left of itself on the host: processes, cgroups, network, firewall, sockets, links.

Looks, and changes nothing. What is to be done about it is _mend's.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _cgroups,
    _container,
    _errors,
    _files,
    _ipv6_settings,
    _journal,
    _link_remaps,
    _nics,
    _proc,
    _runner,
    _scratch_mounts,
    _tcp_repair,
)

# The names that CRIU gives. Root in the container can give others, and nft reads its arguments as a script.
_TABLE = re.compile(r"^table (\w+) (CRIU(?:-[\w-]+)?)$", re.MULTILINE | re.ASCII)
# CRIU writes this when a task has been caught on its last system call; before that, none can run without CRIU.
_CAUGHT = " was trapped"
_RESUMED = "Restore finished successfully. Tasks resumed."
# Where nothing tells whose a cgroup is: older than anybody needs to fill it.
_OLD_SECONDS = 60.0
_TEMPORARY = re.compile(r"/tmp/(?:\.criu\.mntns|cr-tmpfs|crtools-proc)\.\w{6}\b")
_UNLOCKED = "Running network-unlock scripts"
_GAVE_UP = "Restoring FAILED."
_LONGEST_LINE = 64 << 10
_MOST_TEMPORARY = 1000


class Left(t.NamedTuple):
    """What was found.

    detached: what of the veths is not as recorded, a sentence each. repair: TCP sockets. tables: of nftables, `family
    name`. chains: iptables programs that know a chain CRIU. links: superfluous ones.
    scratch: directories inside at which CRIU looks at a mount.
    halted: tasks that stand still and did not before the run. half_restored: tasks of a restore that came to no end. unsupervised: tasks of one that
    did, whose monitor has died since. cgroups: empty directories.
    missing: links that the image needs, path inside to inode. ghosts: files that CRIU makes on its way and removes.
    temporary: empty directories of CRIU's. ipv6: settings in the container's network that the hook of a restore has changed.
    """

    detached: tuple[str, ...] = ()
    repair: tuple[_tcp_repair.Repaired, ...] = ()
    tables: tuple[str, ...] = ()
    chains: tuple[str, ...] = ()
    links: tuple[_link_remaps.Left, ...] = ()
    scratch: tuple[str, ...] = ()
    halted: tuple[_container.Process, ...] = ()
    half_restored: tuple[_container.Process, ...] = ()
    unsupervised: tuple[_container.Process, ...] = ()
    cgroups: tuple[str, ...] = ()
    missing: tuple[tuple[str, int], ...] = ()
    ghosts: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    ipv6: _ipv6_settings.Changed | None = None


def of_running(journal: _journal.Journal, container: _container.Container, runner: _runner.Runner) -> Left:
    """In a container that runs although CRIU was killed while it held the tasks."""
    init = container.init
    if init is None:
        return Left()
    # A process of lxc-attach is in the cgroups before it is in the namespaces: its files are the host's.
    pids = [pid for pid in sorted(_cgroups.processes(container.cgroups) | {init.pid}) if not _shares_pids(pid)]
    tables, chains = _firewall(init.pid, runner)
    nics = journal.network()
    return Left(
        detached=tuple(detached(nics, runner)),
        repair=tuple(_tcp_repair.find(pids)),
        tables=tables,
        chains=chains,
        links=tuple(_link_remaps.left(pids)) if journal.action == "dump" else (),
        scratch=tuple(_scratch_mounts.find(init.pid)) if journal.action == "dump" else (),
        ipv6=_ipv6_settings.find(journal.work) if journal.action == _journal.RESTORE else None,
        halted=tuple(one for one in standing(pids) if inside(one.pid) not in journal.halted),
    )


def of_stopped(journal: _journal.Journal | None, container: _container.Container, now: float) -> Left:
    """Around a container that LXC calls stopped. now: seconds since the epoch."""
    if journal is None or journal.action != "restore":
        return Left(cgroups=tuple(empty_cgroups(container, _OLD_SECONDS, now)))
    log = telling_lines(os.path.join(journal.work, "restore.log"))
    half = half_restored(container)
    killed = [one for one in half if one.killed]
    if killed:
        # By liblxc, which does not wait for them.
        for one in killed:
            _container.wait_gone(one)
        half = half_restored(container)
    lives = half if resumed(log) else []
    rootfs = container.rootfs.backing
    # Where something ran, the files are its own again; and without a log nobody can say that nothing did.
    untouched = bool(log) and os.path.isdir(rootfs) and not may_have_run(log)
    return Left(
        half_restored=() if lives else tuple(half),
        unsupervised=tuple(lives),
        cgroups=tuple(empty_cgroups(container, 0.0, now, set() if lives else {one.pid for one in half})),
        missing=tuple(sorted(_link_remaps.missing(journal.links, rootfs).items())) if os.path.isdir(rootfs) else (),
        ghosts=tuple(_link_remaps.ghosts(rootfs, _began(journal))) if untouched else (),
        temporary=temporary(log),
        ipv6=_ipv6_settings.find(journal.work) if lives else None,
    )


def _began(journal: _journal.Journal) -> float:
    """When the restore began, in seconds since the epoch; the hook writes into the directory of the run later."""
    return os.stat(os.path.join(journal.work, "argv")).st_mtime


def temporary(log: str) -> tuple[str, ...]:
    """The directories for its own mounts that a CRIU made, by its log, and has not removed."""
    return tuple(path for path in sorted(set(_TEMPORARY.findall(log))) if os.path.isdir(path))


def telling_lines(path: str) -> str:
    """The lines of a restore.log that may_have_run(), resumed() and temporary() ask for, or "" where it cannot be read.

    They may stand anywhere in a log of gigabytes, so all of it is read, line by line, and each is kept once before and
    once after the network was unlocked. The first line is kept too: a log without any of them is a log.
    """
    kept: list[str] = []
    seen: set[tuple[str, bool]] = set()
    unlocked = False
    try:
        with open(path, "rb") as stream:
            for raw in iter(lambda: stream.readline(_LONGEST_LINE), b""):
                line = raw.decode("utf-8", "replace")
                signs = [one for one in (_UNLOCKED, _CAUGHT, _GAVE_UP, _RESUMED) if one in line]
                unlocked = unlocked or _UNLOCKED in signs
                signs += _TEMPORARY.findall(line)[: max(0, _MOST_TEMPORARY - len(seen))]
                new = {(one, unlocked) for one in signs} - seen
                if new or not kept:
                    kept.append(line)
                    seen |= new
    except OSError:
        return ""
    return "".join(kept)


def may_have_run(log: str) -> bool:
    """From the restore.log of a run that failed or was killed: whether a task can have run a step of its own. Pure."""
    after = log.partition(_UNLOCKED)[2]
    if resumed(log):
        return True
    return _CAUGHT in after and _GAVE_UP not in after


def resumed(log: str) -> bool:
    """From a restore.log: whether CRIU let every task go. Pure."""
    return _RESUMED in log


def of_run(work: str) -> list[_container.Process]:
    """Every process that a run has started and that is still there.

    They have the name of its directory in their environment. Anybody can have that, so only these count: root's in our own
    pid and user namespaces, which no process of a container is; and tasks that CRIU is restoring.
    """
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and _is_marked(int(name), work):
            with contextlib.suppress(OSError):
                one = _container.process(int(name))
                if one is not None and (_is_hosts(one.pid) or _is_being_restored(one.pid, work)):
                    found.append(one)
    return found


def _is_marked(pid: int, work: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return os.fsencode(f"STASIS_WORK={work}") in stream.read().split(b"\0")
    except OSError:
        return False


def _is_hosts(pid: int) -> bool:
    """Whether it is root's, and in our own pid and user namespaces. Raises OSError where it has gone."""
    uids = _proc.status(_files.text_of(f"/proc/{pid}/status")).get("Uid", "").split()
    return uids[:1] == ["0"] and all(_namespace(pid, kind) == _namespace("self", kind) for kind in ("pid", "user"))


def _is_being_restored(pid: int, work: str) -> bool:
    """Whether it is CRIU in the container's namespaces, which a task is until it has become itself. Raises OSError."""
    criu = _files.text_of(os.path.join(work, "argv.ran")).partition("\n")[0]
    if not criu or not os.path.samefile(f"/proc/{pid}/exe", criu):
        return False
    # The host's CRIU may be shown to another container, too: that one's monitor is not of this run.
    while pid > 1 and _namespace(pid, "pid") != _namespace("self", "pid"):
        pid = _container.parent(pid)
    return not _is_lxc(pid) or _is_marked(pid, work)


def _shares_pids(pid: int) -> bool:
    """Whether it is in our own pid namespace; False where it has gone."""
    try:
        return _namespace(pid, "pid") == _namespace("self", "pid")
    except OSError:
        return False


def _namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def half_restored(container: _container.Container) -> list[_container.Process]:
    """The tasks in the payload cgroups of a container which no LXC supervises.

    A container of the same name below another lxc_path has cgroups of that name too; its init has a monitor.
    """
    members: set[int] = set()
    for folder in _folders(container):
        if "lxc.payload." in folder:
            for top, _folders_in_it, files in os.walk(folder):
                if "cgroup.procs" in files:
                    members |= {int(word) for word in _files.text_of(os.path.join(top, "cgroup.procs")).split()}
    found = []
    for pid in sorted(members - {0}):
        ancestor = pid
        while ancestor in members:
            ancestor = _container.parent(ancestor)
        one = _container.process(pid)
        if one is not None and not _is_lxc(ancestor):
            found.append(one)
    return found


def empty_cgroups(
    container: _container.Container, age: float, now: float, ignore: t.AbstractSet[int] = frozenset()
) -> list[str]:
    """LXC's cgroups for a container in which nobody is, the deepest first.

    age: seconds that they are old at least. ignore: pids that will have gone.
    """
    found = []
    for folder in _folders(container):
        trees = [top for top, _inside, _members in os.walk(folder, topdown=False)]
        with contextlib.suppress(OSError):
            members = {int(word) for top in trees for word in _files.text_of(os.path.join(top, "cgroup.procs")).split()}
            if now - os.stat(folder).st_ctime >= age and not any(_is_there(pid) for pid in members - ignore):
                found += trees
    return found


def _is_there(pid: int) -> bool:
    """cgroup v1 lists a zombie, v2 does not. 0 is one of another pid namespace, of which nothing can be known."""
    return pid == 0 or _container.process(pid) is not None


def _folders(container: _container.Container) -> list[str]:
    """Also those with a number, which LXC adds where the name is taken; but web-1 may be another container beside web."""
    pattern = re.compile(rf"lxc\.(?:payload|monitor|pivot)\.({re.escape(container.name)}(-[0-9]+)?)\Z")

    def is_its(folder: str) -> bool:
        match = pattern.match(folder)
        return match is not None and not (
            match.group(2) and os.path.lexists(os.path.join(container.lxc_path, match.group(1), "config"))
        )

    found = []
    for mount in sorted(set(_cgroups.parse_mounts(_files.text_of("/proc/self/mountinfo")).values())):
        with contextlib.suppress(OSError):
            found += [os.path.join(mount, one) for one in sorted(os.listdir(mount)) if is_its(one)]
    return found


def _is_lxc(pid: int) -> bool:
    # A monitor calls itself so, whatever program has started it; lxc-attach does not.
    if _files.text_of(f"/proc/{pid}/cmdline").startswith("[lxc monitor]"):
        return True
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("lxc-")
    except OSError:
        return False


def detached(nics: t.Sequence[_nics.Nic], runner: _runner.Runner) -> list[str]:
    """What of the veths is not as recorded, also of what the hook changes while they are out of their bridges."""
    return _nics.attached(nics, runner) + _switched(nics)


def _switched(nics: t.Sequence[_nics.Nic], proc: str = "/proc") -> list[str]:
    """What the hook changes of a host side besides the bridge, and has not put back."""
    found = []
    for nic in nics:
        for key, value in nic.sysctls.items():
            family, _space, name = key.rpartition(" ")
            now = _files.text_of(f"{proc}/sys/net/{family}/conf/{nic.veth}/{name}").strip()
            if now and now != value:
                found.append(f"{nic.name}: {name} of its host side {nic.veth} is {now}, not {value}.")
    return found


def _firewall(init_pid: int, runner: _runner.Runner) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inside = ["nsenter", f"--net=/proc/{init_pid}/ns/net"]
    tables: list[str] = []
    chains: list[str] = []
    # Who has no nft or no iptables has no table of theirs.
    with contextlib.suppress(_errors.StasisError):
        listed = runner.run([*inside, "nft", "list", "tables"])
        tables = [f"{family} {name}" for family, name in _TABLE.findall(listed.stdout)]
    for program in ("iptables", "ip6tables"):
        with contextlib.suppress(_errors.StasisError):
            listed = runner.run([*inside, program, "-w", "-S", "CRIU"])
            chains += [program] if listed.rc == 0 else []
    return tuple(tables), tuple(chains)


def standing(pids: t.Iterable[int]) -> list[_container.Process]:
    """Those of the processes that are stopped, by SIGSTOP or by a tracer."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = _files.text_of(f"/proc/{pid}/stat")
            one = _container.process(pid)
            if one is not None and text[text.rindex(")") + 2] in "Tt":
                found.append(one)
    return found


def inside(pid: int) -> int:
    """The pid of a process in its innermost namespace, or 0 where it is gone."""
    words = re.findall(r"^NSpid:\s*([\d\t]+)$", _files.text_of(f"/proc/{pid}/status"), re.MULTILINE)
    return int(words[0].split()[-1]) if words else 0

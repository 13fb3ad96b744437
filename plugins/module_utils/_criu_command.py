# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The one place that spells CRIU's options: argv for dump, pre-dump and restore, pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

MANAGE_CGROUPS = ("none", "props", "soft", "full", "strict", "ignore")


@dataclass(frozen=True)
class MountMap:
    """A bind mount of the container: `target` inside (no leading slash), `source` on this host."""

    target: str
    source: str


@dataclass(frozen=True)
class CriuOptions:
    """What the user may choose about CRIU; the names are CRIU's own.

    ghost_limit: bytes, or None for CRIU's default of 1 MiB. verbosity: 0 to 4.
    """

    tcp_established: bool = True
    tcp_close: bool = False
    skip_in_flight: bool = True
    file_locks: bool = True
    link_remap: bool = True
    force_irmap: bool = True
    ghost_limit: int | None = None
    manage_cgroups: str = "full"
    external_mounts: tuple[MountMap, ...] = ()
    lsm_profile: str = ""
    criu_args: tuple[str, ...] = ()
    criu_config: str = ""
    verbosity: int = 4


@dataclass(frozen=True)
class DumpFacts:
    """What a dump needs to know about the running container.

    cgroup_roots: values of --cgroup-root in liblxc's form (`controllers:path`).
    cgroup_yard: a directory with the host's cgroup hierarchies, or empty for CRIU to mount them itself.
    mounts: the bind mounts of the container's configuration.
    terminals: targets, without a slash in front, of the terminals that LXC has mounted.
    network_lock: CRIU's own method: skip, nftables or iptables.
    parent: --prev-images-dir, relative to `images`, or empty.
    """

    init_pid: int
    images: str
    hook: str
    cgroup_roots: tuple[str, ...] = ()
    cgroup_yard: str = ""
    mounts: tuple[MountMap, ...] = ()
    terminals: tuple[str, ...] = ()
    network_lock: str = "skip"
    leave_running: bool = True
    parent: str = ""
    track_mem: bool = False


@dataclass(frozen=True)
class RestoreFacts:
    """What a restore needs to know; the rest comes from liblxc at run time, through the launcher.

    work: CRIU's --work-dir, outside the sealed image. externals: values of --external for the NICs. terminals: as at the
    dump. liblxc makes terminals at a start only, so a restored container gets /dev/null in their places. supervised: LXC
    becomes the parent of the restored init. lazy: a lazy-pages daemon in `work` hands out the memory.
    """

    images: str
    work: str
    hook: str
    mounts: tuple[MountMap, ...] = ()
    externals: tuple[str, ...] = ()
    terminals: tuple[str, ...] = ()
    supervised: bool = True
    lazy: bool = False


# Options that decide what the module promises. criu_args and criu_config may not touch them.
# A name that takes no value here and one that does are alike: only the name counts.
MANAGED_OPTIONS = frozenset(
    (
        "action-script",
        "address",
        "auto-dedup",
        "autodetach",
        "cgroup-props",
        "cgroup-props-file",
        "cgroup-root",
        "cgroup-yard",
        "check-only",
        "close",
        "config",
        "daemon",
        "empty-ns",
        "enable-external-masters",
        "enable-external-sharing",
        "exec-cmd",
        "ext-mount-map",
        "external",
        "feature",
        "file-locks",
        "force-irmap",
        "freeze-cgroup",
        "ghost-limit",
        "help",
        "images-dir",
        "inherit-fd",
        "join-ns",
        "lazy-pages",
        "leave-running",
        "leave-stopped",
        "libdir",
        "link-remap",
        "log-file",
        "log-pid",
        "lsm-profile",
        "manage-cgroups",
        "ms",
        "network-lock",
        "no-default-config",
        "page-server",
        "pidfile",
        "port",
        "pre-dump-mode",
        "prev-images-dir",
        "ps-socket",
        "restore-detached",
        "restore-sibling",
        "root",
        "skip-in-flight",
        "status-fd",
        "stream",
        "swrk",
        "tcp-close",
        "tcp-established",
        "track-mem",
        "tree",
        "unprivileged",
        "verbosity",
        "version",
        "veth-pair",
        "work-dir",
    )
)
# The only short options that are free: shell-job and ext-unix-sk. Every other one is managed, also in a cluster (-jR).
_FREE_SHORT = re.compile(r"-(j|x[0-9,]*)\Z")


def check_extra_arguments(arguments: t.Sequence[str], where: str) -> None:
    """Raise StasisError where user-given CRIU arguments touch what the module manages.

    arguments: words as for the command line, each option with its dashes. where: named in the message.
    CRIU uses getopt_long, which takes unique abbreviations, so those count too, and so does `--no-` before a name.
    """
    for word in arguments:
        if any(ord(char) < 32 for char in word) or not word:
            raise _errors.StasisError(
                f"{where} contains an empty word or a control character.", "Give each argument as a word."
            )
        option = word.split("=", 1)[0]
        if not word.startswith("-"):
            continue
        if _is_managed(option[2:]) if word.startswith("--") else not _FREE_SHORT.match(word):
            raise _errors.StasisError(
                f"{where} may not set {option}, which this module manages.",
                "Use the module's own option for it, or leave it out.",
            )


def _is_managed(name: str) -> bool:
    bare = name[len("no-") :] if name.startswith("no-") else name
    return any(option.startswith((name, bare)) for option in MANAGED_OPTIONS)


@dataclass(frozen=True)
class Allowances:
    """What CRIU takes only because of further arguments: file systems and mounts (their targets) that it leaves to the
    user, uprobes, terminals and datagram sockets whose other end is outside."""

    file_systems: frozenset[str] = frozenset()
    skipped_mounts: frozenset[str] = frozenset()
    uprobes: bool = False
    shell_job: bool = False
    external_unix: bool = False


def allowances(arguments: t.Sequence[str]) -> Allowances:
    """Read criu_args for the preflight."""

    def values(option: str) -> frozenset[str]:
        found: set[str] = set()
        for at, word in enumerate(arguments):
            name, equals, value = word.partition("=")
            if name == option:
                found |= set((value if equals else "".join(arguments[at + 1 : at + 2])).split(","))
        return frozenset(found - {""})

    return Allowances(
        file_systems=values("--enable-fs"),
        skipped_mounts=values("--skip-mnt"),
        uprobes="--allow-uprobes" in arguments,
        shell_job=not {"-j", "--shell-job"}.isdisjoint(arguments),
        external_unix=any(word.startswith(("-x", "--ext-unix-sk")) for word in arguments),
    )


def dump(criu: str, options: CriuOptions, facts: DumpFacts) -> list[str]:
    """The argv of `criu dump`."""
    argv = [criu, "dump", *_common(options, facts.images, "dump.log", facts.hook), *_dump_common(options, facts)]
    if facts.leave_running:
        argv.append("--leave-running")
    return [*argv, *options.criu_args]


def cpuinfo(criu: str, action: str, images: str) -> list[str]:
    """The argv of `criu cpuinfo`. action: dump writes what the CPU can into `images`, check compares it with that.

    Without a log file, so that nothing is written into a sealed image.
    """
    return [criu, "cpuinfo", action, "--no-default-config", "-D", images]


def trial(criu: str, root: str, cgroup_roots: t.Sequence[str], options: CriuOptions, facts: RestoreFacts) -> list[str]:
    """The argv of a `criu restore` without LXC. root: where the root file system is mounted. cgroup_roots: as of a dump."""
    argv = [criu, "restore", "--root", root]
    argv += [word for one in cgroup_roots for word in ("--cgroup-root", one)]
    return [*argv, *restore(options, facts)]


def lazy_pages(criu: str, images: str, work: str) -> list[str]:
    """The argv of `criu lazy-pages`, which hands out the memory of an image that is restored with --lazy-pages."""
    return [criu, "lazy-pages", "--no-default-config", "-D", images, "-W", work, "-o", "lazy-pages.log", "-v4"]


def check_feature(criu: str, feature: str) -> list[str]:
    """The argv of `criu check` for one feature of the kernel."""
    return [criu, "check", "--no-default-config", "--feature", feature]


def pre_dump(criu: str, options: CriuOptions, facts: DumpFacts) -> list[str]:
    """The argv of `criu pre-dump`; the mount maps have the form of a dump (liblxc gives a restore's)."""
    argv = [
        criu,
        "pre-dump",
        *_common(options, facts.images, "pre-dump.log", facts.hook),
        *_dump_common(options, facts),
    ]
    return [*argv, *options.criu_args]


def restore(options: CriuOptions, facts: RestoreFacts) -> list[str]:
    """The arguments of `criu restore` that we decide; the launcher puts the program, `restore` and liblxc's before."""
    argv = [*_common(options, facts.images, "restore.log", facts.hook), "-W", facts.work]
    if facts.supervised:
        argv += ["--restore-detached", "--restore-sibling"]
    if facts.lazy:
        argv.append("--lazy-pages")
    for mount in (*facts.mounts, *options.external_mounts):
        argv += ["--ext-mount-map", f"{mount.target}:{mount.source}"]
    for target in facts.terminals:
        argv += ["--ext-mount-map", f"{target}:/dev/null"]
    for external in facts.externals:
        argv += ["--external", external]
    if options.tcp_close:
        argv.append("--tcp-close")
    if options.lsm_profile:
        argv += ["--lsm-profile", options.lsm_profile]
    return [*argv, *options.criu_args]


def _common(options: CriuOptions, images: str, log: str, hook: str) -> list[str]:
    argv = ["--no-default-config"]
    if options.criu_config:
        argv += ["--config", options.criu_config]
    argv += ["-D", images, "-o", log, f"-v{options.verbosity}", "--action-script", hook]
    if options.tcp_established:
        argv.append("--tcp-established")
    if options.file_locks:
        argv.append("--file-locks")
    if options.link_remap:
        argv.append("--link-remap")
    argv += [f"--manage-cgroups={options.manage_cgroups}"]
    argv += ["--ext-mount-map", "auto", "--enable-external-sharing", "--enable-external-masters"]
    argv += ["--enable-fs", "hugetlbfs", "--enable-fs", "tracefs"]
    return argv


def _dump_common(options: CriuOptions, facts: DumpFacts) -> list[str]:
    # No --freeze-cgroup: CRIU then seizes task by task within a millisecond, where with the freezer it sleeps
    # 100 ms between two looks at a state that takes less to reach (criu/seize.c, freeze_processes()).
    argv = ["-t", str(facts.init_pid), "--network-lock", facts.network_lock]
    for root in facts.cgroup_roots:
        argv += ["--cgroup-root", root]
    if facts.cgroup_yard:
        argv += ["--cgroup-yard", facts.cgroup_yard]
    for mount in (*facts.mounts, *options.external_mounts):
        argv += ["--ext-mount-map", f"/{mount.target}:{mount.target}"]
    for target in facts.terminals:
        argv += ["--ext-mount-map", f"/{target}:{target}"]
    if options.skip_in_flight:
        argv.append("--skip-in-flight")
    if options.force_irmap:
        argv.append("--force-irmap")
    if options.ghost_limit is not None:
        argv += ["--ghost-limit", str(options.ghost_limit)]
    if facts.parent:
        argv += ["--prev-images-dir", facts.parent]
    if facts.track_mem:
        argv.append("--track-mem")
    return argv

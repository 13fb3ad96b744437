# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether this host can take up what another one, or this one then, has put down. Pure.

What CRIU or the kernel would refuse later in words of their own is refused here with its cause and its remedy, before
anything is stopped or restored; what may matter and may not is a warning.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _versions

REFUSE = "refuse"
WARN = "warn"
_NAMED = 3

Manifest = t.Mapping[str, t.Any]


class FileState(t.NamedTuple):
    """A file of the root file system now. size, mode, device, inode: as stat() has them; mtime in ns."""

    size: int
    mode: int
    mtime: int
    device: int = -1
    inode: int = -1


@dataclass(frozen=True)
class Here:
    """What is known of this host and of the stopped container's files.

    versions: kernel, criu, lxc. cgroups: the controllers of each v1 hierarchy; has_v2: whether there is a v2 one.
    lsm: apparmor, selinux or none. cpu_errors: what CRIU says against this CPU. files: those that the image asks
    for, None for one that is not there; one that cannot be looked at is left out. missing_profile: the AppArmor profile
    of the processes, where it is not loaded here and LXC will not generate it.
    """

    architecture: str
    versions: t.Mapping[str, str]
    has_v2: bool
    cgroups: frozenset[str]
    lsm: str
    addresses: t.Mapping[str, str] = field(default_factory=dict)
    cpu_errors: tuple[str, ...] = ()
    files: t.Mapping[str, FileState | None] = field(default_factory=dict)
    missing_profile: str = ""


class Difference(t.NamedTuple):
    """severity: REFUSE or WARN. forced: whether `force: true` makes a warning of a refusal."""

    severity: str
    what: str
    remedy: str
    forced: bool = False


def compare(manifest: Manifest, here: Here, *, manage_cgroups: str = "full", lsm_profile: str = "") -> list[Difference]:
    """Every difference that matters, refusals first. manage_cgroups, lsm_profile: as the restore will have them."""
    if manifest["architecture"] != here.architecture:
        what = f"The checkpoint was made on {manifest['architecture']}, and this host is {here.architecture}."
        return [Difference(REFUSE, what, "Restore it on a host of its own architecture.")]
    found = [
        *_versions_differ(manifest["versions"], here.versions),
        *_cpu(manifest, here),
        *_cgroups(manifest.get("cgroups") or [], here, manage_cgroups),
        *_lsm(manifest.get("lsm") or {}, here, lsm_profile),
        *_addresses(manifest.get("addresses") or [], here),
        *_files(manifest.get("open_files") or {}, here),
    ]
    return sorted(found, key=lambda one: one.severity != REFUSE)


def _versions_differ(then: t.Mapping[str, str], now: t.Mapping[str, str]) -> t.Iterator[Difference]:
    if _older(now["criu"], then.get("criu", "")):
        yield Difference(
            REFUSE,
            f"The checkpoint was made by CRIU {then['criu']}, and CRIU {now['criu']} here is older: it may not know "
            "what is in it.",
            "Apply the role stasis.lxc.criu for a newer CRIU, or set force: true to try it.",
            forced=True,
        )
    if _older(now["kernel"], then.get("kernel", ""), 2):
        yield Difference(
            WARN,
            f"Kernel {now['kernel']} is older than {then['kernel']}, where the checkpoint was made: it may lack what "
            "the processes use.",
            "Boot the newer kernel if the restore fails.",
        )
    if _older(now["lxc"], then.get("lxc", ""), 2):
        yield Difference(
            WARN,
            f"LXC {now['lxc']} is older than {then['lxc']}, which the container was started with.",
            "Upgrade LXC if the restore fails.",
        )


def _older(now: str, then: str, parts: int | None = None) -> bool:
    """Whether one version is older than another, by its first parts; what is no version is not."""
    try:
        # Padded, since parse() drops zeros at the end.
        return (*_versions.parse(now), 0, 0)[:parts] < (*_versions.parse(then), 0, 0)[:parts]
    except _errors.StasisError:
        return False


def _cpu(manifest: Manifest, here: Here) -> t.Iterator[Difference]:
    if here.cpu_errors:
        yield Difference(
            REFUSE,
            f"This CPU does not suit the processes, which ran on {manifest.get('cpu') or 'another'}: "
            f"{' '.join(here.cpu_errors[:_NAMED])}",
            "Restore it on a host with the same kind of CPU, or set force: true and risk that programs crash.",
            forced=True,
        )


def _cgroups(then: t.Sequence[t.Mapping[str, t.Any]], here: Here, manage_cgroups: str) -> t.Iterator[Difference]:
    before = {one for hierarchy in then if not hierarchy["unified"] for one in hierarchy["controllers"]}
    missing = sorted(before - here.cgroups)
    ignored = manage_cgroups in ("none", "ignore")
    if missing:
        yield Difference(
            WARN if ignored else REFUSE,
            f"The container used cgroup v1 with {', '.join(missing)}, which this host does not have as v1.",
            "Boot with systemd.unified_cgroup_hierarchy=0"
            + (" to keep its limits." if ignored else ", or set manage_cgroups: ignore, which loses the limits."),
            forced=True,
        )
    if any(hierarchy["unified"] for hierarchy in then) and not here.has_v2:
        yield Difference(
            WARN if ignored else REFUSE,
            "The container used cgroup v2, which is not mounted on this host.",
            "Mount it to keep its limits."
            if ignored
            else "Mount it, or set manage_cgroups: ignore, which loses the limits.",
            forced=True,
        )
    moved = {one for hierarchy in then if hierarchy["unified"] for one in hierarchy["controllers"]} & here.cgroups
    if moved and not ignored:
        yield Difference(
            WARN,
            f"The container used {', '.join(sorted(moved))} of cgroup v2, which this host has as v1: limits set with "
            "lxc.cgroup2 are lost.",
            "Set them with lxc.cgroup as well, or boot with systemd.unified_cgroup_hierarchy=1.",
        )


def _lsm(then: t.Mapping[str, str], here: Here, lsm_profile: str) -> t.Iterator[Difference]:
    kind = then.get("kind", here.lsm)
    if kind == here.lsm:
        if here.missing_profile and not lsm_profile:
            yield Difference(
                REFUSE,
                f"The processes are confined by the AppArmor profile {here.missing_profile}, which is not loaded here.",
                "Load it with apparmor_parser -r, set lxc.apparmor.profile as it was at the dump, or name another in lsm_profile.",
            )
        return
    if kind == "none":
        yield Difference(
            WARN,
            f"This host confines processes with {here.lsm}, where the checkpoint was made none did: the restored ones "
            "stay unconfined.",
            "Set lsm_profile to confine them.",
        )
        return
    confined = then.get("label", "unconfined") not in ("", "unconfined")
    if lsm_profile or confined:
        yield Difference(
            REFUSE,
            f"The processes are confined by {kind} ({then.get('label') or lsm_profile}), and this host has {here.lsm}.",
            f"Restore it on a host with {kind}.",
        )


def _addresses(then: t.Sequence[t.Mapping[str, str]], here: Here) -> t.Iterator[Difference]:
    for one in then:
        if one["address"] in here.addresses:
            yield Difference(
                WARN,
                f"{one['address']} of {one['nic']} is an address of this host too ({here.addresses[one['address']]}): "
                "nobody here will reach the container by it.",
                "Remove it from the host.",
            )


def _files(then: t.Mapping[str, t.Sequence[int]], here: Here) -> t.Iterator[Difference]:
    """The image's open files: size, mode, mtime, device and inode then, with -1 where it does not count.

    An inode says something only on the device that it was on: an older checkpoint has neither.
    """
    wrong, changed, others = [], [], []
    for path, (size, mode, mtime, *place) in sorted(then.items()):
        if path not in here.files:
            continue
        now = here.files[path]
        if now is None:
            wrong.append(f"{path} is not there.")
        elif size not in (-1, now.size):
            wrong.append(f"{path} has {now.size} bytes, and had {size}.")
        elif mode not in (-1, now.mode):
            wrong.append(f"{path} has the mode {now.mode:o}, and had {mode:o}.")
        elif mtime not in (-1, now.mtime):
            changed.append(path)
        elif place and place[0] == now.device and place[1] not in (-1, now.inode):
            others.append(path)
    if wrong:
        yield Difference(
            REFUSE,
            f"The processes have files open that are not as they were: {_some(wrong, ' ')}",
            "Put back the root file system as it was at the dump; CRIU would refuse this one.",
        )
    if changed:
        yield Difference(
            WARN,
            f"Files that the processes use were written since the dump: {_some(changed, ', ')}.",
            "Restart the container instead if these are its programs.",
        )
    if others:
        yield Difference(
            WARN,
            "Other files than at the dump have the names of some that the processes use, of the same size and mode: "
            f"{_some(others, ', ')}.",
            "See that their content is what it was, if somebody has not just copied the root file system.",
        )


def _some(items: t.Sequence[str], separator: str) -> str:
    rest = len(items) - _NAMED
    return separator.join(items[:_NAMED]) + (f"{separator}and {rest} more" if rest > 0 else "")

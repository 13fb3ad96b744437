# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Observe what a checkpoint depends on: at a dump for its manifest, at a restore to be compared with it."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _apparmor,
    _cgroups,
    _compatibility,
    _container,
    _criu_command,
    _criu_files,
    _criu_log,
    _files,
    _host,
    _iproute,
    _manifest_rules,
    _nics,
    _rootfs,
    _runner,
)

CPU_IMAGE = "cpuinfo.img"
_TIMEOUT = 30.0


def record(container: _container.Container, runner: _runner.Runner) -> dict[str, t.Any]:
    """What the manifest keeps of a running container's surroundings, beside what the dump knows anyway."""
    pid = container.init.pid if container.init else 0
    return {
        "lsm": {"kind": lsm(), "label": _files.text_of(f"/proc/{pid}/attr/current").strip(" \t\n\0")},
        "addresses": [] if any(nic.kind == "none" for nic in container.nics) else _inside_addresses(pid, runner),
        "rootfs": container.rootfs.spec,
        "overlay_work": _rootfs.overlay_work(_files.text_of(f"/proc/{pid}/mountinfo")),
    }


def record_cpu(runner: _runner.Runner, criu: str, staging: str) -> None:
    """Have CRIU write down the CPU's abilities into a staged image, before anything is frozen. Where this CRIU cannot
    on this architecture, there will be nothing to compare."""
    done = runner.run(_criu_command.cpuinfo(criu, "dump", staging), timeout=_TIMEOUT)
    with contextlib.suppress(FileNotFoundError):
        if done.rc != 0:
            os.unlink(os.path.join(staging, CPU_IMAGE))
        else:
            os.chmod(os.path.join(staging, CPU_IMAGE), 0o600)


def record_files(image: str, rootfs_spec: str) -> dict[str, list[int]]:
    """The files that CRIU will ask for: path to size, mode, mtime, device and inode, -1 for what does not count.

    The time counts for programs and libraries only: a file that the container writes itself has another one soon.
    """
    files = [one for one in _criu_files.read(image) if _manifest_rules.is_inside(one.path)]
    states = _look_all([one.path for one in files], rootfs_spec)
    found = {}
    for one in files:
        now = states.get(one.path)
        regular = now is not None and stat.S_ISREG(now.mode)
        mtime = now.mtime if now is not None and regular and one.read_only else -1
        place = [now.device, now.inode] if now is not None and regular else [-1, -1]
        found[one.path] = [-1 if one.size is None else one.size, -1 if one.mode is None else one.mode, mtime, *place]
    return found


def observe(
    manifest: t.Mapping[str, t.Any],
    image: str,
    container: _container.Container,
    host: _host.Host,
    runner: _runner.Runner,
) -> _compatibility.Here:
    """This host as far as the manifest asks for it. Reads the image, which therefore has been verified before."""
    mounts = _cgroups.parse_mounts(_files.text_of("/proc/self/mountinfo"))
    return _compatibility.Here(
        architecture=host.architecture,
        versions={"kernel": host.kernel, "criu": host.criu_version, "lxc": host.lxc_version},
        has_v2="" in mounts,
        cgroups=frozenset(one for options in mounts for one in options.split(",") if one),
        lsm=lsm(),
        addresses=_host_addresses(runner) if manifest.get("addresses") else {},
        cpu_errors=_cpu_errors(manifest, image, host, runner),
        files=_look_all(manifest.get("open_files") or {}, container.rootfs.spec),
        missing_profile=_missing_profile(manifest.get("lsm") or {}, container),
    )


def lsm(sysfs: str = "/sys") -> str:
    """The security module that CRIU will take for this host's, by the same signs."""
    if os.path.exists(f"{sysfs}/kernel/security/apparmor"):
        return "apparmor"
    return "selinux" if os.path.exists(f"{sysfs}/fs/selinux/enforce") else "none"


def _missing_profile(then: t.Mapping[str, str], container: _container.Container) -> str:
    if not then.get("kind") == lsm() == "apparmor":
        return ""
    return _apparmor.missing(then["label"], container.name, container.config.last("lxc.apparmor.profile", ""))


def look(layers: t.Sequence[str], path: str) -> _compatibility.FileState | None:
    """A file of a root file system, in the first of its layers that has it. Raises OSError where that cannot be told:
    behind a symbolic link that was not there at the dump, or outside."""
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts:
        raise OSError(f"{path} is no path inside")
    for layer in layers:
        real = os.path.realpath(layer)
        where = real + path.rstrip("/")
        if os.path.realpath(os.path.dirname(where)) != os.path.dirname(where):
            raise OSError(f"{path} is behind a symbolic link")
        try:
            status = os.lstat(where)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            # An overlay's mark for a file that was removed from the layer below.
            return None
        return _compatibility.FileState(
            status.st_size, status.st_mode, status.st_mtime_ns, status.st_dev, status.st_ino
        )
    return None


def _look_all(wanted: t.Iterable[str], spec: str) -> dict[str, _compatibility.FileState | None]:
    layers = _rootfs.layers(spec)
    found: dict[str, _compatibility.FileState | None] = {}
    for path in wanted if layers else ():
        with contextlib.suppress(OSError):
            found[path] = look(layers, path)
    return found


def _cpu_errors(
    manifest: t.Mapping[str, t.Any], image: str, host: _host.Host, runner: _runner.Runner
) -> tuple[str, ...]:
    same_boot = (manifest.get("init") or {}).get("boot_id") == host.boot_id
    # A CPU does not change while the kernel runs.
    if same_boot or CPU_IMAGE not in manifest["files"]:
        return ()
    done = runner.run(_criu_command.cpuinfo(host.criu_path, "check", image), timeout=_TIMEOUT)
    if done.rc == 0:
        return ()
    return tuple(_criu_log.error_lines(done.stderr + "\n" + done.stdout)) or (
        f"criu cpuinfo check ended with {done.rc}.",
    )


def _inside_addresses(pid: int, runner: _runner.Runner) -> list[dict[str, str]]:
    return [
        {"nic": str(link["ifname"]), "address": str(one["local"])}
        for link in _nics.inside_links(pid, runner)
        for one in link.get("addr_info", [])
        if one.get("scope") == "global" and "local" in one
    ]


def _host_addresses(runner: _runner.Runner) -> dict[str, str]:
    done = runner.run(["ip", "-j", "addr"])
    try:
        links = _iproute.parse(done.stdout) if done.rc == 0 else []
    except ValueError:
        links = []
    return {
        str(one["local"]): str(link["ifname"]) for link in links for one in link.get("addr_info", []) if "local" in one
    }

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What there is on this host: kernel, CRIU, LXC. Reads, and changes nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files, _install_record, _names, _runner

_VERSION = re.compile(r"^Version:\s*([0-9][0-9A-Za-z.+~-]*)\s*$", re.MULTILINE)
_GIT_ID = re.compile(r"^GitID:\s*(\S+)\s*$", re.MULTILINE)
_LXC_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)+\S*")
_CPU_MODEL = re.compile(r"^(?:model name|cpu model|cpu|Processor)\s*:\s*(.+?)\s*$", re.MULTILINE)

_TIMEOUT = 15.0


@dataclass(frozen=True)
class Host:
    """One look at the host. Texts are "" where there is nothing: no CRIU, no LXC, no GitID in a release's CRIU."""

    kernel: str
    architecture: str
    cpu: str
    boot_id: str
    uptime: float
    """Seconds since the kernel started."""
    criu_path: str
    criu_version: str
    criu_git_id: str
    lxc_version: str
    is_root: bool


def boot_id(proc: str = "/proc") -> str:
    """What names this boot of the host: pids and start times are counted anew in each (random(4))."""
    return _files.text_of(os.path.join(proc, "sys/kernel/random/boot_id")).strip()


def observe(
    runner: _runner.Runner, criu_path: str | None, record: _install_record.InstallRecord | None, *, proc: str = "/proc"
) -> Host:
    """Look at the host. Runs CRIU once, where there is one, and lxc-checkpoint once.

    criu_path: the option of that name, None or "" where it is not set. record: None where the role was not applied.
    Raises StasisError as resolve_criu() does. A CRIU that does not answer has the version "".
    """
    path = resolve_criu(criu_path, record)
    version, git_id = _ask_criu(runner, path) if path else ("", "")
    name = os.uname()
    return Host(
        kernel=name.release,
        architecture=name.machine,
        cpu=_first(_CPU_MODEL, _files.text_of(os.path.join(proc, "cpuinfo"))),
        boot_id=boot_id(proc),
        uptime=float((_files.text_of(os.path.join(proc, "uptime")).split() or ["0"])[0]),
        criu_path=path,
        criu_version=version,
        criu_git_id=git_id,
        lxc_version=_ask_lxc(runner),
        is_root=os.geteuid() == 0,
    )


def resolve_criu(criu_path: str | None, record: _install_record.InstallRecord | None) -> str:
    """The CRIU to use: the option's, else the install record's, else none (""). Never one by chance from PATH.

    Raises StasisError where it is not an absolute path to an executable that only root can write: CRIU runs as
    root, so whoever can replace it is root too.
    """
    if criu_path:
        _names.check_path(criu_path, "criu_path")
        _names.check_owned(criu_path, "criu_path", executable=True)
        return criu_path
    if record is None:
        return ""
    try:
        _names.check_owned(record.criu_path, "The CRIU that the role installed,", executable=True)
    except _errors.StasisError as exc:
        raise _errors.StasisError(exc.what, _install_record.AGAIN) from exc
    return record.criu_path


def parse_criu_version(text: str) -> tuple[str, str]:
    """Version and GitID out of what `criu --version` says; "" for what is not there (a release tarball has no GitID)."""
    return _first(_VERSION, text), _first(_GIT_ID, text)


def _ask_criu(runner: _runner.Runner, path: str) -> tuple[str, str]:
    # A broken default.conf would make even this call fail.
    try:
        said = runner.run([path, "--no-default-config", "--version"], timeout=_TIMEOUT)
    except _errors.StasisError:
        return "", ""
    return parse_criu_version(said.stdout) if said.rc == 0 else ("", "")


def _ask_lxc(runner: _runner.Runner) -> str:
    try:
        said = runner.run(["lxc-checkpoint", "--version"], timeout=_TIMEOUT)
    except _errors.StasisError:
        return ""
    match = _LXC_VERSION.match(said.stdout.strip()) if said.rc == 0 else None
    return match.group(0) if match else ""


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group(1) if match else ""

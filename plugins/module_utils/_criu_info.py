# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether this host has a CRIU that works on its kernel; reads, and changes nothing."""

from __future__ import annotations

import os
import re
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _errors,
    _host,
    _install_record,
    _names,
    _runner,
    _versions,
)

_FEATURE = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
# CRIU has no option that lists its features: `--feature list` is an unknown one. Its help names them, up to an empty line.
_FEATURES_IN_HELP = re.compile(r"--feature FEAT\b.*?one of:(.*?)\n[ \t]*\n", re.DOTALL)

_CHECK_TIMEOUT = 60.0
_FEATURE_TIMEOUT = 20.0
_AT_ONCE = 4
_LONGEST_OUTPUT = 4000


@dataclass
class CriuInfo:
    """What the module criu_info returns, under the same names."""

    path: str
    version: str
    git_id: str
    kernel: str
    architecture: str
    lxc_version: str
    minimum_version: str
    check: bool = False
    check_output: str = ""
    features: dict[str, bool] = field(default_factory=dict)
    usable: bool = False
    reasons: list[str] = field(default_factory=list)
    installed_by: str = ""
    install_record: dict[str, t.Any] | None = None
    warnings: list[str] = field(default_factory=list)


def gather(
    runner: _runner.Runner,
    criu_path: str | None,
    features: t.Sequence[str] | None,
    *,
    record_path: str = _install_record.RECORD_PATH,
) -> CriuInfo:
    """Find CRIU and ask it what it can do here.

    criu_path: absolute; None or "" for the one that the role installed. features: names to check; None for all
    that this CRIU knows. What is wrong with CRIU or its installation goes into `reasons`; raises StasisError only
    for options that make no sense: a path that is not absolute, a name that cannot be a feature's.
    """
    if criu_path:
        _names.check_path(criu_path, "criu_path")
    for name in features or ():
        if not _FEATURE.match(name):
            raise _errors.StasisError(
                f"{name!r} is not the name of a feature.", "criu --help lists those that CRIU knows."
            )
    record, trouble = _recorded(record_path)
    reasons: list[str] = []
    try:
        host = _host.observe(runner, criu_path, record)
    except _errors.StasisError as exc:
        reasons.append(exc.message)
        host = _host.observe(runner, None, None)
    info = CriuInfo(
        path=host.criu_path,
        version=host.criu_version,
        git_id=host.criu_git_id,
        kernel=host.kernel,
        architecture=host.architecture,
        lxc_version=host.lxc_version,
        minimum_version=_versions.minimum_criu(host.kernel),
        installed_by=record.criu_install_method if record and record.criu_path == host.criu_path else "",
        install_record=asdict(record) if record else None,
    )
    # A CRIU that was named has nothing to do with what is wrong in what the role installed.
    (info.warnings if criu_path else reasons).extend(trouble)
    info.reasons = reasons + _unusable(host, record, info.minimum_version, explained=bool(reasons))
    if info.version and host.is_root:
        _ask(runner, info, features)
    info.usable = not info.reasons
    return info


def _recorded(path: str) -> tuple[_install_record.InstallRecord | None, list[str]]:
    """The install record, and what is wrong with it or with what it names."""
    try:
        record = _install_record.read(path)
    except _errors.StasisError as exc:
        return None, [exc.message]
    if record is None:
        return None, []
    try:
        _install_record.verify(record)
    except _errors.StasisError as exc:
        return record, [exc.message]
    return record, []


def _unusable(
    host: _host.Host, record: _install_record.InstallRecord | None, minimum: str, *, explained: bool
) -> list[str]:
    """Why this CRIU cannot be used, as far as can be told without running its checks."""
    if not host.criu_path:
        return [] if explained else ["The role stasis.lxc.criu was not applied to this host, and criu_path is not set."]
    if not host.criu_version:
        return [f"{host.criu_path} does not say its version: it is no CRIU, or does not run on this host."]
    reasons = []
    if not host.is_root:
        reasons.append("CRIU can only be asked by root: set become to true.")
    if not _versions.at_least(host.criu_version, minimum):
        reasons.append(
            f"CRIU {host.criu_version} does not work on kernel {host.kernel}, which needs {minimum} or newer."
        )
    if record and record.criu_path == host.criu_path and record.criu_version != host.criu_version:
        reasons.append(
            f"The role installed CRIU {record.criu_version}, and {host.criu_path} is {host.criu_version}. "
            + _install_record.AGAIN
        )
    return reasons


def _ask(runner: _runner.Runner, info: CriuInfo, features: t.Sequence[str] | None) -> None:
    said = _run(runner, info.path, ["check"], _CHECK_TIMEOUT)
    info.check = said.rc == 0 and not said.timed_out
    info.check_output = "\n".join(text.strip() for text in (said.stdout, said.stderr) if text.strip())[:_LONGEST_OUTPUT]
    if said.timed_out:
        info.reasons.append(f"criu check did not end within {_CHECK_TIMEOUT:.0f} s.")
    elif not info.check:
        info.reasons.append(
            f"criu check says: {info.check_output.replace(chr(10), '; ') or f'nothing, and ends with {said.rc}'}"
        )
    names = _known_features(runner, info) if features is None else list(dict.fromkeys(features))
    # CRIU has cached what it found out about the kernel by now, so that each of these takes only some milliseconds.
    with ThreadPoolExecutor(max_workers=max(1, min(_AT_ONCE, os.cpu_count() or 1))) as pool:
        answers = list(pool.map(lambda name: _feature(runner, info.path, name), names))
    info.features = {name: present for name, (present, _warning) in zip(names, answers)}
    info.warnings += [warning for _present, warning in answers if warning]


def _known_features(runner: _runner.Runner, info: CriuInfo) -> list[str]:
    names = feature_names(_run(runner, info.path, ["--help"], _FEATURE_TIMEOUT).stdout)
    if not names:
        info.warnings.append("criu --help names no features, so none was checked. Name them in the option features.")
    return names


def feature_names(text: str) -> list[str]:
    """The features that `criu --help` names, in its order."""
    match = _FEATURES_IN_HELP.search(text + "\n\n")
    words = match.group(1).replace(",", " ").split() if match else []
    return [word for word in words if _FEATURE.match(word)]


def _feature(runner: _runner.Runner, path: str, name: str) -> tuple[bool, str]:
    """Whether kernel and CRIU have a feature, and a warning where that could not be told."""
    said = _run(runner, path, ["check", "--feature", name], _FEATURE_TIMEOUT)
    if said.timed_out:
        return False, f"criu check --feature {name} did not end within {_FEATURE_TIMEOUT:.0f} s."
    if said.rc != 0 and f"Unknown feature {name}" in said.stdout + said.stderr:
        return False, f"This CRIU knows no feature {name}."
    return said.rc == 0, ""


def _run(runner: _runner.Runner, path: str, arguments: t.Sequence[str], timeout: float) -> _runner.Completed:
    return runner.run([path, "--no-default-config", *arguments], timeout=timeout)

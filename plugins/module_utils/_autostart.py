# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What would start a container by itself after a reboot, and switching that off and on again."""

from __future__ import annotations

import glob
import os
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files, _runner

BEGIN = "# BEGIN stasis.lxc autostart"
END = "# END stasis.lxc autostart"
# lxc.start.auto is a single value in LXC: the last one given counts.
_BLOCK = f"{BEGIN}\n# Off until the container is restored from its checkpoint.\nlxc.start.auto = 0\n{END}\n"
# systemctl has systemd read all its units anew; that took more than 30 s on a busy emulated host.
_SECONDS = 120.0


@dataclass(frozen=True)
class Autostart:
    """config: lxc.start.auto is set. units: enabled systemd units that start this container."""

    config: bool
    units: tuple[str, ...]

    @property
    def reasons(self) -> list[str]:
        """Who would start the container, in words."""
        found = ["lxc.start.auto = 1 in its configuration"] if self.config else []
        return found + [f"the enabled unit {unit}" for unit in self.units]


def observe(name: str, start_auto: str, systemd: str = "/etc/systemd/system") -> Autostart:
    """From the configured lxc.start.auto and the links of enabled units (lxc@NAME.service) below `systemd`."""
    links = glob.glob(os.path.join(glob.escape(systemd), "*.wants", f"lxc@{glob.escape(name)}.service"))
    units = tuple(sorted({os.path.basename(link) for link in links}))
    return Autostart(start_auto.strip() == "1", units)


def inhibit(autostart: Autostart, config_path: str, runner: _runner.Runner) -> None:
    """Switch off what `autostart` names: a marked block in the configuration, units disabled.

    Raises StasisError where a unit cannot be disabled; what was done until then is undone.
    """
    if autostart.config:
        _write_block(config_path, _BLOCK)
    touched: list[str] = []
    try:
        for unit in autostart.units:
            # Before it is: systemctl may fail, or be killed for its deadline, when the link is gone already.
            touched.append(unit)
            _systemctl(runner, "disable", unit)
    except _errors.StasisError as exc:
        if autostart.config:
            _write_block(config_path, "")
        for unit in touched:
            try:
                _systemctl(runner, "enable", unit)
            except _errors.StasisError as again:
                # It was enabled, and has to be so again.
                exc.remedy = again.remedy
        raise


def allow(units: t.Sequence[str], config_path: str, runner: _runner.Runner) -> None:
    """Undo inhibit()."""
    _write_block(config_path, "")
    for unit in units:
        _systemctl(runner, "enable", unit)


def inhibited(config_text: str) -> bool:
    """Whether the configuration carries our block."""
    return BEGIN in config_text


def without_block(text: str) -> str:
    """The configuration without our block; one that somebody has cut the end off stays, for it could hold more."""
    kept: list[str] = []
    block: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.strip() == BEGIN:
            kept += block
            block = [line]
        elif block:
            block.append(line)
        else:
            kept.append(line)
        if line.strip() == END:
            block.clear()
    return "".join(kept + block)


def _write_block(config_path: str, block: str) -> None:
    # newline="": line ends stay as they are.
    with open(config_path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        text = stream.read()
    bare = without_block(text)
    if block and bare and not bare.endswith("\n"):
        bare += "\n"
    if bare + block != text:
        _files.replace_file(config_path, bare + block)


def _systemctl(runner: _runner.Runner, verb: str, unit: str) -> None:
    done = runner.run(["systemctl", verb, unit], timeout=_SECONDS)
    if done.rc != 0:
        said = f"it did not end within {_SECONDS:.0f} s" if done.timed_out else done.stderr.strip()[:300]
        raise _errors.StasisError(f"systemctl {verb} {unit} failed: {said}", f"Run systemctl {verb} {unit} by hand.")

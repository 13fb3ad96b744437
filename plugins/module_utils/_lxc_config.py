# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a container's LXC configuration says, read as liblxc reads it."""

from __future__ import annotations

import hashlib
import os
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

AUTOSTART_BEGIN = "# BEGIN stasis.lxc autostart"
AUTOSTART_END = "# END stasis.lxc autostart"

_MAX_DEPTH = 32
_NET_KEY = re.compile(r"lxc\.net\.([0-9]+)(?:\.(.+))?\Z")


@dataclass(frozen=True)
class ConfiguredNic:
    """One `lxc.net.N`: index is N as written, every other field is "" where the configuration is silent.

    type: liblxc takes a NIC without a type for `empty`, and so does this.
    flags: "up" or "". options: every other key below `lxc.net.N.`, the last value of each.
    """

    index: int
    type: str
    name: str = ""
    link: str = ""
    flags: str = ""
    veth_pair: str = ""
    veth_mode: str = ""
    macvlan_mode: str = ""
    options: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LxcConfig:
    """The effective configuration of one container.

    path: its `config` file. entries: (key, value) in the order in which liblxc reads them, includes expanded,
    quotes stripped, without what a later empty value has cleared. digest: SHA-256 over the lines that matter,
    which is everything but comments, blank lines and what stands between our own autostart markers.
    """

    path: str
    entries: tuple[tuple[str, str], ...]
    digest: str

    def values(self, key: str) -> list[str]:
        """Every value of a key, in order; for the keys that liblxc adds up, like lxc.mount.entry."""
        return [value for name, value in self.entries if name == key]

    def last(self, key: str, default: str = "") -> str:
        """The value of a key of which the last one counts, or default."""
        found = self.values(key)
        return found[-1] if found else default

    def below(self, prefix: str) -> list[tuple[str, str]]:
        """(key, value) of every key that begins with prefix, in order."""
        return [(key, value) for key, value in self.entries if key.startswith(prefix)]

    def networks(self) -> list[ConfiguredNic]:
        """The configured NICs by rising number, as liblxc orders them; the numbers may have gaps."""
        nics: dict[int, dict[str, str]] = {}
        for key, value in self.entries:
            match = _NET_KEY.match(key)
            if match and match.group(2):
                nics.setdefault(int(match.group(1)), {})[match.group(2)] = value
        return [_configured(index, nics[index]) for index in sorted(nics)]


def read(lxc_path: str, name: str) -> LxcConfig:
    """Read LXC_PATH/NAME/config and what it includes.

    Raises StasisError where there is no such container, where a file cannot be read, and for the keys of
    LXC before 2.1 (`lxc.network.*`), which liblxc itself no longer understands.
    """
    path = os.path.join(lxc_path, name, "config")
    if not os.path.isfile(path):
        raise _errors.StasisError(
            f"There is no container {name} in {lxc_path}: {path} does not exist.",
            "Correct name, or lxc_path where the container lives elsewhere.",
        )
    lines = _read_lines(path, path, 0)
    theirs = "".join(f"{line}\n" for line, ours in lines if not ours)
    digest = hashlib.sha256(theirs.encode("utf-8", "surrogateescape")).hexdigest()
    return LxcConfig(path, tuple(parse([line for line, _ours in lines], path)), digest)


def parse(lines: t.Iterable[str], source: str) -> list[tuple[str, str]]:
    """The (key, value) pairs of lines that have no comments and no includes left; source names them in errors.

    An empty value clears what stood before it, as in liblxc: the key itself and every key below it, and for
    `lxc.net.N.type`, empty or not, everything that NIC had been given so far.
    """
    entries: list[tuple[str, str]] = []
    for line in lines:
        key, value = _pair(line, source)
        if key == "lxc.network" or key.startswith("lxc.network."):
            raise _errors.StasisError(
                f"{source} uses {key}, a key of LXC before 2.1.",
                "Convert the configuration with lxc-update-config first.",
            )
        net = _NET_KEY.match(key)
        if net and net.group(2) == "type":
            entries = [entry for entry in entries if not entry[0].startswith(f"lxc.net.{net.group(1)}.")]
        if value:
            entries.append((key, value))
        else:
            entries = [entry for entry in entries if entry[0] != key and not entry[0].startswith(key + ".")]
    return entries


def _configured(index: int, found: dict[str, str]) -> ConfiguredNic:
    taken = {"type", "name", "link", "flags", "veth.pair", "veth.mode", "macvlan.mode"}
    return ConfiguredNic(
        index=index,
        type=found.get("type", "empty"),
        name=found.get("name", ""),
        link=found.get("link", ""),
        # liblxc asks only whether there is a value, and takes every one for `up`.
        flags="up" if found.get("flags") else "",
        veth_pair=found.get("veth.pair", ""),
        veth_mode=found.get("veth.mode", ""),
        macvlan_mode=found.get("macvlan.mode", ""),
        options={key: value for key, value in found.items() if key not in taken},
    )


def _pair(line: str, source: str) -> tuple[str, str]:
    key, equals, value = line.partition("=")
    if not equals:
        raise _errors.StasisError(f"{source}: the line {line!r} has no `=`.", "Correct the container's configuration.")
    value = value.strip()
    if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
        value = value[1:-1]
    return key.strip(), value


def _read_lines(path: str, top: str, depth: int) -> list[tuple[str, bool]]:
    if depth > _MAX_DEPTH:
        raise _errors.StasisError(
            f"{top} includes itself by way of {path}.", "Remove the lxc.include that closes the circle."
        )
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read()
    except OSError as exc:
        raise _errors.StasisError(
            f"{path} cannot be read: {exc.strerror or exc}.", f"Correct the lxc.include lines of {top}."
        ) from exc
    lines: list[tuple[str, bool]] = []
    for line, ours in _significant(text):
        key, value = _pair(line, path)
        if key == "lxc.include" and value:
            for included in _included(value):
                lines += _read_lines(included, top, depth + 1)
        else:
            lines.append((line, ours))
    return lines


def _significant(text: str) -> t.Iterator[tuple[str, bool]]:
    """Each line that liblxc acts on, and whether it stands between our own autostart markers."""
    ours = False
    for raw in re.split(r"[\r\n]", text):
        line = raw.strip()
        if line == AUTOSTART_BEGIN:
            ours = True
        elif line == AUTOSTART_END:
            ours = False
        elif line.startswith("lxc."):
            # liblxc skips lines that begin with anything else without a word.
            yield line, ours


def _included(value: str) -> list[str]:
    if not value.endswith("/") and not os.path.isdir(value):
        return [value]
    try:
        names = os.listdir(value)
    except FileNotFoundError:
        # A directory that is not there is not an error to liblxc; a file is.
        return []
    # liblxc takes them in the order of the directory, which nobody can know; sorted, the digest is steady.
    return [os.path.join(value, name) for name in sorted(names) if name.endswith(".conf") and len(name) > len(".conf")]

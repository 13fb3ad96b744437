# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The units of systemd in a root file system: what is read for each, in which order, and which of them would be started."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass, replace

# In the order of precedence (systemd.unit(5)); lib/ is for roots where it is not the same as usr/lib.
SEARCH = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
)
_BUS_SERVICES = "usr/share/dbus-1/system-services"
_PULLS = ("Wants", "Requires", "Requisite", "BindsTo", "Upholds")
_PULL_DIRECTORIES = (".wants", ".requires", ".upholds")
_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|socket|target|timer|path|slice|mount|swap|scope|automount)\Z")
# Started at each boot, or for each login, without a link that says so; the getty by systemd-getty-generator, which adds it
# in a container.
_ALWAYS = (
    "default.target",
    "-.slice",
    "system.slice",
    "user.slice",
    "user@.service",
    "user-runtime-dir@.service",
    "console-getty.service",
)
_MOST = 10_000
TRUE = ("yes", "true", "on", "1", "y", "t")
_LIBRARY = re.compile(r"libsystemd-shared-([0-9]+)")


@dataclass(frozen=True)
class Assignment:
    """One line of a unit file. source: the file, relative to the root."""

    section: str
    key: str
    value: str
    source: str


@dataclass(frozen=True)
class Unit:
    """A unit: its file and its drop-ins, each as (file name, assignments), the drop-ins in the order of systemd.

    name: of the unit, or of the template where it is an instance.
    """

    name: str
    path: str
    base: tuple[Assignment, ...]
    drop_ins: tuple[tuple[str, tuple[Assignment, ...]], ...] = ()

    @property
    def type(self) -> str:
        """service, socket, slice ..."""
        return self.name.rpartition(".")[2]

    @property
    def section(self) -> str:
        """The section that is this type's own."""
        return self.type.capitalize()

    @property
    def assignments(self) -> list[Assignment]:
        """Every line, in the order in which systemd reads them."""
        return [*self.base, *(line for _name, lines in self.drop_ins for line in lines)]

    def with_drop_in(self, name: str, lines: t.Sequence[Assignment]) -> Unit:
        """The same with a drop-in added, where its name puts it; one of that name is replaced."""
        others = [one for one in self.drop_ins if one[0] != name]
        return replace(self, drop_ins=tuple(sorted([*others, (name, tuple(lines))], key=lambda one: one[0])))

    def without(self, name: str) -> Unit:
        """The same without the drop-in of that name."""
        return replace(self, drop_ins=tuple(one for one in self.drop_ins if one[0] != name))

    def values(self, key: str, section: str = "") -> list[Assignment]:
        """The lines of a setting that adds up; an empty one clears those before it."""
        found: list[Assignment] = []
        for line in self.assignments:
            if line.key == key and line.section == (section or self.section):
                found = [*found, line] if line.value else []
        return found

    def last(self, key: str, section: str = "") -> Assignment | None:
        """The line of a setting of which the last one counts; None where it is not set, or set to nothing."""
        found = self.values(key, section)
        return found[-1] if found else None

    def word(self, key: str, section: str = "") -> str:
        """The value of such a setting, or ""."""
        line = self.last(key, section)
        return line.value if line else ""

    @property
    def brief(self) -> bool:
        """Whether it runs for a moment only."""
        return self.word("Type").lower() == "oneshot"

    @property
    def remains(self) -> bool:
        """Whether it counts as active when it has run."""
        return self.word("RemainAfterExit").lower() in TRUE


class Reader(t.Protocol):
    """What is asked of a root file system: of _tree.Tree."""

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        raise NotImplementedError

    def text(self, path: str) -> str | None:
        """The content of a file."""
        raise NotImplementedError

    def link(self, path: str) -> str | None:
        """What a symbolic link says."""
        raise NotImplementedError

    def real(self, path: str) -> str | None:
        """The path without links."""
        raise NotImplementedError


class Units:
    """The units in a root file system."""

    def __init__(self, tree: Reader) -> None:
        self._tree = tree
        self._listed: dict[str, list[str]] = {}
        real: set[str] = set()
        for directory in SEARCH:
            found = tree.real(directory)
            if found is not None and found not in real:
                real.add(found)
                self._listed[directory] = tree.names(directory)
        self._aliases: dict[str, set[str]] = {}
        for directory, names in self._listed.items():
            for name in names:
                target = os.path.basename(tree.link(f"{directory}/{name}") or "") if _NAME.match(name) else ""
                if target and target != name and _NAME.match(target):
                    self._aliases.setdefault(target, set()).add(name)
        self._loaded: dict[str, Unit | None] = {}

    @property
    def any(self) -> bool:
        """Whether there are units at all."""
        return any(name.endswith(".service") for names in self._listed.values() for name in names)

    @property
    def version(self) -> int:
        """systemd's version, told from its private library; 0 where it cannot be."""
        for top in ("usr/lib", "lib"):
            for directory in (
                f"{top}/systemd",
                *(f"{top}/{name}/systemd" for name in self._tree.names(top) if "-" in name),
            ):
                for name in self._tree.names(directory):
                    match = _LIBRARY.match(name)
                    if match:
                        return int(match.group(1))
        return 0

    def canonical(self, name: str) -> str:
        """The name of the file that a unit's name leads to: aliases followed, a template for an instance."""
        for _step in range(10):
            directory = next((one for one in self._listed if name in self._listed[one]), None)
            if directory is None:
                template = _template(name)
                if not template or template == name:
                    return name
                name = template
                continue
            target = os.path.basename(self._tree.link(f"{directory}/{name}") or name)
            if target == name or not _NAME.match(target):
                return name
            name = target
        return name

    def load(self, name: str) -> Unit | None:
        """A unit by any of its names; None where there is none or it is masked."""
        name = self.canonical(name)
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def reached(self, also: t.Iterable[str] = ()) -> list[Unit]:
        """The units that would be started at a boot, by a socket, timer, path or bus name, or for a login, by name.

        also: names of further units, as of those that run.
        """
        pending = [*_ALWAYS, *self._bus_names(), *also]
        seen: set[str] = set()
        found: dict[str, Unit] = {}
        while pending and len(seen) < _MOST:
            name = pending.pop()
            if name in seen or not _NAME.match(name):
                continue
            seen.add(name)
            unit = self.load(name)
            if unit is not None:
                found[unit.name] = unit
                pending += self._pulled(unit, name)
        return [found[name] for name in sorted(found)]

    def _load(self, name: str) -> Unit | None:
        directory = next((one for one in self._listed if name in self._listed[one]), None)
        if directory is None:
            # A slice needs no file.
            return Unit(name, "", (), self._drop_ins(name)) if name.endswith(".slice") else None
        path = f"{directory}/{name}"
        text = self._tree.text(path)
        if not text:
            # Empty, or a link to /dev/null: masked.
            return None
        return Unit(name, path, tuple(parse(text, path)), self._drop_ins(name))

    def _drop_ins(self, name: str) -> tuple[tuple[str, tuple[Assignment, ...]], ...]:
        found: dict[str, str] = {}
        for directory in self._drop_in_directories(name):
            for file in self._tree.names(directory):
                if file.endswith(".conf"):
                    # One in a directory that comes first hides those of the same name.
                    found.setdefault(file, f"{directory}/{file}")
        return tuple(
            (file, tuple(parse(self._tree.text(found[file]) or "", found[file])))
            for file in sorted(found, key=lambda one: one.encode("utf-8", "surrogateescape"))
        )

    def _drop_in_directories(self, name: str) -> list[str]:
        kind = name.rpartition(".")[2]
        wanted = []
        for one in (name, *sorted(self._aliases.get(name, ()))):
            wanted += [f"{directory}/{form}.d" for directory in self._listed for form in _forms(one)]
        wanted += [f"{directory}/{kind}.d" for directory in self._listed]
        return [one for one in wanted if os.path.basename(one) in self._listed[os.path.dirname(one)]]

    def _pulled(self, unit: Unit, name: str) -> list[str]:
        found: list[str] = []
        for key in _PULLS:
            found += [word for line in unit.values(key, "Unit") for word in line.value.split()]
        for one in {name, unit.name, *self._aliases.get(unit.name, ())}:
            for directory, names in self._listed.items():
                for suffix in _PULL_DIRECTORIES:
                    if one + suffix in names:
                        found += self._tree.names(f"{directory}/{one}{suffix}")
        found += [word for key in ("Slice", "Sockets") for word in unit.word(key).split()]
        stem = name.rpartition(".")[0]
        if unit.type == "socket":
            own = f"{stem}@.service" if unit.word("Accept").lower() in TRUE else f"{stem}.service"
            found.append(unit.word("Service") or own)
        elif unit.type in ("timer", "path"):
            found.append(unit.word("Unit") or f"{stem}.service")
        elif unit.type == "slice" and "-" in stem.strip("-"):
            found.append(f"{stem.rpartition('-')[0]}.slice")
        return found

    def _bus_names(self) -> list[str]:
        found = []
        for file in self._tree.names(_BUS_SERVICES):
            text = self._tree.text(f"{_BUS_SERVICES}/{file}") or ""
            found += [line.value for line in parse(text, file) if line.key == "SystemdService"]
        return found


def parse(text: str, source: str) -> list[Assignment]:
    """The lines of a unit file: comments and blank lines left out, continued lines joined."""
    found: list[Assignment] = []
    section, held = "", ""
    for raw in [*text.split("\n"), ""]:
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not held):
            # A comment may stand between the parts of a line that goes on.
            continue
        line = f"{held} {line}".strip()
        held = ""
        if (len(line) - len(line.rstrip("\\"))) % 2:
            # One that is itself escaped does not count.
            held = line[:-1].rstrip()
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if equals:
            found.append(Assignment(section, key.strip(), value.strip(), source))
    return found


def _template(name: str) -> str:
    stem, _dot, kind = name.rpartition(".")
    prefix, at, _instance = stem.partition("@")
    return f"{prefix}@.{kind}" if at else ""


def _forms(name: str) -> list[str]:
    """The names whose drop-ins count for a unit: its own, its template's, those that it begins with up to a dash."""
    stem, _dot, kind = name.rpartition(".")
    found = [name]
    template = _template(name)
    if template and template != name:
        found.append(template)
    parts = stem.split("-")
    found += [
        f"{'-'.join(parts[:count])}-.{kind}" for count in range(len(parts) - 1, 0, -1) if parts[count - 1] or count > 1
    ]
    return found

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Decide which drop-ins make a container checkpointable, and what they cost. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _relaxations, _units

# Last of a unit's drop-ins, but for one that somebody names so that it comes later.
FILE = "zz-stasis-checkpointable.conf"
PLACE = "etc/systemd/system"
MARK = "# Made by stasis.lxc.checkpointable, which takes it away again with checkpointable_state: absent."
_MADE = "# Directories made for it:"
ALL = "all"
_CREDENTIALS = ("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|socket|slice|mount|swap)\Z")


@dataclass(frozen=True)
class Facts:
    """What decides whether a setting has an effect in this container.

    bpf: its root may load BPF programs. unified: the host has the v2 hierarchy alone. namespaces: its root may make
    namespaces. clock: systemd filters device nodes for ProtectClock= alone. pressure: it
    tells services of memory pressure. ramfs: systemd keeps credentials in one.
    console, terminals: LXC gives it one. sys_writable: whether its /sys can be written. active: units that run, whatever
    their conditions say.
    """

    bpf: bool = True
    unified: bool = True
    namespaces: bool = True
    clock: bool = True
    pressure: bool = True
    ramfs: bool = True
    console: bool = True
    terminals: bool = True
    sys_writable: bool = False
    active: frozenset[str] = frozenset()

    def has(self, need: str) -> bool:
        """Whether what a rule needs is so."""
        return {
            _relaxations.BPF: self.bpf,
            _relaxations.DEVICE_BPF: self.bpf and self.unified,
            _relaxations.NAMESPACES: self.namespaces,
            _relaxations.CLOCK_BPF: self.bpf and self.unified and self.clock,
            _relaxations.PRESSURE: self.namespaces and self.pressure,
            _relaxations.RAMFS: self.ramfs,
            _relaxations.CONSOLE: self.console,
            _relaxations.TERMINALS: self.terminals,
        }[need]


@dataclass(frozen=True)
class Relaxation:
    """One rule that one unit needs. directives: what is in effect, with the file that says so. settings: what is set
    instead. problem: why it cannot be done, or ""."""

    unit: str
    rule: _relaxations.Rule
    directives: tuple[str, ...]
    settings: tuple[str, ...]
    allowed: bool
    problem: str = ""

    @property
    def done(self) -> bool:
        """Whether the drop-in carries it and it has its effect."""
        return self.allowed and not self.problem


@dataclass(frozen=True)
class DropIn:
    """One file of ours: where it is to be, relative to the root, and its text. before: "" where it is not there."""

    path: str
    unit: str
    before: str
    after: str


@dataclass(frozen=True)
class Plan:
    """What is to be done. files: what changes; an empty `after` is removed. directories: made for files that go, the
    innermost first. units: that have a file of ours when it is done, and its path."""

    relaxations: tuple[Relaxation, ...] = ()
    files: tuple[DropIn, ...] = ()
    directories: tuple[str, ...] = ()
    units: t.Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is to be written or removed."""
        return bool(self.files)


def check_relax(entries: t.Sequence[str]) -> tuple[str, ...]:
    """The values of `relax`: `all`, a rule, a unit, or UNIT/RULE. Raises StasisError for anything else."""
    for entry in entries:
        unit, slash, rule = entry.partition("/")
        known = entry == ALL or entry in _relaxations.IDS
        if not known and not (_UNIT.match(unit) and (not slash or rule in _relaxations.IDS)):
            raise _errors.StasisError(
                f"relax has {entry!r}, which is neither a relaxation nor a unit.",
                f"Use all, a unit as ssh.service, UNIT/RELAXATION, or one of {', '.join(_relaxations.IDS)}.",
            )
    return tuple(entries)


def path_of(unit: str) -> str:
    """Where our drop-in for a unit is."""
    return f"{PLACE}/{unit}.d/{FILE}"


def made_for(text: str, path: str) -> tuple[str, ...]:
    """The directories that a file of ours says were made for it; only ones that it is in, whatever it says."""
    line = next((one for one in text.splitlines() if one.startswith(_MADE)), "")
    said = line[len(_MADE) :].split(" ") if line else []
    return tuple(one for one in said if one and path.startswith(one + "/"))


def starts(unit: _units.Unit, facts: Facts) -> bool:
    """Whether systemd would start a unit, as far as its conditions say; what is not known is taken for true."""
    triggers: list[bool | None] = []
    others: list[bool | None] = []
    for line in unit.assignments:
        if line.section != "Unit" or not line.key.startswith("Condition"):
            continue
        if not line.value:
            # An empty one clears all of them, of every kind.
            triggers, others = [], []
            continue
        value = line.value
        trigger = value.startswith("|")
        value = value[1:].strip() if trigger else value
        negated = value.startswith("!")
        met = _condition(line.key[len("Condition") :], value[1:].strip() if negated else value, facts)
        met = met if met is None or not negated else not met
        (triggers if trigger else others).append(met)
    return all(one is not False for one in others) and (not triggers or any(one is not False for one in triggers))


def _condition(kind: str, value: str, facts: Facts) -> bool | None:
    if kind == "Virtualization":
        word = value.lower()
        if word in ("container", "lxc", *_units.TRUE):
            return True
        return None if word == "private-users" else False
    if kind == "PathExists" and value == "/dev/tty0":
        return False
    if kind == "PathExists" and value == "/dev/console":
        return facts.console
    if kind == "PathIsReadWrite" and value in ("/sys", "/sys/"):
        return facts.sys_writable
    return None


def in_effect(unit: _units.Unit, rule: _relaxations.Rule, facts: Facts) -> list[tuple[_relaxations.Directive, str]]:
    """The settings of a rule that have an effect in a unit, each with its line and its file."""
    if not facts.has(rule.needs) or unit.type not in rule.types or (rule.units and unit.name not in rule.units):
        return []
    if unit.name not in facts.active and not starts(unit, facts):
        return []
    found = []
    for directive in rule.directives:
        said = _said(unit, directive, rule.section)
        if said:
            found.append((directive, said))
    return found


def is_brief(unit: _units.Unit, rule: _relaxations.Rule) -> bool:
    """Whether a unit is in the way for a moment only, so that nothing needs to be changed for it."""
    return (unit.brief and not (rule.remains and unit.remains)) or unit.name in _relaxations.BRIEF_UNITS


def brief(units: t.Sequence[_units.Unit], facts: Facts) -> list[str]:
    """Units that block while they run, which is for a moment only."""
    return [
        unit.name
        for unit in (one.without(FILE) for one in units)
        if any(is_brief(unit, rule) and in_effect(unit, rule, facts) for rule in _relaxations.RULES)
    ]


def _said(unit: _units.Unit, directive: _relaxations.Directive, section: str) -> str:
    lines = unit.values(directive.key, section)
    if directive.unless and unit.word(directive.unless[0], section).lower() in directive.unless[1:]:
        return ""
    if directive.kind == _relaxations.STARTS:
        return f"{unit.name} ({unit.path})"
    if directive.kind == _relaxations.MENTIONS:
        lines = [line for line in lines if directive.mentions in _words(line.value)]
        lines = [] if lines and lines[-1].value.startswith("~") else lines[-1:]
    elif directive.kind == _relaxations.BARE:
        lines = [] if any(":" in line.value for key in _CREDENTIALS for line in unit.values(key)) else lines
    elif directive.kind == _relaxations.WORD:
        word = lines[-1].value.lower() if lines else ""
        counts = word in directive.on if directive.on else word not in ("", *directive.off)
        lines = lines[-1:] if counts else []
    sources = {line.source: [one.value for one in lines if one.source == line.source] for line in lines}
    return "; ".join(f"{directive.key}={', '.join(values)} ({source})" for source, values in sources.items())


def _words(value: str) -> list[str]:
    return [word.partition(":")[0] for word in value.lstrip("~").split()]


def decide(
    units: t.Sequence[_units.Unit],
    facts: Facts,
    relax: t.Sequence[str],
    ours: t.Mapping[str, str],
    missing: t.Callable[[str], tuple[str, ...]],
) -> Plan:
    """What state `present` needs.

    units: those that would be started, drop-ins included. ours: our files that there are, path to text. missing: the
    directories above a path that are not there.
    """
    relaxations: list[Relaxation] = []
    wanted: dict[str, str] = {}
    named: dict[str, str] = {}
    made = {one for path, text in ours.items() for one in made_for(text, path)}
    for unit in (unit.without(FILE) for unit in units):
        found = _for_unit(unit, facts, relax)
        relaxations += found
        done = [one for one in found if one.done]
        if done:
            path = path_of(unit.name)
            above = made_for(ours[path], path) if path in ours else _new_directories(path, missing(path), made)
            wanted[path] = render(unit, done, above)
            named[unit.name] = path
    changes = [
        DropIn(path, _unit_of(path), ours.get(path, ""), text)
        for path, text in wanted.items()
        if ours.get(path) != text
    ]
    gone = {path: text for path, text in ours.items() if path not in wanted}
    changes += [DropIn(path, _unit_of(path), text, "") for path, text in gone.items()]
    return Plan(
        tuple(relaxations),
        tuple(sorted(changes, key=lambda one: one.path)),
        _to_remove(gone),
        named,
        _unknown(relax, units, relaxations),
    )


def undo(ours: t.Mapping[str, str]) -> Plan:
    """What state `absent` needs."""
    changes = [DropIn(path, _unit_of(path), text, "") for path, text in sorted(ours.items())]
    return Plan(files=tuple(changes), directories=_to_remove(ours))


def reverse(plan: Plan) -> Plan:
    """What takes a plan back that was carried out."""
    changes = tuple(DropIn(one.path, one.unit, one.after, one.before) for one in plan.files)
    return Plan(files=changes, directories=_to_remove({one.path: one.after for one in plan.files if not one.before}))


def _for_unit(unit: _units.Unit, facts: Facts, relax: t.Sequence[str]) -> list[Relaxation]:
    needed = [(rule, in_effect(unit, rule, facts)) for rule in _relaxations.RULES if not is_brief(unit, rule)]
    needed = [(rule, found) for rule, found in needed if found]
    # What is kept from starting needs nothing else.
    stopped = [one for one in needed if one[1][0][0].kind == _relaxations.STARTS and _allows(relax, unit, one[0])]
    needed = stopped or needed
    if not needed:
        return []
    path = path_of(unit.name)
    lines: list[_units.Assignment] = []
    for rule, found in needed:
        texts = [f"[{rule.section or unit.section}]", *(line for one, _line in found for line in _settings(unit, one))]
        lines += _units.parse("\n".join(texts), path)
    after = unit.with_drop_in(FILE, lines)
    relaxations = []
    for rule, found in needed:
        left = in_effect(after, rule, replace(facts, active=frozenset()))
        settings = tuple(dict.fromkeys(setting for directive, _line in found for setting in _settings(unit, directive)))
        problem = f"What comes after our drop-in sets it again: {left[0][1]}." if left else ""
        relaxations.append(
            Relaxation(
                unit.name, rule, tuple(line for _one, line in found), settings, _allows(relax, unit, rule), problem
            )
        )
    return relaxations


def _settings(unit: _units.Unit, directive: _relaxations.Directive) -> list[str]:
    """The lines that take a setting back, as this unit bears them.

    A list of the system calls that are allowed, where all others give EPERM, must not say so of one again: libseccomp
    refuses a rule that does what is done anyway, and the service does not start.
    """
    first = next(iter(unit.values("SystemCallFilter")), None)
    barred = unit.word("SystemCallErrorNumber") in ("EPERM", "1")
    if first is not None and not first.value.startswith("~") and barred:
        return [line.replace(":EPERM", "") for line in directive.settings]
    return list(directive.settings)


def _allows(relax: t.Sequence[str], unit: _units.Unit, rule: _relaxations.Rule) -> bool:
    return bool({ALL, rule.id, unit.name, f"{unit.name}/{rule.id}"} & set(relax))


def _unknown(
    relax: t.Sequence[str], units: t.Sequence[_units.Unit], relaxations: t.Sequence[Relaxation]
) -> tuple[str, ...]:
    """Entries that name a unit which is not there or does not need it: perhaps they are misspelt."""
    needed = {one.unit for one in relaxations} | {f"{one.unit}/{one.rule.id}" for one in relaxations}
    there = {unit.name for unit in units}
    return tuple(
        entry for entry in relax if entry != ALL and entry not in _relaxations.IDS and entry not in needed | there
    )


def render(unit: _units.Unit, relaxations: t.Sequence[Relaxation], made: t.Sequence[str]) -> str:
    """The text of a drop-in."""
    lines = [MARK, f"# So that CRIU can checkpoint {unit.name}. Changes made here are lost at the next run."]
    sections: dict[str, list[str]] = {}
    for one in relaxations:
        lines += ["#", f"# {one.rule.id}: {'; '.join(_plain(line) for line in one.directives)}"]
        lines.append(f"#   Why: CRIU says: {one.rule.evidence}")
        lines.append(f"#   Lost: {one.rule.lost}")
        if one.rule.kept:
            lines.append(f"#   Kept: {one.rule.kept}")
        sections.setdefault(one.rule.section or unit.section, []).extend(one.settings)
    if made:
        lines += ["#", f"{_MADE} {' '.join(made)}"]
    for section, settings in sections.items():
        lines += [f"[{section}]", *dict.fromkeys(settings)]
    return "".join(f"{line}\n" for line in lines)


def _plain(text: str) -> str:
    """Text out of the container, for a comment: nothing in it ends the line or goes on to the next."""
    return "".join(char if char.isprintable() else "?" for char in text).replace("\\", "/")[:300]


def _new_directories(path: str, missing: t.Sequence[str], made: t.AbstractSet[str]) -> tuple[str, ...]:
    """Those to be made for a file, and those that are there only because of other files of ours."""
    above = {one for one in made if path.startswith(one + "/")} | set(missing)
    return tuple(sorted(above))


def _to_remove(gone: t.Mapping[str, str]) -> tuple[str, ...]:
    found = {one for path, text in gone.items() for one in made_for(text, path)}
    return tuple(sorted(found, key=lambda one: (-one.count("/"), one)))


def _unit_of(path: str) -> str:
    return path[len(PLACE) + 1 : -len(FILE) - 3]

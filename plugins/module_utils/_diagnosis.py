# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""From a log to its causes, the likeliest first; pure."""

from __future__ import annotations

import functools
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis_rules, _diagnosis_types, _log_lines

# Of a caller that knows no more than that CRIU failed: true only where there is no log of it.
NEVER_RAN = "criu_never_ran"
MOST_DIAGNOSES = 10


@dataclass(frozen=True)
class _Compiled:
    rule: _diagnosis_types.Rule
    says: tuple[re.Pattern[str], ...]


@dataclass(frozen=True)
class _Table:
    """The rules as patterns. any_note: nearly every line of a log is no error, and one look tells whether a rule cares."""

    compiled: tuple[_Compiled, ...]
    notes: tuple[tuple[re.Pattern[str], _diagnosis_types.Rule], ...]
    lasts: tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...]
    any_note: re.Pattern[str]


@functools.cache
def _table() -> _Table:
    # Not at import: it takes tenths of a second, and most tasks have nothing to explain.
    notes = tuple((_diagnosis_types.compile_text(text), rule) for rule in _diagnosis_rules.RULES for text in rule.notes)
    lasts = tuple(
        (_diagnosis_types.compile_text(rule.last[0]), _any(rule.last[1:]), rule.id)
        for rule in _diagnosis_rules.RULES
        if rule.last
    )
    looked_for = [*(pattern for pattern, _rule in notes), *(kind for kind, _wanted, _id in lasts)]
    return _Table(
        tuple(
            _Compiled(rule, tuple(_diagnosis_types.compile_text(text) for text in (*rule.says, *rule.notes)))
            for rule in _diagnosis_rules.RULES
        ),
        notes,
        lasts,
        re.compile("|".join(f"(?:{pattern.pattern})" for pattern in looked_for)),
    )


def _any(texts: t.Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{_diagnosis_types.compile_text(text).pattern})" for text in texts))


@dataclass
class Findings:
    """What a log has said so far. Feed it with the lines in their order; it keeps one line for each rule.

    after: the rules with `last` whose line it was.
    """

    found: dict[str, tuple[int, _diagnosis_types.Rule, str]] = field(default_factory=dict)
    after: frozenset[str] = frozenset()
    succeeded: bool = False
    failed: bool = False
    _count: int = 0

    def add(self, text: str) -> None:
        """Take the next line of the log."""
        self._count += 1
        line = _log_lines.parse(text)
        if line is None:
            return
        if not line.error:
            self._add_note(line)
            return
        if _log_lines.FAILURE.match(line.message):
            self.failed, self.succeeded = True, False
        rule = rule_for(line.message, self.after)
        if rule is not None:
            self._remember(rule, line)

    def _add_note(self, line: _log_lines.Line) -> None:
        if _log_lines.SUCCESS.match(line.message):
            # What went wrong before was repaired: CRIU tries some things again.
            self.found.clear()
            self.succeeded, self.failed = True, False
        elif _table().any_note.match(line.message):
            for kind, wanted, name in _table().lasts:
                if kind.match(line.message):
                    self.after = self.after | {name} if wanted.match(line.message) else self.after - {name}
            rule = next((rule for pattern, rule in _table().notes if pattern.match(line.message)), None)
            if rule is not None:
                self._remember(rule, line)

    def _remember(self, rule: _diagnosis_types.Rule, line: _log_lines.Line) -> None:
        self.found.setdefault(rule.id, (self._count, rule, _log_lines.bounded(line.text)))

    def ranked(self) -> list[_diagnosis_types.Diagnosis]:
        """The causes, at most ten: by how much their lines say, then in the order of the log."""
        known = sorted(self.found.values(), key=lambda one: (one[1].weight, one[0]))
        telling = [one for one in known if one[1].weight != _diagnosis_types.LAST]
        return [
            _diagnosis_types.Diagnosis(rule.id, rule.kind, rule.cause, evidence, rule.remedy, rule.link, rule.weight)
            for number, rule, evidence in (telling or known)[:MOST_DIAGNOSES]
        ]


def diagnose(text: str) -> list[_diagnosis_types.Diagnosis]:
    """The causes that a log names, the likeliest first; empty where no rule knows a line, or all went well.

    text: dump.log, restore.log, or standard error and log of lxc-checkpoint, or several of them one after another.
    CRIU's first error is the cause more often than its last: what fails because of it comes after it.
    """
    return diagnose_lines(text.split("\n"))


def diagnose_lines(lines: t.Iterable[str]) -> list[_diagnosis_types.Diagnosis]:
    """Like diagnose(), line by line."""
    findings = Findings()
    for line in lines:
        findings.add(line)
    return findings.ranked()


# CRIU says some things thousands of times.
@functools.lru_cache(maxsize=1024)
def rule_for(message: str, after: frozenset[str] = frozenset()) -> _diagnosis_types.Rule | None:
    """The first rule that knows the message of an error; of those with `last` only the ones in `after`."""
    for one in _table().compiled:
        if one.rule.last and one.rule.id not in after:
            continue
        if any(pattern.match(message) for pattern in one.says):
            return one.rule
    return None


def is_transient(diagnoses: t.Sequence[_diagnosis_types.Diagnosis]) -> bool:
    """Whether trying again may help: there is a cause, and every one that weighs as much as the first is transient."""
    return bool(diagnoses) and all(
        one.kind == _diagnosis_types.TRANSIENT for one in diagnoses if one.weight == diagnoses[0].weight
    )

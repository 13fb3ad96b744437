# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a rule of the diagnosis is made of, and what comes out."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

# What may help: to try again; another option, service or file; another host, kernel or program; nothing.
TRANSIENT = "transient"
CONFIGURATION = "configuration"
ENVIRONMENT = "environment"
IMPOSSIBLE = "impossible"
CLASSES = (TRANSIENT, CONFIGURATION, ENVIRONMENT, IMPOSSIBLE)

DUMP = "dump"
RESTORE = "restore"
BOTH = "both"

# How much a rule's line says. CAUSE: this is it. SYMPTOM: a step that failed for a reason that another line may name.
# LAST: follows from nearly every failure, and counts only where nothing else is known.
CAUSE, SYMPTOM, LAST = range(3)


@dataclass(frozen=True)
class Rule:
    """One thing that goes wrong, known by what CRIU, liblxc or a program that they run writes about it.

    id: never changes, since playbooks compare it.
    kind: one of CLASSES; `class` in results.
    when: DUMP, RESTORE or BOTH.
    says: literal texts, each from the start of the message on, after the program's prefixes; `%` stands for anything,
    and `$` at the end for the end of the line. The subsystem that CRIU puts in front (`net: `) may be there or not.
    cause, remedy: full sentences, one line each.
    reference: where to read on: `criu#NUMBER`, `lxc#NUMBER` or `podman#NUMBER` for an issue, else file and function.
    weight: CAUSE, SYMPTOM or LAST.
    notes: like says, for lines that CRIU does not call errors.
    last: a text, and others that fit some of its lines: the rule counts only where the last line before that is like the first
    is like one of the others.
    """

    id: str
    kind: str
    when: str
    says: tuple[str, ...]
    cause: str
    remedy: str
    reference: str
    weight: int = CAUSE
    notes: tuple[str, ...] = ()
    last: tuple[str, ...] = ()

    @property
    def link(self) -> str:
        """The reference, an issue as its address."""
        match = re.match(r"(\w+)#([0-9]+)\Z", self.reference)
        return f"https://github.com/{_TRACKERS[match[1]]}/issues/{match[2]}" if match else self.reference


_TRACKERS = {"criu": "checkpoint-restore/criu", "lxc": "lxc/lxc", "podman": "containers/podman"}


@dataclass(frozen=True)
class Diagnosis:
    """One cause, as found in a log. evidence: the line, literally but for its length and control characters."""

    id: str
    kind: str
    cause: str
    evidence: str
    remedy: str
    reference: str
    weight: int = CAUSE

    def as_dict(self) -> dict[str, t.Any]:
        """For a result; `class` is no name that Python allows."""
        return {
            "id": self.id,
            "class": self.kind,
            "cause": self.cause,
            "evidence": self.evidence,
            "remedy": self.remedy,
            "reference": self.reference,
        }


def compile_text(text: str) -> re.Pattern[str]:
    """The pattern of one of a rule's texts; for match() at the start of a message."""
    end = r"\s*\Z" if text.endswith("$") else ""
    literal = text[:-1] if end else text
    return re.compile(r"(?:[a-z][\w-]*: \s*)?" + ".*?".join(re.escape(part) for part in literal.split("%")) + end)

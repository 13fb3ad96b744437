# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The lines of CRIU's and liblxc's logs: which are errors, what their message is, which mean nothing."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

LONGEST_LINE = 500
# No line that counts is longer; what a hostile container makes longer is not looked at.
_LOOKED_AT = 4000

# Where a line starts decides, never what is in it: names of the container's files stand in the log too.
_STAMP = re.compile(r"(?:\([0-9]+\.[0-9]+\)\s*)?(?:pie: )?(?:[0-9]+:\s+)?")
# liblxc puts the text of errno in front of some messages (its SYSERROR and log_error_errno).
_ERRNO = r"(?:(?!Fail|Unable|Could)[A-Z][A-Za-z0-9 ,/()'-]{2,60} - )?"
_ERROR = re.compile(
    r"(?:"
    r"Error \([^)\n]*\): "  # CRIU, and the execvp() of its scripts, which has no time stamp
    r"|Error: "  # iproute2 and nft, which CRIU runs
    r"|(?=BUG at )"  # CRIU's assertions, also in the restorer
    r"|ip6?tables(?:-legacy|-nft)?(?:-restore)?(?: v\S+)?(?: \(\w+\))?: "
    r"|(?:/\S*/)?criu: (?=unrecognized |invalid |option )"  # getopt
    # liblxc on standard error, and in its log file
    r"|lxc-[a-z]+: (?:\S+: )?\S+\.c: (?:\w+: [0-9]+ )?"
    + _ERRNO
    + r"|lxc-[a-z]+(?: \S+)? [0-9.]+ (?:ERROR|CRIT|ALERT|FATAL) +(?:\S+ - \S+\.c:\w+:[0-9]+ - )?"
    + _ERRNO
    + r")"
)
_WARNING = re.compile(r"Warn  ?\([^)\n]*\): ")

# Said at every run, or on every host of some kind, of dumps and restores that succeed.
_BENIGN = (
    re.compile(r"rlimit: Can't setup RLIMIT_NOFILE for self"),
    re.compile(r"ipv[46]: address already assigned", re.IGNORECASE),
)

# They follow from a line above them, and name no cause.
_CONSEQUENCES = (
    re.compile(r"(?:Dumping|Pre-dumping|Restoring) FAILED"),
    re.compile(r"(?:Dump|Collect|Pre-dumping) [\w ]+ \(pid: [0-9]+\) failed with"),
    re.compile(r"Can't make (?:uts|ipc|time|pid|user|mnt|net)ns id"),
    re.compile(r"Namespaces dumping finished with error"),
    re.compile(r"exited, status="),
    re.compile(r"Can't wait or bad status: "),
    re.compile(r"Unable to open fd=[0-9]+ id=|Can't sent fd [0-9]+ to [0-9]+|`- Can't open vma"),
    re.compile(r"(?:cg: )?cgroupd: recv req error"),
    re.compile(r"Restorer fail [0-9]+"),
    re.compile(r"Couldn't open image dir "),
    re.compile(r"line [0-9]+ failed"),  # iptables, where CRIU takes back a lock that it never had
    re.compile(r"criu process exited|restore process died|dump failed with |criu output:|\S+ \S+ failed$"),
    re.compile(r"(?:Checkpointing|Restoring) \S+ failed"),
)

# Up to here all went well, whatever was said before.
SUCCESS = re.compile(r"(?:Dumping|Pre-dumping|Restore) finished successfully")
FAILURE = re.compile(r"(?:Dumping|Pre-dumping|Restoring) FAILED")


@dataclass(frozen=True)
class Line:
    """One line. text: as it stands in the log; body: without time and pid; message: without what the program puts in front.

    error: whether the program calls it one. consequence: whether it only follows from an error before it.
    """

    text: str
    body: str
    message: str
    error: bool
    consequence: bool


def parse(text: str) -> Line | None:
    """A line of a log; None for one that says nothing."""
    text = text[:_LOOKED_AT].rstrip()
    start = _STAMP.match(text)
    rest = text[start.end() :] if start else text
    error = _ERROR.match(rest)
    if error:
        message = rest[error.end() :]
        if any(pattern.match(message) for pattern in _BENIGN):
            return None
        return Line(text, rest, message, True, any(pattern.match(message) for pattern in _CONSEQUENCES))
    warning = _WARNING.match(rest)
    message = rest[warning.end() :] if warning else rest
    return Line(text, rest, message, False, False) if message else None


def bounded(line: str) -> str:
    """At most 500 characters, and `?` for those that would upset a terminal."""
    clean = "".join(character if character.isprintable() or character == "\t" else "?" for character in line.rstrip())
    return clean if len(clean) <= LONGEST_LINE else clean[: LONGEST_LINE - 1] + "…"


def errors(lines: t.Iterable[str], most: int) -> list[str]:
    """The lines that say what went wrong, literally and in their order; for what is left out see _criu_log."""
    causes: list[str] = []
    consequences: list[str] = []
    seen: set[str] = set()
    for text in lines:
        line = parse(text)
        if line is None or not line.error or line.body in seen:
            continue
        if len(seen) < 20 * most:
            seen.add(line.body)
        if not line.consequence:
            causes.append(bounded(line.text))
            if len(causes) == most:
                break
        elif len(consequences) < most:
            consequences.append(bounded(line.text))
    return causes or consequences

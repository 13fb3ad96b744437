# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a log of CRIU or liblxc says went wrong, and the most usual remedies."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

LONGEST_LINE = 500
MOST_LINES = 20

# Where a line starts decides, never what is in it: names of the container's files stand in the log too.
_STAMP = r"(?:\([0-9]+\.[0-9]+\)\s+)?(?:pie: )?(?:[0-9]+:\s+)?"
_ERROR = re.compile(
    rf"{_STAMP}(?:"
    r"Error \("  # CRIU, and the execvp() of its scripts, which has no time stamp
    r"|Error: "  # iproute2 and nft, which CRIU runs
    r"|BUG at "  # CRIU's assertions, also in the restorer
    r"|ip6?tables(?:-legacy|-nft)?(?:-restore)?(?: v\S+)?(?: \(\w+\))?: "
    r")"
    r"|lxc-[a-z]+: (?:\S+: )?\S+\.c: "  # liblxc on standard error
    r"|lxc-[a-z]+(?: \S+)? [0-9.]+ (?:ERROR|CRIT|ALERT|FATAL) "  # liblxc in its log file
)

# Said at every run, or on every host of some kind, of dumps and restores that succeed.
_BENIGN = (
    re.compile(r"rlimit: Can't setup RLIMIT_NOFILE for self"),
    re.compile(r"ipv[46]: address already assigned", re.IGNORECASE),
)

# They follow from a line above them, and name no cause.
_CONSEQUENCES = (
    re.compile(r"(?:Dumping|Pre-dumping|Restoring) FAILED"),
    re.compile(r"Dump \w+ \(pid: [0-9]+\) failed with"),
    re.compile(r"\): exited, status="),
    re.compile(r"criu process exited"),
)


@dataclass(frozen=True)
class Rule:
    """A cause that is known by its line in the log. remedy: one line that says what to do."""

    name: str
    pattern: re.Pattern[str]
    remedy: str


def _rule(name: str, pattern: str, remedy: str) -> Rule:
    return Rule(name, re.compile(pattern), remedy)


# For one line the first rule that fits counts.
RULES: tuple[Rule, ...] = (
    _rule(
        "vdso",
        r"Unexpected rt vDSO area bounds",
        "This CRIU is too old for the kernel: 6.13 and newer need CRIU 4.1 or newer. Apply the role stasis.lxc.criu.",
    ),
    _rule(
        "passcred",
        r"sockets: Can't get 1:(?:16|34) opt: Operation not supported",
        "This CRIU is too old for IP sockets on this kernel: 6.16 and newer need CRIU 4.2 or newer. "
        "Apply the role stasis.lxc.criu.",
    ),
    _rule(
        "tty",
        r"Unable to find a master for|Found dangling tty|Found slave peer index",
        "A process holds a terminal whose other end is outside the container: "
        "set lxc.tty.max = 0 and lxc.console.path = none, and close open lxc-attach and lxc-console sessions.",
    ),
    _rule(
        "nested_namespace",
        r"Can't dump nested \w+ namespace",
        "A process in the container has a namespace of its own, which CRIU cannot dump: "
        "switch that off for its service (for systemd ProtectHostname=, PrivateUsers=, PrivateIPC=).",
    ),
    _rule(
        "in_flight",
        r"In-flight connection",
        "A TCP connection was being set up: set skip_in_flight to true, or try again.",
    ),
    _rule(
        "connected_tcp",
        r"Connected TCP socket",
        "The container has established TCP connections: set tcp_established to true.",
    ),
    _rule(
        "ghost",
        r"Can't dump ghost file .* increase limit",
        "A deleted file that is still open is larger than the limit: raise ghost_limit above the size in the log.",
    ),
    _rule(
        "bridge",
        r"Can't add interface .* to bridge",
        "The bridge does not exist here or cannot take the interface: create it, or name another one in nics.",
    ),
    _rule(
        "pid",
        r"Can't fork for [0-9]+: File exists|Pid [0-9]+ do not match expected|Thread pid mismatch",
        "Another process has one of the pids that the container had: stop that process, or try again.",
    ),
    _rule(
        "lsm_profile",
        r"can't write lsm profile|mismatched lsm types",
        "The container's AppArmor or SELinux profile is not loaded on this host: load it, or set lsm_profile.",
    ),
    _rule(
        "firewall_tool",
        r'execvp\("ip6?tables(?:-\w+)*"|Locking network failed|CHAIN_\w+ failed .* chain CRIU',
        "CRIU's own network lock does not work here: install iptables, or set network_lock to bridge, nftables or skip.",
    ),
    _rule(
        "freeze",
        r"Unable to freeze|Failed getting freezer path|already frozen",
        "The container could not be frozen: thaw it if it is frozen already, and look for processes in the state D.",
    ),
    _rule(
        "file_changed",
        r"has bad (?:size|mode|build-ID)",
        "A file that the container had open was changed after the dump: put it back as it was, or start the container anew.",
    ),
    _rule(
        "address",
        r"Can't (?:bind|connect) inet socket|Cannot assign requested address",
        "An IP address that the container had is not there: give the interface and the bridge the same addresses as at the dump.",
    ),
    _rule(
        "process_gone",
        r"Unable to (?:interrupt|detach from|seize)\b.*: No such process",
        "The process ended before it was dumped: look whether the container is still running.",
    ),
)


def error_lines(text: str) -> list[str]:
    """The lines that say what went wrong, literally and in their order.

    text: dump.log, restore.log, or standard error and log of lxc-checkpoint. Out come at most 20 lines of at most 500
    characters: lines that CRIU writes on success too are left out, and so are repetitions and all that only
    follows from an earlier line. Where nothing else is left, what follows is kept. Characters that would upset a
    terminal become `?`.
    """
    causes: list[str] = []
    consequences: list[str] = []
    seen: set[str] = set()
    for line in text.split("\n"):
        match = _ERROR.match(line)
        if not match or any(pattern.search(line) for pattern in _BENIGN):
            continue
        message = re.sub(rf"\A{_STAMP}", "", line)
        if message in seen:
            continue
        seen.add(message)
        followed = any(pattern.search(line) for pattern in _CONSEQUENCES)
        (consequences if followed else causes).append(_bounded(line))
        if len(causes) == MOST_LINES:
            break
    return causes or consequences[:MOST_LINES]


def first_meaningful(lines: t.Sequence[str]) -> str:
    """The line that most likely names the cause: the first that a rule knows, else the first; "" for none."""
    found = match_rule(lines)
    return found[1] if found else next(iter(lines), "")


def advice(lines: t.Sequence[str]) -> str:
    """What to do about it, in one line; "" where no rule knows any of the lines."""
    found = match_rule(lines)
    return found[0].remedy if found else ""


def match_rule(lines: t.Sequence[str], rules: t.Sequence[Rule] = RULES) -> tuple[Rule, str] | None:
    """The first line that a rule knows, with that rule: CRIU's first error is the cause more often than its last."""
    for line in lines:
        for rule in rules:
            if rule.pattern.search(line):
                return rule, line
    return None


def _bounded(line: str) -> str:
    clean = "".join(character if character.isprintable() or character == "\t" else "?" for character in line.rstrip())
    return clean if len(clean) <= LONGEST_LINE else clean[: LONGEST_LINE - 1] + "…"

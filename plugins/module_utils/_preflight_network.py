# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about routes and firewall rules of the container's network namespaces. Pure but for look()."""

from __future__ import annotations

import json
import re
import shutil
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _proc, _runner

# One start of ip for all of it. The counts have no JSON.
_BATCH = "nexthop show\nroute show table all\nneigh show nud permanent\nxfrm state count\nxfrm policy count\n"
_COMMENT = re.compile(r"^\s*#.*\n?", re.MULTILINE)
_FOREIGN = re.compile(r"\bxt (?:match|target) |#.*\bxt_\w+")
_COUNT = re.compile(r"\b(?:SAD count|IN|OUT|FWD)\s+(\d+)")
_NFT_ERROR = re.compile(r"Error: ([^\n]+)")
# What iptables writes with an extension of its own, and does not know again as nft's (tried with 1.8.9).
_UNREADABLE = re.compile(r"\b(?:reject|masquerade|redirect|dnat|snat|log|ct state|maxseg|fib)\b")
_TABLE = re.compile(r"^table (\w+ \w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_MANAGED = re.compile(r"# Warning: table (\w+ \w+) is managed by iptables-nft")


@dataclass(frozen=True)
class Network:
    """What is in one network namespace. label: what a finding calls it.

    nexthops: ids of nexthop objects. routes: as `ip -j route show table all` says. neighbours: addresses of permanent ones.
    encrypted: number of xfrm states and policies. rules: of nftables. managed: its tables that iptables-nft has made.
    refused: what nft says where it cannot load its own listing.
    """

    label: str
    nexthops: tuple[int, ...] = ()
    routes: tuple[t.Mapping[str, t.Any], ...] = ()
    neighbours: tuple[str, ...] = ()
    encrypted: int = 0
    rules: str = ""
    managed: tuple[str, ...] = ()
    refused: str = ""


def look(runner: _runner.Runner, tasks: t.Sequence[_proc.Task], own: str, *, proc: str = "/proc") -> list[Network]:
    """Every network namespace that a process lives in, but for the one that is named own."""
    first: dict[str, _proc.Task] = {}
    for task in tasks:
        first.setdefault(task.namespaces.get("net", ""), task)
    found = []
    for namespace, task in first.items():
        if namespace and namespace != own:
            label = "network" if task is tasks[0] else f"network of {task.label}"
            found.append(_one(runner, label, ["nsenter", f"--net={proc}/{task.pid}/ns/net"]))
    return found


def _one(runner: _runner.Runner, label: str, enter: t.Sequence[str]) -> Network:
    answers = runner.run([*enter, "ip", "-j", "-batch", "-"], stdin=_BATCH).stdout
    (nexthops, routes, neighbours), rest = _documents(answers, 3)
    rules, managed, refused = "", (), ""
    if shutil.which("nft", path=_runner.clean_environment()["PATH"]):
        listed = runner.run([*enter, "nft", "list", "ruleset"])
        rules = listed.stdout if _COMMENT.sub("", listed.stdout).strip() else ""
        managed = tuple(_MANAGED.findall(listed.stdout + listed.stderr))
        refused = _refused(runner, rules) if rules else ""
    return Network(
        label,
        nexthops=tuple(one["id"] for one in nexthops if "id" in one),
        routes=tuple(routes),
        neighbours=tuple(str(one["dst"]) for one in neighbours if "dst" in one),
        encrypted=sum(map(int, _COUNT.findall(rest))),
        rules=rules,
        managed=managed,
        refused=refused,
    )


def _documents(text: str, number: int) -> tuple[list[list[dict[str, t.Any]]], str]:
    """So many JSON lists from the start of a text, and what follows them. What is missing is empty."""
    found: list[list[dict[str, t.Any]]] = []
    decoder = json.JSONDecoder()
    rest = text.lstrip()
    while len(found) < number:
        try:
            one, end = decoder.raw_decode(rest)
        except ValueError:
            found.append([])
            continue
        found.append(one if isinstance(one, list) else [])
        rest = rest[end:].lstrip()
    return found, rest


def _refused(runner: _runner.Runner, rules: str) -> str:
    """Load the rules as CRIU does it, in a network namespace that lasts as long as this; the error, or nothing."""
    done = runner.run(["unshare", "--net", "nft", "-f", "-"], stdin=rules)
    if done.rc == 0:
        return ""
    errors = _NFT_ERROR.findall(done.stderr)
    # The interfaces that a rule is bound to are made before the rules, but not here.
    absent = [one for one in errors if "No such file or directory" in one]
    telling = [one for one in errors if one not in absent or "device" not in rules]
    return telling[0] if telling else ""


def check(networks: t.Iterable[Network]) -> list[_findings.Finding]:
    """Every finding about routes and firewall rules."""
    return [finding for one in networks for each in (_routes, _firewall, _lost) for finding in each(one)]


def _routes(one: Network) -> t.Iterator[_findings.Finding]:
    # CRIU saves the main table only; the other ones are lost, and do not fail.
    bound = [str(route.get("dst", "")) for route in one.routes if "nhid" in route and not _table(route)]
    if bound:
        yield _findings.Finding(
            "nexthop-route",
            _findings.BLOCKS,
            one.label,
            f"{_listed('route', bound)} to a nexthop object (nhid), which CRIU dumps and cannot restore.",
            "Put the gateway into the route itself: `ip route replace DESTINATION via GATEWAY dev INTERFACE`; FRR has "
            "`no zebra nexthop kernel enable`.",
        )


def _firewall(one: Network) -> t.Iterator[_findings.Finding]:
    if one.refused or _FOREIGN.search(one.rules):
        yield _findings.Finding(
            "firewall-rules",
            _findings.BLOCKS,
            one.label,
            "CRIU dumps its firewall rules as nft lists them, and nft cannot load that list"
            + (f": {one.refused[:200]}." if one.refused else "."),
            "Write these rules for nft itself (iptables-translate helps), or for iptables-legacy, inside the container.",
        )


def _lost(one: Network) -> t.Iterator[_findings.Finding]:
    others = sorted({table for route in one.routes for table in [_table(route)] if table not in ("", "local")})
    unused = one.nexthops and not any("nhid" in route and not _table(route) for route in one.routes)
    if one.encrypted:
        yield _findings.lost(
            "xfrm",
            one.label,
            f"{one.encrypted} states and policies of IPsec (xfrm) encrypt its traffic; CRIU does not keep them, and it "
            "would go on in the clear.",
            "Stop the container's IPsec first, and start it again after the restore.",
            grave=True,
        )
    if others:
        yield _findings.lost(
            "routing-table",
            one.label,
            f"CRIU keeps the main routing table only, and not {', '.join(others[:5])}.",
            "Set these routes again after the restore.",
        )
    if unused:
        yield _findings.lost(
            "nexthop",
            one.label,
            f"CRIU does not keep its nexthop objects ({', '.join(map(str, one.nexthops[:5]))}).",
            "Make them again after the restore.",
        )
    tables = [name for name, text in _TABLE.findall(one.rules) if name in one.managed and _UNREADABLE.search(text)]
    if tables and not one.refused:
        yield _findings.lost(
            "iptables-table",
            one.label,
            f"Its rules in {', '.join(tables)} stay in force, but are nft's after a restore, and iptables calls the table "
            "incompatible.",
            "Change them with nft after the restore, or `nft flush ruleset` and load them again with iptables.",
        )
    if one.neighbours:
        yield _findings.lost(
            "neighbour",
            one.label,
            f"CRIU does not keep its permanent neighbours ({', '.join(one.neighbours[:5])}).",
            "Set them again after the restore.",
        )


def _table(route: t.Mapping[str, t.Any]) -> str:
    """The table of a route; "" for the main one."""
    table = str(route.get("table", ""))
    return "" if table in ("main", "254") else table


def _listed(what: str, names: t.Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"The {what}{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more} lead{'' if len(names) > 1 else 's'}"

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The census of namespaces that a thread of ours has to enter to see: networks, System V objects, names of the host.

The thread only reads, and ends then. iproute2 and the firewall's tools, which show the rest of a network, are the host's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _census_compare,
    _errors,
    _files,
    _iproute,
    _pidfd,
    _proc_files,
    _runner,
)

# <linux/sched.h>
_FLAGS = {"uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000}
_SECONDS = 20.0
_BATCH = (
    "address show\nroute show table all\nrule show\nneighbour show nud permanent\nneighbour show proxy\nnexthop show\n"
    "xfrm policy list nosock\n"
)
_BATCH_DOCUMENTS = 6
_SYSCTLS = "/proc/sys/net"
# Those of the whole host or of its kernel, and what they count or make of others.
_VOLATILE = re.compile(r"(?:_mem|_count|/mc_forwarding|/stable_secret|/flush|fastopen_key|/mtu|/hop_limit)\Z")
_SYSV = {"shm": ("System V segment", 3), "msg": ("System V queue", 0), "sem": ("System V semaphores", 3)}
_LINK_FLAGS = ("UP", "PROMISC", "ALLMULTI", "NOARP")
_TABLE = re.compile(r"^table (\w+ \S+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_COUNTERS = re.compile(r"\[\d+:\d+\]")
_COMMENT = re.compile(r"^\s*#.*\n?", re.MULTILINE)


def look(
    runner: _runner.Runner, places: t.Mapping[str, tuple[str, int]], *, proc: str = "/proc"
) -> dict[str, _census_compare.Subject]:
    """Namespaces by what the census calls them, each as its kind (net, ipc or uts) and a process that lives in it.

    Raises StasisError or OSError where one of them cannot be entered.
    """
    found = {}
    for key, (kind, pid) in places.items():
        path = f"{proc}/{pid}/ns/{kind}"
        if kind == "net":
            things = {**_links_and_routes(runner, path), **_firewall(runner, path, f"{proc}/{pid}")}
            found[key] = _census_compare.Subject("", _within(path, kind, _sysctls), things)
        elif kind == "ipc":
            texts = _within(path, kind, _sysv_texts)
            things = {name: sysv(texts[word], size) for word, (name, size) in _SYSV.items()}
            found[key] = _census_compare.Subject("", {}, things)
        else:
            found[key] = _census_compare.Subject("", _within(path, kind, _names))
    return found


def _within(path: str, kind: str, read: t.Callable[[], dict[str, str]]) -> dict[str, str]:
    """What a function of ours reads in a namespace, in a thread that ends with it: no other one ever leaves its namespaces."""
    answers: list[dict[str, str] | OSError] = []

    def enter() -> None:
        try:
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = _pidfd.libc()
                if libc.setns(namespace, _FLAGS[kind]):
                    raise OSError(f"setns: {path}")
            finally:
                os.close(namespace)
            answers.append(read())
        except OSError as exc:
            answers.append(exc)

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if not answers:
        raise _errors.StasisError(f"{path} could not be read within {_SECONDS:.0f} s.")
    if isinstance(answers[0], OSError):
        raise answers[0]
    return answers[0]


def _sysctls() -> dict[str, str]:
    found = {}
    for directory, _folders, files in os.walk(_SYSCTLS):
        for name in files:
            path = f"{directory}/{name}"
            # What cannot be written is not the container's.
            if not _VOLATILE.search(path) and (status := _proc_files.stat(path)) and status.st_mode & 0o200:
                text = " ".join(_proc_files.read(path, small=True).split())
                if text:
                    found[f"sysctl {path[len('/proc/sys/') :].replace('/', '.')}"] = text
    return found


def _sysv_texts() -> dict[str, str]:
    return {word: _proc_files.read(f"/proc/sysvipc/{word}") for word in _SYSV}


def _names() -> dict[str, str]:
    return {word: _proc_files.read(f"/proc/sys/kernel/{word}").strip() for word in ("hostname", "domainname")}


def sysv(text: str, size: int) -> dict[str, str]:
    """The objects in the text of a file in /proc/sysvipc. size: the column with a number that is the object's, or 0."""
    rows = [line.split() for line in _files.lines(text)[1:]]
    return {
        row[1]: f"key {row[0]}, mode {row[2]}" + (f", size {row[3]}" if size else "") for row in rows if len(row) > 3
    }


def _links_and_routes(runner: _runner.Runner, path: str) -> dict[str, dict[str, str]]:
    enter = ["nsenter", f"--net={path}"]
    text = runner.run([*enter, "ip", "-force", "-j", "-batch", "-"], stdin=_BATCH, timeout=_SECONDS).stdout
    found, policies = _iproute.documents(text)
    if len(found) != _BATCH_DOCUMENTS:
        return {}
    more, _rest = _iproute.documents(runner.run([*enter, "ip", "-6", "-j", "rule", "show"], timeout=_SECONDS).stdout)
    return network(found, more[0] if more else [], policies)


def network(
    found: t.Sequence[t.Sequence[t.Mapping[str, t.Any]]], rules6: t.Sequence[t.Mapping[str, t.Any]], policies: str
) -> dict[str, dict[str, str]]:
    """What a batch has listed, in its order; the rules of IPv6; and what is behind them. Pure."""
    links, routes, rules, neighbours, proxies, nexthops = found
    return {
        "interface": {one["ifname"]: _link(one) for one in links if "ifname" in one},
        "address": {key: "" for one in links for key in _addresses(one)},
        "route": {_route(one): "" for one in routes if _is_kept(one)},
        "rule": {**{_words(one): "" for one in rules}, **{f"of IPv6, {_words(one)}": "" for one in rules6}},
        "neighbour": {f"{one['dst']} at {one.get('lladdr')} on {one.get('dev')}": "" for one in neighbours},
        "proxy": {f"of {one['dst']} on {one.get('dev')}": "" for one in proxies if "dst" in one},
        "nexthop": {str(one["id"]): _words(one, "flags", "id") for one in nexthops if "id" in one},
        "xfrm policy": {line.strip(): "" for line in _files.lines(policies) if line.startswith("src ")},
    }


def _link(one: t.Mapping[str, t.Any]) -> str:
    words = [f"MTU {one.get('mtu')}", f"queue length {one.get('txqlen')}", str(one.get("address", ""))]
    words += [f"alias {one['ifalias']}"] if one.get("ifalias") else []
    words += [f"group {one['group']}"] if one.get("group", "default") != "default" else []
    return " ".join([*words, *(flag for flag in _LINK_FLAGS if flag in one.get("flags", ()))])


def _addresses(one: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    for each in one.get("addr_info", ()):
        # One that somebody gives out for a while comes and goes.
        if each.get("local") and not each.get("dynamic"):
            yield f"{each['local']}/{each.get('prefixlen')} on {one.get('ifname')}"


def _is_kept(route: t.Mapping[str, t.Any]) -> bool:
    # The kernel makes some of the addresses; a router gives out others for a while.
    return (
        route.get("table") != "local"
        and route.get("protocol") not in ("kernel", "ra", "redirect")
        and "expires" not in route
        and route.get("type", "unicast") not in ("multicast", "anycast", "broadcast", "local")
    )


def _route(one: t.Mapping[str, t.Any]) -> str:
    first = " ".join(filter(None, (one.get("type"), str(one.get("dst", "default")))))
    rest = {"via": one.get("gateway") or one.get("via"), "dev": one.get("dev"), "table": one.get("table", "main")}
    words = [f"{name} {_plain(value)}" for name, value in rest.items() if value]
    left = _words(one, "type", "dst", "gateway", "via", "dev", "table", "flags", "pref", "age", "used")
    return " ".join([first, *words, *([left] if left else [])])


def _words(one: t.Mapping[str, t.Any], *without: str) -> str:
    return " ".join(f"{key} {_plain(value)}" for key, value in sorted(one.items()) if key not in without)


def _plain(value: t.Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_plain(one)}" for key, one in sorted(value.items()) if key != "flags")
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)


def _firewall(runner: _runner.Runner, path: str, top: str) -> dict[str, dict[str, str]]:
    """The rules by their tables, as hashes; and whether the tools, which have signs of their own in them, still know them."""
    enter, places = ["nsenter", f"--net={path}"], _runner.clean_environment()["PATH"]
    found: dict[str, dict[str, str]] = {}

    def said(*argv: str) -> str | None:
        if shutil.which(argv[0], path=places) is None:
            return None
        done = runner.run([*enter, *argv], timeout=_SECONDS)
        return None if done.rc else done.stdout

    # Without counters, and without elements, which packets add and time takes away.
    listed = said("nft", "--stateless", "--terse", "list", "ruleset")
    if listed is not None:
        found["nftables table"] = tables(listed)
        tools = ("iptables-nft", "ip6tables-nft") if found["nftables table"] else ()
        answers = {tool: said(f"{tool}-save") for tool in tools}
        found["acceptance of its tables by"] = {
            tool: "no" if "incompatible" in text else "yes" for tool, text in answers.items() if text is not None
        }
    for tool, name in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        if _proc_files.read(f"{top}/net/{name}").strip():
            text = said(f"{tool}-legacy-save")
            if text is not None:
                found[f"rules of {tool}-legacy"] = {"": _digest(_COUNTERS.sub("", _COMMENT.sub("", text)))}
    return found


def tables(listed: str) -> dict[str, str]:
    """A hash for each table in a listing of nft. Pure."""
    return {name: _digest(_COMMENT.sub("", body)) for name, body in _TABLE.findall(listed)}


def _digest(text: str) -> str:
    return _census_compare.DIGEST + hashlib.sha256(_files.encoded(text)).hexdigest()

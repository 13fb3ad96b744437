# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Why a network interface would not come back as it was: refused by name before anything is frozen.

Pure: everything works on what `ip -j -d addr`, `bridge -j fdb`, `bridge -j mdb` and `tc -j qdisc` have said.
Each reason is one line that reads on after the interface's name.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _bridge_ports

Link = t.Mapping[str, t.Any]

# Longer than IFNAMSIZ allows there is no interface; other characters the kernel takes, but `ip -batch` (quotes, #)
# and CRIU's --external (], @) read them as their own.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,14}\Z")

# What CRIU 4.x itself dumps and restores, without a word from us (read: dump_one_link() in its net.c). The
# devices with a 0 are those that the kernel puts into every new network namespace; CRIU leaves them alone.
_KINDS_OF_CRIU = frozenset(("veth", "tun", "bridge", "sit"))
_NAMES_OF_CRIU = frozenset(("gre0", "gretap0"))
_FALLBACK_TUNNELS = frozenset(("tunl0", "ip6tnl0", "ip6gre0", "ip_vti0", "ip6_vti0", "erspan0"))

# The veths that LXC makes have no queue; neither have those that CRIU makes.
_NO_QUEUE = frozenset(("noqueue", "noop"))


def is_plain_name(name: str) -> bool:
    """Whether every program in the way takes this for one interface name of at most 15 characters."""
    return bool(_PLAIN_NAME.match(name))


def inside_problems(link: Link) -> list[str]:
    """What CRIU loses of any interface inside; link: of `ip -j -d addr` in the container's namespace."""
    found = []
    if not is_plain_name(str(link["ifname"])):
        found.append("has a name that CRIU and ip cannot be told; rename it")
    if "xdp" in link:
        found.append("runs an XDP program inside, which CRIU does not keep")
    if link.get("qdisc", "noqueue") not in _NO_QUEUE and _kind(link) in ("veth", "macvlan"):
        found.append(f"has the queueing discipline {link['qdisc']} inside, which CRIU does not keep")
    return found


def foreign_problem(link: Link) -> str:
    """Why CRIU cannot dump an interface inside that the configuration does not name, or "" where it can."""
    name, kind = str(link["ifname"]), _kind(link)
    if kind in _KINDS_OF_CRIU or name in _NAMES_OF_CRIU:
        return ""
    if name in _FALLBACK_TUNNELS:
        return (
            f"is the kernel's fallback tunnel ({kind}), which CRIU cannot dump; set the sysctl "
            "net.core.fb_tunnels_only_for_init_net to 2 and start the container again, or delete it inside"
        )
    if not kind:
        return "is a physical interface, which CRIU cannot dump; put it in a bridge on the host and use a veth"
    if kind == "macvlan":
        return "is a macvlan whose parent is not on the host; CRIU cannot restore it"
    return f"is of kind {kind}, which CRIU cannot dump; delete it inside first"


def veth_problems(link: Link) -> list[str]:
    """What the host side of a veth has that a new veth would not have; link: its entry of `ip -j -d addr`."""
    name, master = str(link["ifname"]), str(link.get("master", ""))
    found = []
    if not is_plain_name(name) or (master and not is_plain_name(master)):
        found.append(f"has a host side {name!r} or a bridge {master!r} whose name cannot be recorded; rename it")
    slave = str(link.get("linkinfo", {}).get("info_slave_kind", ""))
    if master and slave != "bridge":
        found.append(f"is attached to {master}, which is not a Linux bridge but {slave or 'of unknown kind'}")
    if "UP" not in link.get("flags", ()):
        found.append(f"has its host side {name} down, and a restore would bring it up; run `ip link set {name} up`")
    extras = [f"alternative name {altname}" for altname in link.get("altnames", ())]
    if link.get("ifalias"):
        extras.append("alias")
    if link.get("group", "default") != "default":
        extras.append(f"group {link['group']}")
    if "xdp" in link:
        extras.append("XDP program")
    extras += [f"port attribute {attribute}" for attribute in _bridge_ports.unkept_attributes(link)]
    extras += [f"address {address}" for address in own_addresses(link)]
    if extras:
        found.append(f"would lose, on its host side {name}: {', '.join(extras)}")
    return found


def own_addresses(link: Link) -> list[str]:
    """The addresses of an interface, as ADDRESS/PREFIX, but for the link-local one that the kernel gives itself.

    That one is always a /64; LXC's `veth.mode = router` adds a link-local address of its own as /128.
    """
    return [
        f"{one['local']}/{one['prefixlen']}"
        for one in link.get("addr_info", ())
        if (one.get("family"), one.get("scope"), one["prefixlen"]) != ("inet6", "link", 64)
    ]


def fdb_problems(link: Link, entries: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Static forwarding entries on the port; entries: `bridge -j fdb show brport VETH`.

    The kernel itself enters the port's own MAC as permanent, and multicast addresses as `self`.
    """
    static = [
        str(entry["mac"])
        for entry in entries
        if entry.get("state") in ("permanent", "static")
        and entry["mac"] != link.get("address")
        and not int(str(entry["mac"]).partition(":")[0], 16) & 1
    ]
    if not static:
        return []
    return [f"would lose the static forwarding entries {', '.join(static)} of its port {link['ifname']}"]


def mdb_problems(link: Link, entries: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Permanent multicast groups of the port; entries: `bridge -j mdb show`, which may be of all bridges."""
    groups = [
        str(group["grp"])
        for entry in entries
        for group in entry.get("mdb", ())
        if group.get("port") == link["ifname"] and group.get("state") == "permanent"
    ]
    return [f"would lose the multicast groups {', '.join(groups)} of its port {link['ifname']}"] if groups else []


def qdisc_problems(link: Link, entries: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Traffic control on the host side; entries: `tc -j qdisc show dev VETH`, filters hang on ingress or clsact."""
    kinds = [str(entry["kind"]) for entry in entries if entry.get("kind") not in _NO_QUEUE]
    return [f"would lose the traffic control ({', '.join(kinds)}) of its host side {link['ifname']}"] if kinds else []


def route_problems(link: Link, entries: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """Routes of the host through a veth; entries: `ip -j route show table all dev VETH`, of both families."""
    routes = [str(entry["dst"]) for entry in entries if entry.get("protocol") != "kernel"]
    return [f"would lose the host's routes to {', '.join(routes)} through {link['ifname']}"] if routes else []


def _kind(link: Link) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))

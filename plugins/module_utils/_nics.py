# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The network interfaces of a container, as the kernel knows them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _bridge_ports,
    _errors,
    _iproute,
    _lxc_config,
    _nic_problems,
    _orphan_veths,
    _runner,
)


@dataclass(frozen=True)
class Nic:
    """One network interface of a container.

    index: N of `lxc.net.N`, or the next free number for one that was moved in later. kind: veth, macvlan, phys,
    empty, none, `inner veth` where the other end is not on the host, or the kernel's word for any other. name: inside. veth, mac, mtu, bridge, addresses:
    of the host side of a veth ("", 0 or () otherwise). port: attributes of the bridge port, named as in
    /sys/class/net/VETH/brport, whose values are not a fresh port's. vlans: what a fresh port is short of, as
    lines for the hook (`add vid 10 pvid untagged`). state: of the port, where it is not what the kernel gives it.
    sysctls: of the host side, `family name` to value: those that the hook changes while it holds the network.
    link: parent of a macvlan, or the host's name of a phys. problems: why this NIC cannot be kept over a dump
    with stop; one line each.
    """

    index: int
    kind: str
    name: str = ""
    veth: str = ""
    bridge: str = ""
    mac: str = ""
    mtu: int = 0
    port: t.Mapping[str, str] = field(default_factory=dict)
    vlans: tuple[str, ...] = ()
    state: str = ""
    sysctls: t.Mapping[str, str] = field(default_factory=dict)
    link: str = ""
    addresses: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def observe(
    init_pid: int,
    configured: t.Sequence[_lxc_config.ConfiguredNic],
    runner: _runner.Runner,
    *,
    sysfs: str = "/sys",
    proc: str = "/proc",
) -> list[Nic]:
    """The NICs of the running container whose init is init_pid, by rising number.

    Read from the kernel, not from the configuration: that holds for restored containers, for unnamed NICs and for
    what was changed since the start. A configured NIC that is not there any more is left out. An interface that
    the configuration does not name gets the next free number: a veth or macvlan that was moved in is kept like
    the others; what the container made itself (bridge, tun, veth to a namespace of its own) has its kind, and no
    problems where CRIU keeps it.
    Raises StasisError where the container is gone or a program of iproute2 fails.
    """
    if _shares_host_network(init_pid, proc):
        # LXC makes no network namespace where every NIC is of type none; CRIU then leaves the host's alone.
        index = next((nic.index for nic in configured if nic.type == "none"), 0)
        return [Nic(index, "none")]
    inside = inside_links(init_pid, runner, proc)
    outside = {int(link["ifindex"]): link for link in _list(runner, ["ip", "-j", "-d", "addr"])}
    view = _View(runner, sysfs, proc, outside)
    numbered = correlate(inside, configured)
    types = {nic.index: nic for nic in configured}
    nics = [_observed(view, index, link, types.get(index)) for index, link in numbered]
    nics += [Nic(nic.index, "empty") for nic in configured if nic.type == "empty"]
    return sorted(nics, key=lambda nic: nic.index)


def inside_links(init_pid: int, runner: _runner.Runner, proc: str = "/proc") -> list[_nic_problems.Link]:
    """`ip -j -d addr` in the network namespace of init_pid.

    nsenter, because `ip -n` takes only names below /run/netns, and giving a namespace a name would leave
    something behind on the host; nsenter comes with util-linux, which every host has. Only the network namespace
    is entered, so the `ip` that runs is the host's own.
    """
    return _list(runner, ["nsenter", f"--net={proc}/{init_pid}/ns/net", "ip", "-j", "-d", "addr"])


def correlate(
    inside: t.Sequence[_nic_problems.Link], configured: t.Sequence[_lxc_config.ConfiguredNic]
) -> list[tuple[int, _nic_problems.Link]]:
    """Each interface inside, but for lo, with its number. Pure.

    liblxc names the NICs as configured, a phys without a name like its link, and then lets the kernel give every
    other one, by rising number, the lowest `ethN` that is left. CRIU restores the names. What carries another name
    by now is told by its kind, in the order in which it was created.
    """
    left = {str(link["ifname"]): link for link in inside if link["ifname"] != "lo"}
    expecting = [nic for nic in configured if nic.type not in ("empty", "none")]
    names = {nic.index: nic.name or nic.link for nic in expecting if nic.name or nic.type == "phys"}
    for nic in expecting:
        if nic.index not in names:
            names[nic.index] = next(
                name for name in map("eth{}".format, range(len(names) + 1)) if name not in names.values()
            )
    found: dict[int, _nic_problems.Link] = {}
    for nic in expecting:
        if names[nic.index] in left:
            found[nic.index] = left.pop(names[nic.index])
    for nic in expecting:
        same_kind = [name for name, link in left.items() if _kind(link) == nic.type]
        if nic.index not in found and same_kind:
            found[nic.index] = left.pop(min(same_kind, key=lambda name: int(left[name]["ifindex"])))
    after = max((nic.index for nic in configured), default=-1) + 1
    others = sorted(left.values(), key=lambda link: int(link["ifindex"]))
    return sorted([*found.items(), *enumerate(others, after)], key=lambda pair: pair[0])


def peer_name(nic: Nic) -> str:
    """The name of the inner end of a veth while it is still on the host, where the hook makes the pair. Pure."""
    return f"peer{hashlib.sha256(nic.veth.encode()).hexdigest()[:10]}"


def criu_externals(nics: t.Sequence[Nic], made_before: bool = False) -> list[str]:
    """Values of --external for a restore, one for each NIC that CRIU has to be told of.

    made_before: the hook makes the veths, and CRIU moves the inner ends in. That is the way for a user namespace,
    since there CRIU asks the host's kernel for an interface of the number that the inner end had, and on most hosts
    that number is taken (criu/net.c, userns_restore_one_link()).

    A veth comes without `@bridge`: CRIU would attach it before the tasks are ready, and knows neither VLANs nor
    port attributes; the hook attaches it at network-unlock.
    """
    values = []
    for nic in nics:
        if nic.kind == "veth" and made_before:
            values.append(f"netdev[{nic.name}]:{peer_name(nic)}")
        elif nic.kind == "veth":
            values.append(f"veth[{nic.name}]:{nic.veth}")
        elif nic.kind == "macvlan" and nic.link:
            values.append(f"macvlan[{nic.name}]:{nic.link}")
        elif nic.kind == "phys" and nic.link:
            values.append(f"netdev[{nic.name}]:{nic.link}")
    return values


def retarget(nics: t.Sequence[Nic], wanted: t.Sequence[t.Mapping[str, str | None]]) -> list[Nic]:
    """The NICs with the changes of the option `nics`: name (inside) and bridge, veth or both. Pure.

    The port's attributes and VLANs go with the NIC to its new bridge. Raises StasisError for a name that no veth of
    the checkpoint has or that comes twice, for interface names that cannot be, and for two veths of one name.
    """
    changed = {nic.name: nic for nic in nics if nic.kind == "veth"}
    seen: set[str] = set()
    for change in wanted:
        name = change.get("name") or ""
        if name not in changed:
            have = ", ".join(changed) or "no veth at all"
            raise _errors.StasisError(
                f"nics: the checkpoint has no veth {name!r} inside; it has {have}.", "Correct name."
            )
        if name in seen:
            raise _errors.StasisError(f"nics: {name} is given twice.", "Give it once, with bridge and veth together.")
        seen.add(name)
        for option in ("bridge", "veth"):
            value = change.get(option)
            if value is not None and not _nic_problems.is_plain_name(value):
                raise _errors.StasisError(
                    f"nics: {value!r} cannot be the {option} of {name}.",
                    "Give an interface name: 1 to 15 letters, digits and . _ + -, without one of . + - in front.",
                )
        nic = changed[name]
        changed[name] = dataclasses.replace(
            nic, bridge=change.get("bridge") or nic.bridge, veth=change.get("veth") or nic.veth
        )
    veths = [nic.veth for nic in changed.values()]
    twice = sorted({veth for veth in veths if veths.count(veth) > 1})
    if twice:
        raise _errors.StasisError(f"nics: {twice[0]} would be the host side of two NICs.", "Give each its own veth.")
    return [changed[nic.name] if nic.kind == "veth" else nic for nic in nics]


def attached(nics: t.Sequence[Nic], runner: _runner.Runner, *, sysfs: str = "/sys") -> list[str]:
    """What of the veths is not on the host as recorded, one line each; [] where all is well.

    To be asked after CRIU's network-unlock, because CRIU ignores it when the hook fails there.
    """
    there = {str(link["ifname"]): link for link in _list(runner, ["ip", "-j", "-d", "link"])}
    ours = [nic for nic in nics if nic.kind == "veth"]
    vlans = _vlans(runner) if any(nic.vlans for nic in ours) else {}
    faults: list[str] = []
    for nic in ours:
        link = there.get(nic.veth)
        if link is None:
            faults.append(f"{nic.name}: its host side {nic.veth} does not exist.")
            continue
        checks = [("bridge", nic.bridge or "none", str(link.get("master", "none")))]
        if nic.mac:
            checks.append(("MAC", nic.mac, str(link["address"])))
        if nic.mtu:
            checks.append(("MTU", str(nic.mtu), str(link["mtu"])))
        checks.append(("state", "up", "up" if "UP" in link["flags"] else "down"))
        if nic.bridge and nic.bridge == link.get("master"):
            port = _bridge_ports.read_port(nic.veth, sysfs)
            for key in sorted({**nic.port, **port}):
                fresh = _bridge_ports.FRESH_PORT.get(key, "")
                checks.append((f"port attribute {key}", nic.port.get(key, fresh), port.get(key, fresh)))
            if nic.vlans:
                have = _bridge_ports.vlan_lines(vlans.get(nic.veth, []), nic.bridge, sysfs)
                checks.append(("VLANs", ", ".join(nic.vlans), ", ".join(have)))
        faults += [
            f"{nic.name}: the {what} of its host side {nic.veth} is {now}, not {wanted}."
            for what, wanted, now in checks
            if wanted != now
        ]
    return faults


def free_names(nics: t.Sequence[Nic], runner: _runner.Runner, *, sysfs: str = "/sys") -> list[str]:
    """What stands in the way of creating the NICs on this host, one line each; [] where nothing does."""
    taken: dict[str, str] = {}
    links = _list(runner, ["ip", "-j", "-d", "link"])
    for link in links:
        for name in [str(link["ifname"]), *link.get("altnames", ())]:
            taken[name] = str(link["ifname"])
    # The restore removes these.
    for name in _orphan_veths.among({nic.veth for nic in nics}, links, runner):
        del taken[name]
    faults: list[str] = []
    for nic in nics:
        if nic.kind == "veth" and nic.veth in taken:
            faults.append(
                f"{nic.name}: an interface {nic.veth} exists already; remove it, or give another veth in the option nics."
            )
        if nic.bridge and not _bridge_ports.is_bridge(nic.bridge, sysfs):
            what = "is not a Linux bridge" if nic.bridge in taken else "does not exist"
            faults.append(f"{nic.name}: the bridge {nic.bridge} {what}; name another one in the option nics.")
        if nic.kind in ("macvlan", "phys") and nic.link not in taken:
            faults.append(f"{nic.name}: the interface {nic.link}, which this {nic.kind} needs, does not exist.")
    return faults


class _View:
    """What is asked of the host about one NIC after the other; outside: its interfaces by their index."""

    def __init__(
        self, runner: _runner.Runner, sysfs: str, proc: str, outside: t.Mapping[int, _nic_problems.Link]
    ) -> None:
        self.runner = runner
        self.sysfs = sysfs
        self.proc = proc
        self.outside = outside
        self._vlans: dict[str, list[_nic_problems.Link]] | None = None

    def vlans(self, veth: str) -> list[_nic_problems.Link]:
        if self._vlans is None:
            self._vlans = _vlans(self.runner)
        return self._vlans.get(veth, [])


def _observed(view: _View, index: int, link: _nic_problems.Link, configured: _lxc_config.ConfiguredNic | None) -> Nic:
    name, kind = str(link["ifname"]), _kind(link)
    problems = _nic_problems.inside_problems(link)
    # An index says nothing without its namespace: only together with link_netnsid the other end is elsewhere.
    other = view.outside.get(int(link.get("link_index", 0)), {}) if "link_netnsid" in link else {}
    if configured is not None and configured.type == "phys":
        problems.insert(
            0,
            "is of type phys, which does not survive: CRIU cannot dump a physical interface, and "
            "liblxc does not give one back that was restored; use a veth in a bridge with it",
        )
        nic = Nic(index, "phys", name, link=configured.link)
    elif kind == _kind(other) == "veth" and other.get("link_index") == link["ifindex"]:
        nic = _veth(view, index, name, other)
        problems += _nic_problems.veth_problems(other) + _host_problems(view, other)
    elif kind == "macvlan" and other:
        nic = Nic(index, "macvlan", name, link=str(other["ifname"]))
    elif kind == "veth":
        nic = Nic(index, "inner veth", name)
        if configured is not None:
            problems.append("is a veth whose other end is not on the host; move it back")
    else:
        reason = _nic_problems.foreign_problem(link)
        problems += [reason] if reason else []
        nic = Nic(index, kind or "phys", name)
    return dataclasses.replace(nic, problems=tuple(f"{name} {problem}." for problem in problems))


def _veth(view: _View, index: int, name: str, peer: _nic_problems.Link) -> Nic:
    veth, bridge = str(peer["ifname"]), str(peer.get("master", ""))
    nic = Nic(
        index,
        "veth",
        name,
        veth=veth,
        bridge=bridge,
        mac=str(peer["address"]),
        mtu=int(peer["mtu"]),
        addresses=tuple(_nic_problems.own_addresses(peer)),
    )
    if not bridge:
        return nic
    return dataclasses.replace(
        nic,
        port=_bridge_ports.read_port(veth, view.sysfs),
        vlans=_bridge_ports.vlan_lines(view.vlans(veth), bridge, view.sysfs),
        state=_bridge_ports.port_state(peer, view.sysfs),
        sysctls=_sysctls(veth, view.proc),
    )


def _sysctls(veth: str, proc: str) -> dict[str, str]:
    found = {}
    for family, name in (("ipv4", "rp_filter"), ("ipv6", "disable_ipv6")):
        # A host without IPv6 has no file for it.
        with (
            contextlib.suppress(OSError),
            open(f"{proc}/sys/net/{family}/conf/{veth}/{name}", encoding="ascii") as stream,
        ):
            found[f"{family} {name}"] = stream.read().strip()
    return found


def _host_problems(view: _View, peer: _nic_problems.Link) -> list[str]:
    veth, bridge = str(peer["ifname"]), str(peer.get("master", ""))
    run = view.runner
    found: list[str] = []
    if bridge and _bridge_ports.is_bridge(bridge, view.sysfs):
        found += _nic_problems.fdb_problems(peer, _list(run, ["bridge", "-j", "fdb", "show", "brport", veth]))
        found += _nic_problems.mdb_problems(peer, _list(run, ["bridge", "-j", "mdb", "show", "dev", bridge]))
    elif not bridge:
        for family in ("-4", "-6"):
            found += _nic_problems.route_problems(
                peer, _list(run, ["ip", family, "-j", "route", "show", "table", "all", "dev", veth])
            )
    try:
        queues = _list(run, ["tc", "-j", "qdisc", "show", "dev", veth])
    except _errors.StasisError:
        # Some distributions ship tc apart from ip; who has none has at most the root discipline that ip shows.
        queues = [{"kind": peer.get("qdisc", "noqueue")}]
    return found + _nic_problems.qdisc_problems(peer, queues)


def _vlans(runner: _runner.Runner) -> dict[str, list[_nic_problems.Link]]:
    return {str(entry["ifname"]): entry["vlans"] for entry in _list(runner, ["bridge", "-j", "vlan", "show"])}


def _shares_host_network(init_pid: int, proc: str) -> bool:
    try:
        return os.stat(f"{proc}/{init_pid}/ns/net").st_ino == os.stat(f"{proc}/self/ns/net").st_ino
    except OSError as exc:
        raise _errors.StasisError(
            f"The container's init {init_pid} is gone: {exc.strerror or exc}.", "Run the task again."
        ) from exc


def _list(runner: _runner.Runner, argv: t.Sequence[str]) -> list[_nic_problems.Link]:
    done = runner.run(argv)
    if done.rc != 0:
        raise _errors.StasisError(
            f"`{' '.join(argv)}` failed: {done.stderr.strip() or f'status {done.rc}'}.",
            "Check that the container still runs and that iproute2 is installed.",
        )
    try:
        return _iproute.parse(done.stdout)
    except ValueError as exc:
        raise _errors.StasisError(
            f"`{' '.join(argv)}` did not answer in JSON.", "Install iproute2 4.18 or newer."
        ) from exc


def _kind(link: _nic_problems.Link) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))

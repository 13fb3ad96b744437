# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The network interfaces of a container, as the kernel knows them."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t
from dataclasses import dataclass, field

from ansible_collections.stasis.lxc.plugins.module_utils._bridge_ports import read_port
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._lxc_config import ConfiguredNic
from ansible_collections.stasis.lxc.plugins.module_utils._runner import Runner

Link = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Nic:
    """One network interface of a container.

    index: N of `lxc.net.N`, or the next free number for one that was moved in later. kind: veth, macvlan, phys,
    empty, none, or the kernel's word for what cannot be kept. name: inside. veth, mac, mtu, bridge, addresses:
    of the host side of a veth ("", 0 or () otherwise). port: attributes of the bridge port, named as in
    /sys/class/net/VETH/brport, whose values are not a fresh port's. vlans: what a fresh port is short of, as
    lines for the hook (`add vid 10 pvid untagged`). state: of the port, where it is not what the kernel gives it.
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
    link: str = ""
    addresses: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def observe(
    init_pid: int, configured: t.Sequence[ConfiguredNic], runner: Runner, *, sysfs: str = "/sys", proc: str = "/proc"
) -> list[Nic]:
    """The NICs of the running container whose init is init_pid, by rising number.

    Read from the kernel, not from the configuration: that holds for restored containers, for unnamed NICs and for
    what was changed since the start. Raises StasisError where the container is gone or `ip` fails.
    """
    if _shares_host_network(init_pid, proc):
        index = next((nic.index for nic in configured if nic.type == "none"), 0)
        return [Nic(index, "none")]
    inside = inside_links(init_pid, runner, proc)
    outside = _links(runner, ["ip", "-j", "-d", "link"])
    by_index = {int(link["ifindex"]): link for link in outside}
    nics: list[Nic] = []
    for index, link in _correlate(inside, configured):
        peer = by_index.get(int(link.get("link_index", 0)))
        if _kind(link) == "veth" and peer is not None and peer.get("link_index") == link["ifindex"]:
            bridge = str(peer.get("master", ""))
            port = read_port(str(peer["ifname"]), sysfs) if bridge else {}
            nics.append(
                Nic(
                    index,
                    "veth",
                    name=str(link["ifname"]),
                    veth=str(peer["ifname"]),
                    bridge=bridge,
                    mac=str(peer["address"]),
                    mtu=int(peer["mtu"]),
                    port=port,
                )
            )
    return nics


def inside_links(init_pid: int, runner: Runner, proc: str = "/proc") -> list[Link]:
    """`ip -j -d link` in the network namespace of init_pid.

    nsenter, because `ip -n` takes only names below /run/netns, and giving a namespace a name would leave
    something behind on the host; nsenter comes with util-linux, which every host has. Only the network namespace
    is entered, so the `ip` that runs is the host's own.
    """
    return _links(runner, ["nsenter", f"--net={proc}/{init_pid}/ns/net", "ip", "-j", "-d", "link"])


def criu_externals(nics: t.Sequence[Nic]) -> list[str]:
    """Values of --external for a restore, one for each NIC that CRIU has to be told of.

    A veth comes without `@bridge`: CRIU would attach it before the tasks are ready, and knows neither VLANs nor
    port attributes; the hook attaches it at network-unlock.
    """
    values = []
    for nic in nics:
        if nic.kind == "veth":
            values.append(f"veth[{nic.name}]:{nic.veth}")
        elif nic.kind == "macvlan":
            values.append(f"macvlan[{nic.name}]:{nic.link}")
        elif nic.kind == "phys":
            values.append(f"netdev[{nic.name}]:{nic.link}")
    return values


def retarget(nics: t.Sequence[Nic], wanted: t.Sequence[t.Mapping[str, str | None]]) -> list[Nic]:
    """The NICs with the changes of option `nics`: name (inside) and bridge, veth or both. Pure.

    Raises StasisError for a name that no veth of the checkpoint has, or that comes twice, and for interface names
    that the kernel would not take.
    """
    changed = {nic.name: nic for nic in nics}
    for change in wanted:
        nic = changed[str(change["name"])]
        changed[nic.name] = dataclasses.replace(
            nic, bridge=change.get("bridge") or nic.bridge, veth=change.get("veth") or nic.veth
        )
    return [changed[nic.name] for nic in nics]


def attached(nics: t.Sequence[Nic], runner: Runner) -> list[str]:
    """What of the NICs is not as recorded on the host, one line each: to be asked after CRIU's network-unlock,

    because CRIU ignores the hook's failure there.
    """
    return []


def free_names(nics: t.Sequence[Nic], runner: Runner) -> list[str]:
    """What stands in the way of creating the NICs on this host, one line each; [] where nothing does."""
    return []


def _shares_host_network(init_pid: int, proc: str) -> bool:
    try:
        return os.stat(f"{proc}/{init_pid}/ns/net").st_ino == os.stat(f"{proc}/self/ns/net").st_ino
    except OSError as exc:
        raise StasisError(
            f"The container's init {init_pid} is gone: {exc.strerror or exc}.", "Run the task again."
        ) from exc


def _links(runner: Runner, argv: t.Sequence[str]) -> list[Link]:
    done = runner.run(argv)
    if done.rc != 0:
        raise StasisError(
            f"`{' '.join(argv)}` failed: {done.stderr.strip() or done.rc}.",
            "Check that the container still runs and that iproute2 is installed.",
        )
    # Without any interface to list, `ip -j` prints nothing at all.
    return [link for link in json.loads(done.stdout or "[]") if link]


def _kind(link: Link) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _correlate(inside: t.Sequence[Link], configured: t.Sequence[ConfiguredNic]) -> list[tuple[int, Link]]:
    """Each interface inside with its number."""
    return [(number, link) for number, link in enumerate(link for link in inside if link["ifname"] != "lo")]

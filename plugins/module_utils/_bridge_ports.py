# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What a bridge port has that a fresh port has not: what is lost when its veth leaves the bridge."""

from __future__ import annotations

import os
import typing as t

# What a port has right after `ip link set master` (measured on 6.18 with every one of them changed before:
# all are lost), for each attribute that can be written in /sys/class/net/VETH/brport. path_cost follows the
# link's speed, which is 10 Gbit/s for every veth.
FRESH_PORT: t.Mapping[str, str] = {
    "path_cost": "2",
    "priority": "32",
    "hairpin_mode": "0",
    "isolated": "0",
    "bpdu_guard": "0",
    "root_block": "0",
    "learning": "1",
    "unicast_flood": "1",
    "multicast_flood": "1",
    "broadcast_flood": "1",
    "neigh_suppress": "0",
    "proxyarp": "0",
    "proxyarp_wifi": "0",
    "multicast_fast_leave": "0",
    "multicast_to_unicast": "0",
    "multicast_router": "1",
    "group_fwd_mask": "0x0",
    "backup_port": "",
}

# Attributes that only netlink can set, as `ip -j -d link` calls them, with a fresh port's value.
_NETLINK_ONLY: t.Mapping[str, object] = {
    "locked": False,
    "mab": False,
    "vlan_tunnel": False,
    "neigh_vlan_suppress": False,
    "mcast_max_groups": 0,
}

_STP_BY_DAEMON = "2"


def read_port(veth: str, sysfs: str = "/sys") -> dict[str, str]:
    """The attributes of a bridge port, by their names in sysfs, whose values are not a fresh port's.

    From sysfs, not from `ip -j -d link`, because older iproute2 knows fewer of them and the hook writes them there.
    An attribute that this kernel has not is left out. {} for a veth that is in no bridge.
    """
    found = {}
    for attribute, fresh in FRESH_PORT.items():
        value = _read(f"{sysfs}/class/net/{veth}/brport/{attribute}", fresh)
        if value != fresh:
            found[attribute] = value
    return found


def port_state(link: t.Mapping[str, t.Any], sysfs: str = "/sys") -> str:
    """The word `disabled` where somebody has disabled the port with `bridge link set`, else "".

    link: the host side out of `ip -j -d link`. Every other state is the kernel's own choice: without STP it turns
    each of them into forwarding at once (measured), with STP it works them out anew, and where a daemon runs the
    protocol (stp_state 2) the daemon does. A port without carrier is disabled by the kernel itself.
    """
    if _read(f"{sysfs}/class/net/{link.get('master', '')}/bridge/stp_state") == _STP_BY_DAEMON:
        return ""
    state = link.get("linkinfo", {}).get("info_slave_data", {}).get("state", "")
    return "disabled" if state == "disabled" and "LOWER_UP" in link.get("flags", ()) else ""


def unkept_attributes(link: t.Mapping[str, t.Any]) -> list[str]:
    """Names of the port's attributes that are not a fresh port's and that the hook cannot write."""
    data = link.get("linkinfo", {}).get("info_slave_data", {})
    return [name for name, fresh in _NETLINK_ONLY.items() if data.get(name, fresh) != fresh]


def vlan_lines(entries: t.Sequence[t.Mapping[str, t.Any]], bridge: str, sysfs: str = "/sys") -> tuple[str, ...]:
    """What turns a fresh port's VLANs into these, as `del ...` and `add ...` lines for the hook.

    entries: the port's "vlans" out of `bridge -j vlan show`. A fresh port has the bridge's default_pvid, untagged,
    unless that is 0; a kernel without VLAN filtering has no such file and no VLANs.
    """
    default = _read(f"{sysfs}/class/net/{bridge}/bridge/default_pvid", "0")
    fresh = {default: " pvid untagged"} if default != "0" else {}
    wanted = {}
    for entry in entries:
        vlan = str(entry["vlan"])
        if entry.get("vlanEnd", entry["vlan"]) != entry["vlan"]:
            vlan = f"{vlan}-{entry['vlanEnd']}"
        flags = entry.get("flags", ())
        wanted[vlan] = (" pvid" if "PVID" in flags else "") + (" untagged" if "Egress Untagged" in flags else "")
    covered = {vlan for entry in entries for vlan in range(entry["vlan"], entry.get("vlanEnd", entry["vlan"]) + 1)}
    return tuple(
        [f"del vid {vlan}" for vlan in fresh if int(vlan) not in covered]
        + [f"add vid {vlan}{flags}" for vlan, flags in wanted.items() if fresh.get(vlan) != flags]
    )


def is_bridge(name: str, sysfs: str = "/sys") -> bool:
    """Whether a Linux bridge of this name exists on the host."""
    return os.path.isdir(f"{sysfs}/class/net/{name}/bridge")


def _read(path: str, default: str = "") -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return default

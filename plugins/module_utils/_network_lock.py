# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""How the network is held still during a dump."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _nics, _runner, _sockets


@dataclass(frozen=True)
class Lock:
    """name: for the manifest. by_hook: our hook takes the veths out of their bridges. criu: CRIU's --network-lock."""

    name: str
    by_hook: bool
    criu: str


BRIDGE = Lock("bridge", True, "skip")
SKIP = Lock("skip", False, "skip")


def choose(
    option: str,
    nics: t.Sequence[_nics.Nic],
    connections: t.Sequence[_sockets.Connection],
    runner: _runner.Runner,
    criu: str,
    *,
    proc: str = "/proc",
) -> Lock:
    """The lock for the option network_lock.

    auto: the hook, where every NIC is a veth in a bridge and no established TCP connection stays inside the
    container; nothing, where there is neither a veth nor a connection; otherwise a lock of CRIU's own that works here.
    """
    if option == "skip":
        return SKIP
    if option in ("nftables", "iptables"):
        return Lock(option, False, option)
    veths = [nic for nic in nics if nic.kind == "veth"]
    loose_filter = _filters_loosely(proc)
    if option == "bridge" and loose_filter:
        raise _errors.StasisError(
            "network_lock: bridge is not possible: net.ipv4.conf.all.rp_filter is 2, so the host would take what a veth outside its bridge receives.",
            "Use network_lock: auto, or set net.ipv4.conf.all.rp_filter to 0 or 1.",
        )
    if option == "bridge":
        loose = [nic.name for nic in veths if not nic.bridge]
        if loose or not veths:
            raise _errors.StasisError(
                f"network_lock: bridge is not possible: {', '.join(loose) or 'no network device'} is not a veth in a bridge.",
                "Use network_lock: auto.",
            )
        return BRIDGE
    if not veths and not connections:
        return SKIP
    if _sockets.choose_lock(nics, connections) == "bridge" and not loose_filter:
        return BRIDGE
    for method in ("nftables", "iptables"):
        if _works(runner, criu, method):
            return Lock(method, False, method)
    raise _errors.StasisError(
        "The container has TCP connections that only CRIU's own network lock can hold, and neither nftables nor iptables works here.",
        "Load nf_tables in the kernel, or set network_lock: bridge or skip and accept that those connections may break.",
    )


def _filters_loosely(proc: str) -> bool:
    """Of `all` and an interface's own value the larger counts (Documentation/networking/ip-sysctl.rst): with 2 for
    all, the strict 1 that the hook gives a veth has no effect."""
    try:
        with open(f"{proc}/sys/net/ipv4/conf/all/rp_filter", encoding="ascii") as stream:
            return stream.read().strip() == "2"
    except OSError:
        return False


def _works(runner: _runner.Runner, criu: str, method: str) -> bool:
    asked = {
        "nftables": [criu, "check", "--feature", "network_lock_nftables"],
        "iptables": ["iptables-restore", "--version"],
    }
    try:
        return runner.run(asked[method], timeout=20).rc == 0
    except _errors.StasisError:
        # It cannot be started: many hosts have no iptables.
        return False

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of containers. What is expected of each on which host stands in expected.json."""

from __future__ import annotations

import json

from containers import NETWORK, PORT, Nic, run, veth
from inits import Alpine, BusyboxInit
from kind import ADDRESS, Facts, Ground, Kind, Subject
from mounts import BindMounts, Lxcfs
from ports import BridgePort
from refusal import bare_dump
from storage import Btrfs, Loop, Lvm, Overlay
from systemd import Debian12, Debian13
from userns import Unprivileged, UnprivilegedDebian12, UnprivilegedDebian13

PREFIX6 = f"fd00:{NETWORK.split('.')[-1]}:"


class Plain(Kind):
    title = "busybox in a directory, one veth in a bridge"


class NoNic(Kind):
    title = "no network device (`empty`)"

    def create(self, ground: Ground) -> Subject:
        return ground.subject(nics=[Nic("empty")], address="")


class HostNetwork(Kind):
    title = "the host's network (`none`)"

    def create(self, ground: Ground) -> Subject:
        return ground.subject(nics=[Nic("none")], address="127.0.0.1")

    def facts(self, subject: Subject) -> Facts:
        # The host's interfaces are its own affair.
        return {key: value for key, value in super().facts(subject).items() if key != "links"}


class SeveralNics(Kind):
    title = "three veths, in two bridges and in none"

    def create(self, ground: Ground) -> Subject:
        other = ground.link("o", "type", "bridge")
        nics = [
            veth(ground.bridge.name, ADDRESS),
            veth(other, "192.0.2.9", name="back"),
            Nic("veth", {"flags": "up", "ipv4.address": "198.51.100.9/24"}),
        ]
        return ground.subject(nics=nics)


class Ipv6(Kind):
    title = "IPv6 addresses, and a TCP connection over IPv6"

    def create(self, ground: Ground) -> Subject:
        run("ip", "address", "add", f"{PREFIX6}:1/64", "dev", ground.bridge.name, "nodad")
        nic = veth(ground.bridge.name, ADDRESS, ipv6_address=f"{PREFIX6}:9/64", ipv6_gateway=f"{PREFIX6}:1")
        return ground.subject(f"counter6 {PORT}", nics=[nic], address=f"{PREFIX6}:9")

    def facts(self, subject: Subject) -> Facts:
        found = super().facts(subject)
        assert any(f"{PREFIX6}:9/64" in link for link in found["links"]), found["links"]
        routes = json.loads(subject.inside("ip", "-j", "-6", "route"))
        names = ("conf/all/accept_dad", "conf/eth0/accept_dad", "ip_nonlocal_bind")
        found["settings"] = [subject.inside("cat", f"/proc/sys/net/ipv6/{name}") for name in names]
        return {**found, "routes": sorted(f"{one['dst']} {one.get('gateway', '')} {one['dev']}" for one in routes)}


class Macvlan(Kind):
    title = "macvlan, bridge mode"

    def create(self, ground: Ground) -> Subject:
        # A macvlan does not reach its parent's own address, so the host has a macvlan beside it.
        parent, end = ground.link("m", "type", "veth", "peer", "name", f"{ground.bridge.name}e"), ground.bridge.name
        run("ip", "link", "set", f"{ground.bridge.name}e", "up", "master", end)
        nic = Nic(
            "macvlan",
            {"flags": "up", "link": parent, "macvlan.mode": "bridge", "ipv4.address": f"{ADDRESS}/24"},
        )
        return ground.subject(nics=[nic])


class Phys(Kind):
    title = "an interface of the host's (`phys`)"

    def create(self, ground: Ground) -> Subject:
        # CRIU knows no interface but by its kind, and of those that can be made anywhere this one is none of its own.
        link = ground.link("p", "type", "ifb")
        subject = ground.subject(nics=[Nic("phys", {"flags": "up", "link": link, "name": "eth0"})], address="")
        # LXC gives it back when it stops the container itself.
        ground.closing.callback(subject.stop)
        return subject

    def proof(self, ground: Ground, subject: Subject) -> list[str]:
        return bare_dump(ground, subject)


ALL: list[Kind] = [
    Plain(),
    Unprivileged(),
    BusyboxInit(),
    Alpine(),
    Debian12(),
    Debian13(),
    UnprivilegedDebian12(),
    UnprivilegedDebian13(),
    NoNic(),
    HostNetwork(),
    SeveralNics(),
    BridgePort(),
    Ipv6(),
    Macvlan(),
    Phys(),
    Overlay(),
    Loop(),
    Btrfs(),
    Lvm(),
    BindMounts(),
    Lxcfs(),
]

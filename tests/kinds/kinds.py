# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of containers. What is expected of each on which host stands in expected.json."""

from __future__ import annotations

from containers import Nic, veth
from kind import ADDRESS, Ground, Kind, Subject


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


ALL: list[Kind] = [Plain(), NoNic(), HostNetwork(), SeveralNics()]

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds that differ in the port that the host side is of its bridge."""

from __future__ import annotations

import json
from pathlib import Path

from client import Talker
from containers import run
from kind import Facts, Ground, Kind, Subject, UnavailableError

SETTINGS = {"isolated": "1", "hairpin_mode": "1", "path_cost": "77", "priority": "5"}


class BridgePort(Kind):
    title = "a bridge port with a PVID, tagged VLANs, isolated, hairpin, a cost and a priority"

    def create(self, ground: Ground) -> Subject:
        bridge = ground.bridge.name
        if run("ip", "link", "set", bridge, "type", "bridge", "vlan_filtering", "1", check=False).returncode:
            raise UnavailableError("the kernel has no VLAN filtering in bridges")
        # The host is in VLAN 10 alone: it hears nothing of a port whose PVID is the bridge's default.
        run("bridge", "vlan", "add", "vid", "10", "dev", bridge, "self", "pvid", "untagged")
        run("bridge", "vlan", "del", "vid", "1", "dev", bridge, "self")
        return ground.subject()

    def connect(self, subject: Subject) -> Talker | None:
        port = subject.veth()
        for words in ("del vid 1", "add vid 10 pvid untagged", "add vid 20", "add vid 30-33", "add vid 40 untagged"):
            verb, *rest = words.split()
            run("bridge", "vlan", verb, "dev", port, *rest)
        for name, value in SETTINGS.items():
            Path(f"/sys/class/net/{port}/brport/{name}").write_text(value)
        return super().connect(subject)

    def facts(self, subject: Subject) -> Facts:
        port = subject.veth()
        vlans = json.loads(run("bridge", "-j", "vlan", "show", "dev", port).stdout)[0]["vlans"]
        assert len(vlans) >= 4, f"the port is in {vlans}"
        settings = {name: Path(f"/sys/class/net/{port}/brport/{name}").read_text().strip() for name in SETTINGS}
        assert settings == SETTINGS, settings
        return {**super().facts(subject), "port": port, "vlans": vlans, "settings": settings}

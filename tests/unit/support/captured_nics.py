# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers whose NICs were captured on a real host, to be observed again."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from ansible_collections.stasis.lxc.plugins.module_utils import _nics
from ansible_collections.stasis.lxc.plugins.module_utils._lxc_config import LxcConfig, parse
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

# Each file: the lxc.net lines of a real container (LXC 5.0.2, iproute2 6.1, kernel 6.18), every command that
# observe() ran for it with its answer (interfaces of others left out), and what stood in sysfs.
# gap_restored: restored twice, veths 0 and 2 around a `none`, an `empty`, port attributes, one port disabled.
# spoilt: everything that a new veth would lack, and all kinds of interfaces made or moved in later.
FIXTURES = Path(__file__).parents[1] / "fixtures" / "nics"


class Captured:
    """A captured container, laid out below a directory as observe() wants to find it."""

    def __init__(self, name: str, root: Path) -> None:
        told = json.loads((FIXTURES / f"{name}.json").read_text())
        self.answers: list[tuple[list[str], str]] = [
            (call["argv"], "\n".join(call["stdout"])) for call in told["calls"]
        ]
        self.configured = LxcConfig("", tuple(parse(told["configuration"], "")), "").networks()
        self.root = root
        for path, value in told["sysfs"].items():
            file = root / "sys" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")
        for process in ("self", "7"):
            (root / "proc" / process / "ns").mkdir(parents=True)
            (root / "proc" / process / "ns" / "net").touch()

    def change(self, command: str, name: str, **values: object) -> None:
        """Put other values into the answer of the first command that begins so, at interface `name`."""
        for number, (argv, stdout) in enumerate(self.answers):
            if " ".join(argv).startswith(command):
                links = json.loads(stdout)
                next(link for link in links if link.get("ifname") == name).update(copy.deepcopy(values))
                self.answers[number] = (argv, json.dumps(links))
                return
        raise AssertionError(f"no {command}")

    def forget(self, command: str) -> None:
        """Take the first such command out: it is not to be run."""
        self.answers.remove(next(one for one in self.answers if " ".join(one[0]) == command))

    def observe(self) -> list[Nic]:
        calls = [
            Call([word.replace("/proc/PID", f"{self.root}/proc/7") for word in argv], stdout=stdout)
            for argv, stdout in self.answers
        ]
        runner = StrictRunner(*calls)
        nics = _nics.observe(7, self.configured, runner, sysfs=str(self.root / "sys"), proc=str(self.root / "proc"))
        runner.assert_done()
        return nics

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind of container is, and the ground on which one is made."""

from __future__ import annotations

import contextlib
import shutil
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from client import Talker
from containers import BRIDGE_PREFIX, GATEWAY, NETWORK, PORT, PREFIX, Bridge, Container, Nic, run, until, veth

ADDRESS = f"{NETWORK}.9"
Facts = dict[str, t.Any]


class UnavailableError(Exception):
    """This host has no such thing: its kernel or its packages lack what the kind is made of."""


class Subject(Container):
    """A container whose files may be where only its own processes see them. notes: for the evidence."""

    def __init__(self, name: str, lxc_path: Path, address: str = "") -> None:
        super().__init__(name, lxc_path, address)
        self.notes: list[str] = []

    @property
    def root(self) -> Path:
        pid = self.init_pid if self.config.exists() else 0
        return Path(f"/proc/{pid}/root") if pid else self.directory / "rootfs"

    def set_config(self, *lines: str) -> None:
        """Add lines; a key of which liblxc takes the last value is replaced."""
        single = {line.split(" = ")[0] for line in lines} & {"lxc.rootfs.path", "lxc.init.cmd", "lxc.console.path"}
        old = [line for line in self.config.read_text().splitlines() if line.split(" = ")[0] not in single]
        self.config.write_text("".join(f"{line}\n" for line in [*old, *lines]))

    def inside(self, *argv: str) -> str:
        """What a command of the host's prints in the container's network namespace."""
        return run("nsenter", f"--net=/proc/{self.init_pid}/ns/net", *argv).stdout

    def mounts(self) -> list[str]:
        """`TARGET TYPE ROOT` of every mount inside, sorted; a source's name may change over a restore."""
        found = []
        for line in Path(f"/proc/{self.init_pid}/mountinfo").read_text().splitlines():
            before, after = line.split(" - ")
            found.append(f"{before.split()[4]} {after.split()[0]} {before.split()[3]}")
        return sorted(found)


@dataclass
class Ground:
    """Where one kind is tried. What is made here goes when `closing` does, the newest first."""

    directory: Path
    programs: tuple[Path, Path]
    bridge: Bridge
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def lxc_path(self) -> Path:
        return self.directory / "lxc"

    def subject(
        self,
        *workload: str,
        nics: t.Sequence[Nic] | None = None,
        config: t.Sequence[str] = (),
        address: str = ADDRESS,
        name: str = f"{PREFIX}kind",
    ) -> Subject:
        """A container that is not started yet: busybox and the workload, and one veth unless NICs are named."""
        made = Subject(name, self.lxc_path, address)
        self.closing.callback(made.destroy)
        wanted = [veth(self.bridge.name, ADDRESS)] if nics is None else nics
        made.create(self.programs, workload or [f"counter {PORT}"], wanted, config)
        return made

    def link(self, name: str, *kind: str) -> str:
        """A network interface of the host's, gone at the end: `link("x", "type", "bridge")`."""
        made = f"{BRIDGE_PREFIX}{name}"
        run("ip", "link", "add", made, *kind)
        self.closing.callback(run, "ip", "link", "delete", made, check=False)
        run("ip", "link", "set", made, "up")
        return made

    def mount(self, target: Path, *argv: str) -> None:
        """mount ARGV TARGET, undone at the end."""
        target.mkdir(parents=True, exist_ok=True)
        run("mount", *argv, str(target))
        self.closing.callback(run, "umount", str(target))

    def need_module(self, name: str, there: str) -> None:
        """Raise UnavailableError where the kernel has no such part. there: `FILE WORD`, where it shows."""
        path, word = there.split()
        if word not in Path(path).read_text() and shutil.which("modprobe"):
            run("modprobe", name, check=False)
        if word not in Path(path).read_text():
            raise UnavailableError(f"the kernel has no {word}")

    def need(self, *programs: str) -> None:
        """Raise UnavailableError where one of them is not installed."""
        for program in programs:
            if not shutil.which(program):
                raise UnavailableError(f"{program} is not installed")


class Kind:
    """One kind of container. The name is that of its class, the title stands in the README's table.

    slow: takes several times as long as most. alone: changes the host for every container that starts meanwhile.
    """

    title = ""
    slow = False
    alone = False

    @property
    def name(self) -> str:
        text = type(self).__name__
        return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in text).lstrip("-")

    def create(self, ground: Ground) -> Subject:
        """Make it; it is not started. Raises UnavailableError where this host has no such thing."""
        return ground.subject()

    def connect(self, subject: Subject) -> Talker | None:
        """The connection that has to survive; None where the kind has no address."""
        return Talker(subject.address, subject.port) if subject.address else None

    def facts(self, subject: Subject) -> Facts:
        """What has to be the same in each generation. Kinds add their own."""
        return {
            "links": sorted(_link(link) for link in subject.links()),
            "mounts": subject.mounts(),
            "accepts": reachable_again(subject),
        }

    def options(self) -> Facts:
        """Further options of the module for state=checkpointed."""
        return {}

    def proof(self, _ground: Ground, _subject: Subject) -> list[str]:
        """Where the module refuses before CRIU runs: CRIU's or LXC's own word that it cannot be done."""
        return []

    def last_words(self, _subject: Subject) -> list[str]:
        """What the container itself says of a failure, for the evidence."""
        return []

    def alive(self, subject: Subject) -> None:
        """Raise AssertionError unless it runs and does something."""
        subject.assert_counts()


def _link(link: t.Mapping[str, t.Any]) -> str:
    addresses = sorted(
        f"{one['local']}/{one['prefixlen']}" for one in link.get("addr_info", []) if one.get("scope") == "global"
    )
    return f"{link['ifname']} {link['address']} {link['mtu']} {' '.join(addresses)}".rstrip()


def reachable_again(subject: Subject) -> bool:
    """Whether it takes a new connection, which a bridge may delay for a moment; None-like kinds count as they are."""
    if not subject.address:
        return True

    def try_it() -> bool:
        with contextlib.suppress(OSError):
            talker = Talker(subject.address, subject.port)
            talker.ask()
            talker.close()
            return True
        return False

    return until(try_it, 15, f"{subject.address} takes a new connection")


def make_bridge() -> Bridge:
    """The bridge of the kinds, with the host in it."""
    return Bridge(f"{BRIDGE_PREFIX}k", address=f"{GATEWAY}/24")

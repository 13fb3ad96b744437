# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a host that is left as it was found, bridges, containers, the module."""

from __future__ import annotations

import itertools
import os
import shutil
import typing as t
from dataclasses import dataclass
from pathlib import Path

import hygiene
import pytest
from client import Echo, Listener, Talker
from containers import (
    BASE,
    BRIDGE_PREFIX,
    GATEWAY,
    NETWORK,
    PORT,
    PREFIX,
    SLOT,
    Bridge,
    Container,
    Nic,
    Slot,
    run,
    until,
    veth,
)
from module import Checkpoint, Module

SOURCE = Path(__file__).resolve().parents[2]


# What a kernel may lack that a test is about, and how to try it without a trace.
FEATURES = {"bridge VLANs": ["unshare", "-n", "ip", "link", "add", "try", "type", "bridge", "vlan_filtering", "1"]}
_watch = pytest.StashKey[hygiene.Watch]()
_left = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this kernel cannot do; tests that share a container stay in one worker; the longest come first."""
    lacking = {name for name, argv in FEATURES.items() if run(*argv, check=False).returncode}
    for item in items:
        assert isinstance(item, pytest.Function)
        for name in lacking & {mark.args[0] for mark in item.iter_markers("kernel")}:
            item.add_marker(pytest.mark.skip(reason=f"NOT TESTED on this host: the kernel has no {name}"))
        if "shared_lxc" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("long", "xdist_group")])


def _leads(config: pytest.Config) -> bool:
    """Whether this process is no worker of another one: the only one, or the controller of pytest-xdist."""
    return not hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Look at the host before any worker begins."""
    config = session.config
    if _leads(config) and not config.getoption("collectonly"):
        workers = len(config.getoption("tx", None) or [])
        watch = hygiene.Watch([Slot(number) for number in range(workers)] or [SLOT])
        watch.begin()
        config.stash[_watch] = watch


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold the host to be as it was, after every worker has ended."""
    watch = session.config.stash.get(_watch, None)
    if watch is not None:
        left = session.config.stash[_left] = watch.end()
        if left:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    watch = config.stash.get(_watch, None)
    if watch is not None and watch.shared:
        terminalreporter.write_line(
            "Others started or stopped containers meanwhile: only what carries the names of the tests was compared."
        )
    left = config.stash.get(_left, [])
    if left:
        terminalreporter.section("the tests have changed the host", red=True)
        for line in left:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def clean_host() -> t.Iterator[Path]:
    """The directory of this worker. Its slot is clean when it begins and when it ends."""
    session = BASE / f"session-{os.getpid()}"
    session.mkdir(parents=True, mode=0o700)
    session.chmod(0o711)
    yield session
    hygiene.clean()


@pytest.fixture(scope="session")
def collections(clean_host: Path) -> Path:
    """A copy of the collection, so that nobody's editor changes what is tested half way."""
    target = clean_host / "collections/ansible_collections/stasis/lxc"
    for name in ("plugins", "meta", "playbooks", "roles"):
        shutil.copytree(SOURCE / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("galaxy.yml",):
        shutil.copy(SOURCE / name, target / name)
    return clean_host / "collections"


@pytest.fixture(scope="session")
def module(clean_host: Path, collections: Path) -> Module:
    scratch = clean_host / "arguments"
    scratch.mkdir()
    return Module(collections, scratch)


@pytest.fixture(scope="session")
def programs(clean_host: Path) -> tuple[Path, Path]:
    """busybox and our workload, both static."""
    busybox = next((Path(path) for path in ("/bin/busybox", "/usr/bin/busybox") if Path(path).exists()), None)
    assert busybox, "busybox is missing: apt-get install busybox-static"
    assert "not a dynamic executable" in run("ldd", str(busybox), check=False).stderr, (
        "busybox is not static: apt-get install busybox-static"
    )
    program = clean_host / "workload"
    source = Path(__file__).with_name("workload.c")
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", str(program), str(source))
    return busybox, program


@pytest.fixture(scope="session")
def bridge(clean_host: Path) -> t.Iterator[Bridge]:
    """The bridge of most containers; the host is in it as well."""
    made = Bridge(f"{BRIDGE_PREFIX}0", address=f"{GATEWAY}/24")
    yield made
    # A port that is still there would lose its bridge, and with that the sign that it is ours.
    until(lambda: not made.ports(), 10, f"nothing is left in the bridge {made.name}")
    made.remove()


@dataclass
class Factory:
    """Makes containers, and removes them at the end of the test."""

    module: Module
    programs: tuple[Path, Path]
    session: Path
    bridge: Bridge
    made: list[Container]
    closing: list[t.Callable[[], None]]

    _numbers: t.ClassVar[t.Iterator[int]] = itertools.count(1)

    def create(
        self,
        *workload: str,
        nics: t.Sequence[Nic] | None = None,
        config: t.Sequence[str] = (),
        bridge: Bridge | None = None,
        name: str = "",
        lxc_path: Path | None = None,
        **nic_settings: str,
    ) -> Container:
        """A container with the workload and, unless nics are named, one veth."""
        number = next(self._numbers)
        address = f"{NETWORK}.{number % 200 + 10}"
        if nics is None:
            nics = [veth((bridge or self.bridge).name, address, **nic_settings)]
        container = Container(name or f"{PREFIX}{number}", lxc_path or self.session / "lxc", address)
        self.made.append(container)
        container.create(self.programs, workload or [f"counter {PORT}"], nics, config)
        return container

    def checkpoint(self, container: Container, name: str = "") -> Checkpoint:
        """A checkpoint directory for it, in a parent of its own."""
        return Checkpoint(self.module, container, self.session / "checkpoints" / (name or container.name) / "image")

    def start(self, *workload: str, **options: t.Any) -> Checkpoint:
        """A running container and its checkpoint directory."""
        container = self.create(*workload, **options)
        container.start()
        return self.checkpoint(container)

    def talker(self, container: Container) -> Talker:
        made = Talker(container.address, container.port)
        self.closing.append(made.close)
        return made

    def listener(self, container: Container) -> Listener:
        made = Listener(container.address, container.port)
        self.closing.append(made.close)
        made.begin()
        return made

    def echo(self, container: Container) -> Echo:
        made = Echo(container.address, container.port)
        self.closing.append(made.close)
        made.begin()
        return made

    def add_bridge(self, *options: str) -> Bridge:
        """A further bridge, for this test."""
        made = Bridge(f"{BRIDGE_PREFIX}{next(self._numbers)}", *options)
        self.closing.append(made.remove)
        return made

    def script(self, name: str, text: str) -> str:
        """An action script; returns its path."""
        path = self.session / "scripts" / f"{name}-{next(self._numbers)}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def finish(self) -> None:
        errors = []
        for one in [*reversed(self.closing), *(container.destroy for container in reversed(self.made))]:
            try:
                one()
            except Exception as exc:  # noqa: BLE001 # the others must be removed all the same
                errors.append(exc)
        assert not errors, f"not everything could be removed: {errors}"


def _factory(module: Module, programs: tuple[Path, Path], session: Path, bridge: Bridge) -> t.Iterator[Factory]:
    made = Factory(module, programs, session, bridge, [], [])
    try:
        yield made
    finally:
        made.finish()


@pytest.fixture
def lxc(module: Module, programs: tuple[Path, Path], clean_host: Path, bridge: Bridge) -> t.Iterator[Factory]:
    """Makes containers that live as long as the test."""
    yield from _factory(module, programs, clean_host, bridge)


@pytest.fixture(scope="module")
def shared_lxc(module: Module, programs: tuple[Path, Path], clean_host: Path, bridge: Bridge) -> t.Iterator[Factory]:
    """Makes containers that live as long as the tests of one file."""
    yield from _factory(module, programs, clean_host, bridge)


@pytest.fixture(scope="session")
def trouble(clean_host: Path) -> Path:
    """The program that makes every situation, static."""
    program = clean_host / "trouble"
    source = Path(__file__).with_name("trouble.c")
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", str(program), str(source))
    return program

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that wait: which go on after a dump and a restore, and which come back with EINTR, as the guide lists them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Factory
from containers import Container, run, until

# As docs/docsite/rst/guide_checkpoint.rst has them; *_forever without a timeout.
INTERRUPTED = {
    *(
        "poll",
        "poll_forever",
        "epoll_wait",
        "epoll_wait_forever",
        "epoll_pwait",
        "futex",
        "futex_bitset",
        "sem_timedwait",
    ),
    *("nanosleep", "clock_nanosleep", "sleep", "recv", "udp_recv", "read_of_socket", "accept", "send"),
    *("semop", "semtimedop", "sigtimedwait", "sigwaitinfo"),
}


@pytest.fixture(scope="session")
def waits(clean_host: Path) -> Path:
    """The program whose children wait, each in another system call; static."""
    program = clean_host / "waits"
    source = Path(__file__).with_name("waits.c")
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", str(program), str(source))
    return program


def start(lxc: Factory, program: Path) -> Container:
    container = lxc.create("waits", config=["lxc.init.cmd = /bin/waits"])
    shutil.copy(program, container.root / "bin/waits")
    container.start()
    until(lambda: settled(container), 60, "every child waits")
    return container


def settled(container: Container) -> bool:
    """Whether every process sleeps in a system call."""
    pids = [pid for folder in container.cgroups() for pid in (folder / "cgroup.procs").read_text().split()]
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] for pid in pids]
    return bool(states) and set(states) == {"S"}


def came_back(container: Container) -> dict[str, str]:
    """The calls that have, with what they said."""
    until(lambda: settled(container), 60, "every child waits again")
    return {path.stem: path.read_text() for path in (container.root / "tmp").glob("*.back")}


def test_calls_that_a_dump_and_a_restore_interrupt_are_those_of_the_guide(lxc: Factory, waits: Path) -> None:
    container = start(lxc, waits)
    assert came_back(container) == {}
    checkpoint = lxc.checkpoint(container)
    checkpoint.stopped()
    checkpoint.resumed()
    assert came_back(container) == dict.fromkeys(INTERRUPTED, "EINTR")


def test_a_dump_that_leaves_it_running_interrupts_the_same_calls(lxc: Factory, waits: Path) -> None:
    container = start(lxc, waits)
    lxc.checkpoint(container).checkpointed(stop=False)
    assert came_back(container) == dict.fromkeys(INTERRUPTED, "EINTR")

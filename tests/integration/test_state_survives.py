# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running state survives: memory, connections, descriptors, processes, over several generations."""

from __future__ import annotations

import time

import pytest
from client import BLOCK
from conftest import Factory
from containers import PORT, Container, until
from module import Checkpoint


def take_through(checkpoint: Checkpoint) -> None:
    """One generation: dumped, gone, back."""
    checkpoint.stopped()
    assert checkpoint.container.state == "STOPPED"
    checkpoint.resumed()


def error_free(container: Container, word: str) -> int:
    """The number that a part of the workload counts, once it is larger than now; no errors were counted."""
    before = container.numbers(word)[0]
    until(lambda: container.numbers(word)[0] > before, 15, f"{word} goes on from {before}")
    assert container.numbers(word)[1] == 0, f"{word} has errors: {container.numbers(word)}"
    return container.numbers(word)[0]


@pytest.mark.core
def test_counter_goes_on_where_it_stopped(lxc: Factory) -> None:
    checkpoint = lxc.start()
    container = checkpoint.container
    until(lambda: container.count() > 20)
    checkpoint.checkpointed(stop=True)
    stopped_at, stopped = container.count(), time.monotonic()
    checkpoint.restored()
    container.assert_counts()
    # Twenty times a second.
    assert stopped_at <= container.count() <= stopped_at + 20 * (time.monotonic() - stopped) + 1


@pytest.mark.core
def test_one_connection_lives_through_three_generations(lxc: Factory) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    last, accepts = talker.ask()
    for generation in (1, 2, 3):
        answer = checkpoint.checkpointed(stop=True)
        assert answer["checkpoint"]["generation"] == generation
        assert checkpoint.container.state == "STOPPED"
        checkpoint.restored()
        counter, accepts = talker.ask()
        assert counter >= last, "the counter went back"
        last = counter
    assert accepts == 1, "the client was accepted anew"
    assert talker.socket.getsockname()[1] == talker.port


@pytest.mark.core
def test_server_that_sends_all_the_time_loses_no_byte(lxc: Factory) -> None:
    checkpoint = lxc.start()
    listener = lxc.listener(checkpoint.container)
    listener.assert_flows()
    for _generation in range(3):
        take_through(checkpoint)
        listener.assert_flows()
    assert lxc.talker(checkpoint.container).ask()[1] == 2, "more connections than the listener's and this one"


def test_bytes_sent_both_ways_all_the_time_arrive(lxc: Factory) -> None:
    checkpoint = lxc.start()
    echo = lxc.echo(checkpoint.container)
    echo.assert_flows()
    for _generation in range(3):
        take_through(checkpoint)
        echo.assert_flows()
    assert echo.total > 4 * BLOCK


def test_bulk_tcp_over_loopback_loses_no_byte(lxc: Factory) -> None:
    checkpoint = lxc.start("loopback", f"counter {PORT}")
    container = checkpoint.container
    for _generation in range(3):
        error_free(container, "loopback")
        take_through(checkpoint)
        error_free(container, "loopback")
    assert container.numbers("loopback")[2] == 1, "the connection was made anew"


def test_loopback_connection_gets_a_lock_of_crius_own(lxc: Factory) -> None:
    checkpoint = lxc.start("loopback")
    answer = checkpoint.stopped()
    assert answer["checkpoint"]["options"]["network_lock"] in ("nftables", "iptables")


def test_fork_storm_goes_on_over_five_generations(lxc: Factory) -> None:
    checkpoint = lxc.start("forker", f"counter {PORT}")
    for _generation in range(5):
        take_through(checkpoint)
        error_free(checkpoint.container, "forker")


@pytest.mark.core
def test_descriptors_locks_threads_and_children_survive_three_generations(lxc: Factory) -> None:
    checkpoint = lxc.start("files")
    assert checkpoint.container.ask("files") == "ok"
    for _generation in range(3):
        take_through(checkpoint)
        assert checkpoint.container.ask("files") == "ok"


def test_descriptors_survive_a_dump_that_leaves_running(lxc: Factory) -> None:
    checkpoint = lxc.start("files")
    checkpoint.checkpointed()
    assert checkpoint.container.ask("files") == "ok"


def test_memory_has_the_same_content(lxc: Factory) -> None:
    checkpoint = lxc.start("memory 64")
    take_through(checkpoint)
    assert checkpoint.container.ask("memory") == "ok"


def test_processes_and_threads_are_as_many_as_before(lxc: Factory) -> None:
    checkpoint = lxc.start("files", f"counter {PORT}")

    def inside() -> list[str]:
        # Within the container's pid namespace every process keeps its number.
        return sorted(
            checkpoint.container.lxc("attach", "--", "/bin/sh", "-c", "ls -d /proc/[1-9]*/task/*").stdout.split()
        )

    # The last process listed is that of the listing itself.
    before = inside()
    take_through(checkpoint)
    assert len(inside()) == len(before)

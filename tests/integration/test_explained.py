# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The task itself: the preflight before the freeze, causes in a failure, and what passes by itself tried again."""

from __future__ import annotations

import os
import shlex
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import Container
from module import Answer, Checkpoint, Module, listing
from preflight import Pre
from work import Work, count


@pytest.fixture
def pre(lxc: Factory, trouble: Path) -> Pre:
    return Pre(lxc, trouble)


def task(pre: Pre, what: str, *arguments: str, **options: t.Any) -> Checkpoint:
    return pre.lxc.checkpoint(pre.start(what, *arguments, **options))


def failure(checkpoint: Checkpoint, state: str, **options: t.Any) -> Answer:
    """The task fails on the way, and the message says the first cause and its remedy."""
    answer = checkpoint.module.run(**checkpoint.options(state, **options))
    assert answer.get("failed"), f"it did not fail: {answer['action']}"
    assert "\n" not in answer["msg"]
    assert answer["diagnoses"], answer["msg"]
    first = answer["diagnoses"][0]
    assert set(first) == {"id", "class", "cause", "evidence", "remedy", "reference"}
    assert answer["msg"].index(first["cause"]) < answer["msg"].index(first["remedy"])
    assert first["evidence"] in Path(answer["log_path"]).read_text().split("\n")
    return answer


# The preflight in the task

# The situation, the finding, and the cause that CRIU's log names where it is tried all the same.
BLOCKS = {
    "BPF program": ("bpf-prog", [], "descriptor", "fd_bpf"),
    "io_uring": ("io-uring", [], "descriptor", "fd_io_uring"),
    "nested uts namespace": ("namespace", ["uts"], "nested-uts-namespace", "nested_namespace"),
    "pipe in packet mode": ("direct-pipe", [], "packet-pipe", "pipe_packets"),
}


@pytest.mark.parametrize(("what", "arguments", "finding", "cause"), BLOCKS.values(), ids=BLOCKS)
def test_what_blocks_is_refused_before_the_freeze_and_has_its_cause_where_it_is_tried(
    pre: Pre, what: str, arguments: list[str], finding: str, cause: str
) -> None:
    checkpoint = task(pre, what, *arguments)
    answer = checkpoint.refused("checkpointed", "cannot be checkpointed", "Nothing was frozen", stop=True)
    assert answer["findings"][0]["id"] == finding
    assert answer["findings"][0]["severity"] == "blocks"
    assert answer["findings"][0]["remedy"] in answer["msg"]
    life = checkpoint.container.life()
    answer = failure(checkpoint, "checkpointed", stop=True, preflight="warn")
    assert answer["diagnoses"][0]["id"] == cause
    assert answer["diagnoses"][0]["class"] != "transient"
    assert answer["retried"] == []
    assert checkpoint.container.life() == life


def test_console_that_a_process_uses_is_refused_with_the_setting_to_change(pre: Pre) -> None:
    checkpoint = task(pre, "nothing", config=["lxc.console.path ="])
    checkpoint.refused("checkpointed", "lxc.console.path = none", stop=True)
    answer = failure(checkpoint, "checkpointed", preflight="warn")
    assert answer["diagnoses"][0]["id"] == "tty_outside"


def test_plain_container_has_nothing_to_say(pre: Pre) -> None:
    checkpoint = task(pre, "nothing", network=True)
    answer = checkpoint.checkpointed(stop=True)
    assert answer["findings"] == []
    assert answer["diagnoses"] == []
    assert answer["retried"] == []
    assert not answer["warnings"]


def test_what_may_be_lost_is_one_warning_and_what_the_dump_has_settled_is_none(pre: Pre) -> None:
    checkpoint = task(pre, "namespace-roots")
    guess = checkpoint.predicted("checkpointed")
    answer = checkpoint.checkpointed()
    assert [one["id"] for one in answer["findings"]] == ["nested-mount-namespace"] * 2
    for warnings in (guess["warnings"], answer["warnings"]):
        (warning,) = warnings
        assert "nested-mount-namespace, may fail" in warning
    checkpoint = task(pre, "autofs")
    (warning,) = checkpoint.predicted("checkpointed")["warnings"]
    assert "autofs, may fail" in warning
    answer = checkpoint.checkpointed()
    assert [one["id"] for one in answer["findings"]] == ["autofs"]
    assert not answer["warnings"]


# Tried again


def told(pre: Pre, container: Container, when: str = "true") -> str:
    """A script that, after a failed dump, lets the situation inside come to its end, where `when` says so."""
    go = shlex.quote(str(container.root / "tmp/go"))
    return pre.lxc.script(
        "told", f'test "$CRTOOLS_SCRIPT_ACTION" = network-unlock || exit 0\n{when} || exit 0\n: >{go}'
    )


SITUATIONS = {
    "unread netlink messages": ("netlink-unread", [], {}, "netlink_unread"),
    "connection that is not accepted yet": ("tcp-pair", ["x"], {"skip_in_flight": False}, "tcp_in_flight"),
}


@pytest.mark.parametrize(("what", "arguments", "options", "cause"), SITUATIONS.values(), ids=SITUATIONS)
def test_what_passes_by_itself_is_tried_again(
    pre: Pre, what: str, arguments: list[str], options: dict[str, t.Any], cause: str
) -> None:
    checkpoint = task(pre, what, *arguments, network=True)
    answer = checkpoint.stopped(action_scripts=[told(pre, checkpoint.container)], **options)
    (before,) = answer["retried"]
    assert before["id"] == cause
    assert before["waited"] == 0.5
    assert before["evidence"] in Path(before["log_path"]).read_text().split("\n")
    assert answer["diagnoses"] == []
    assert checkpoint.beside() == set()
    checkpoint.resumed()
    assert checkpoint.container.running


def test_second_retry_comes_later(pre: Pre) -> None:
    checkpoint = task(pre, "netlink-unread")
    once = pre.lxc.session / "failed-once"
    script = told(pre, checkpoint.container, f"{{ test -e {once} || {{ : >{once}; false; }}; }}")
    answer = checkpoint.stopped(action_scripts=[script])
    assert [one["waited"] for one in answer["retried"]] == [0.5, 1.0]
    assert len({one["log_path"] for one in answer["retried"]}) == 2


@pytest.mark.parametrize(("retries", "tries"), [(None, 3), (0, 1), (1, 2)])
def test_what_does_not_pass_is_given_up_and_the_container_is_as_before(
    pre: Pre, retries: int | None, tries: int
) -> None:
    checkpoint = task(pre, "netlink-unread", network=True)
    container = checkpoint.container
    log = pre.lxc.session / "tries"
    log.write_text("")
    script = pre.lxc.script("count", f'test "$CRTOOLS_SCRIPT_ACTION" != network-unlock || echo x >>{log}')
    life, host_side = container.life(), container.veth()
    options = {} if retries is None else {"retries": retries}
    answer = failure(checkpoint, "checkpointed", stop=True, action_scripts=[script], **options)
    assert len(log.read_text().split()) == tries
    assert [one["id"] for one in answer["retried"]] == ["netlink_unread"] * (tries - 1)
    assert answer["diagnoses"][0]["id"] == "netlink_unread"
    assert answer["diagnoses"][0]["class"] == "transient"
    assert "The container runs on as before." in answer["msg"]
    assert [one["id"] for one in answer["findings"]] == ["netlink-data"]
    assert container.life() == life
    assert host_side in pre.lxc.bridge.ports()
    assert checkpoint.beside() == set()
    assert not checkpoint.directory.exists()


def test_retries_end_with_the_timeout(pre: Pre) -> None:
    checkpoint = task(pre, "netlink-unread")
    answer = failure(checkpoint, "checkpointed", retries=20, timeout=10)
    assert 1 <= len(answer["retried"]) < 20
    assert answer["diagnoses"][0]["id"] == "netlink_unread"


def occupied(lxc: Factory, when: str) -> str:
    """A script that takes the first pids of the container that is being restored, for as long as its init lives."""
    inside = "echo 1 >/proc/sys/kernel/ns_last_pid; for one in 2 3 4 5 6 7; do sleep 600 & done"
    return lxc.script(
        "occupy",
        f'test "$CRTOOLS_SCRIPT_ACTION" = post-setup-namespaces || exit 0\n{when} || exit 0\n'
        f'nsenter -t "$CRTOOLS_INIT_PID" -p sh -c "{inside}" </dev/null >/dev/null 2>&1',
    )


def test_restore_that_ran_nothing_is_tried_again_where_the_cause_passes(lxc: Factory) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    checkpoint.stopped()
    once = lxc.session / "occupied-once"
    script = occupied(lxc, f"{{ ! test -e {once} && : >{once}; }}")
    answer = checkpoint.resumed(action_scripts=[script])
    assert [one["id"] for one in answer["retried"]] == ["pid_taken"]
    assert talker.ask()[1] == 1
    checkpoint.container.assert_counts()


def test_restore_whose_cause_stays_is_given_up_and_the_checkpoint_stays_fresh(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    answer = failure(checkpoint, "restored", action_scripts=[occupied(lxc, "true")], retries=1)
    assert [one["id"] for one in answer["retried"]] == ["pid_taken"]
    assert answer["diagnoses"][0]["id"] == "pid_taken"
    assert "The checkpoint is still there." in answer["msg"]
    assert checkpoint.container.state == "STOPPED"
    assert checkpoint.container.cgroups() == []
    checkpoint.restored()
    checkpoint.container.assert_counts()


def test_restore_of_a_damaged_image_is_explained_and_not_tried_again(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    image = checkpoint.directory / "pstree.img"
    whole = image.read_bytes()
    os.truncate(image, len(whole) - 3)
    before = listing(checkpoint.directory)
    answer = failure(checkpoint, "restored", verify="none")
    assert answer["diagnoses"][0]["id"] == "image_truncated"
    assert answer["retried"] == []
    assert set(listing(checkpoint.directory)) - set(before) <= {"fingerprint.json"}
    image.write_bytes(whole)
    checkpoint.resumed()
    checkpoint.container.assert_counts()


# What the preflight in the task costs, and what is no reason to warn


def test_a_process_more_costs_the_task_a_few_files_and_no_program(pre: Pre) -> None:
    def work(processes: int) -> Work:
        checkpoint = pre.lxc.checkpoint(pre.crowd(processes))

        def dump(module: Module) -> None:
            answer = module.run(**checkpoint.options("checkpointed"))
            assert not answer.get("failed"), answer["msg"]

        return count(pre.lxc.module, pre.lxc.session / f"task-{processes}", dump)

    few, many = work(10), work(200)
    assert many.programs == few.programs
    # Half of them are the preflight's, and half the census's.
    assert (many.files - few.files) / 190 <= 100


def test_container_at_its_limit_of_processes_is_restored(lxc: Factory) -> None:
    checkpoint = lxc.start()
    limits = [one / "pids.max" for one in checkpoint.container.cgroups() if (one / "pids.max").exists()]
    limits = [one for one in limits if "lxc.payload." in str(one)]
    assert limits
    for one in limits:
        one.write_text((one.parent / "pids.current").read_text())
    answer = checkpoint.stopped()
    assert answer["findings"] == []
    checkpoint.resumed()
    checkpoint.container.assert_counts()

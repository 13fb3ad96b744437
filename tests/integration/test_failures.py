# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action scripts, deadlines and failures: the container runs on, an older checkpoint stays, nothing is left beside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import run, until
from module import Answer, Checkpoint, listing


def fails(checkpoint: Checkpoint, state: str, **options: t.Any) -> Answer:
    """Run what must fail on the way."""
    answer = checkpoint.module.run(**checkpoint.options(state, **options))
    assert answer.get("failed"), f"it did not fail: {answer['action']}"
    assert "\n" not in answer["msg"]
    assert not answer["changed"]
    assert answer["log_path"]
    assert os.path.exists(answer["log_path"]), answer["log_path"]
    assert answer["command"]
    return answer


def test_scripts_run_in_their_order_at_every_event(lxc: Factory) -> None:
    log = lxc.session / "scripts-order"
    one = lxc.script("one", f'echo "$CRTOOLS_SCRIPT_ACTION one" >>{log}')
    two = lxc.script("two", f'echo "$CRTOOLS_SCRIPT_ACTION two" >>{log}')
    checkpoint = lxc.start()
    checkpoint.stopped(action_scripts=[one, two])
    checkpoint.resumed(action_scripts=[two, one])
    lines = log.read_text().split("\n")
    for event, order in {
        "network-lock": ["one", "two"],
        "post-dump": ["one", "two"],
        "post-restore": ["two", "one"],
    }.items():
        assert [line.split()[1] for line in lines if line.startswith(f"{event} ")] == order, event


def test_scripts_after_a_failing_one_do_not_run(lxc: Factory) -> None:
    log = lxc.session / "scripts-failing"
    bad = lxc.script("bad", 'test "$CRTOOLS_SCRIPT_ACTION" != post-dump')
    after = lxc.script("after", f'echo "$CRTOOLS_SCRIPT_ACTION" >>{log}')
    checkpoint = lxc.start()
    fails(checkpoint, "checkpointed", stop=True, action_scripts=[bad, after])
    assert "post-dump" not in log.read_text().split()


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("event", ["pre-dump", "network-lock", "post-dump"])
def test_script_that_fails_during_a_dump_lets_the_container_run_on(lxc: Factory, event: str, stop: bool) -> None:
    checkpoint = lxc.start()
    container = checkpoint.container
    checkpoint.checkpointed()
    older = listing(checkpoint.directory)
    init, host_side = container.init_pid, container.veth()
    talker = lxc.talker(container)
    bad = lxc.script("bad", f'test "$CRTOOLS_SCRIPT_ACTION" != {event}')
    answer = fails(
        checkpoint, "checkpointed", action_scripts=[bad], **({"stop": True} if stop else {"overwrite": True})
    )
    assert bad in answer["msg"]
    assert container.init_pid == init
    assert host_side in lxc.bridge.ports(), "the network was not put back"
    assert talker.ask()[1] == 1
    container.assert_counts()
    assert listing(checkpoint.directory) == older, "the older checkpoint was touched"
    assert checkpoint.beside() == set()


def test_container_can_be_dumped_after_a_failed_dump(lxc: Factory) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    bad = lxc.script("bad", 'test "$CRTOOLS_SCRIPT_ACTION" != post-dump')
    fails(checkpoint, "checkpointed", stop=True, action_scripts=[bad])
    checkpoint.checkpointed(stop=True)
    checkpoint.restored()
    assert talker.ask()[1] == 1


def test_timeout_during_a_dump_makes_criu_roll_back(lxc: Factory) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    init = checkpoint.container.init_pid
    slow = lxc.script("slow", 'test "$CRTOOLS_SCRIPT_ACTION" != network-lock || sleep 2.2')
    answer = fails(checkpoint, "checkpointed", stop=True, action_scripts=[slow], timeout=1, kill_timeout=30)
    assert "timeout" in answer["msg"]
    assert "killed" not in answer["msg"]
    assert checkpoint.container.init_pid == init
    assert talker.ask()[1] == 1
    checkpoint.container.assert_counts()
    assert not checkpoint.directory.exists()
    assert checkpoint.beside() == set()


def test_criu_that_does_not_roll_back_is_killed_and_that_is_said(lxc: Factory) -> None:
    checkpoint = lxc.start()
    over = lxc.session / "stuck-over"
    slow = lxc.script("stuck", f'test "$CRTOOLS_SCRIPT_ACTION" != network-lock || {{ sleep 60; : >{over}; }}')
    answer = fails(checkpoint, "checkpointed", stop=True, action_scripts=[slow], timeout=3, kill_timeout=1)
    assert "killed" in answer["msg"]
    assert not over.exists(), "the script came to its end"
    assert not checkpoint.directory.exists()
    checkpoint.container.assert_counts()


@pytest.mark.parametrize("event", ["pre-restore", "post-restore"])
def test_script_that_fails_during_a_restore_leaves_the_checkpoint_fresh(lxc: Factory, event: str) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    bad = lxc.script("bad", f'test "$CRTOOLS_SCRIPT_ACTION" != {event}')
    checkpoint.stopped()
    answer = fails(checkpoint, "restored", action_scripts=[bad])
    assert bad in answer["msg"]
    assert checkpoint.container.state == "STOPPED"
    assert checkpoint.container._processes() == []
    checkpoint.restored()
    assert talker.ask()[1] == 1


def test_timeout_during_a_restore_leaves_the_checkpoint_fresh(lxc: Factory) -> None:
    checkpoint = lxc.start()
    slow = lxc.script("slow", 'test "$CRTOOLS_SCRIPT_ACTION" != pre-restore || sleep 2.2')
    checkpoint.stopped()
    answer = fails(checkpoint, "restored", action_scripts=[slow], timeout=1, kill_timeout=30)
    assert "timeout" in answer["msg"]
    assert checkpoint.container.state == "STOPPED"
    checkpoint.resumed()
    checkpoint.container.assert_counts()


def test_failure_after_cgroups_were_left_behind_does_not_hinder_the_next_restore(lxc: Factory) -> None:
    checkpoint = lxc.start()
    bad = lxc.script("bad", 'test "$CRTOOLS_SCRIPT_ACTION" != post-restore')
    checkpoint.stopped()
    for _attempt in range(2):
        fails(checkpoint, "restored", action_scripts=[bad])
    assert checkpoint.container.cgroups() == []
    checkpoint.resumed()
    checkpoint.stopped()
    checkpoint.resumed()
    checkpoint.container.assert_counts()


def test_what_criu_cannot_dump_is_refused_before_the_freeze_and_explained_if_it_is_tried(lxc: Factory) -> None:
    checkpoint = lxc.start("files")
    answer = checkpoint.refused(
        "checkpointed", "It holds file locks", "Nothing was frozen", stop=True, file_locks=False
    )
    assert [one["id"] for one in answer["findings"]] == ["file-locks"]
    answer = fails(checkpoint, "checkpointed", stop=True, file_locks=False, preflight="warn")
    assert [one["id"] for one in answer["diagnoses"]] == ["file_locks"]
    assert [one["id"] for one in answer["findings"]] == ["file-locks"]
    first = answer["diagnoses"][0]
    assert answer["msg"].index(first["cause"]) < answer["msg"].index(first["remedy"])
    assert first["evidence"] in answer["log_errors"]
    assert answer["retried"] == []
    assert answer["rc"] != 0
    assert checkpoint.container.ask("files") == "ok"


def test_ghost_file_over_the_limit_is_said_and_fits_with_a_larger_one(lxc: Factory) -> None:
    checkpoint = lxc.start("files")
    checkpoint.refused("checkpointed", "ghost_limit is 1", stop=True, ghost_limit=1)
    answer = fails(checkpoint, "checkpointed", stop=True, ghost_limit=1, preflight="warn")
    assert answer["diagnoses"][0]["id"] == "ghost_limit"
    assert "ghost_limit" in answer["msg"]
    assert checkpoint.container.ask("files") == "ok"
    checkpoint.checkpointed(stop=True, ghost_limit=1 << 20)
    checkpoint.restored()
    assert checkpoint.container.ask("files") == "ok"


def test_memory_of_the_container_is_in_no_answer(lxc: Factory) -> None:
    checkpoint = lxc.start(config=["lxc.environment = SECRET=hunter2hunter2"])
    answers = [
        checkpoint.stopped(),
        checkpoint.resumed(),
        fails(
            checkpoint,
            "checkpointed",
            stop=True,
            action_scripts=[lxc.script("bad", 'test "$CRTOOLS_SCRIPT_ACTION" != post-dump')],
        ),
    ]
    assert "hunter2hunter2" not in repr(answers)


# Interrupted tasks


def hold(lxc: Factory, event: str) -> tuple[str, t.Callable[[], bool], t.Callable[[], None]]:
    """A script that stands still at an event; whether it is there; and how to let it go."""
    here, go = (lxc.session / f"{event}-{word}" for word in ("here", "go"))
    for path in (here, go):
        path.unlink(missing_ok=True)
    script = lxc.script(
        "hold", f'test "$CRTOOLS_SCRIPT_ACTION" = {event} || exit 0\n: >{here}\nuntil test -e {go}; do sleep 0.02; done'
    )
    lxc.closing.append(go.touch)
    return script, here.exists, go.touch


def test_second_task_waits_for_the_first(lxc: Factory) -> None:
    checkpoint = lxc.start()
    script, there, let_go = hold(lxc, "network-lock")
    first = checkpoint.module.start(**checkpoint.options("checkpointed", stop=True, action_scripts=[script]))
    until(there, 20)
    second = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, timeout=1))
    let_go()
    assert not checkpoint.module.answer(first).get("failed")
    assert second.get("failed")
    assert "Another task" in second["msg"]


def test_task_that_is_killed_before_the_commit_leaves_what_the_next_one_completes_or_removes(lxc: Factory) -> None:
    checkpoint = lxc.start()
    script, there, let_go = hold(lxc, "post-dump")
    task = checkpoint.module.start(**checkpoint.options("checkpointed", stop=True, action_scripts=[script]))
    until(there, 20)
    os.kill(task.pid, signal.SIGKILL)
    task.communicate()
    let_go()
    # CRIU goes on without the module: it commits, and the container stops.
    until(lambda: checkpoint.container.state == "STOPPED", 20)
    answer = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True))
    assert not answer.get("failed"), answer["msg"]
    assert any("completed" in line for line in answer["recovered"]), answer["recovered"]
    assert checkpoint.beside() == set()
    checkpoint.restored()
    checkpoint.container.assert_counts()


def test_task_that_is_killed_with_its_criu_leaves_what_the_next_one_removes(lxc: Factory) -> None:
    checkpoint = lxc.start()
    script, there, let_go = hold(lxc, "pre-dump")
    task = checkpoint.module.start(**checkpoint.options("checkpointed", stop=True, action_scripts=[script]))
    until(there, 20)
    for pid in [task.pid, *children(task.pid)]:
        os.kill(pid, signal.SIGKILL)
    task.communicate()
    let_go()
    assert checkpoint.beside() != set()
    checkpoint.container.assert_counts()
    answer = checkpoint.checkpointed(stop=True)
    assert any("removed" in line for line in answer["recovered"]), answer["recovered"]
    assert checkpoint.beside() == set()
    checkpoint.restored()
    checkpoint.container.assert_counts()


def children(pid: int) -> list[int]:
    found: list[int] = []
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as stream:
        for child in stream.read().split():
            found += [int(child), *children(int(child))]
    return found


def test_criu_that_is_killed_while_the_dumped_tasks_die_has_lost_nothing(lxc: Factory) -> None:
    """They need a while to free their memory, in which they are still there."""
    checkpoint = lxc.start("counter 7000", "memory 512")
    container = checkpoint.container
    until((container.root / "tmp/memory.ready").exists, 30, "the memory is written")
    before = container.count()
    line = Path(f"/proc/{container.init_pid}/stat")
    process = checkpoint.module.start(**checkpoint.options("checkpointed", stop=True))
    criu = until(lambda: dumping(process.pid), 30, "CRIU dumps")[0]
    deadline = time.monotonic() + 600
    while not killed(line):
        assert time.monotonic() < deadline, "the dump does not stop the container"
    os.kill(criu, signal.SIGKILL)
    answer = checkpoint.module.answer(process)
    assert not answer.get("failed"), answer["msg"]
    assert "CRIU ended with -9 after the image was committed" in " ".join(answer["warnings"])
    checkpoint.resumed()
    container.assert_counts()
    assert container.count() >= before
    assert container.ask("memory") == "ok"


@pytest.mark.parametrize("call", ["umount2", "rmdir"])
def test_criu_that_is_killed_while_it_looks_at_a_mount_leaves_nothing_of_that(lxc: Factory, call: str) -> None:
    """It has bound the container's /dev to a directory in /tmp, or has made that at least."""
    checkpoint = lxc.start()
    container = checkpoint.container
    library = deadly(lxc, call)
    criu = json.loads(Path("/etc/stasis/lxc.json").read_text())["criu_path"]
    program = lxc.script("criu", f'LD_PRELOAD={library} exec {criu} "$@"')
    answer = fails(checkpoint, "checkpointed", criu_path=program)
    assert "CRIU ended with -9" in answer["msg"]
    assert any("removed /tmp/cr-tmpfs." in line for line in answer["recovered"]), answer["recovered"]
    mounts = Path(f"/proc/{container.init_pid}/mountinfo").read_text()
    assert "cr-tmpfs" not in mounts
    assert not list((container.root / "tmp").glob("cr-tmpfs.*"))
    container.assert_counts()


def deadly(lxc: Factory, call: str) -> Path:
    """A library that kills the program which calls this for a directory of CRIU's."""
    source = lxc.session / f"deadly-{call}.c"
    source.write_text(
        f"""
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
int getpid(void);
long syscall(long number, ...);
int {call}(const char *path, ...)
{{
    if (strstr(path, "cr-tmpfs."))
        kill(getpid(), SIGKILL);
    return syscall(SYS_{call}, path, 2 /* MNT_DETACH */);
}}
"""
    )
    library = source.with_suffix(".so")
    run("gcc", "-shared", "-fPIC", "-fno-builtin", "-o", str(library), str(source))
    return library


def test_restore_after_a_killed_task_waits_for_the_last_hooks_of_lxc(lxc: Factory) -> None:
    """LXC says STOPPED before the post-stop hooks have run, and what they take away the container may need again."""
    done = lxc.session / "post-stop-done"
    slow = lxc.script("slow", f"sleep 1.5; : >{done}")
    checkpoint = lxc.start(config=[f"lxc.hook.post-stop = {slow}"])
    process = checkpoint.module.start(**checkpoint.options("checkpointed", stop=True))
    until(lambda: dumping(process.pid), 30, "CRIU dumps")
    process.kill()
    process.communicate()
    answer = checkpoint.module.run(**checkpoint.options("restored"))
    assert not answer.get("failed"), answer["msg"]
    assert done.exists(), "the restore did not wait"
    checkpoint.container.assert_counts()


def dumping(pid: int) -> list[int]:
    """The CRIU that a module has started for a dump; before that it asks CRIU for the CPU."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"/criu") and words[1] == b"dump":
                found.append(child)
    return found


def killed(line: Path) -> bool:
    """Whether it was sent SIGKILL, by proc_pid_stat(5)."""
    try:
        text = line.read_text()
    except OSError:
        return True
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0] in "ZX" or bool(int(fields[6]) & 4) or bool(int(fields[28]) & 1 << 8)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import subprocess
import sys
import time
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _ahead, _image, _integrity
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import draft, manifest, write

pytestmark = pytest.mark.interpreter

NAMES = ["inventory.img", "pages-1.img"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two files that count as old enough to be believed."""
    monkeypatch.setattr(_integrity, "SETTLED_NS", -10_000_000_000)
    for name in NAMES:
        (tmp_path / name).write_text(f"content of {name}")
    return str(tmp_path)


def waited_for(true: t.Callable[[], bool], seconds: float = 100.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def runs(pid: int) -> bool:
    """Whether it is there and no zombie: where nobody reaps orphans, they stay."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_hashes_are_those_that_the_manifest_would_have(files: str) -> None:
    assert _ahead.Ahead(files).entries() == _integrity.hash_files(files, NAMES)


def test_file_that_was_written_since_is_not_believed(files: str) -> None:
    ahead = _ahead.Ahead(files)
    ahead.entries()
    with open(f"{files}/pages-1.img", "r+", encoding="utf-8") as stream:
        stream.write("C")
    assert list(ahead.entries()) == ["inventory.img"]


def test_file_that_was_replaced_by_one_of_the_same_size_and_time_is_not_believed(files: str) -> None:
    ahead = _ahead.Ahead(files)
    ahead.entries()
    status = os.stat(f"{files}/pages-1.img")
    write(f"{files}/new", "another of pages-1.img!"[: status.st_size])
    os.utime(f"{files}/new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(f"{files}/new", f"{files}/pages-1.img")
    assert list(ahead.entries()) == ["inventory.img"]


def test_file_that_is_gone_is_left_out(files: str) -> None:
    ahead = _ahead.Ahead(files)
    ahead.entries()
    os.unlink(f"{files}/pages-1.img")
    assert list(ahead.entries()) == ["inventory.img"]


def test_file_that_has_just_been_written_could_change_unseen_and_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # "Just" is an hour here: a busy machine takes a while from the write to the look.
    monkeypatch.setattr(_integrity, "SETTLED_NS", 3_600_000_000_000)
    (tmp_path / "pages-1.img").write_text("x")
    os.utime(tmp_path / "pages-1.img", (1, 1))
    assert _ahead.Ahead(str(tmp_path)).entries() == {}


def test_links_and_directories_are_nobodys_hashes(files: str) -> None:
    os.symlink("pages-1.img", f"{files}/link")
    os.mkdir(f"{files}/directory")
    os.mkfifo(f"{files}/fifo")
    assert sorted(_ahead.Ahead(files).entries()) == NAMES


def test_it_begins_when_what_it_waits_for_is_there(files: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sign, began = f"{files}/ready", f"{files}.began"

    def watched(*_arguments: object, **_options: object) -> dict[str, _integrity.Entry]:
        write(began, "")
        return {}

    monkeypatch.setattr(_integrity, "hash_files", watched)
    ahead = _ahead.Ahead(files, lambda: os.path.exists(sign))
    try:
        time.sleep(0.05)
        assert not os.path.exists(began)
        write(sign, "")
        assert waited_for(lambda: os.path.exists(began))
    finally:
        ahead.cancel()


def test_who_asks_for_the_hashes_does_not_wait_for_ever(files: str) -> None:
    assert sorted(_ahead.Ahead(files, lambda: False).entries()) == NAMES


def test_nothing_is_hashed_for_nobody(files: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began = f"{files}.began"
    monkeypatch.setattr(_integrity, "hash_files", lambda *_arguments, **_options: write(began, ""))
    ahead = _ahead.Ahead(files, lambda: False)
    ahead.cancel()
    assert ahead.entries() == {}
    assert not os.path.exists(began)


def test_cancelled_one_leaves_no_process(files: str) -> None:
    ahead = _ahead.Ahead(files, lambda: False)
    child = ahead._child
    assert runs(child)
    ahead.cancel()
    assert waited_for(lambda: not runs(child))


def test_process_that_has_told_is_gone(files: str) -> None:
    ahead = _ahead.Ahead(files)
    child = ahead._child
    ahead.entries()
    assert not os.path.exists(f"/proc/{child}")


def test_process_holds_none_of_the_locks_of_the_task(files: str) -> None:
    with open(f"{files}/lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ahead = _ahead.Ahead(files, lambda: False)
        held = f"/proc/{ahead._child}/fd/{lock.fileno()}"
        try:
            assert waited_for(lambda: not os.path.lexists(held))
        finally:
            ahead.cancel()


# Made in a process that then is killed, as a task may be.
ORPHAN = """
import os, signal, sys, time
from ansible_collections.stasis.lxc.plugins.module_utils import _ahead, _integrity
_integrity.hash_files = lambda *arguments, **options: time.sleep(600)
print(_ahead.Ahead(sys.argv[1], lambda: sys.argv[2] == "working")._child, flush=True)
time.sleep(0.2)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["waiting", "working"])
def test_process_ends_with_the_task_that_was_killed(files: str, state: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN, files, state],
        env={**os.environ, "PYTHONPATH": str(Path(_integrity.__file__).parents[5])},
        stdout=subprocess.PIPE,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert waited_for(lambda: not runs(int(done.stdout)))


def test_process_that_is_killed_leaves_everything_to_whoever_needs_the_hashes(files: str) -> None:
    ahead = _ahead.Ahead(files, lambda: False)
    os.kill(ahead._child, signal.SIGKILL)
    assert ahead.entries() == {}


def test_file_that_shrinks_under_the_hands_of_the_process_costs_the_task_nothing(
    files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shrinking(descriptor: int, length: int, **options: int) -> mmap.mmap:
        view = mmap.mmap(descriptor, length, **options)
        os.truncate(f"/proc/self/fd/{descriptor}", 0)
        return view

    monkeypatch.setattr(_integrity, "mmap", types.SimpleNamespace(mmap=shrinking, PROT_READ=mmap.PROT_READ))
    assert _ahead.Ahead(files).entries() == {}


def test_where_there_can_be_no_other_process_nothing_is_known(files: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    ahead = _ahead.Ahead(files)
    ahead.begin()
    ahead.cancel()
    assert ahead.entries() == {}


@pytest.mark.parametrize("missing", [OSError(5, "Input/output error"), None])
def test_failure_leaves_everything_to_whoever_needs_the_hashes(
    files: str, monkeypatch: pytest.MonkeyPatch, missing: OSError | None
) -> None:
    def fail(*_arguments: object) -> None:
        raise missing or StasisError("No regular file.", "")

    monkeypatch.setattr(_integrity, "hash_files", fail)
    assert _ahead.Ahead(files).entries() == {}


def test_directory_that_is_gone_is_no_failure_either(tmp_path: Path) -> None:
    assert _ahead.Ahead(str(tmp_path / "gone")).entries() == {}


def test_seal_hashes_only_what_is_not_known(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_integrity, "SETTLED_NS", -10_000_000_000)
    target = f"{safe_dir}/checkpoint"
    staging = _image.stage(target, draft())
    for name in NAMES:
        write(f"{staging}/{name}", name)
        os.chmod(f"{staging}/{name}", 0o600)
    write(f"{staging}/committed", "committed B 1\n")
    ahead = _ahead.Ahead(staging)
    ahead.entries()
    write(f"{staging}/inventory.img", "another")
    asked: list[list[str]] = []
    hash_files = _integrity.hash_files

    def watched(directory: str, names: list[str]) -> dict[str, _integrity.Entry]:
        asked.append(list(names))
        return hash_files(directory, names)

    monkeypatch.setattr(_integrity, "hash_files", watched)
    _image.seal(staging, manifest(), ahead=ahead)
    assert asked == [["inventory.img"]]
    _image.publish(target)
    assert _image.verify(_image.look(target)) == []


# The task ends while its helper sleeps, as one does that waits for a disk that does not answer.
ENDS_BEFORE_ITS_HELPER = """
import os, sys, time
from ansible_collections.stasis.lxc.plugins.module_utils import _ahead
def ready():
    with open(sys.argv[2], "w") as stream:
        stream.write(str(os.getpid()))
    time.sleep(3600)
_ahead.Ahead(sys.argv[1], ready)
while not (os.path.exists(sys.argv[2]) and os.path.getsize(sys.argv[2])):
    time.sleep(0.01)
print("the answer", flush=True)
os._exit(0)
"""


def test_who_waits_for_the_output_of_the_task_does_not_wait_for_its_helper(files: str) -> None:
    path = f"{files}.pid"
    try:
        done = subprocess.run(
            [sys.executable, "-c", ENDS_BEFORE_ITS_HELPER, files, path],
            env={**os.environ, "PYTHONPATH": str(Path(_integrity.__file__).parents[5])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        with open(path, encoding="utf-8") as stream:
            os.kill(int(stream.read()), signal.SIGKILL)
    assert done.stdout == "the answer\n"

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import multiprocessing
import os
import stat
import time
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _workspace
from ansible_collections.stasis.lxc.plugins.module_utils._errors import RecordError, StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import tree, write


def test_workspace_is_a_private_directory_named_by_time_action_and_process(safe_dir: str) -> None:
    work = _workspace.Workspace("web1", "dump", safe_dir)
    stamp, action, pid = os.path.basename(work.path).split("-")
    assert os.path.dirname(work.path) == f"{safe_dir}/web1"
    assert (action, pid) == ("dump", str(os.getpid()))
    assert abs(time.time() - time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%S")) + time.timezone) < 60
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (work.path, f"{safe_dir}/web1")] == [0o700, 0o700]


def test_newest_workspaces_of_a_container_stay(safe_dir: str) -> None:
    runs = [f"202601{day:02}T000000-dump-1" for day in range(1, 15)]
    for run in reversed(runs):
        write(f"{safe_dir}/web1/{run}/dump.log", "")
        write(f"{safe_dir}/web2/{run}/dump.log", "")
    work = _workspace.Workspace("web1", "restore", safe_dir)
    kept = sorted(os.listdir(f"{safe_dir}/web1"))
    assert kept == [*runs[-(_workspace.KEEP - 1) :], os.path.basename(work.path)]
    assert len(os.listdir(f"{safe_dir}/web2")) == 14


def test_pruning_leaves_files_and_symlinks_alone(safe_dir: str) -> None:
    write(f"{safe_dir}/web1/0-notes", "mine")
    os.symlink(safe_dir, f"{safe_dir}/web1/0-link")
    for day in range(1, 15):
        os.mkdir(f"{safe_dir}/web1/202601{day:02}T000000-dump-1")
    _workspace.Workspace("web1", "dump", safe_dir)
    assert {"0-notes", "0-link"} <= set(os.listdir(f"{safe_dir}/web1"))
    assert os.path.isdir(safe_dir)


def test_lines_are_written_one_item_each(safe_dir: str) -> None:
    work = _workspace.Workspace("web1", "dump", safe_dir)
    assert work.write_lines("argv", ["--a", "b c", ""]) == work.file("argv")
    assert work.read("argv") == "--a\nb c\n\n"


def test_file_that_is_missing_reads_as_empty(safe_dir: str) -> None:
    assert _workspace.Workspace("web1", "dump", safe_dir).read("hook.log") == ""
    assert _workspace.read_text(f"{safe_dir}/none") == ""
    assert _workspace.read_text(safe_dir) == ""


def test_reading_is_bounded_and_keeps_bytes_that_are_no_utf8(safe_dir: str) -> None:
    work = _workspace.Workspace("web1", "dump", safe_dir)
    with open(work.file("log"), "wb") as stream:
        stream.write(b"ab\xff" + b"x" * 100)
    assert work.read("log", 4) == "ab\udcffx"


def test_log_is_kept_under_its_own_name_and_a_missing_one_is_no_failure(safe_dir: str) -> None:
    work = _workspace.Workspace("web1", "dump", safe_dir)
    work.keep(write(f"{safe_dir}/staging/dump.log", "lines"))
    work.keep(f"{safe_dir}/staging/none.log")
    assert tree(work.path)["dump.log"].endswith(" lines")
    assert os.listdir(work.path) == ["dump.log"]


def test_same_name_below_another_lxc_path_has_another_key() -> None:
    keys = {_workspace.key(name, path) for name in ("web1", "web2") for path in ("/var/lib/lxc", "/srv/lxc")}
    assert len(keys) == 4
    assert all("/" not in key for key in keys)


def test_lock_is_free_again_after_use_and_after_a_failure(safe_dir: str) -> None:
    for _time in range(2):
        with pytest.raises(RuntimeError), _workspace.locked("web1", "/l", 0, safe_dir):
            raise RuntimeError
    with _workspace.locked("web1", "/l", 0, safe_dir) as descriptor:
        assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_second_holder_is_turned_away_with_a_message(safe_dir: str) -> None:
    with _workspace.locked("web1", "/l", 0, safe_dir):
        began = time.monotonic()
        with pytest.raises(StasisError) as refusal, _workspace.locked("web1", "/l", 0.2, safe_dir):
            pytest.fail("two hold the lock")
        assert 0.2 <= time.monotonic() - began < 100
    assert refusal.value.message == ("Another task is at work on web1 in /l. Run this task again when it has ended.")


def test_other_containers_do_not_wait(safe_dir: str) -> None:
    with contextlib.ExitStack() as held:
        for name, lxc_path in (("web1", "/l"), ("web2", "/l"), ("web1", "/m")):
            held.enter_context(_workspace.locked(name, lxc_path, 0, safe_dir))


def _hold(locks: str, ready: t.Any, over: t.Any) -> None:
    with _workspace.locked("web1", "/l", 0, locks):
        ready.set()
        time.sleep(0.5)
        over.set()


def test_holder_in_another_process_is_waited_for(safe_dir: str) -> None:
    context = multiprocessing.get_context("fork")
    ready, over = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(safe_dir, ready, over))
    holder.start()
    assert ready.wait(100)
    with _workspace.locked("web1", "/l", 100, safe_dir):
        assert over.is_set()
    holder.join()


def test_inherited_lock_outlives_who_took_it(safe_dir: str) -> None:
    with _workspace.locked("web1", "/l", 0, safe_dir) as descriptor:
        inherited = os.dup(descriptor)
    with pytest.raises(StasisError, match="Another task"), _workspace.locked("web1", "/l", 0, safe_dir):
        pytest.fail("CRIU still holds the lock")
    os.close(inherited)
    with _workspace.locked("web1", "/l", 0, safe_dir):
        pass


def test_lock_file_is_private(safe_dir: str) -> None:
    with _workspace.locked("web1", "/l", 0, f"{safe_dir}/run"):
        assert {entry[:6] for entry in tree(f"{safe_dir}/run").values()} == {"100600"}


def test_tries_of_one_second_have_a_directory_each(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 11, 22, 0, 0, 0, 6, 326, 0)))
    paths = [_workspace.Workspace("web1", "dump", safe_dir).path for _try in range(3)]
    first = f"{safe_dir}/web1/20261122T000000-dump-{os.getpid()}"
    assert paths == [first, f"{first}-2", f"{first}-3"]


def test_both_ends_of_a_long_log_are_read_in_whole_lines(safe_dir: str) -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    found = _workspace.read_ends(write(f"{safe_dir}/log", text), each=100)
    lines = found.splitlines()
    assert (lines[0], lines[-1]) == ("line 0", "line 999")
    assert set(lines) <= set(text.splitlines())
    assert len(found) <= 200


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 150, 199, 200])
def test_log_that_is_not_long_is_read_whole(safe_dir: str, size: int) -> None:
    text = ("0123456789\n" * 20)[:size]
    assert _workspace.read_ends(write(f"{safe_dir}/log", text), each=100) == text


def test_log_that_is_not_there_is_empty(safe_dir: str) -> None:
    assert _workspace.read_ends(f"{safe_dir}/log") == ""


def test_logs_of_all_tries_of_this_process_stay(safe_dir: str) -> None:
    for number in range(_workspace.KEEP):
        os.makedirs(f"{safe_dir}/web1/20990101T00000{number}-dump-1")
    # Of a clock that has been set back since the others.
    made = [_workspace.Workspace("web1", "dump", safe_dir).path for _number in range(_workspace.KEEP + 5)]
    assert [os.path.isdir(path) for path in made] == [True] * len(made)


def test_log_that_a_failure_names_is_there(safe_dir: str) -> None:
    work = _workspace.Workspace("web1", "restore", safe_dir)
    write(work.file("restore.log"), "")
    write(work.file("lxc.err"), "")
    assert work.first("restore.log", "lxc.log", "lxc.err") == work.file("lxc.err")
    write(work.file("lxc.log"), "x")
    assert work.first("restore.log", "lxc.log", "lxc.err") == work.file("lxc.log")


@pytest.mark.parametrize("item", ["--external\n--action-script", "x\n", "a\0b"], ids=ascii)
def test_item_that_would_be_more_than_one_line_is_refused(safe_dir: str, item: str) -> None:
    work = _workspace.Workspace("web1", "restore", safe_dir)
    with pytest.raises(RecordError, match="argv has no valid 'line'"):
        work.write_lines("argv", ["-o", item])


def test_item_with_any_other_byte_is_written_as_it_is(safe_dir: str) -> None:
    work = _workspace.Workspace("web1", "restore", safe_dir)
    with open(work.write_lines("argv", ["a\udcff\r b"]), "rb") as stream:
        assert stream.read() == b"a\xff\r b\n"

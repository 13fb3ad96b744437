# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_log_info
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.modules import criu_log_info

LOGS = Path(__file__).parents[2] / "fixtures" / "logs"

TCP = "(00.1) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.\n"
NETLINK = "(00.3) Error (criu/sk-netlink.c:77): netlink: The socket has data to read\n"
FAILED = "(00.5) Error (criu/cr-dump.c:1975): Dumping FAILED.\n"
DONE = "(00.6) Dumping finished successfully\n"
BAD_SIZE = "(00.2)  2: Error (criu/files-reg.c:2175): File tmp/dat has bad size 6 (expect 4)\n"
EXITED = "lxc-checkpoint: c1: ../src/lxc/criu.c: do_restore: 1070 criu process exited 1, output:\n"


def ids(info: _criu_log_info.LogInfo) -> list[str]:
    return [one["id"] for one in info.diagnoses]


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_log_is_diagnosed(tmp_path: Path) -> None:
    info = _criu_log_info.gather(written(tmp_path / "some.txt", TCP + FAILED))
    assert ids(info) == ["tcp_connected"]
    assert info.diagnoses[0]["log"] == "some.txt"
    assert info.diagnoses[0]["evidence"] == TCP.strip()
    assert info.errors == [TCP.strip()]
    assert info.logs == [{"name": "some.txt", "outcome": "failed", "size": len(TCP + FAILED), "truncated": False}]


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (DONE, "succeeded"),
        (TCP + FAILED, "failed"),
        (TCP, "failed"),
        (TCP + DONE, "succeeded"),
        (DONE + FAILED, "failed"),
        ("hello\n", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_outcome_is_what_the_log_says_last(tmp_path: Path, text: str, outcome: str) -> None:
    assert _criu_log_info.gather(written(tmp_path / "x", text)).logs[0]["outcome"] == outcome


@pytest.mark.parametrize("name", ["tty_outside--liblxc.log", "file_changed.log", "criu_never_ran.log"])
def test_a_captured_log_is_diagnosed(name: str) -> None:
    assert ids(_criu_log_info.gather(str(LOGS / name)))[0] == name[: -len(".log")].split("--")[0]


def test_a_directory_gives_the_causes_of_all_its_logs_with_their_names(tmp_path: Path) -> None:
    written(tmp_path / "dump.log", DONE)
    written(tmp_path / "restore.log", BAD_SIZE)
    written(tmp_path / "lxc.log", EXITED)
    written(tmp_path / "other.log", TCP)
    info = _criu_log_info.gather(str(tmp_path))
    assert [(one["id"], one["log"]) for one in info.diagnoses] == [("file_changed", "restore.log")]
    assert [log["name"] for log in info.logs] == ["restore.log", "dump.log", "lxc.log"]
    assert info.errors == [BAD_SIZE.strip(), EXITED.strip()]


def test_where_crius_own_log_is_missing_liblxcs_counts(tmp_path: Path) -> None:
    written(tmp_path / "lxc.log", EXITED)
    assert ids(_criu_log_info.gather(str(tmp_path))) == ["criu_never_ran"]


def test_transient_needs_every_cause_to_be_so(tmp_path: Path) -> None:
    path = written(tmp_path / "dump.log", NETLINK)
    assert _criu_log_info.gather(path).transient
    assert not _criu_log_info.gather(written(tmp_path / "dump.log", NETLINK + TCP)).transient


def test_nothing_is_returned_of_what_is_no_log(tmp_path: Path) -> None:
    info = _criu_log_info.gather(written(tmp_path / "shadow", "root:$y$j9T$secret:1::::::\n"))
    assert "secret" not in repr(info)


def test_a_directory_without_logs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StasisError, match="no log"):
        _criu_log_info.gather(str(tmp_path))


@pytest.mark.parametrize("path", ["dump.log", "", "/nonexistent/dump.log", "/etc/passwd/x", "/tmp/a\nb", "/tmp/\udcff"])
def test_a_path_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(StasisError):
        _criu_log_info.gather(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "dump.log")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/zero"
    else:
        socket.socket(socket.AF_UNIX).bind(path)
    with pytest.raises(StasisError):
        _criu_log_info.gather(path)


def test_a_link_in_an_image_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump.log").symlink_to("/etc/passwd")
    with pytest.raises(StasisError):
        _criu_log_info.gather(str(tmp_path))


def read(path: Path, first: int, last: int) -> _criu_log_info.Log:
    with path.open("rb") as stream:
        return _criu_log_info._read("x", stream.fileno(), first_bytes=first, last_bytes=last)


def test_of_a_long_log_the_first_and_the_last_part_are_read(tmp_path: Path) -> None:
    path = tmp_path / "dump.log"
    path.write_text(NETLINK + "middle\n" * 1000 + BAD_SIZE + "middle\n" * 1000 + TCP)
    log = read(path, 500, 500)
    assert log.truncated
    assert [one.id for one in log.diagnoses] == ["netlink_unread", "tcp_connected"]
    assert [one.id for one in read(path, 10000, 10000).diagnoses] == ["netlink_unread", "file_changed", "tcp_connected"]


def test_the_half_line_where_the_last_part_begins_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "dump.log"
    path.write_text("x" * 1000 + TCP)
    assert read(path, 10, len(TCP)).errors == ()


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_lines_come_out_whole_however_they_are_read(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_criu_log_info, "_CHUNK", size)
    path = tmp_path / "dump.log"
    path.write_text(f"one\n\n{TCP}last")
    with path.open("rb") as stream:
        assert list(_criu_log_info._lines(stream.fileno(), 0, 10000)) == ["one", "", TCP.strip(), "last"]


def test_a_line_without_an_end_does_not_fill_memory(tmp_path: Path) -> None:
    path = tmp_path / "dump.log"
    with path.open("wb") as stream:
        stream.write(b"x" * (5 << 20))
        stream.write(b"\n" + TCP.encode())
    with path.open("rb") as stream:
        lines = list(_criu_log_info._lines(stream.fileno(), 0, 10 << 20))
    assert [len(line) for line in lines] == [64 << 10, len(TCP) - 1]


def test_a_sparse_giant_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "dump.log"
    path.write_text(TCP)
    os.truncate(path, 1 << 40)
    assert ids(_criu_log_info.gather(str(path))) == ["tcp_connected"]


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dump.log"
    path.write_bytes(b"(00.1) Error (a.c:1): \xff\xfe\x00\n")
    assert all(line.isprintable() for line in _criu_log_info.gather(str(path)).errors)


def test_the_documentation_names_every_key_of_the_result(tmp_path: Path) -> None:
    info = _criu_log_info.gather(written(tmp_path / "dump.log", TCP))
    documented: dict[str, t.Any] = yaml.safe_load(criu_log_info.RETURN)
    assert list(documented) == list(vars(info))
    assert list(documented["diagnoses"]["contains"]) == list(info.diagnoses[0])
    assert list(documented["logs"]["contains"]) == list(info.logs[0])


def test_the_page_of_diagnoses_is_what_the_table_says() -> None:
    root = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, str(root / "tools/diagnoses_page.py"), "--check"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _runner
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._runner import Completed, SystemRunner
from ansible_collections.stasis.lxc.tests.unit.support.make import write

pytestmark = pytest.mark.interpreter

SH = "/bin/sh"


def to_files(top: str, script: str, **changes: t.Any) -> Completed:
    options: dict[str, t.Any] = {
        "environment": _runner.clean_environment(),
        "stdout": f"{top}/out",
        "stderr": f"{top}/err",
        "timeout": 30.0,
        "grace": 5.0,
    }
    return _runner.run_to_files([SH, "-c", script], **{**options, **changes})


def read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def gone(pid: int) -> bool:
    """Whether a process ends within a second; a zombie that init has not yet taken counts as ended."""
    for _try in range(100):
        try:
            if read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def later_killed(pid_file: str) -> t.Iterator[None]:
    """End the one process that a test left behind on purpose, by its pid."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(read(pid_file)), signal.SIGKILL)


def test_environment_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRIU_CONFIG_FILE", "/tmp/evil")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("LANGUAGE", "de")
    done = SystemRunner().run(["/usr/bin/env"])
    # sh and libc of some systems add PWD, SHLVL and _ by themselves; env does not.
    assert sorted(line.split("=")[0] for line in done.stdout.splitlines()) == ["HOME", "LC_ALL", "PATH"]
    assert "LC_ALL=C" in done.stdout


def test_environment_takes_more_and_lets_it_win() -> None:
    found = _runner.clean_environment(STASIS_WORK="/w", PATH="/launcher:/bin")
    assert found == {"PATH": "/launcher:/bin", "LC_ALL": "C", "HOME": "/root", "STASIS_WORK": "/w"}


def test_run_gives_what_the_program_said_and_how_it_ended() -> None:
    done = SystemRunner().run([SH, "-c", "cat; echo error >&2; exit 3"], stdin="input")
    assert (done.rc, done.stdout, done.stderr, done.timed_out) == (3, "input", "error\n", False)
    assert done.argv == (SH, "-c", "cat; echo error >&2; exit 3")


def test_run_tells_a_signal_from_an_exit() -> None:
    assert SystemRunner().run([SH, "-c", "kill -9 $$"]).rc == -9


def test_run_without_input_does_not_wait_for_one() -> None:
    assert SystemRunner().run(["/bin/cat"], timeout=10).stdout == ""


def test_run_keeps_output_that_is_no_utf8() -> None:
    assert SystemRunner().run([SH, "-c", r"printf '\377\r\n'"]).stdout == "\udcff\r\n"
    assert SystemRunner().run([SH, "-c", "cat"], stdin="\udcff").stdout == "\udcff"


def test_run_never_asks_a_shell() -> None:
    assert SystemRunner().run(["/bin/echo", "$(id)", ";", "*"]).stdout == "$(id) ; *\n"


def test_run_kills_at_its_deadline_and_keeps_what_was_said() -> None:
    done = SystemRunner().run([SH, "-c", "echo early; exec sleep 600"], timeout=1.0)
    assert (done.rc, done.timed_out, done.stdout) == (-signal.SIGKILL, True, "early\n")
    assert done.seconds < 300


@pytest.mark.parametrize("program", ["/none/such", "no-such-program-anywhere", "/"])
def test_program_that_cannot_be_started_is_a_clear_failure(safe_dir: str, program: str) -> None:
    with pytest.raises(StasisError, match=f"{program} could not be started: "):
        SystemRunner().run([program])
    with pytest.raises(StasisError, match=f"{program} could not be started: "):
        _runner.run_to_files(
            [program],
            environment={},
            stdout=f"{safe_dir}/out",
            stderr=f"{safe_dir}/err",
            timeout=5.0,
            grace=1.0,
        )


def test_output_goes_to_files_behind_what_is_there(safe_dir: str) -> None:
    write(f"{safe_dir}/out", "before\n")
    done = to_files(safe_dir, "echo out; echo err >&2; exit 4")
    assert (done.rc, done.timed_out) == (4, False)
    assert (read(f"{safe_dir}/out"), read(f"{safe_dir}/err")) == ("before\nout\n", "err\n")
    assert (done.stdout, done.stderr) == ("before\nout\n", "err\n")


def test_child_that_keeps_the_output_open_is_not_waited_for(safe_dir: str) -> None:
    with later_killed(f"{safe_dir}/pid"):
        began = time.monotonic()
        done = to_files(safe_dir, f"sleep 600 & echo $! > {safe_dir}/pid; echo said >&2")
        assert time.monotonic() - began < 300
        assert (done.rc, done.stderr) == (0, "said\n")
        assert not gone(int(read(f"{safe_dir}/pid"))), "a child of a program that ended well lives on"


def test_environment_of_a_program_is_exactly_what_it_is_given(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRIU_CONFIG_FILE", "/tmp/evil")
    to_files(safe_dir, "exec /usr/bin/env", environment={"A": "1", "PATH": "/bin"})
    names = {line.split("=")[0] for line in read(f"{safe_dir}/out").splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"A", "PATH"}


def test_program_has_a_session_of_its_own_no_input_and_the_root_as_directory(safe_dir: str) -> None:
    to_files(safe_dir, "echo $$; cut -d' ' -f6 /proc/self/stat; pwd; cat; umask")
    pid, session, directory, mask = read(f"{safe_dir}/out").split()
    assert (pid, directory, mask) == (session, "/", "0022")
    assert int(session) != os.getsid(0)


@pytest.mark.parametrize("missing", [OSError(38, "Function not implemented"), AttributeError("pidfd_open")])
def test_kernel_that_cannot_wake_us_is_asked_again_and_again(
    safe_dir: str, monkeypatch: pytest.MonkeyPatch, missing: Exception
) -> None:
    def refuse(_pid: int) -> int:
        raise missing

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    assert to_files(safe_dir, "exit 7").rc == 7
    assert to_files(safe_dir, "sleep 30", timeout=0.2).timed_out


def test_umask_makes_images_private(safe_dir: str) -> None:
    to_files(safe_dir, f"echo x > {safe_dir}/image", umask=0o077)
    assert os.stat(f"{safe_dir}/image").st_mode & 0o777 == 0o600


def test_only_named_descriptors_stay_open(safe_dir: str) -> None:
    kept, lost = os.open(safe_dir, os.O_RDONLY), os.open(safe_dir, os.O_RDONLY)
    try:
        os.set_inheritable(lost, True)
        to_files(safe_dir, "ls /proc/$$/fd", keep_open=(kept,))
        found = read(f"{safe_dir}/out").split()
        assert str(kept) in found
        assert str(lost) not in found
        assert not os.get_inheritable(kept)
    finally:
        os.close(kept)
        os.close(lost)


def test_deadline_ends_the_program_with_the_signal_it_can_catch(safe_dir: str) -> None:
    done = to_files(safe_dir, "trap 'echo rolled back; exit 7' TERM; while :; do sleep 0.05; done", timeout=1.0)
    assert (done.rc, done.timed_out, done.stdout) == (7, True, "rolled back\n")


def test_program_that_ignores_the_signal_is_killed_after_its_grace(safe_dir: str) -> None:
    began = time.monotonic()
    done = to_files(safe_dir, "trap '' TERM; while :; do sleep 0.05; done", timeout=1.0, grace=0.3)
    assert (done.rc, done.timed_out) == (-signal.SIGKILL, True)
    assert 1.3 <= time.monotonic() - began < 300


def test_a_deaf_program_and_its_children_go_on_after_sigterm_and_are_killed_at_the_deadline(safe_dir: str) -> None:
    done = to_files(safe_dir, "kill -TERM $$; sh -c 'kill -TERM $$; echo both'", deaf=True)
    assert (done.rc, done.stdout) == (0, "both\n")
    began = time.monotonic()
    done = to_files(safe_dir, "sleep 600", timeout=0.5, grace=30.0, deaf=True)
    assert (done.rc, done.timed_out) == (-signal.SIGKILL, True)
    assert time.monotonic() - began < 300


def test_deadline_reaches_the_children_too(safe_dir: str) -> None:
    with later_killed(f"{safe_dir}/pid"):
        done = to_files(safe_dir, f"sleep 600 & echo $! > {safe_dir}/pid; wait", timeout=1.0)
        assert done.timed_out
        assert gone(int(read(f"{safe_dir}/pid")))


def test_child_that_ignores_the_signal_does_not_outlive_its_grace(safe_dir: str) -> None:
    with later_killed(f"{safe_dir}/pid"):
        stubborn = f"sh -c \"trap '' TERM; echo \\$\\$ > {safe_dir}/pid; while :; do sleep 0.05; done\""
        done = to_files(safe_dir, f"{stubborn} & sleep 600", timeout=1.0, grace=0.3)
        assert done.timed_out
        assert gone(int(read(f"{safe_dir}/pid")))


def test_number_of_the_group_is_nobody_elses_while_it_is_signalled(
    safe_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[tuple[int, bool]] = []
    killpg = os.killpg

    def kill(group: int, number: int) -> None:
        # The kernel gives a number away once its process was reaped.
        signalled.append((number, os.path.exists(f"/proc/{group}")))
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", kill)
    with later_killed(f"{safe_dir}/pid"):
        stubborn = f"sh -c \"trap '' TERM; echo \\$\\$ > {safe_dir}/pid; while :; do sleep 0.05; done\""
        to_files(safe_dir, f"{stubborn} & sleep 60", timeout=1.0, grace=0.3)
    assert signalled == [(signal.SIGTERM, True), (signal.SIGKILL, True)]


def test_head_of_a_long_output_is_kept(safe_dir: str) -> None:
    done = to_files(safe_dir, "head -c 200000 /dev/zero | tr '\\0' x")
    assert done.stdout == "x" * 65536

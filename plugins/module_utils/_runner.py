# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Running a program with a deadline; nothing else in the tree starts a process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files


class Completed(t.NamedTuple):
    """How a program ended. rc is negative for a signal; seconds is wall clock time."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool = False


class Runner(t.Protocol):
    """What the modules run programs with, so that unit tests can put a strict double in its place."""

    def run(self, argv: t.Sequence[str], *, timeout: float = 30.0, stdin: str = "") -> Completed:
        """As SystemRunner.run()."""
        raise NotImplementedError


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment that our programs get: messages in English, nothing inherited by chance."""
    base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
    return {**base, **extra}


class SystemRunner:
    """Runs programs on this host: argv lists only, standard input from a string, a deadline always."""

    def run(self, argv: t.Sequence[str], *, timeout: float = 30.0, stdin: str = "") -> Completed:
        """Run argv to its end and return what it said.

        timeout: seconds; past it the program is killed and `timed_out` is true.
        Raises StasisError where the program cannot be started.
        """
        started = time.monotonic()
        try:
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                list(argv),
                input=_files.encoded(stdin),
                capture_output=True,
                timeout=timeout,
                env=clean_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            return Completed(
                tuple(argv), -signal.SIGKILL, _text(exc.stdout), _text(exc.stderr), time.monotonic() - started, True
            )
        except OSError as exc:
            raise _errors.StasisError(
                f"{argv[0]} could not be started: {exc.strerror or exc}.",
                "Install the package that provides it, or correct its path.",
            ) from exc
        return Completed(
            tuple(argv), done.returncode, _text(done.stdout), _text(done.stderr), time.monotonic() - started
        )


def run_to_files(
    argv: t.Sequence[str],
    *,
    environment: t.Mapping[str, str],
    stdout: str,
    stderr: str,
    timeout: float,
    grace: float,
    keep_open: t.Sequence[int] = (),
    umask: int = 0o022,
    deaf: bool = False,
) -> Completed:
    """Run a program whose children outlive it and keep its output open, as lxc-checkpoint -r does.

    Its output goes to files, because the reader of a pipe would wait for as long as the container lives
    (liblxc's restored monitor keeps stderr). It gets a session of its own, so that a hang-up of the
    Ansible connection does not reach CRIU in the middle of its work.

    timeout: seconds after which the session is sent SIGTERM; grace: seconds from then to SIGKILL.
    keep_open: file descriptors that the program inherits. umask: its file mode mask. deaf: it and what it starts ignore
    SIGTERM; it is sent SIGKILL at once.
    """
    started = time.monotonic()
    with open(os.devnull, "rb") as nothing, open(stdout, "ab") as out, open(stderr, "ab") as err:
        try:
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                list(argv),
                stdin=nothing,
                stdout=out,
                stderr=err,
                env=dict(environment),
                cwd="/",
                start_new_session=True,
                pass_fds=tuple(keep_open),
                umask=umask,
                # Nothing in it takes a lock that another thread of ours may hold.
                preexec_fn=_ignore_sigterm if deaf else None,
            )
        except OSError as exc:
            raise _errors.StasisError(
                f"{argv[0]} could not be started: {exc.strerror or exc}.",
                "Install the package that provides it, or correct its path.",
            ) from exc
        timed_out = False
        try:
            rc = _wait(process, timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            rc = _end_session(process, (signal.SIGKILL,) if deaf else (signal.SIGTERM, signal.SIGKILL), grace)
    seconds = time.monotonic() - started
    return Completed(tuple(argv), rc, _head(stdout), _head(stderr), seconds, timed_out)


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int:
    """As process.wait(timeout), which looks only every 50 ms; this wakes up when the process ends."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # Linux before 5.3, or a Python that was built there.
        return process.wait(timeout)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        os.close(descriptor)
    return process.wait()


def _ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_session(process: subprocess.Popen[bytes], numbers: t.Sequence[int], grace: float) -> int:
    # Its children count too: lxc-checkpoint dies of the first signal, a criu below it may hang. It is reaped last, as
    # until then the kernel gives its number, which is the group's, to nobody else.
    for number in numbers:
        deadline = time.monotonic() + grace
        if _lives(process.pid):
            os.killpg(process.pid, number)
            while _lives(process.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
    return process.wait()


def _lives(group: int) -> bool:
    """Whether a process of this group is there that is no zombie."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stream:
                state, _parent, of_group = stream.read().rpartition(b")")[2].split()[:3]
                if int(of_group) == group and state not in b"ZX":
                    return True
    return False


def _head(path: str, limit: int = 65536) -> str:
    with open(path, "rb") as stream:
        return _files.decoded(stream.read(limit))


def _text(value: bytes | None) -> str:
    # Names of the container's stand in what programs say.
    return _files.decoded(value or b"")

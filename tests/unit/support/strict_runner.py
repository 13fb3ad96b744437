# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A runner for unit tests that starts nothing and forgives nothing.

runner = StrictRunner(
    Call(["criu", "--version"], stdout="Version: 4.2.1\\n"),
    AnyOrder(Call(["ip", "-j", "link"], stdout="[]"), Call(["uname", "-r"], stdout="6.18\\n")),
)
code_under_test(runner)
runner.assert_done()
"""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass

from ansible_collections.stasis.lxc.plugins.module_utils._runner import Completed


@dataclass
class Call:
    """One expected call, and how it answers.

    argv and stdin have to match exactly; so has timeout (seconds) where it is given.
    raises: thrown instead of an answer, for a program that cannot be started.
    effect: run before the answer is given, for a program that leaves files behind.
    """

    argv: t.Sequence[str]
    rc: int = 0
    stdout: str = ""
    stderr: str = ""
    stdin: str = ""
    timeout: float | None = None
    timed_out: bool = False
    seconds: float = 0.01
    raises: Exception | None = None
    effect: t.Callable[[], object] | None = None

    def mismatch(self, argv: tuple[str, ...], stdin: str, timeout: float) -> str:
        """What differs from the call that was made; "" where nothing does."""
        if tuple(self.argv) != argv:
            return f"argv: expected {list(self.argv)!r}, got {list(argv)!r}"
        if self.stdin != stdin:
            return f"stdin of {list(argv)!r}: expected {self.stdin!r}, got {stdin!r}"
        if self.timeout is not None and self.timeout != timeout:
            return f"timeout of {list(argv)!r}: expected {self.timeout!r}, got {timeout!r}"
        return ""


class AnyOrder:
    """Calls that come at this place of the order, but among themselves in any order (threads)."""

    def __init__(self, *calls: Call) -> None:
        self.calls = list(calls)


class StrictRunner:
    """Satisfies the Runner protocol: ordered calls, exact argv and stdin, none missing, none too many.

    Raises AssertionError at the first call that was not expected, and again in assert_done(), so that
    code under test which swallows exceptions cannot hide it. `calls` holds every argv that was run, in order.
    """

    def __init__(self, *expected: Call | AnyOrder) -> None:
        self.calls: list[tuple[str, ...]] = []
        self._expected = [step if isinstance(step, AnyOrder) else AnyOrder(step) for step in expected]
        self._failures: list[str] = []
        self._lock = threading.Lock()

    def run(self, argv: t.Sequence[str], *, timeout: float = 30.0, stdin: str = "") -> Completed:
        """Answer one call as expected, or raise AssertionError."""
        assert not isinstance(argv, str), f"argv has to be a list, not a string: {argv!r}"
        given = tuple(argv)
        with self._lock:
            self.calls.append(given)
            call = self._take(given, stdin, timeout)
        if call.effect is not None:
            call.effect()
        if call.raises is not None:
            raise call.raises
        return Completed(given, call.rc, call.stdout, call.stderr, call.seconds, call.timed_out)

    def assert_done(self) -> None:
        """Fail where a call was wrong, or where an expected one never came."""
        problems = list(self._failures)
        problems += [f"never called: {list(call.argv)!r}" for step in self._expected for call in step.calls]
        assert not problems, "\n".join(problems)

    def _take(self, argv: tuple[str, ...], stdin: str, timeout: float) -> Call:
        if not self._expected:
            self._fail(f"one call too many: {list(argv)!r}")
        step = self._expected[0]
        differences = []
        for call in step.calls:
            difference = call.mismatch(argv, stdin, timeout)
            if not difference:
                step.calls.remove(call)
                if not step.calls:
                    self._expected.pop(0)
                return call
            differences.append(difference)
        self._fail("; ".join(differences))

    def _fail(self, problem: str) -> t.NoReturn:
        self._failures.append(problem)
        raise AssertionError(problem)

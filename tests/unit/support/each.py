# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one assertion for many cases in one test, and report every case that fails.

pytest makes a test for each case of `parametrize`, and ansible-test makes a process for each test: both take much longer
than an assertion about data. Set STASIS_EACH_ALONE=1 to make each case a test again, for example to run one by `-k`.
"""

from __future__ import annotations

import functools
import inspect
import os
import traceback
import typing as t

import pytest

Test = t.Callable[..., None]
# A case that skips would hide the others, so it counts as one that failed.
_FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)


def each(
    names: str | t.Sequence[str],
    cases: t.Iterable[t.Any],
    ids: t.Sequence[str] | t.Callable[[t.Any], t.Any] | None = None,
) -> t.Callable[[Test], Test]:
    """Take what pytest.mark.parametrize takes; several of them make every combination.

    The test may ask for no fixture: its cases would share it.
    """
    if os.environ.get("STASIS_EACH_ALONE"):
        return pytest.mark.parametrize(names, cases, ids=ids)
    keys = [one.strip() for one in names.split(",")] if isinstance(names, str) else list(names)
    # As parametrize does: one name in a text takes the value itself, a sequence of names takes a sequence of values.
    bare = isinstance(names, str) and len(keys) == 1
    table = [
        _named(keys, case if not bare or _is_param(case) else (case,), ids, number) for number, case in enumerate(cases)
    ]
    if not table:
        raise ValueError(f"There is no case of {', '.join(keys)}, so the test would prove nothing.")

    def decorate(test: Test) -> Test:
        inner: list[tuple[str, dict[str, t.Any]]] = getattr(test, "each_table", [("", {})])
        return _loop(
            getattr(test, "each_test", test),
            [(f"{first}, {name}" if first else name, {**own, **more}) for first, own in inner for name, more in table],
        )

    return decorate


def _loop(test: Test, table: list[tuple[str, dict[str, t.Any]]]) -> Test:
    @functools.wraps(test)
    def run(*own: t.Any, **fixtures: t.Any) -> None:
        if fixtures:
            pytest.fail(f"Use pytest.mark.parametrize: the cases would share {', '.join(fixtures)}.", pytrace=False)
        failures = [_failure(test, name, functools.partial(test, *own, **values)) for name, values in table]
        failed = [one for one in failures if one]
        if failed:
            pytest.fail("\n".join([f"{len(failed)} of {len(table)} cases failed:", *failed]), pytrace=False)

    given = table[0][1]
    signature = inspect.signature(test)
    rest = [one for one in signature.parameters.values() if one.name not in given]
    run.__dict__.update(each_test=test, each_table=table, __signature__=signature.replace(parameters=rest))
    return run


def _failure(test: Test, name: str, call: t.Callable[[], None]) -> str:
    """Return what a case fails with, and nothing where it does not."""
    try:
        call()
    except _FAILURES as exc:
        frames = traceback.extract_tb(exc.__traceback__)
        own = [one for one in frames if one.filename == test.__code__.co_filename]
        words = "".join(traceback.format_exception_only(type(exc), exc)).strip().replace("\n", "\n    ")
        return f"  case {name}\n    {own[-1].filename}:{own[-1].lineno}: {words}"
    return ""


def _is_param(case: t.Any) -> bool:
    return isinstance(case, type(pytest.param()))


def _named(keys: list[str], case: t.Any, ids: t.Any, number: int) -> tuple[str, dict[str, t.Any]]:
    """Return the name of a case and its values."""
    name, values = (case.id or "", case.values) if _is_param(case) else ("", tuple(case))
    if len(values) != len(keys):
        raise ValueError(f"Case {number} has {len(values)} values for {', '.join(keys)}: {case!r}")
    if not name and callable(ids):
        name = ", ".join(str(ids(one)) for one in values)
    elif not name:
        name = ids[number] if ids else ", ".join(map(repr, values))
    return name if len(name) <= 200 else f"{name[:200]}...", dict(zip(keys, values))

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Try again what failed for a cause that passes by itself: a bounded number of times, within the time of the task."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _retry

if t.TYPE_CHECKING:
    from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis_types

T = t.TypeVar("T")


class RunError(_errors.StasisError):
    """CRIU ran and failed.

    diagnoses: the causes that its log names. as_before: the container is as it was before the run, so that another
    one meets what this one met.
    """

    def __init__(
        self,
        what: str,
        remedy: str,
        *,
        diagnoses: t.Sequence[_diagnosis_types.Diagnosis],
        as_before: bool,
        **data: t.Any,
    ) -> None:
        super().__init__(what, remedy, diagnoses=[one.as_dict() for one in diagnoses], **data)
        self.diagnoses = tuple(diagnoses)
        self.as_before = as_before


def persist(
    do: t.Callable[[int, int], T],
    *,
    retries: int,
    timeout: int,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], object] = time.sleep,
) -> tuple[T, list[dict[str, t.Any]]]:
    """What do() returns, and what became of the tries before that one.

    do(attempt, seconds): the attempt-th try, counted from 1, with so many seconds of the timeout left. A RunError of
    its last try is raised, with `retried` in its data.
    """
    end = clock() + timeout
    retried: list[dict[str, t.Any]] = []
    while True:
        attempt = len(retried) + 1
        began = clock()
        try:
            return do(attempt, max(1, round(end - began))), retried
        except RunError as exc:
            wait = _retry.delay(attempt)
            exc.data["retried"] = retried
            again = exc.as_before and _retry.decide(exc.diagnoses, attempt, retries) and clock() + wait < end
            if not again:
                raise
            first = exc.diagnoses[0]
            retried.append(
                {
                    "id": first.id,
                    "cause": first.cause,
                    "evidence": first.evidence,
                    "log_path": exc.data.get("log_path", ""),
                    "seconds": round(clock() - began, 3),
                    "waited": wait,
                }
            )
            sleep(wait)
        except _errors.StasisError as exc:
            exc.data.setdefault("retried", retried)
            raise

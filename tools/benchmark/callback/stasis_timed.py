# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints one JSON line for a task: when it began and ended (monotonic clock of the controller), and its result."""

from __future__ import annotations

import json
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stasis_timed
type: stdout
short_description: one JSON line for a task
description: Used by the benchmark only.
"""


class CallbackModule(CallbackBase):
    """Ansible names the class."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "stasis_timed"

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0

    def v2_playbook_on_task_start(self, task: object, is_conditional: bool) -> None:
        """Before anything is sent to the host."""
        self._began = time.monotonic()

    def _print(self, result: object) -> None:
        data = getattr(result, "result", None) or result._result  # type: ignore[attr-defined]
        print(json.dumps({"seconds": time.monotonic() - self._began, "result": data}, default=str), flush=True)

    def v2_runner_on_ok(self, result: object) -> None:
        """The result is there."""
        self._print(result)

    def v2_runner_on_failed(self, result: object, ignore_errors: bool = False) -> None:
        """The result is there."""
        self._print(result)

    v2_runner_on_unreachable = v2_runner_on_failed

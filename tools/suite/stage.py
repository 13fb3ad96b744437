# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command to its end and write what it took: stage.py REPORT COMMAND...

The processor time includes daemons that the command started and that have ended, such as QEMU: this process adopts
them (prctl(2), PR_SET_CHILD_SUBREAPER), so that the kernel adds their times to those of its children.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main(report: Path, command: list[str]) -> int:
    """Write `status`, `wall` and `processor` (seconds) to the report; return the command's exit status."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    began = time.monotonic()
    started = os.posix_spawn(command[0], command, os.environ)
    while True:
        pid, ended = os.wait()
        if pid == started:
            break
    _reap_ended()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    status = os.waitstatus_to_exitcode(ended)
    found = {"status": status, "wall": time.monotonic() - began, "processor": used.ru_utime + used.ru_stime}
    report.write_text(json.dumps(found), encoding="utf-8")
    return status if status >= 0 else 128 - status


def _reap_ended() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Act: let the systemd of a restored container look at its processes anew.

Where the kernel has pidfs (Linux 6.9), systemd 257 takes no notification (sd_notify) of a service of before: `WATCHDOG=1` is
lost, and the service is ended as soon as its watchdog's time is over (docs/design.md, "Found on the way", 20). After a reload
it takes them again. SIGHUP is what asks PID 1 for one without D-Bus, as `systemctl daemon-reload` does (systemd(1), SIGNALS).
"""

from __future__ import annotations

import os
import signal

from ansible_collections.stasis.lxc.plugins.module_utils import _container, _files, _versions

_PIDFS = "6.9"
RELOADED = (
    "The container's systemd is told to reload its units, as by systemctl daemon-reload: from kernel 6.9 on it takes no "
    "notification of its services after a restore before that."
)


def note(init_name: str, kernel: str) -> list[str]:
    """What a restore will have done, in a sentence; nothing where there is nothing to do. Pure.

    init_name: the name (comm) of the container's init. kernel: the release that runs.
    """
    return [RELOADED] if init_name == "systemd" and _versions.at_least(kernel, _PIDFS) else []


def name(pid: int, proc: str = "/proc") -> str:
    """A process's name (comm), "" where there is none."""
    return _files.text_of(f"{proc}/{pid}/comm").strip()


def reload(init: _container.Process, *, proc: str = "/proc", kernel: str = "") -> None:
    """Tell a container's init to reload, if it is systemd and the kernel has pidfs.

    An init that handles no SIGHUP is not harmed: the kernel gives the init of a pid namespace no signal
    that it does not handle.
    """
    if note(name(init.pid, proc), kernel or os.uname().release):
        init.send(signal.SIGHUP)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Observe: whether the kernel will know the AppArmor profile of a container that is to be restored.

With `lxc.apparmor.profile = generated`, Debian's default, nothing has to be there: lxc-checkpoint -r generates the profile
and loads it before it calls CRIU, as lxc-start does, and takes it away when the container stops. Another profile is the
host's own, and CRIU fails late and with few words where it is not loaded.
"""

from __future__ import annotations

import re

PROFILES = "/sys/kernel/security/apparmor/profiles"
_MODE = re.compile(r" \([a-z]+\)\Z")


def missing(label: str, container: str, configured: str, listing: str = PROFILES) -> str:
    """The profile in a label of /proc/PID/attr/current that a restore would not find, or "".

    configured: the container's lxc.apparmor.profile, as it is now. Where the kernel's list cannot be read, nothing is missing.
    """
    name = _name_of(label)
    if not name or (configured == "generated" and name.startswith(f"lxc-{container}_<")):
        return ""
    try:
        with open(listing, encoding="utf-8", errors="surrogateescape") as stream:
            loaded = {_MODE.sub("", line.rstrip("\n")) for line in stream}
    except OSError:
        return ""
    return "" if name in loaded else name


def _name_of(label: str) -> str:
    """Of a stack the host's part: the rest is in a policy namespace of the container's, which CRIU carries over."""
    name = _MODE.sub("", label.strip(" \t\n\0")).split("//&", 1)[0]
    return "" if name == "unconfined" else name

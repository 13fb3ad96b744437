# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small root file system with systemd in it, with the links and units that a distribution has."""

from __future__ import annotations

import os

from ansible_collections.stasis.lxc.tests.unit.support.make import write

UNITS = "usr/lib/systemd/system"
LOGIND = (
    "[Unit]\nDescription=Login\n[Service]\nExecStart=/usr/lib/systemd/systemd-logind\nType=notify\n"
    "DeviceAllow=block-* r\nDeviceAllow=char-drm rw\nIPAddressDeny=any\nProtectClock=yes\nProtectHostname=yes\n"
    "PrivateTmp=yes\nProtectSystem=strict\nSystemCallFilter=@system-service\n"
)
FILES = {
    "default.target": "[Unit]\nRequires=multi-user.target\n",
    "multi-user.target": "[Unit]\nRequires=basic.target\n",
    "basic.target": "[Unit]\nWants=sockets.target timers.target\n",
    "sockets.target": "",
    "timers.target": "",
    "systemd-logind.service": LOGIND,
    "console-getty.service": "[Unit]\nConditionPathExists=/dev/console\n[Service]\nTTYPath=/dev/console\n",
    "getty@.service": "[Unit]\nConditionPathExists=/dev/tty0\n[Service]\nTTYPath=/dev/%I\n",
    "plain.service": "[Service]\nExecStart=/bin/true\n",
    "off.service": "[Service]\nIPAddressDeny=any\n",
    "hello.socket": "[Socket]\nListenStream=7\n",
    "hello.service": "[Service]\nPrivateUsers=yes\n",
    "nightly.timer": "[Timer]\nOnCalendar=daily\n",
    "nightly.service": "[Service]\nType=oneshot\nPrivateIPC=yes\n",
}
LINKS = {
    f"{UNITS}/multi-user.target.wants/systemd-logind.service": "../systemd-logind.service",
    f"{UNITS}/dbus-org.freedesktop.login1.service": "systemd-logind.service",
    "etc/systemd/system/multi-user.target.wants/plain.service": f"/{UNITS}/plain.service",
    "etc/systemd/system/getty.target.wants/getty@tty1.service": f"/{UNITS}/getty@.service",
    f"{UNITS}/sockets.target.wants/hello.socket": "../hello.socket",
    f"{UNITS}/timers.target.wants/nightly.timer": "../nightly.timer",
    "lib": "usr/lib",
}


def make(root: str, **more: str) -> str:
    """Write it below root; more: further units or other ones of the same name, `_` for `.` in front of the type."""
    for name, text in {**FILES, **{key.replace("_", "."): value for key, value in more.items()}}.items():
        unit(root, name, text or "[Unit]\n")
    for path, target in LINKS.items():
        link(root, path, target)
    return root


def unit(root: str, name: str, text: str, directory: str = UNITS) -> None:
    """Write one unit, or one drop-in as `x.service.d/y.conf`."""
    write(f"{root}/{directory}/{name}", text, 0o644)


def link(root: str, path: str, target: str) -> None:
    """Make a symbolic link."""
    os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
    os.symlink(target, f"{root}/{path}")

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parameters, containers and images for unit tests, each a plain healthy one with what the test changes."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import _argspec, _autostart, _image, _manifest
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container, Process
from ansible_collections.stasis.lxc.plugins.module_utils._lxc_config import LxcConfig
from ansible_collections.stasis.lxc.plugins.module_utils._rootfs import Rootfs

NAME = "web1"
LXC_PATH = "/var/lib/lxc"
DIRECTORY = "/srv/checkpoints/web1"
BOOT = "11111111-2222-3333-4444-555555555555"
INIT = Process(4321, 98765, "init")
MONITOR = Process(4300, 98700, "lxc-start")
FINGERPRINT = {
    "digest": "d1",
    "entries": 3,
    "newest": 1_700_000_000_000_000_000,
    "newest_path": "/etc",
    "complete": True,
}
IDENTITY = {"backing": "/var/lib/lxc/web1/rootfs", "inode": 77}


def params(**changes: t.Any) -> dict[str, t.Any]:
    """The parameters of a task as AnsibleModule hands them over: what is not set is None."""
    found: dict[str, t.Any] = dict.fromkeys(_argspec.argument_spec())
    found.update(name=NAME, state="checkpointed", directory=DIRECTORY, lxc_path=LXC_PATH)
    unknown = set(changes) - set(found)
    assert not unknown, f"no such options: {sorted(unknown)}"
    return {**found, **changes}


def wanted(**changes: t.Any) -> _argspec.Wanted:
    """The same, checked and with defaults."""
    return _argspec.wanted(params(**changes))


def container(state: str = "RUNNING", **changes: t.Any) -> Container:
    """A container with nothing in the way of a dump; `init` only where it runs."""
    running = state not in ("STOPPED", "ABORTING")
    whole = Container(
        name=NAME,
        lxc_path=LXC_PATH,
        config=LxcConfig(f"{LXC_PATH}/{NAME}/config", (), "c1"),
        state=state,
        rootfs=Rootfs("dir:/var/lib/lxc/web1/rootfs", "/var/lib/lxc/web1/rootfs", 5, 77),
        autostart=_autostart.Autostart(False, ()),
        ephemeral=False,
        mounts=(),
        init=INIT if running else None,
        monitor=MONITOR if running else None,
    )
    return replace(whole, **changes)


def draft(**changes: t.Any) -> dict[str, t.Any]:
    """What a run knows before CRIU runs."""
    return {
        "format": 1,
        "container": NAME,
        "lxc_path": LXC_PATH,
        "generation": 1,
        "created": "2026-11-22T22:00:00.000000Z",
        "stopped": True,
        "init": {"pid": INIT.pid, "start": INIT.start, "boot_id": BOOT},
        "versions": {"kernel": "6.18", "criu": "4.2.1", "lxc": "5.0.2", "collection": "0.1.0"},
        "architecture": "x86_64",
        "nics": [],
        "cgroups": [],
        "options": {},
        "command": ["criu", "dump"],
        "identity": dict(IDENTITY),
        "config_digest": "c1",
        "autostart_units": [],
        **changes,
    }


def manifest(**changes: t.Any) -> _manifest.Manifest:
    """A whole manifest of an image with no files."""
    return {**draft(), "fingerprint": dict(FINGERPRINT), "stats": {}, "files": {}, "size": 0, **changes}


def image(state: str = _image.SEALED, **changes: t.Any) -> _image.Image:
    """An image in some state, as look() gives it."""
    found = _image.Image(DIRECTORY, state)
    if state in (_image.STAGING, _image.COMMITTED):
        found = replace(found, draft=draft())
    elif state == _image.SEALED:
        found = replace(found, manifest=manifest(), fingerprint=dict(FINGERPRINT), made_here=True)
    elif state == _image.DAMAGED:
        found = replace(found, manifest=manifest(), problem="pages-1.img is missing.")
    elif state == _image.FOREIGN:
        found = replace(found, problem="It has no manifest: it is not a checkpoint made by stasis.lxc.")
    return replace(found, **changes)


def write(path: str, text: str, mode: int = 0o600) -> str:
    """Make a file with the directories above it; returns its path."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    os.chmod(path, mode)
    return path


def tree(top: str) -> dict[str, str]:
    """Every file and directory below top with its mode and content, to see that nothing was written."""
    found = {}
    for directory, children, files in os.walk(top):
        for name in children + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = ""
            if name in files and not os.path.islink(path):
                with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                    content = stream.read()
            found[os.path.relpath(path, top)] = f"{status.st_mode:o} {content}"
    return found

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Keep the AppArmor profile that LXC generates for a container, and load it before a restore needs it.

With `lxc.apparmor.profile = generated`, Debian's default, LXC writes a profile at each start; when the container stops, it
takes the profile out of the kernel and removes its text. CRIU puts the restored processes back under the profile that they
had, and the kernel has to know it by then. So a dump copies its text into the image, and a restore loads it.
"""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.stasis.lxc.plugins.module_utils import _files
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._runner import Runner

RECORD = "apparmor-profile"
# Where the kernel lists what is loaded, and where LXC keeps compiled profiles: one that it knows is loaded at once.
LOADED = "/sys/kernel/security/apparmor/profiles"
CACHE = "/var/cache/lxc/apparmor"
_LIMIT = 1 << 20
_TIMEOUT = 120.0
_MODE = re.compile(r" \((enforce|complain|mixed|kill|unconfined|prompt|user)\)\Z")
_PROFILE = re.compile(r'^[ \t]*profile[ \t]+(?:"([^"\n]+)"|([^\s"{]+))', re.MULTILINE)


def name_of(label: str) -> str:
    """The profile in a label of /proc/PID/attr/current, or "": of a stack the host's part, without its mode."""
    name = _MODE.sub("", label.strip(" \t\n\0")).split("//&", 1)[0]
    return "" if name == "unconfined" else name


def declares(text: str) -> list[str]:
    """The profiles that a text defines."""
    return [quoted or bare for quoted, bare in _PROFILE.findall(text)]


def record(label: str, lxc_path: str, name: str, staging: str) -> None:
    """Copy the text of a running container's generated profile into its staged image; another profile is the host's own."""
    profile = name_of(label)
    if not profile.startswith(f"lxc-{name}_<"):
        return
    path = _source(lxc_path, name, profile)
    if path is None:
        raise StasisError(
            f"{name} is confined by the AppArmor profile {profile}, and LXC's text of it is not in "
            f"{lxc_path}/{name}/apparmor: a restore could not load it.",
            "Start the container anew, so that LXC writes it again.",
        )
    _files.write_durably(os.path.join(staging, RECORD), os.fsencode(_read(path)))


def recorded(image: str, label: str) -> bool:
    """Whether an image that was verified has the text of the profile in this label, and of no other."""
    return declares(_read(os.path.join(image, RECORD))) == [name_of(label)]


def loaded(listing: str = LOADED) -> frozenset[str]:
    """The profiles that the kernel has."""
    return frozenset(_MODE.sub("", line) for line in _read(listing, 16 << 20).splitlines())


def load(
    image: str, label: str, lxc_path: str, name: str, runner: Runner, *, listing: str = LOADED, cache: str = CACHE
) -> None:
    """Have the kernel know the profile of a container that is to be restored. Raises StasisError where it does not take it."""
    profile = name_of(label)
    if not profile or not recorded(image, label):
        return
    path = os.path.join(image, RECORD)
    own = _source(lxc_path, name, profile)
    options = ["--replace", "--skip-cache"]
    if own is not None and os.path.isdir(cache) and _read(own) == _read(path):
        # LXC's own file, which it has compiled; a copy of it would be compiled anew.
        path, options = own, ["--replace", "--write-cache", "--cache-loc", cache]
    done = runner.run(["apparmor_parser", *options, path], timeout=_TIMEOUT)
    if done.rc != 0 or profile not in loaded(listing):
        why = done.stderr.strip()[:300] or f"apparmor_parser ended with {done.rc}, and the kernel does not list it."
        raise StasisError(
            f"The AppArmor profile {profile} of {name} could not be loaded: {why}",
            f"Load {path} with apparmor_parser -r, and see what it refuses; nothing was restored.",
        )


def _source(lxc_path: str, name: str, profile: str) -> str | None:
    """LXC's file with this profile, and no other in it."""
    folder = os.path.join(lxc_path, name, "apparmor")
    try:
        files = sorted(entry.path for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    except OSError:
        return None
    return next((path for path in files if declares(_read(path)) == [profile]), None)


def _read(path: str, limit: int = _LIMIT) -> str:
    """A regular file's text, or ""; never through a symbolic link in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.fsdecode(stream.read(limit))

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Names and paths that a user gives: refused before they reach a command, a log or a hook."""

from __future__ import annotations

import os
import re
import stat

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_MAX_LINKS = 40
# The hook and the launcher read paths line by line, and CRIU hands the hook to `sh -c`.
_UNSAFE = re.compile(r"[\x00-\x20\x7f\"'`\\$&;|<>(){}*?!#~\[\]]")


def check_name(name: str) -> str:
    """A container name that liblxc, a cgroup and a host name all take; returns it."""
    if not _NAME.match(name):
        raise _errors.StasisError(
            f"{name!r} is not a container name.",
            "Use up to 63 letters, digits, dots, dashes and underscores, with a letter or digit first.",
        )
    return name


def check_path(path: str, option: str) -> str:
    """An absolute, normal path without characters that a shell or a line-wise reader takes apart; returns it."""
    if not os.path.isabs(path):
        raise _errors.StasisError(f"{option} {path!r} is not an absolute path.", "Give the whole path, from / on.")
    if any(not char.isprintable() and char != " " for char in path):
        # Also bytes that are no UTF-8, and Unicode's own line ends.
        raise _errors.StasisError(
            f"{option} {path!r} contains a character that cannot be printed.", "Choose another name."
        )
    bad = _UNSAFE.search(path)
    if bad:
        raise _errors.StasisError(
            f"{option} {path!r} contains {bad.group(0)!r}.", "Use a path without spaces, quotes and shell characters."
        )
    if path != os.path.normpath(path) or path.startswith("//") or path == "/":
        raise _errors.StasisError(
            f"{option} {path!r} is not a plain path.",
            "Leave out '..', '.', doubled and trailing slashes, and '/' itself.",
        )
    if any(part.startswith("-") for part in path.split("/")):
        raise _errors.StasisError(f"{option} {path!r} has a part that starts with a dash.", "Choose another name.")
    return path


def check_mount(target: str, source: str) -> tuple[str, str]:
    """Both ends of a bind mount that CRIU is told of as `TARGET:SOURCE`; returns them, the target without its slash."""
    bare = target.lstrip("/")
    check_path("/" + bare, "external_mounts target")
    check_path(source, "external_mounts source")
    if ":" in bare or ":" in source:
        raise _errors.StasisError(
            "external_mounts has a path with a colon, which CRIU takes for its separator.", "Use another path."
        )
    return bare, source


def check_owned(path: str, what: str, *, executable: bool = False) -> None:
    """A regular file that only root can write, reached through directories that only root can write."""
    try:
        status = os.lstat(path)
    except OSError as exc:
        raise _errors.StasisError(f"{what} {path} cannot be read: {exc.strerror}.", "Correct the path.") from exc
    if not stat.S_ISREG(status.st_mode):
        raise _errors.StasisError(f"{what} {path} is not a regular file.", "Give the path of the file itself.")
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise _errors.StasisError(
            f"{what} {path} could be changed by somebody other than root.", "Make it root's and writable by root only."
        )
    if executable and not status.st_mode & 0o100:
        raise _errors.StasisError(f"{what} {path} is not executable.", f"Run chmod 755 {path}.")
    check_parents(path, what)


def check_parents(path: str, what: str) -> None:
    """Every directory above path belongs to root and can be written by root only; missing ones are left out.

    A symbolic link on the way is followed, and every directory that leads to what it points to is held to the same rule.
    """
    pending = [part for part in path.split("/")[:-1] if part]
    directory, links = "/", 0
    _check_parent(directory, path, what)
    while pending:
        part = pending.pop(0)
        if part in (".", ".."):
            directory = os.path.normpath(os.path.join(directory, part))
            continue
        step = os.path.join(directory, part)
        if not os.path.islink(step):
            _check_parent(step, path, what)
            directory = step
            continue
        links += 1
        if links > _MAX_LINKS or not os.path.exists(step):
            raise _errors.StasisError(
                f"{step}, above {what} {path}, is a symbolic link to nothing.", "Correct the path."
            )
        target = os.readlink(step)
        if target.startswith("/"):
            directory = "/"
        pending = [piece for piece in target.split("/") if piece] + pending


def _check_parent(directory: str, path: str, what: str) -> None:
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _errors.StasisError(f"{what} {path} cannot be reached: {exc.strerror}.", "Correct the path.") from exc
    if not stat.S_ISDIR(status.st_mode):
        raise _errors.StasisError(f"{directory}, above {what} {path}, is not a directory.", "Correct the path.")
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise _errors.StasisError(
            f"{directory}, above {what} {path}, could be changed by somebody other than root.",
            "Choose a place where every directory belongs to root and is writable by root only.",
        )

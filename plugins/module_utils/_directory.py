# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The directory that a user names for a checkpoint: refused where somebody else could have a hand in it."""

from __future__ import annotations

import os
import stat

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files, _image, _names

# Of every Linux file system in use; an image is staged under a somewhat longer name beside its own.
_NAME_MAX = 255


def check(path: str) -> None:
    """Raise StasisError unless path is absent, or a plain directory of root's that only root can write, below
    parents of the same kind. It must not be a mount point, since an image is put there by renaming."""
    _names.check_parents(path, "directory")
    if len(os.fsencode(os.path.basename(_image.staging_path(path)))) > _NAME_MAX:
        raise _errors.StasisError(f"directory {path} has too long a name.", "Use a shorter one.")
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _errors.StasisError(f"directory {path} cannot be read: {exc.strerror}.", "Correct the path.") from exc
    if stat.S_ISLNK(status.st_mode):
        raise _errors.StasisError(
            f"directory {path} is a symbolic link.", f"Name what it points to: {os.path.realpath(path)}."
        )
    if not stat.S_ISDIR(status.st_mode):
        raise _errors.StasisError(f"directory {path} is not a directory.", "Name another path; it is made by the task.")
    if os.path.realpath(path) in _files.mount_points():
        raise _errors.StasisError(
            f"directory {path} is a mount point.", "Name a directory below it, for example one per container."
        )
    if status.st_uid != 0:
        raise _errors.StasisError(
            f"directory {path} belongs to uid {status.st_uid}.", "It holds a container's memory; make it root's."
        )
    if status.st_mode & 0o022:
        raise _errors.StasisError(f"directory {path} can be written by others than root.", f"Run chmod 700 {path}.")

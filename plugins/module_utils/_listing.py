# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""List the checkpoints below a path; changes nothing."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _image, _names


def listing(path: str, *, verify: bool, trust: _image.Trust | None = None) -> list[dict[str, t.Any]]:
    """Every checkpoint at path or below it, sealed or not, ordered by path.

    verify: read every file of each sealed one and compare it with its hash. trust: what their signatures are held to. Directories that are not checkpoints are
    looked into, symbolic links and other file systems are not. Raises StasisError where path cannot be read.
    """
    _names.check_path(path, "path")
    try:
        device = os.lstat(path).st_dev
    except OSError as exc:
        raise _errors.StasisError(
            f"path {path} cannot be read: {exc.strerror}.", "Name a directory on the managed host."
        ) from exc
    if not os.path.isdir(path) or os.path.islink(path):
        raise _errors.StasisError(
            f"path {path} is not a directory.", "Name a checkpoint, or a directory with checkpoints in it."
        )
    found = []
    for directory, children, _files in os.walk(path, onerror=_refuse):
        # What a task is publishing or removing at this moment may be gone between two looks.
        with contextlib.suppress(FileNotFoundError):
            image = _image.look(directory, trust)
            if image.state not in (_image.FOREIGN, _image.ABSENT):
                children.clear()
                found.append(_describe(image, verify=verify, signed=trust is not None))
                continue
        children[:] = sorted(child for child in children if _device(os.path.join(directory, child)) == device)
    return found


def _device(path: str) -> int:
    try:
        return os.lstat(path).st_dev
    except FileNotFoundError:
        return -1


def _refuse(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return
    raise _errors.StasisError(
        f"{error.filename} cannot be read: {error.strerror}.", "Run the task as root (become: true)."
    ) from error


def _describe(image: _image.Image, *, verify: bool, signed: bool) -> dict[str, t.Any]:
    faults = [image.problem] if image.problem else []
    if verify and image.manifest is not None:
        faults = _image.verify(image)
    about = image.manifest or image.draft or {}
    return {
        "path": image.path,
        "state": _image.DAMAGED if faults and image.state == _image.SEALED else image.state,
        "container": about.get("container", ""),
        "lxc_path": about.get("lxc_path", ""),
        "size": sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(image.path)),
        "restored": [vars(record) for record in image.consumed],
        "verified": verify and image.manifest is not None and not faults,
        "made_here": image.made_here,
        # An image whose manifest was read, while signatures were asked for, has passed.
        "signed": signed and image.manifest is not None,
        "faults": faults,
        "manifest": image.manifest or {},
    }

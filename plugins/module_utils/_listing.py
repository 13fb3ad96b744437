# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""List the checkpoints below a path; changes nothing."""

from __future__ import annotations

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
    found: list[dict[str, t.Any]] = []

    def unread(error: OSError) -> None:
        if error.filename == path:
            raise _errors.StasisError(
                f"{path} cannot be read: {error.strerror}.", "Run the task as root (become: true)."
            ) from error
        if not isinstance(error, FileNotFoundError):
            found.append(_bad(str(error.filename), f"It cannot be read: {error.strerror}."))

    for directory, children, _files in os.walk(path, onerror=unread):
        one = _look(directory, trust, verify=verify)
        if one is not None:
            children.clear()
            found.append(one)
            continue
        children[:] = sorted(child for child in children if _device(os.path.join(directory, child)) == device)
    return sorted(found, key=lambda one: os.fsencode(one["path"]))


def _look(directory: str, trust: _image.Trust | None, *, verify: bool) -> dict[str, t.Any] | None:
    """One checkpoint, or None where there is none. What is wrong with it is said of it alone: the others are listed all the same."""
    try:
        image = _image.look(directory, trust)
        if image.state in (_image.FOREIGN, _image.ABSENT):
            return None
        return _describe(image, verify=verify, signed=trust is not None)
    except FileNotFoundError:
        # What a task is publishing or removing at this moment may be gone between two looks.
        return None
    except OSError as exc:
        return _bad(directory, f"It cannot be read: {exc.strerror or exc}.")
    except (
        _errors.StasisError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as exc:
        # A manifest may come from anywhere.
        return _bad(directory, f"It cannot be understood: {exc}.")


def _bad(directory: str, problem: str) -> dict[str, t.Any]:
    return _entry(_image.Image(directory, _image.DAMAGED, problem=problem), [problem], 0, verified=False, signed=False)


def _device(path: str) -> int:
    try:
        return os.lstat(path).st_dev
    except OSError:
        return -1


def _describe(image: _image.Image, *, verify: bool, signed: bool) -> dict[str, t.Any]:
    faults = [image.problem] if image.problem else []
    if verify and image.manifest is not None:
        faults = _image.verify(image)
    size = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(image.path))
    verified = verify and image.manifest is not None and not faults
    # An image whose manifest was read, while signatures were asked for, has passed.
    return _entry(image, faults, size, verified=verified, signed=signed and image.manifest is not None)


def _entry(image: _image.Image, faults: list[str], size: int, *, verified: bool, signed: bool) -> dict[str, t.Any]:
    about = image.manifest or image.draft or {}
    return {
        "path": image.path,
        "state": _image.DAMAGED if faults and image.state == _image.SEALED else image.state,
        "container": about.get("container", ""),
        "lxc_path": about.get("lxc_path", ""),
        "size": size,
        "restored": [vars(record) for record in image.consumed],
        "verified": verified,
        "made_here": image.made_here,
        "signed": signed,
        "faults": faults,
        "manifest": image.manifest or {},
    }

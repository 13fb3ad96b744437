# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What the values of a manifest may be, beyond their types. Pure.

A restore puts them into command lines, files with one item a line, paths on the host and messages. So no text may hold a
control character, and each value that a restore uses has a form of its own.
"""

from __future__ import annotations

import posixpath
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _criu_command, _errors, _names, _nic_records, _nics

Fault = tuple[str, object]

_LONGEST_PATH = 4096
_LONGEST_TEXT = 65536
_DEEPEST = 16
_LARGEST_NUMBER = 1 << 64
# C0 and C1, DEL, and the line ends of Unicode, which str.splitlines() knows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CREATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")
_WORD = re.compile(r"[A-Za-z0-9_.+:~-]{1,64}")
_CONTROLLER = re.compile(r"[A-Za-z0-9_.=-]{1,64}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PARENT = re.compile(r"\.\./[^/]{1,255}")
_LSMS = frozenset(("apparmor", "selinux", "none"))
# Names of files: those of the container are never told to anybody in lines, those of the image have a rule of their own.
_FREE_TEXT = frozenset(("open_files", "fingerprint", "files"))


def fault(found: t.Mapping[str, t.Any]) -> Fault | None:
    """The first field of a manifest, or of the draft of one, that no dump writes, with its value; None where all are right.

    found: has the right types already.
    """
    for name, value, sound in _fields(found):
        if not sound:
            return name, value
    return _text_fault(found)


def is_inside(path: str) -> bool:
    """Whether this is the path of a file in a container, which leads to the same file below any root."""
    return (
        path.startswith("/")
        and not path.startswith("//")
        and "\0" not in path
        and len(path) <= _LONGEST_PATH
        and path == posixpath.normpath(path)
    )


def _fields(found: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, object, bool]]:
    name = found["container"]
    yield "container", name, _passes(_names.check_name, name)
    yield "lxc_path", found["lxc_path"], _passes(_names.check_path, found["lxc_path"], "lxc_path")
    yield "generation", found["generation"], 0 <= found["generation"] < 1 << 31
    yield "created", found["created"], bool(_CREATED.fullmatch(found["created"]))
    yield "architecture", found["architecture"], bool(_WORD.fullmatch(found["architecture"]))
    for one in found["nics"]:
        wrong = _nic_records.fault(_nics.Nic(**one))
        field, value = wrong or ("", None)
        yield f"nics: {field}", value, wrong is None
    for unit in found.get("autostart_units") or ():
        # No other container's, and nothing else that systemd would start.
        yield "autostart_units", unit, unit == f"lxc@{name}.service"
    for target in found.get("terminals") or ():
        yield (
            "terminals",
            target,
            bool(target) and ":" not in target and target.isprintable() and is_inside(f"/{target}"),
        )
    for hierarchy in found.get("cgroups") or ():
        sound = all(_CONTROLLER.fullmatch(one) for one in hierarchy["controllers"])
        yield "cgroups", hierarchy, sound and hierarchy["path"][:1] in ("", "/")
    lsm = found.get("lsm")
    yield "lsm", lsm, not lsm or (lsm["kind"] in _LSMS and len(lsm["label"]) <= _LONGEST_PATH)
    for one in found.get("addresses") or ():
        yield "addresses", one, _nic_records.is_interface(one["nic"]) and bool(_ADDRESS.fullmatch(one["address"]))
    for path in found.get("open_files") or ():
        yield "open_files", path, is_inside(path)
    work = found.get("overlay_work") or ""
    yield "overlay_work", work, not work or is_inside(work)
    parent = found.get("parent")
    yield (
        "parent",
        parent,
        not parent or bool(_PARENT.fullmatch(parent["link"]) and _DIGEST.fullmatch(parent["sha256"])),
    )
    options = found["options"]
    manage = options.get("manage_cgroups", "full")
    yield "options: manage_cgroups", manage, manage in _criu_command.MANAGE_CGROUPS
    for one in options.get("external_mounts") or ():
        yield "options: external_mounts", one, _passes(_names.check_mount, one["target"], one["source"])


def _passes(check: t.Callable[..., object], *values: str) -> bool:
    try:
        check(*values)
    except _errors.StasisError:
        return False
    return True


def _text_fault(found: t.Mapping[str, t.Any]) -> Fault | None:
    """Text and numbers anywhere in it, also in keys that this version does not know."""
    pending: list[tuple[str, t.Any, int]] = [
        (key, value, 0)
        for pair in found.items()
        for key, value in (("its keys", pair[0]), pair)
        if key not in _FREE_TEXT
    ]
    while pending:
        key, value, depth = pending.pop()
        if isinstance(value, str):
            if len(value) > _LONGEST_TEXT or _CONTROL.search(value):
                return key, value
        elif isinstance(value, int):
            if not -_LARGEST_NUMBER < value < _LARGEST_NUMBER:
                return key, "a number that is too large"
        elif isinstance(value, (dict, list)):
            if depth >= _DEEPEST:
                return key, "nested too deeply"
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            pending += [(key, one, depth + 1) for one in inner]
    return None

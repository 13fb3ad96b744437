# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The edge where an answer leaves for Ansible: every string in it becomes valid UTF-8 on one line.

A container chooses many of the strings: names of files, processes, cgroups and interfaces, lines of logs.
"""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

_SHORT = {"\n": "\\n", "\r": "\\r"}


class Module(t.Protocol):
    """What is needed of an AnsibleModule."""

    def exit_json(self, **kwargs: t.Any) -> t.NoReturn:
        """End the module: it did its work."""
        raise NotImplementedError

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        """End the module: it failed."""
        raise NotImplementedError

    def warn(self, warning: str) -> t.Any:
        """Add a warning to the answer."""


def give(
    module: Module, result: t.Mapping[str, t.Any], warnings: t.Iterable[str] = (), *, texts: t.Container[str] = ()
) -> t.NoReturn:
    """End the module with a result. texts: the keys whose values are texts of several lines."""
    _warn(module, warnings)
    module.exit_json(**_printable(result, texts))


def refuse(
    module: Module,
    error: _errors.StasisError,
    defaults: t.Mapping[str, t.Any] | None = None,
    warnings: t.Iterable[str] = (),
) -> t.NoReturn:
    """End the module with an error and its data. defaults: the keys that every answer of the module has."""
    _warn(module, warnings)
    module.fail_json(msg=printable(error.message), **_printable({**(defaults or {}), **error.data}, ()))


def _warn(module: Module, warnings: t.Iterable[str]) -> None:
    for warning in warnings:
        module.warn(printable(warning))


def _printable(result: t.Mapping[str, t.Any], texts: t.Container[str]) -> dict[str, t.Any]:
    return {key: cleaned(value, keep="\n\t" if key in texts else "\t") for key, value in result.items()}


def cleaned(value: t.Any, *, keep: str = "\t") -> t.Any:
    """A value of JSON types with every string in it printable, keys too."""
    if isinstance(value, str):
        return printable(value, keep=keep)
    if isinstance(value, dict):
        return {cleaned(key, keep=keep): cleaned(one, keep=keep) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(one, keep=keep) for one in value]
    return value


def printable(text: str, *, keep: str = "\t") -> str:
    """Escape every byte that is not UTF-8 and every control character: `\\xff` for a byte that is not UTF-8."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escape(one) for one in text)


def _escape(one: str) -> str:
    number = ord(one)
    if 0xDC80 <= number <= 0xDCFF:
        # How Python keeps a byte that is not UTF-8 (surrogateescape).
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x80:
        return _SHORT.get(one, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The records of an image that the hook, the launcher and the kernel are given: checked in this one place.

Each record has the form that its own module writes, and no other; _manifest does the same for the manifest. Beside them
an image holds what CRIU parses, for which only a signature speaks.
"""

from __future__ import annotations

import os

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _cgroup_tree,
    _device_rules,
    _errors,
    _integrity,
    _nic_records,
)


def check(directory: str) -> None:
    """Raise RecordError, with the file and the field, for the first record that no dump writes."""
    _nic_records.read_records(directory)
    _cgroup_tree.check(_text(directory, _cgroup_tree.RECORD))
    device_programs(directory)
    _device_rules.check_list(_text(directory, _device_rules.LIST))


def device_programs(directory: str) -> list[bytes]:
    """The programs about device nodes of an image. Raises RecordError."""
    return _device_rules.decode(_text(directory, _device_rules.RECORD))


def _text(directory: str, name: str) -> str:
    path = os.path.join(directory, name)
    if not os.path.lexists(path):
        return ""
    found = _integrity.read_regular(path)
    if found is None:
        raise _errors.RecordError(name, "kind of file", path)
    # Line ends as they are: the shell knows only one.
    return found.decode("utf-8", "surrogateescape")

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images as a dump leaves them, in each of their states."""

from __future__ import annotations

import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _image
from ansible_collections.stasis.lxc.tests.unit.support.make import draft, manifest, write


def staged(path: str, memory: str = "memory", **changes: t.Any) -> str:
    """A staging directory as it is after CRIU has ended and the hook has committed."""
    staging = _image.stage(path, draft(**changes))
    # CRIU's own mode, where the umask does not forbid it.
    write(f"{staging}/pages-1.img", memory, 0o644)
    write(f"{staging}/dump.log", "log", 0o644)
    write(f"{staging}/committed", "committed BOOT 1\n", 0o644)
    return staging


def published(path: str, memory: str = "memory", **changes: t.Any) -> str:
    """A checkpoint at path."""
    _image.seal(staged(path, memory, **changes), manifest(**changes))
    _image.publish(path)
    return path

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A FUSE file system on the host, as lxcfs is one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import threading
from pathlib import Path

from containers import run


class Fuse:
    """A FUSE file system of the host's, with one file in it, like lxcfs."""

    def __init__(self, where: Path) -> None:
        where.mkdir()
        self.where = where
        self.descriptor = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.descriptor},rootmode=40000,user_id=0,group_id=0,allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"stasis-fuse", os.fsencode(where), b"fuse.lxcfs", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                question = os.read(self.descriptor, 1 << 17)
            except OSError:
                # The last mount of it is gone.
                os.close(self.descriptor)
                return
            _length, operation, unique, node = struct.unpack_from("<IIQQ", question)
            body = self._answer(operation, node)
            if operation in (2, 36, 42):
                continue
            head = struct.pack("<IiQ", 16 + len(body or b""), 0 if body is not None else -38, unique)
            with contextlib.suppress(OSError):
                os.write(self.descriptor, head + (body or b""))

    @staticmethod
    def _answer(operation: int, node: int) -> bytes | None:
        def attributes(number: int) -> bytes:
            mode = 0o40755 if number == 1 else 0o100644
            return struct.pack("<6Q10I", number, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

        answers = {
            26: struct.pack("<IIIIHHIIHHIIIIII", 7, 31, 65536, 0, 1, 1, 65536, 1, 0, 0, 0, 0, 0, 0, 0, 0),
            1: struct.pack("<QQQQII", 2, 0, 1, 1, 0, 0) + attributes(2),
            3: struct.pack("<QII", 1, 0, 0) + attributes(node),
            14: struct.pack("<QII", 1, 0, 0),
            15: b"",
            17: struct.pack("<5Q4I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + bytes(24),
            18: b"",
            25: b"",
            27: struct.pack("<QII", 1, 0, 0),
            28: b"",
            29: b"",
        }
        return answers.get(operation)

    def stop(self) -> None:
        """Unmount it; it goes on for a container that still has it."""
        run("umount", "-l", str(self.where), check=False)

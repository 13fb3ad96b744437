# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The compiled code of this collection, kept on the host for the next task.

Ansible sends a module with everything it imports as a ZIP file, and Python's zipimport keeps no compiled code: it
compiles each module twice, to find it and to load it (CPython 3.9 to 3.13: find_spec() asks get_filename(), which compiles), at
every task anew. What is kept is named by the hash of its source, so it is never out of date.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import marshal
import os
import stat
import sys
import time
import types
import typing as t
import zipimport

DIRECTORY = "/run/stasis/code"
_PACKAGE = __name__.rpartition(".")[0]
# Of an older version of the collection, or of another Python.
_OLD_SECONDS = 86400.0


class Kept(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules beside this one, where they are in a ZIP file.

    compiled: the file names below the directory to what belongs there and was not there.
    """

    def __init__(self, directory: str = DIRECTORY, package: str = _PACKAGE) -> None:
        self.directory = directory
        self.package = package
        self.compiled: dict[str, bytes] = {}
        self._used: set[str] = set()
        self._sources: dict[str, bytes] = {}

    def find_spec(
        self, fullname: str, path: t.Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None for what is not ours or not in a ZIP file: others look for that, then."""
        package, _dot, name = fullname.rpartition(".")
        for entry in (path or ()) if package == self.package else ():
            file = os.path.join(entry, f"{name}.py")
            with contextlib.suppress(zipimport.ZipImportError, OSError):
                self._sources[fullname] = zipimport.zipimporter(entry).get_data(file)
                return importlib.util.spec_from_loader(fullname, self, origin=file)
        return None

    def get_source(self, fullname: str) -> str:
        """For tracebacks."""
        return self._sources[fullname].decode("utf-8")

    def get_code(self, fullname: str) -> types.CodeType:
        """The compiled module, kept or new."""
        source = self._sources[fullname]
        # What the interpreter calls its bytecode changes with every version that has another.
        name = hashlib.sha256(importlib.util.MAGIC_NUMBER + fullname.encode() + b"\0" + source).hexdigest()
        self._used.add(name)
        data = self._read(os.path.join(self.directory, name))
        with contextlib.suppress(EOFError, ValueError, TypeError):
            code = marshal.loads(data)
            if isinstance(code, types.CodeType):
                return code
        # The path in the ZIP file has a random part, and is another at the next task.
        made: types.CodeType = compile(source, f"{fullname.replace('.', '/')}.py", "exec", dont_inherit=True)
        self.compiled[name] = marshal.dumps(made)
        return made

    @staticmethod
    def _read(path: str) -> bytes:
        """A file that nobody but root can have written, or nothing."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return b""
        with open(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            safe = status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            return stream.read() if safe else b""

    def keep(self) -> None:
        """Write what was compiled, for root only. Where that is not possible, the next task compiles again."""
        if not self.compiled or os.geteuid() != 0:
            return
        with contextlib.suppress(OSError):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            for name, data in self.compiled.items():
                part = os.path.join(self.directory, f".{name}.{os.getpid()}")
                with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as stream:
                    stream.write(data)
                os.rename(part, os.path.join(self.directory, name))
            self._forget()

    def _forget(self) -> None:
        with os.scandir(self.directory) as entries:
            for one in entries:
                if one.name not in self._used and time.time() - one.stat(follow_symlinks=False).st_mtime > _OLD_SECONDS:
                    os.unlink(one.path)


def use() -> Kept:
    """From now on, what is imported of this collection is taken from there."""
    kept = Kept()
    # Before who would look into the ZIP file, and behind whoever else came first.
    usual = importlib.machinery.PathFinder
    sys.meta_path.insert(sys.meta_path.index(usual) if usual in sys.meta_path else len(sys.meta_path), kept)
    return kept

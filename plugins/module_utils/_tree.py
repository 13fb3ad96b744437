# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Files in a container's root file system, read and written from the host without ever leaving it.

Whoever is root in the container can put any link anywhere, also while we look. So a path is walked one name at a time,
each opened relative to its directory and without following it; links are read and resolved here, with the container's
root as `/`, and `..` goes back the way that was come.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors

_MAX_LINKS = 40
# No unit file is longer.
_MAX_SIZE = 1 << 20
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """A root file system. All paths are relative to its root, with or without a slash in front.

    owner: uid and gid, as this host counts them, of what is written.
    """

    def __init__(self, root: str, owner: tuple[int, int] = (0, 0)) -> None:
        self.root = root
        self.owner = owner
        try:
            self._top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise _errors.StasisError(f"{root} cannot be read: {exc.strerror}.", "Correct lxc.rootfs.path.") from exc

    def close(self) -> None:
        """Let go of it."""
        os.close(self._top)

    def is_hosts(self) -> bool:
        """Whether this is the root of the host itself."""
        return os.path.samestat(os.fstat(self._top), os.stat("/"))

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; [] where there is none."""
        with self._opened(path) as (found, _name):
            if found is None or not stat.S_ISDIR(os.fstat(found).st_mode):
                return []
            with self._reopened(found, os.O_RDONLY | os.O_DIRECTORY) as directory:
                return sorted(os.listdir(directory))

    def text(self, path: str) -> str | None:
        """The content of a regular file, links followed; None where there is none or it is longer than any unit file."""
        with self._opened(path) as (found, _name):
            if found is None:
                return None
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIZE:
                return None
            with self._reopened(found, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
                parts = []
                while True:
                    part = os.read(descriptor, _MAX_SIZE)
                    parts.append(part)
                    if not part or sum(map(len, parts)) > _MAX_SIZE:
                        return b"".join(parts).decode("utf-8", "surrogateescape")

    def real(self, path: str) -> str | None:
        """The path without links, relative to the root; None where nothing is there."""
        with self._opened(path) as (found, name):
            return None if found is None else name

    def link(self, path: str) -> str | None:
        """What a symbolic link says; None where it is none."""
        with self._parent(path) as (directory, name):
            if directory is None:
                return None
            try:
                return os.readlink(name, dir_fd=directory)
            except OSError:
                return None

    def exists(self, path: str) -> bool:
        """Whether something is there, links followed."""
        return self.real(path) is not None

    def changed(self, path: str) -> float:
        """When a file was written last (its ctime), 0 where there is none."""
        with self._opened(path) as (found, _name):
            return 0.0 if found is None else os.fstat(found).st_ctime

    def missing(self, path: str) -> tuple[str, ...]:
        """The directories above a path that are not there, the outermost first."""
        parts = _parts(path)
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        return tuple(one for one in above if not self.exists(one))

    def write(self, path: str, text: str) -> None:
        """Make or replace a file, 0644, in one step and durably, with the directories above it that are missing."""
        try:
            for directory_path in self.missing(path):
                self._make_directory(directory_path)
            with self._parent(path) as (directory, name):
                if directory is None:
                    raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                self._write(directory, name, text)
        except OSError as exc:
            raise _errors.StasisError(
                f"{path} in {self.root} cannot be written: {exc.strerror}.",
                "Look what is in its way there, or make the file system writable.",
            ) from exc

    def remove(self, path: str) -> None:
        """Remove a file, where there is one."""
        with self._parent(path) as (directory, name):
            if directory is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
                    with self._reopened(directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
                        os.fsync(descriptor)

    def identity(self, path: str) -> tuple[int, int] | None:
        """Device and inode of what has this name, not followed; None where nothing has."""
        with self._parent(path) as (directory, name):
            return None if directory is None else _identity(directory, name)

    def unlink(self, path: str, identity: tuple[int, int]) -> bool:
        """Remove this name of a file with this device and inode; whether it is gone. False where another file has it."""
        with self._parent(path) as (directory, name):
            found = None if directory is None else _identity(directory, name)
            if found is not None and found == identity:
                os.unlink(name, dir_fd=directory)
            return found in (None, identity)

    def remove_empty(self, path: str) -> bool:
        """Remove a directory if nothing is in it and it is no link; whether it was."""
        with self._parent(path) as (directory, name):
            if directory is None:
                return False
            try:
                os.rmdir(name, dir_fd=directory)
            except OSError:
                return False
            return True

    def _make_directory(self, path: str) -> None:
        with self._parent(path) as (directory, name):
            if directory is None:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            # Fails where a dangling link has the name.
            os.mkdir(name, 0o755, dir_fd=directory)
            made = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=directory)
            try:
                with self._reopened(made, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
                    os.fchown(descriptor, *self.owner)
                    os.fchmod(descriptor, 0o755)
            finally:
                os.close(made)

    def _write(self, directory: int, name: str, text: str) -> None:
        temporary = f".stasis-{os.getpid()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchown(stream.fileno(), *self.owner)
                os.fchmod(stream.fileno(), 0o644)
                stream.write(text.encode("utf-8", "surrogateescape"))
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        with self._reopened(directory, os.O_RDONLY | os.O_DIRECTORY) as held:
            os.fsync(held)

    @contextlib.contextmanager
    def _parent(self, path: str) -> t.Iterator[tuple[int | None, str]]:
        """The directory that a path is in, links followed, and its last name, not followed."""
        parts = _parts(path)
        with self._opened("/".join(parts[:-1])) as (found, _name):
            usable = found is not None and stat.S_ISDIR(os.fstat(found).st_mode)
            yield (found if usable else None), parts[-1]

    @contextlib.contextmanager
    def _opened(self, path: str) -> t.Iterator[tuple[int | None, str]]:
        """A descriptor (O_PATH) of what a path leads to, None where nothing is there, and its path without links."""
        stack: list[tuple[int, str]] = []
        try:
            reached = self._walk(path, stack)
            top = stack[-1][0] if stack else self._top
            yield (top if reached else None), "/".join(name for _descriptor, name in stack)
        finally:
            for descriptor, _name in stack:
                os.close(descriptor)

    def _walk(self, path: str, stack: list[tuple[int, str]]) -> bool:
        pending = path.split("/")
        links = 0
        while pending:
            name = pending.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                if stack:
                    os.close(stack.pop()[0])
                continue
            above = stack[-1][0] if stack else self._top
            try:
                descriptor = os.open(name, _LOOK, dir_fd=above)
            except OSError:
                return False
            if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                stack.append((descriptor, name))
                continue
            try:
                target = os.readlink("", dir_fd=descriptor)
            except OSError:
                return False
            finally:
                os.close(descriptor)
            links += 1
            if links > _MAX_LINKS:
                return False
            if target.startswith("/"):
                for held, _name in stack:
                    os.close(held)
                stack.clear()
            pending = target.split("/") + pending
        return True

    @contextlib.contextmanager
    def _reopened(self, descriptor: int, flags: int) -> t.Iterator[int]:
        """What is open as O_PATH, opened for use: by way of our own /proc, so that it is the very same file."""
        opened = os.open(f"/proc/self/fd/{descriptor}", flags | os.O_CLOEXEC)
        try:
            yield opened
        finally:
            os.close(opened)


def _identity(directory: int, name: str) -> tuple[int, int] | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]

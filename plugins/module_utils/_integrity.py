# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether a directory is what its manifest says: names, owners, sizes, hashes."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _manifest

NONE = "none"
SIZE = "size"
FULL = "full"

# A larger file is hashed piece by piece, several at once, and has the hash of the hashes of its pieces: one SHA-256
# runs on one processor, and memory is mostly one large file.
PIECE = 16 << 20
_CHUNK = 1 << 20
_WORKERS = 8
# <linux/fs.h>; Python has it where the C library that it was built with had it.
_RWF_NOWAIT = 8
# CRIU follows this link wherever it leads, so only the one form that we make is one.
_LINK = re.compile(r"\.\./([^/]+)\Z")

Entry = dict[str, t.Any]
Identity = tuple[int, int, int, int]
# A file that changes twice within a tick of the kernel's clock shows the same time twice. A tick is 10 ms at most.
SETTLED_NS = 50_000_000


def hash_files(directory: str, names: t.Iterable[str], *, mapped: bool = False) -> dict[str, Entry]:
    """The manifest's entry (size and hash) of files in a directory.

    They are read in pieces by as many threads as there are processors (hashlib lets go of the interpreter's lock),
    each with one buffer. mapped: what is in memory already is not copied, which is faster; but where it has to be read again and
    cannot, or becomes shorter meanwhile, the kernel kills this process (SIGBUS). Raises OSError for what cannot be
    read, StasisError for what is no regular file.
    """
    found: dict[str, Entry] = {}
    local = threading.local()
    with ThreadPoolExecutor(max_workers=min(_WORKERS, len(os.sched_getaffinity(0)))) as pool:
        for name in sorted(names):
            path = os.path.join(directory, name)
            size = _size(path)
            offsets = range(0, max(size, 1), PIECE)
            pieces = pool.map(lambda offset, path=path, size=size: _hash(path, offset, size, local, mapped), offsets)
            found[name] = {"size": size, "sha256": pieces}
    for entry in found.values():
        digests = list(entry["sha256"])
        if len(digests) == 1:
            entry["sha256"] = digests[0].hex()
        else:
            del entry["sha256"]
            entry["sha256_pieces"] = hashlib.sha256(b"".join(digests)).hexdigest()
    return found


def identity(path: str) -> Identity | None:
    """What is another for another content: inode, size, and both times; None for what is no regular file."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _size(path: str) -> int:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise _errors.StasisError(f"{path} is not a regular file.", "Make a new checkpoint.")
    return status.st_size


def _hash(path: str, offset: int, size: int, local: threading.local, mapped: bool) -> bytes:
    """SHA-256 of one piece. One of the last piece goes on to the end of the file, in case that it has grown."""
    if not hasattr(local, "buffer"):
        local.buffer = memoryview(bytearray(_CHUNK))
    buffer: memoryview = local.buffer
    end = offset + PIECE if offset + PIECE < size else None
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, offset, PIECE, os.POSIX_FADV_SEQUENTIAL)
        if mapped:
            offset += _hash_mapped(descriptor, offset, min(PIECE, size - offset), digest)
        while end is None or offset < end:
            wanted = buffer if end is None else buffer[: end - offset]
            count = os.preadv(descriptor, [wanted], offset)
            if count == 0:
                break
            digest.update(buffer[:count])
            offset += count
    finally:
        os.close(descriptor)
    return digest.digest()


def _hash_mapped(descriptor: int, offset: int, length: int, digest: hashlib._Hash) -> int:
    """Hash so much of a file if it is in memory, and give how much that was. What is on the disk is read faster than mapped."""
    if length < 1 or not all(_in_memory(descriptor, place) for place in (offset, offset + length - 1)):
        return 0
    with mmap.mmap(descriptor, length, prot=mmap.PROT_READ, offset=offset) as view:
        digest.update(view)
    return length


def _in_memory(descriptor: int, offset: int) -> bool:
    """Whether a byte of a file can be had without waiting for the disk; no where the file system cannot say (Linux 4.14)."""
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, _RWF_NOWAIT) == 1
    except (OSError, NotImplementedError):
        return False


def faults(
    directory: str,
    manifest: _manifest.Manifest,
    level: str,
    hashed: t.Callable[[], t.Mapping[str, Entry]] = dict,
) -> list[str]:
    """Where a directory differs from its manifest, a line each with the file's name; empty where it does not.

    level: FULL compares hashes, SIZE everything but the content. With NONE nothing is compared with the manifest.
    hashed: gives entries that are known already, and is asked after everything else was found to be right.
    Kinds and owners of the files, and where `parent` leads, are looked at in any case.
    """
    found = _directory_faults(directory)
    listed = manifest["files"]
    present: set[str] = set()
    for entry in os.scandir(directory):
        present.add(entry.name)
        if entry.name == _manifest.PARENT:
            found += _parent_faults(directory, manifest, level)
            continue
        fault = _entry_fault(entry, listed.get(entry.name), level)
        if fault:
            found.append(fault)
    if level != NONE:
        found += [f"{name} is missing." for name in sorted(set(listed) - present)]
    if manifest.get("parent") and _manifest.PARENT not in present:
        found.append(f"{_manifest.PARENT} is missing.")
    if level == FULL and not found:
        found = _content_faults(directory, listed, hashed())
    return sorted(found)


def summary(found: t.Sequence[str]) -> str:
    """The first fault, and how many there are."""
    return found[0] + (f" And {len(found) - 1} more." if len(found) > 1 else "")


def _directory_faults(directory: str) -> list[str]:
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode):
        return [f"{directory} is not a directory."]
    if status.st_uid != 0 or status.st_mode & 0o022:
        return [f"{directory} could have been changed by somebody other than root."]
    return []


def _entry_fault(entry: os.DirEntry[str], recorded: Entry | None, level: str) -> str:
    name = entry.name if _manifest.is_plain(entry.name) else repr(entry.name)
    status = entry.stat(follow_symlinks=False)
    if recorded is None and entry.name not in _manifest.BESIDE and level != NONE:
        return f"{name} is not in the manifest."
    if not stat.S_ISREG(status.st_mode):
        return f"{name} is not a regular file."
    if status.st_uid != 0 or status.st_mode & 0o022:
        return f"{name} could have been changed by somebody other than root."
    if status.st_nlink != 1:
        return f"{name} has {status.st_nlink} names: somebody holds it under another one."
    if recorded is not None and level != NONE and status.st_size != recorded["size"]:
        return f"{name} has {status.st_size} bytes, the manifest says {recorded['size']}."
    return ""


def _content_faults(directory: str, listed: t.Mapping[str, Entry], hashed: t.Mapping[str, Entry]) -> list[str]:
    try:
        now = {**hashed, **hash_files(directory, [name for name in listed if name not in hashed])}
    except OSError as exc:
        return [f"{os.path.basename(str(exc.filename or directory))} cannot be read: {exc.strerror}."]
    except _errors.StasisError as exc:
        return [exc.what]
    return [
        f"{name} has another content than the manifest says." for name, entry in listed.items() if now[name] != entry
    ]


def _parent_faults(directory: str, manifest: _manifest.Manifest, level: str) -> list[str]:
    recorded = manifest.get("parent")
    link = os.path.join(directory, _manifest.PARENT)
    if recorded is None:
        return [f"{_manifest.PARENT} is not in the manifest."]
    if not os.path.islink(link):
        return [f"{_manifest.PARENT} is not a symbolic link."]
    target = os.readlink(link)
    if target != recorded["link"]:
        return [f"{_manifest.PARENT} leads to {target!r}, the manifest says {recorded['link']!r}."]
    sibling = parent_directory(directory, target)
    if sibling is None:
        return [f"{_manifest.PARENT} leads to {target!r}, which is no checkpoint beside this one."]
    return _chain_faults(sibling, recorded["sha256"], level, f"{_manifest.PARENT} ({target})")


def parent_directory(directory: str, link: str) -> str | None:
    """Where CRIU's `parent` link of an image leads: a sibling of it, and never anywhere else (None)."""
    match = _LINK.match(link)
    if not match or not _manifest.is_plain(match.group(1)):
        return None
    sibling = os.path.join(os.path.dirname(directory), match.group(1))
    return None if sibling == directory or os.path.islink(sibling) or not os.path.isdir(sibling) else sibling


def _chain_faults(directory: str, sha256: str, level: str, what: str) -> list[str]:
    """The same for the image that an incremental one builds on, whose manifest must be the one that was recorded.
    No chain leads back to where it began, since each manifest has the hash of the next one in it."""
    where = os.path.join(directory, _manifest.NAME)
    try:
        data = read_regular(where)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            return [f"{what} is not the checkpoint that this one was made on."]
        manifest = _manifest.parse(data.decode("utf-8", "replace"), where)
    except _errors.StasisError as exc:
        return [f"{what}: {exc.what}"]
    return [f"{what}: {fault}" for fault in faults(directory, manifest, level)]


def read_regular(path: str, limit: int = _manifest.LARGEST) -> bytes | None:
    """A file's content, or None where it is not there, cannot be read, is larger than limit, or is no regular file:
    a symbolic link is not followed, and a fifo is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def describe_parent(directory: str) -> dict[str, str]:
    """The manifest's entry for the image that one in `directory` was made on, from the link that CRIU made."""
    link = os.readlink(os.path.join(directory, _manifest.PARENT))
    sibling = parent_directory(directory, link)
    data = read_regular(os.path.join(sibling, _manifest.NAME)) if sibling else None
    if data is None:
        raise _errors.StasisError(
            f"{_manifest.PARENT} leads to {link!r}, which is no checkpoint beside this one.", "Report this."
        )
    return {"link": link, "sha256": hashlib.sha256(data).hexdigest()}

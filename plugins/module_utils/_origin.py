# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Whether a checkpoint was made on this host: an HMAC with a key that never leaves it.

Nothing in an image can say so, since whoever makes an image chooses all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files, _integrity, _names

# Not below /var/lib/stasis, from where whole directories are copied to other hosts.
KEY = "/etc/stasis/host.key"
_SIZE = 32
_MOST = 4096
_MANIFEST = b"stasis.lxc manifest\0"
_DRAFT = b"stasis.lxc draft\0"


def ready(*, act: bool) -> None:
    """Make the key of this host where there is none, or without `act` only look at it. Raises StasisError where it cannot be used."""
    if act and not os.path.lexists(KEY):
        _make()
    if os.path.lexists(KEY):
        _key()


def mark(manifest: bytes) -> bytes:
    """What goes beside a manifest of this host: an HMAC of its bytes, as text."""
    ready(act=True)
    return _mac(_MANIFEST + manifest)


def made(manifest: bytes, given: bytes | None) -> bool:
    """Whether mark() of this host gave that. Never raises: what cannot be proven is not so."""
    return _holds(_MANIFEST + manifest, given)


def mark_draft(draft: bytes, inode: int) -> str:
    """The same for the draft in a staging directory. inode: that directory's, so that a copy of it is not ours.

    The draft says nothing of the files beside it: they have no hashes yet.
    """
    ready(act=True)
    return _mac(_draft(draft, inode)).decode()


def made_draft(draft: bytes, inode: int, given: object) -> bool:
    """Whether mark_draft() of this host gave that."""
    return _holds(_draft(draft, inode), given.encode("utf-8", "replace") if isinstance(given, str) else None)


def _draft(draft: bytes, inode: int) -> bytes:
    return _DRAFT + str(inode).encode() + b"\0" + draft


def _holds(data: bytes, given: bytes | None) -> bool:
    if given is None or not os.path.lexists(KEY):
        return False
    try:
        return hmac.compare_digest(_mac(data), given)
    except _errors.StasisError:
        return False


def _mac(data: bytes) -> bytes:
    return hmac.new(_key(), data, hashlib.sha256).hexdigest().encode() + b"\n"


def _key() -> bytes:
    _names.check_owned(KEY, "The key of this host,")
    if os.lstat(KEY).st_mode & 0o077:
        raise _errors.StasisError(f"The key of this host, {KEY}, can be read by others than root.", _RENEW)
    found = _integrity.read_regular(KEY, _MOST)
    if found is None or len(found) < _SIZE:
        raise _errors.StasisError(f"The key of this host, {KEY}, is not a file of {_SIZE} bytes or more.", _RENEW)
    return found


_RENEW = f"Remove {KEY}: the next dump makes another one, and checkpoints made before need allow_unsigned: true."


def _make() -> None:
    """Make it whole or not at all; of two tasks at once, both use the one that was there first."""
    temporary = f"{KEY}.{os.getpid()}"
    try:
        _files.make_directories(os.path.dirname(KEY))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        _files.write_durably(temporary, os.urandom(_SIZE))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, KEY)
        finally:
            os.unlink(temporary)
        _files.sync_directory(os.path.dirname(KEY))
    except OSError as exc:
        raise _errors.StasisError(
            f"The key of this host, {KEY}, cannot be made: {exc.strerror}.", "Make its file system writable."
        ) from exc

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The checkpoint directory and its states: look, stage, seal, publish, remove.

Staging directories stand beside the target under a fixed name, so a later run finds what an earlier one left.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _ahead,
    _errors,
    _files,
    _freshness,
    _integrity,
    _manifest,
    _origin,
)

ABSENT = "absent"
STAGING = "staging"
COMMITTED = "committed"
SEALED = "sealed"
DAMAGED = "damaged"
FOREIGN = "foreign"
UNTRUSTED = "untrusted"

COMMIT = _manifest.COMMIT
CONSUMED = _manifest.CONSUMED
DRAFT = _manifest.DRAFT
FINGERPRINT = _manifest.FINGERPRINT
_UNSEALED = "manifest.new"
# In a draft: that this host made it, see _origin.
_DRAFT_MARK = "made_here"
_PRIVATE = 0o600
_NUMBER = re.compile(r"[0-9]{1,20}\Z")

# What is wrong with the signature of a manifest, or "": from the manifest's bytes, and the signature's or None.
Trust = t.Callable[[bytes, t.Optional[bytes]], str]


@dataclass(frozen=True)
class Image:
    """What a directory holds.

    problem: why it is damaged, foreign or untrusted. draft: what the run that staged it knew before CRIU ran.
    consumed: who was resumed from it. fingerprint: of the root file system as the dump left it. made_here: whether this host
    made it, which nothing in it can claim.
    """

    path: str
    state: str
    manifest: _manifest.Manifest | None = None
    draft: dict[str, t.Any] | None = None
    consumed: tuple[_freshness.Consumed, ...] = ()
    fingerprint: dict[str, t.Any] | None = None
    problem: str = ""
    made_here: bool = False

    def belongs_to(self, name: str, lxc_path: str) -> bool:
        """Whether this is an image of that container."""
        about = self.manifest or self.draft or {}
        return about.get("container") == name and about.get("lxc_path") == lxc_path

    @property
    def owner(self) -> str:
        """The container it belongs to, as `name in lxc_path`."""
        about = self.manifest or self.draft or {}
        return f"{about.get('container')} in {about.get('lxc_path')}"


def staging_path(path: str) -> str:
    """Where an image for `path` is written."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.stasis-staging")


def trash_path(path: str) -> str:
    """Where an image from `path` is removed."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.stasis-trash")


def is_sealed(path: str) -> bool:
    """Whether there is something at path that was sealed once, whatever has become of it."""
    return os.path.isfile(os.path.join(path, _manifest.NAME))


def look(path: str, trust: Trust | None = None, level: str = _integrity.SIZE) -> Image:
    """What there is at path; never raises for what it finds, only where it cannot look.

    trust: asked for the signature before anything in a manifest is believed. level: how much of a sealed image is
    compared with its manifest, see _integrity.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return Image(path, ABSENT)
    if not stat.S_ISDIR(status.st_mode):
        return Image(path, FOREIGN, problem="It is not a directory.")
    names = set(os.listdir(path))
    if _manifest.NAME in names:
        return _look_sealed(path, trust, level)
    draft = _read_json(os.path.join(path, DRAFT)) if DRAFT in names else None
    if draft is None:
        return Image(path, FOREIGN, problem="It has no manifest: it is not a checkpoint made by stasis.lxc.")
    complete = COMMIT in names and _read(os.path.join(path, COMMIT)).endswith("\n")
    given = draft.pop(_DRAFT_MARK, None)
    made_here = _origin.made_draft(_draft_text(draft).encode(), status.st_ino, given)
    return Image(path, COMMITTED if complete else STAGING, draft=draft, made_here=made_here)


def _look_sealed(path: str, trust: Trust | None, level: str) -> Image:
    where = os.path.join(path, _manifest.NAME)
    data = _integrity.read_regular(where)
    if data is None:
        return Image(path, DAMAGED, problem=f"{where} is not a regular file that can be read.")
    problem = trust(data, _integrity.read_regular(os.path.join(path, _manifest.SIGNATURE), 4096)) if trust else ""
    if problem:
        return Image(path, UNTRUSTED, problem=problem)
    try:
        manifest = _manifest.parse(data.decode("utf-8", "replace"), where)
    except _errors.StasisError as exc:
        return Image(path, DAMAGED, problem=exc.what)
    override = _read_json(os.path.join(path, FINGERPRINT))
    if not _manifest.is_fingerprint(override):
        override = None
    image = Image(
        path,
        SEALED,
        manifest=manifest,
        consumed=tuple(parse_consumed(_read(os.path.join(path, CONSUMED)))),
        fingerprint=override if override is not None else manifest.get("fingerprint"),
        made_here=_origin.made(data, _integrity.read_regular(os.path.join(path, _manifest.MARK), 4096)),
    )
    found = _integrity.faults(path, manifest, level)
    return replace(image, state=DAMAGED, problem=_integrity.summary(found)) if found else image


def verify(image: Image, level: str = _integrity.FULL, ahead: _ahead.Ahead | None = None) -> list[str]:
    """Where a sealed image differs from its seal; empty where it does not. With FULL every file is read, if not by `ahead`."""
    if image.manifest is None:
        return [image.problem or "It is not sealed."]
    return _integrity.faults(image.path, image.manifest, level, ahead.entries if ahead else dict)


def parse_consumed(text: str) -> list[_freshness.Consumed]:
    """From the hook's records: `restored BOOT PID START UPTIME`; `undone BOOT PID START` takes one back."""
    found: list[_freshness.Consumed] = []
    for line in _files.lines(text):
        words = line.split()
        if len(words) < 4 or not (_NUMBER.match(words[2]) and _NUMBER.match(words[3])):
            continue
        record = _freshness.Consumed(words[1], int(words[2]), int(words[3]))
        if words[0] == "restored":
            found.append(record)
        elif words[0] == "undone" and record in found:
            found.remove(record)
    return found


def stage(path: str, draft: t.Mapping[str, t.Any]) -> str:
    """Make the empty staging directory for an image at path, with its draft; returns the staging path."""
    _files.make_directories(os.path.dirname(path))
    staging = staging_path(path)
    try:
        os.mkdir(staging, 0o700)
        mark = _origin.mark_draft(_draft_text(draft).encode(), os.lstat(staging).st_ino)
        _files.write_durably(os.path.join(staging, DRAFT), _draft_text({**draft, _DRAFT_MARK: mark}))
        _files.sync_directory(os.path.dirname(staging))
    except FileExistsError as exc:
        raise _errors.StasisError(
            f"{staging} is in the way, and is not what an interrupted run of this container leaves.",
            "Look into it, then move or remove it.",
        ) from exc
    except OSError as exc:
        raise _errors.StasisError(
            f"{staging} cannot be written: {exc.strerror}.",
            "Make the file system writable, or choose another directory.",
        ) from exc
    return staging


def _draft_text(draft: t.Mapping[str, t.Any]) -> str:
    return json.dumps(draft, indent=1, sort_keys=True) + "\n"


def seal(
    staging: str,
    manifest: _manifest.Manifest,
    sign: t.Callable[[bytes], bytes] | None = None,
    ahead: _ahead.Ahead | None = None,
    *,
    made_here: bool = True,
) -> _manifest.Manifest:
    """Hash every file of a staged image, complete the manifest with them, write it and make all durable.

    CRIU makes its images 0644 unless the umask forbids; they hold the container's memory, so they become 0600.
    sign: makes the signature of the manifest's bytes. ahead: what has begun to hash them. made_here: this host has dumped it.
    """
    names = []
    parent = None
    for entry in os.scandir(staging):
        if entry.name in (DRAFT, COMMIT, _UNSEALED, _manifest.SIGNATURE, _manifest.MARK):
            continue
        if entry.name == _manifest.PARENT and entry.is_symlink():
            parent = _integrity.describe_parent(staging)
            continue
        if not entry.is_file(follow_symlinks=False):
            raise _errors.StasisError(
                f"CRIU left {entry.name} in the image, which is not a regular file.", "Report this."
            )
        if stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode) != _PRIVATE:
            os.chmod(entry.path, _PRIVATE)
        names.append(entry.name)
    # Before the manifest says that they are there, and before an older image goes for this one; hashed meanwhile.
    _files.sync_files(staging)
    hashed = ahead.entries() if ahead else {}
    files = {name: hashed[name] for name in names if name in hashed}
    files.update(_integrity.hash_files(staging, [name for name in names if name not in hashed]))
    sealed = _manifest.with_checksum(
        {**manifest, "files": files, "size": sum(one["size"] for one in files.values()), "parent": parent}
    )
    text = _manifest.dump(sealed)
    # In one step: half a manifest would hide the draft, and with it a committed image.
    unsealed = os.path.join(staging, _UNSEALED)
    _files.write_durably(unsealed, text)
    if sign is not None:
        _files.write_durably(os.path.join(staging, _manifest.SIGNATURE), sign(text.encode()))
    if made_here:
        _files.write_durably(os.path.join(staging, _manifest.MARK), _origin.mark(text.encode()))
    os.rename(unsealed, os.path.join(staging, _manifest.NAME))
    _files.sync_directory(staging)
    for name in (DRAFT, COMMIT):
        os.unlink(os.path.join(staging, name))
    _files.sync_directory(staging)
    return sealed


def publish(path: str) -> None:
    """Put the staged, sealed image under its name; an older one is exchanged in one step and then removed."""
    staging = staging_path(path)
    for name in (DRAFT, COMMIT):
        # Still there where the run that sealed it was interrupted.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(staging, name))
    if os.path.lexists(path):
        _files.exchange(staging, path)
        _files.sync_directory(os.path.dirname(path))
        discard(path)
    else:
        os.rename(staging, path)
        _files.sync_directory(os.path.dirname(path))


def remove(path: str) -> None:
    """Remove an image: first its name, in one step, then its files."""
    _throw_away(path, trash_path(path))


def discard(path: str) -> None:
    """Remove what stands in the staging directory of path, in the same way: an interruption leaves only trash."""
    _throw_away(staging_path(path), trash_path(path))


def _throw_away(path: str, trash: str) -> None:
    _files.refuse_mounts(path)
    _files.remove_tree(trash)
    os.rename(path, trash)
    _files.sync_directory(os.path.dirname(path))
    _files.remove_tree(trash)


def add_record(path: str, line: str) -> None:
    """Append a line to the image's record of resumes, durably."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(os.path.join(path, CONSUMED), flags, _PRIVATE)
    with open(descriptor, "a", encoding="utf-8") as stream:
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def set_fingerprint(path: str, fingerprint: t.Mapping[str, t.Any]) -> None:
    """Record another fingerprint than the manifest's: after a restore that failed before anything ran, since
    CRIU makes and removes files in the root file system on its way."""
    _files.write_durably(os.path.join(path, FINGERPRINT), json.dumps(dict(fingerprint), sort_keys=True) + "\n")


def _read(path: str) -> str:
    return (_integrity.read_regular(path) or b"").decode("utf-8", "replace")


def _read_json(path: str) -> dict[str, t.Any] | None:
    try:
        found = json.loads(_read(path))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

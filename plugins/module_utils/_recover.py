# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What an interrupted earlier run left beside a checkpoint: decided purely, then repaired or removed."""

from __future__ import annotations

import os
import time
import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _container,
    _errors,
    _files,
    _host,
    _image,
    _rootfs,
    _runner,
    _workspace,
)

ROLL_FORWARD = "roll forward"
PUBLISH = "publish"
DISCARD = "discard"
LEAVE = "leave"
# LXC's teardown writes to the root file system after the commit.
_TEARDOWN_NS = 2_000_000_000


def decide(
    staged: _image.Image, target: _image.Image, state: str, init: _container.Process | None, boot_id: str
) -> str:
    """What to do with a staging directory.

    A commit record alone does not prove that the source died, since CRIU can still be vetoed after it: the
    container that was dumped is looked for first. staged: what stands in staging. state, init: the container's. boot_id: of
    this host now.
    """
    known = target.manifest is not None or target.draft is not None
    if target.state in (_image.FOREIGN, _image.UNTRUSTED) or (known and target.owner != staged.owner):
        # Publishing would exchange somebody else's directory with ours, and remove it.
        return LEAVE
    if staged.state == _image.SEALED:
        # Interrupted between sealing and publishing, or between the exchange and removing the older image.
        newer = target.manifest is None or _age(staged.manifest or {}) > _age(target.manifest)
        return PUBLISH if newer else DISCARD
    draft = staged.draft or {}
    recorded = draft.get("init", {})
    this_boot = recorded.get("boot_id") == boot_id
    same = init is not None and (init.pid, init.start) == (recorded.get("pid"), recorded.get("start"))
    if same and this_boot:
        return DISCARD
    if staged.state == _image.COMMITTED:
        # The hook waits for the disk only where the container is to stop, so of the other nobody knows what is there.
        return ROLL_FORWARD if this_boot or draft.get("stopped") else DISCARD
    if state == _container.STOPPED or init is not None:
        # Never completed: nothing can be restored from it, and the container it was made of is gone or another one.
        return DISCARD
    return LEAVE


def _age(manifest: t.Mapping[str, t.Any]) -> tuple[int, str]:
    """Compares two images of one place: the number that each dump counts up. Only images of older versions, which have
    none, are told apart by their time, since the clock may have been set back between two dumps."""
    return manifest.get("sequence") or 0, manifest["created"]


def recover(
    wanted_directory: str,
    name: str,
    lxc_path: str,
    container: _container.Container | None,
    *,
    act: bool,
    runner: _runner.Runner,
    trust: _image.Trust | None = None,
) -> list[str]:
    """Repair what an earlier run left; returns a line for each thing done, or that would be done without `act`.

    trust: asked before the manifest of the image in place is believed.
    """
    done = []
    trash = _image.trash_path(wanted_directory)
    if os.path.lexists(trash):
        done.append(f"removed {trash}, left by an interrupted removal")
        if act:
            _files.remove_tree(trash)
    staging = _image.staging_path(wanted_directory)
    staged = _image.look(staging)
    if staged.state == _image.FOREIGN and _never_begun(staging):
        done.append(f"removed {staging}, left by an interrupted checkpoint")
        if act:
            _image.discard(wanted_directory)
        return done
    if staged.state == _image.ABSENT or not staged.belongs_to(name, lxc_path):
        return done
    state = container.state if container else _container.STOPPED
    choice = decide(
        staged, _image.look(wanted_directory, trust), state, container.init if container else None, _host.boot_id()
    )
    if choice == ROLL_FORWARD:
        done.append(f"completed the checkpoint that an interrupted run had committed in {wanted_directory}")
        # Here, since nearly every run finds nothing to complete.
        from ansible_collections.stasis.lxc.plugins.module_utils import _dump

        sign, unsigned = _signer(_dump.signer, staged.draft or {}, runner)
        done += unsigned
        if act:
            _dump.finish(wanted_directory, staged.draft or {}, _fingerprint(staged, container), sign)
    elif choice == PUBLISH:
        done.append(f"published the checkpoint that an interrupted run had sealed in {wanted_directory}")
        if act:
            _image.publish(wanted_directory)
    elif choice == DISCARD:
        done.append(f"removed {staging}, left by an interrupted checkpoint")
        if act:
            _image.discard(wanted_directory)
    return done


def foreseen(
    directory: str,
    name: str,
    lxc_path: str,
    container: _container.Container | None,
    trust: _image.Trust | None = None,
    level: str = "size",
) -> _image.Image:
    """The image that recover() will have put at directory: what check mode plans with. Changes nothing.

    Its path is the staging directory's where the image still stands there.
    """
    target = _image.look(directory, trust, level)
    staged = _image.look(_image.staging_path(directory))
    if staged.state == _image.ABSENT or not staged.belongs_to(name, lxc_path):
        return target
    state = container.state if container else _container.STOPPED
    choice = decide(staged, target, state, container.init if container else None, _host.boot_id())
    if choice == PUBLISH:
        return _image.look(staged.path, trust, level)
    if choice == ROLL_FORWARD:
        if trust is not None and not (staged.draft or {}).get("sign_key"):
            return replace(staged, state=_image.UNTRUSTED, draft=None, problem=trust(b"", None))
        fingerprint = _fingerprint(staged, container)
        manifest = {**(staged.draft or {}), "fingerprint": fingerprint, "stats": {}, "files": {}, "size": 0}
        return replace(staged, state=_image.SEALED, manifest=manifest, fingerprint=fingerprint)
    return target


def _never_begun(staging: str) -> bool:
    return os.path.isdir(staging) and set(os.listdir(staging)) <= {_image.DRAFT}


def _signer(
    signer: t.Callable[[t.Mapping[str, t.Any], _runner.Runner], t.Callable[[bytes], bytes] | None],
    draft: t.Mapping[str, t.Any],
    runner: _runner.Runner,
) -> tuple[t.Callable[[bytes], bytes] | None, list[str]]:
    """What signs a committed image, tried, and why nothing does: an image without a signature is worth more than none."""
    try:
        sign = signer(draft, runner)
        if sign is not None:
            sign(b"stasis")
    except _errors.StasisError as exc:
        return None, [f"left that checkpoint unsigned: {exc.what}"]
    return sign, []


def _fingerprint(staged: _image.Image, container: _container.Container | None) -> dict[str, t.Any] | None:
    """For a committed image. The root file system is fingerprinted only where nothing was written since LXC's
    teardown, for otherwise the container may have run in between, and the image must not pass for fresh."""
    if container is None or container.init is not None:
        return None
    found = _rootfs.fingerprint(container.rootfs)
    committed = os.stat(os.path.join(staged.path, _image.COMMIT)).st_mtime_ns
    unwritten = found is not None and 0 <= found.newest <= committed + _TEARDOWN_NS
    return found.as_dict() if found is not None and unwritten and _clock_kept(staged.path, committed) else None


def _clock_kept(staging: str, committed: int) -> bool:
    """Whether the clock has not been set back since the commit: else a file that was written later may seem older."""
    record = _workspace.read_text(os.path.join(staging, _image.COMMIT)).split()
    if len(record) != 3 or not record[2].isdigit():
        return False
    booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    if record[1] == _host.boot_id():
        # The record has whole seconds.
        return booted >= committed - int(record[2]) * 1_000_000_000 - _TEARDOWN_NS
    return booted > committed

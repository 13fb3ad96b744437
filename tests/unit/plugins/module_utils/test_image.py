# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _files, _image, _manifest, _origin
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._freshness import Consumed
from ansible_collections.stasis.lxc.tests.unit.support.images import published, staged
from ansible_collections.stasis.lxc.tests.unit.support.make import FINGERPRINT, draft, image, manifest, tree, write


@pytest.fixture
def target(safe_dir: str) -> str:
    return f"{safe_dir}/checkpoints/web1"


def test_staging_and_trash_stand_hidden_beside_the_target() -> None:
    assert _image.staging_path("/srv/cp/web1") == "/srv/cp/.web1.stasis-staging"
    assert _image.trash_path("/srv/cp/web1") == "/srv/cp/.web1.stasis-trash"


def test_nothing_is_absent(target: str) -> None:
    assert _image.look(target) == _image.Image(target, _image.ABSENT)


def test_file_is_foreign(safe_dir: str) -> None:
    found = _image.look(write(f"{safe_dir}/x", ""))
    assert (found.state, found.problem) == (_image.FOREIGN, "It is not a directory.")


def test_symlink_is_foreign_even_to_a_checkpoint(safe_dir: str, target: str) -> None:
    published(target)
    os.symlink(target, f"{safe_dir}/link")
    assert _image.look(f"{safe_dir}/link").state == _image.FOREIGN


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"notes.txt": "mine"},
        {"committed": "committed B 1\n"},
        {"draft.json": "half a dra"},
        {"draft.json": "[]"},
        {"pages-1.img": "plain lxc-checkpoint's", "dump.log": ""},
    ],
    ids=["empty", "other files", "commit without draft", "half a draft", "draft of another kind", "of lxc-checkpoint"],
)
def test_directory_without_manifest_and_draft_is_foreign(safe_dir: str, files: dict[str, str]) -> None:
    os.mkdir(f"{safe_dir}/x")
    for name, text in files.items():
        write(f"{safe_dir}/x/{name}", text)
    found = _image.look(f"{safe_dir}/x")
    assert found.state == _image.FOREIGN
    assert "has no manifest" in found.problem


def test_draft_alone_is_staging(target: str) -> None:
    found = _image.look(_image.stage(target, draft()))
    assert (found.state, found.draft) == (_image.STAGING, draft())


@pytest.mark.parametrize(
    ("text", "state"),
    [("committed BOOT 1\n", _image.COMMITTED), ("committed BOOT", _image.STAGING), ("", _image.STAGING)],
)
def test_commit_counts_only_when_its_line_is_whole(target: str, text: str, state: str) -> None:
    staging = _image.stage(target, draft())
    write(f"{staging}/committed", text)
    assert _image.look(staging).state == state


def test_published_image_is_sealed(target: str) -> None:
    found = _image.look(published(target))
    assert (found.state, found.problem, found.consumed, found.fingerprint) == (_image.SEALED, "", (), FINGERPRINT)
    assert found.manifest is not None
    assert found.manifest["container"] == "web1"


def test_staging_directory_is_private_and_holds_the_draft(target: str) -> None:
    old = os.umask(0)
    try:
        staging = _image.stage(target, draft())
    finally:
        os.umask(old)
    assert staging == _image.staging_path(target)
    assert stat.S_IMODE(os.stat(os.path.dirname(target)).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(staging).st_mode) == 0o700
    found = tree(staging)
    assert list(found) == ["draft.json"]
    text = found["draft.json"]
    written = json.loads(text.partition(" ")[2])
    assert len(written.pop("made_here")) == 65
    assert (text[:6], written) == ("100600", draft())


def test_staging_that_is_in_the_way_is_not_written_into(target: str) -> None:
    write(f"{_image.staging_path(target)}/notes.txt", "mine")
    with pytest.raises(StasisError, match="is in the way"):
        _image.stage(target, draft())
    assert sorted(tree(os.path.dirname(target))) == [".web1.stasis-staging", ".web1.stasis-staging/notes.txt"]


def test_seal_hashes_every_file_makes_it_private_and_ends_the_draft(target: str) -> None:
    staging = staged(target)
    sealed = _image.seal(staging, manifest())
    assert sealed["size"] == len("memory") + len("log")
    assert sealed["files"] == {
        "dump.log": {"size": 3, "sha256": hashlib.sha256(b"log").hexdigest()},
        "pages-1.img": {"size": 6, "sha256": hashlib.sha256(b"memory").hexdigest()},
    }
    assert tree(staging) == {
        "dump.log": "100600 log",
        "pages-1.img": "100600 memory",
        "manifest.json": "100600 " + _manifest.dump(sealed),
        "manifest.host": "100600 " + _origin.mark(_manifest.dump(sealed).encode()).decode(),
    }


def test_every_file_is_on_disk_before_the_manifest_says_that_it_is_there(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = staged(target)
    done: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    _image.seal(staging, manifest())
    before = done[: done.index(f"{staging}/manifest.new")]
    assert {f"{staging}/dump.log", f"{staging}/pages-1.img", staging} <= set(before)


@pytest.mark.parametrize("kind", ["directory", "symlink", "fifo"])
def test_seal_refuses_what_is_no_regular_file(target: str, kind: str) -> None:
    staging = staged(target)
    if kind == "directory":
        os.mkdir(f"{staging}/odd")
    elif kind == "symlink":
        os.symlink("/etc/hostname", f"{staging}/odd")
    else:
        os.mkfifo(f"{staging}/odd")
    before = stat.S_IMODE(os.stat("/etc/hostname").st_mode) if os.path.exists("/etc/hostname") else 0
    with pytest.raises(StasisError, match="CRIU left odd in the image"):
        _image.seal(staging, manifest())
    assert _image.look(staging).state == _image.COMMITTED
    assert not os.path.exists("/etc/hostname") or stat.S_IMODE(os.stat("/etc/hostname").st_mode) == before


def test_power_cut_while_the_manifest_is_written_leaves_a_committed_image(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = staged(target)

    def cut(path: str, text: str, _mode: int = 0o600) -> None:
        write(path, text[: len(text) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_files, "write_durably", cut)
        with pytest.raises(KeyboardInterrupt):
            _image.seal(staging, manifest())
    assert _image.look(staging).state == _image.COMMITTED
    _image.seal(staging, manifest())
    _image.publish(target)
    found = _image.look(target)
    assert (found.state, _image.verify(found)) == (_image.SEALED, [])


def test_power_cut_between_manifest_and_draft_leaves_a_sealed_image(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = staged(target)

    def cut(_path: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_image.os, "unlink", cut)
        with pytest.raises(KeyboardInterrupt):
            _image.seal(staging, manifest())
    assert {"draft.json", "committed", "manifest.json"} <= set(os.listdir(staging))
    assert _image.look(staging).state == _image.SEALED
    _image.publish(target)
    assert _image.verify(_image.look(target)) == []


def test_published_directory_is_private(target: str) -> None:
    published(target)
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(target)} == {0o600}


def test_publishing_replaces_an_older_image_and_leaves_nothing_beside_it(target: str) -> None:
    published(target, "old")
    published(target, "new", created="2026-11-23T00:00:00.000000Z")
    assert os.listdir(os.path.dirname(target)) == ["web1"]
    with open(f"{target}/pages-1.img", encoding="utf-8") as stream:
        assert stream.read() == "new"
    assert _image.verify(_image.look(target)) == []


def test_older_image_stays_whole_until_the_exchange(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published(target, "old")
    _image.seal(staged(target, "new"), manifest())
    before = tree(target)

    def refuse(first: str, _second: str) -> None:
        raise OSError(22, "Invalid argument", first)

    monkeypatch.setattr(_files, "exchange", refuse)
    with pytest.raises(OSError):
        _image.publish(target)
    assert tree(target) == before
    assert _image.look(_image.staging_path(target)).state == _image.SEALED


def test_interrupted_removal_of_the_older_image_leaves_it_as_trash_only(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(target, "old")
    _image.seal(staged(target, "new"), manifest())

    def cut(path: str) -> None:
        os.unlink(f"{path}/manifest.json")
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.shutil, "rmtree", cut)
    with pytest.raises(KeyboardInterrupt):
        _image.publish(target)
    assert sorted(os.listdir(os.path.dirname(target))) == [".web1.stasis-trash", "web1"]
    assert _image.verify(_image.look(target)) == []


def test_removed_image_leaves_nothing(target: str) -> None:
    _image.remove(published(target))
    assert os.listdir(os.path.dirname(target)) == []


def test_removal_over_trash_of_an_interrupted_one(target: str) -> None:
    published(target)
    write(f"{_image.trash_path(target)}/pages-1.img", "old")
    _image.remove(target)
    assert os.listdir(os.path.dirname(target)) == []


def test_image_with_a_mount_in_it_keeps_its_name(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published(target)
    before = tree(os.path.dirname(target))
    monkeypatch.setattr(_files, "mount_points", lambda: {f"{target}/pages-1.img"})
    with pytest.raises(StasisError, match="Something is mounted at"):
        _image.remove(target)
    assert tree(os.path.dirname(target)) == before


def test_discarded_staging_leaves_nothing_and_the_image_as_it_was(target: str) -> None:
    published(target)
    before = tree(os.path.dirname(target))
    staged(target, "new")
    _image.discard(target)
    assert tree(os.path.dirname(target)) == before


def test_records_of_resumes_are_added_and_read(target: str) -> None:
    published(target)
    _image.add_record(target, "restored B1 10 20 99")
    _image.add_record(target, "restored B2 11 21 3")
    assert _image.look(target).consumed == (Consumed("B1", 10, 20), Consumed("B2", 11, 21))
    _image.add_record(target, "undone B2 11 21")
    found = _image.look(target)
    assert (found.state, found.consumed) == (_image.SEALED, (Consumed("B1", 10, 20),))
    assert _image.verify(found) == []


def test_fingerprint_of_a_failed_restore_takes_the_place_of_the_manifests(target: str) -> None:
    published(target)
    _image.set_fingerprint(target, {**FINGERPRINT, "digest": "d9"})
    found = _image.look(target)
    assert (found.state, found.fingerprint) == (_image.SEALED, {**FINGERPRINT, "digest": "d9"})
    assert _image.verify(found) == []


@pytest.mark.parametrize("text", ["", "{", '{"digest": "x"}', "[]", "null"])
def test_fingerprint_file_that_is_none_is_passed_over(target: str, text: str) -> None:
    published(target)
    write(f"{target}/fingerprint.json", text)
    assert _image.look(target).fingerprint == FINGERPRINT


@pytest.mark.parametrize("state", [_image.SEALED, _image.STAGING, _image.COMMITTED, _image.DAMAGED])
def test_image_belongs_to_one_name_in_one_lxc_path(state: str) -> None:
    found = image(state)
    assert found.belongs_to("web1", "/var/lib/lxc")
    assert not found.belongs_to("web2", "/var/lib/lxc")
    assert not found.belongs_to("web1", "/srv/lxc")
    assert found.owner == "web1 in /var/lib/lxc"


@pytest.mark.parametrize("state", [_image.ABSENT, _image.FOREIGN])
def test_what_is_no_image_belongs_to_nobody(state: str) -> None:
    assert not image(state).belongs_to("web1", "/var/lib/lxc")


def test_manifest_is_signed_over_its_very_bytes_before_it_is_in_its_place(target: str) -> None:
    staging = staged(target)
    seen: list[bytes] = []

    def sign(data: bytes) -> bytes:
        assert not os.path.exists(f"{staging}/manifest.json")
        seen.append(data)
        return b"\x00signature\xff"

    _image.seal(staging, manifest(), sign)
    _image.publish(target)
    with open(f"{target}/manifest.json", "rb") as stream:
        assert seen == [stream.read()]
    given: list[tuple[bytes, bytes | None]] = []
    found = _image.look(target, lambda data, signature: given.append((data, signature)) or "")
    assert (found.state, _image.verify(found)) == (_image.SEALED, [])
    assert given == [(seen[0], b"\x00signature\xff")]


def test_failing_signature_leaves_a_committed_image(target: str) -> None:
    staging = staged(target)

    def fail(_data: bytes) -> bytes:
        raise StasisError("no key")

    with pytest.raises(StasisError):
        _image.seal(staging, manifest(), fail)
    assert _image.look(staging).state == _image.COMMITTED
    _image.seal(staging, manifest())
    assert _image.look(staging).state == _image.SEALED


def test_incremental_image_carries_what_it_was_made_on(target: str) -> None:
    published(target)
    second = os.path.join(os.path.dirname(target), "web2")
    staging = staged(second)
    os.symlink("../web1", f"{staging}/parent")
    sealed = _image.seal(staging, manifest())
    _image.publish(second)
    assert sealed["parent"]["link"] == "../web1"
    assert _image.verify(_image.look(second)) == []
    published(target, "another")
    assert _image.look(second).problem == "parent (../web1) is not the checkpoint that this one was made on."


def test_an_image_that_an_interrupted_run_had_sealed_is_published_without_its_draft(safe_dir: str) -> None:
    directory = f"{safe_dir}/image"
    staging = _image.stage(directory, draft())
    write(f"{staging}/committed", "committed B 1\n")
    _image.seal(staging, manifest())
    # As it is when the run is killed between the manifest and these two.
    write(f"{staging}/committed", "committed B 1\n")
    write(f"{staging}/draft.json", "{}")
    _image.publish(directory)
    assert sorted(os.listdir(directory)) == ["manifest.host", "manifest.json"]


def test_image_of_this_host_is_known_by_its_mark_wherever_it_lies(target: str, safe_dir: str) -> None:
    published(target)
    assert _image.look(target).made_here
    shutil.copytree(target, f"{safe_dir}/copy")
    assert _image.look(f"{safe_dir}/copy").made_here


def other_host(monkeypatch: pytest.MonkeyPatch, safe_dir: str) -> None:
    """From here on this is another host."""
    monkeypatch.setattr(_origin, "KEY", f"{safe_dir}/etc/host.key")


def test_image_of_another_host_is_not_of_this_one(target: str, safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    published(target)
    other_host(monkeypatch, safe_dir)
    assert not _image.look(target).made_here
    published(f"{target}-2")
    assert not _image.look(target).made_here
    assert _image.look(f"{target}-2").made_here


def test_image_that_was_changed_with_its_checksum_is_not_of_this_host(target: str) -> None:
    published(target)
    path = f"{target}/manifest.json"
    with open(path, encoding="utf-8") as stream:
        found = json.load(stream)
    write(path, _manifest.dump({**found, "generation": 7}))
    image = _image.look(target)
    assert (image.state, image.made_here) == (_image.SEALED, False)


def test_image_without_a_mark_is_not_of_this_host(target: str) -> None:
    published(target)
    os.unlink(f"{target}/manifest.host")
    assert (_image.look(target).state, _image.look(target).made_here) == (_image.SEALED, False)


def test_staging_directory_of_this_host_is_known_by_its_draft_but_no_copy_of_it(target: str, safe_dir: str) -> None:
    staging = staged(target)
    found = _image.look(staging)
    assert (found.state, found.made_here, found.draft) == (_image.COMMITTED, True, draft())
    shutil.copytree(staging, f"{safe_dir}/copy")
    assert not _image.look(f"{safe_dir}/copy").made_here
    with open(f"{staging}/draft.json", encoding="utf-8") as stream:
        changed = json.load(stream)
    write(f"{staging}/draft.json", json.dumps({**changed, "generation": 9}))
    assert not _image.look(staging).made_here


@pytest.mark.parametrize("mark", [None, 1, [], {}, "", "x" * 65, "\udcff"], ids=ascii)
def test_draft_with_another_mark_is_not_of_this_host(target: str, mark: object) -> None:
    staging = staged(target)
    write(f"{staging}/draft.json", json.dumps({**draft(), "made_here": mark}))
    found = _image.look(staging)
    assert (found.made_here, found.draft) == (False, draft())

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _files, _image, _listing
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import draft, manifest, tree, write


def checkpoint(path: str, memory: str = "memory", **changes: str) -> str:
    staging = _image.stage(path, draft(**changes))
    write(f"{staging}/pages-1.img", memory)
    write(f"{staging}/committed", "committed B 1\n")
    _image.seal(staging, manifest(**changes))
    _image.publish(path)
    return path


def states(path: str, *, verify: bool = False) -> dict[str, str]:
    return {os.path.relpath(one["path"], path): one["state"] for one in _listing.listing(path, verify=verify)}


def test_empty_directory_has_no_checkpoints(safe_dir: str) -> None:
    assert _listing.listing(safe_dir, verify=False) == []


def test_checkpoints_are_found_at_any_depth_and_ordered_by_path(safe_dir: str) -> None:
    for path in ("web2", "web1", "old/2026/web1"):
        checkpoint(f"{safe_dir}/{path}")
    write(f"{safe_dir}/notes/todo.txt", "")
    assert list(states(safe_dir)) == ["old/2026/web1", "web1", "web2"]


def test_path_may_be_a_checkpoint_itself(safe_dir: str) -> None:
    assert states(checkpoint(f"{safe_dir}/web1")) == {".": "sealed"}


def test_entry_has_every_key(safe_dir: str) -> None:
    path = checkpoint(f"{safe_dir}/web1")
    _image.add_record(path, "restored B1 10 20 99")
    [found] = _listing.listing(safe_dir, verify=False)
    about = found.pop("manifest")
    assert about["generation"] == 1
    assert found == {
        "path": path,
        "state": "sealed",
        "container": "web1",
        "lxc_path": "/var/lib/lxc",
        "size": sum(os.stat(f"{path}/{name}").st_size for name in os.listdir(path)),
        "restored": [{"boot_id": "B1", "init_pid": 10, "init_start": 20}],
        "verified": False,
        "signed": False,
        "made_here": True,
        "faults": [],
    }


def test_interrupted_ones_are_listed_with_their_state(safe_dir: str) -> None:
    _image.stage(f"{safe_dir}/web1", draft())
    write(f"{_image.stage(f'{safe_dir}/web2', draft(container='web2'))}/committed", "committed B 1\n")
    assert states(safe_dir) == {".web1.stasis-staging": "staging", ".web2.stasis-staging": "committed"}
    [first, _second] = _listing.listing(safe_dir, verify=True)
    assert (first["container"], first["manifest"], first["verified"], first["faults"]) == ("web1", {}, False, [])


def test_verify_reads_every_file(safe_dir: str) -> None:
    checkpoint(f"{safe_dir}/good")
    write(f"{checkpoint(f'{safe_dir}/bad')}/pages-1.img", "MEMORY")
    assert states(safe_dir) == {"bad": "sealed", "good": "sealed"}
    [bad, good] = _listing.listing(safe_dir, verify=True)
    assert (bad["state"], bad["verified"]) == ("damaged", False)
    assert bad["faults"] == ["pages-1.img has another content than the manifest says."]
    assert (good["state"], good["verified"], good["faults"]) == ("sealed", True, [])


def test_damage_that_shows_without_reading_is_told(safe_dir: str) -> None:
    os.unlink(f"{checkpoint(f'{safe_dir}/a')}/pages-1.img")
    write(f"{checkpoint(f'{safe_dir}/b')}/manifest.json", "{")
    [first, second] = _listing.listing(safe_dir, verify=False)
    assert (first["state"], first["faults"]) == ("damaged", ["pages-1.img is missing."])
    assert (second["state"], second["manifest"]) == ("damaged", {})


def test_symlinks_are_not_followed(safe_dir: str) -> None:
    checkpoint(f"{safe_dir}/real/web1")
    os.mkdir(f"{safe_dir}/list")
    os.symlink(f"{safe_dir}/real", f"{safe_dir}/list/link")
    assert states(f"{safe_dir}/list") == {}
    with pytest.raises(StasisError, match="is not a directory"):
        _listing.listing(f"{safe_dir}/list/link", verify=False)


def test_inside_of_a_checkpoint_is_not_searched_for_others(safe_dir: str) -> None:
    checkpoint(f"{checkpoint(f'{safe_dir}/web1')}/inner")
    assert states(safe_dir) == {"web1": "damaged"}


@pytest.mark.parametrize("path", ["relative", "/srv/../etc", "/srv/a b", "/srv/a\nb"])
def test_hostile_path_is_refused(path: str) -> None:
    with pytest.raises(StasisError, match=r"\Apath "):
        _listing.listing(path, verify=False)


def test_path_that_is_missing_or_a_file_is_refused(safe_dir: str) -> None:
    with pytest.raises(StasisError, match="cannot be read: No such file"):
        _listing.listing(f"{safe_dir}/none", verify=False)
    with pytest.raises(StasisError, match="is not a directory"):
        _listing.listing(write(f"{safe_dir}/file", ""), verify=False)


def test_listing_changes_nothing(safe_dir: str) -> None:
    checkpoint(f"{safe_dir}/web1")
    _image.stage(f"{safe_dir}/web2", draft())
    before = tree(safe_dir)
    _listing.listing(safe_dir, verify=True)
    assert tree(safe_dir) == before
    assert _files.mount_points()


def test_signatures_are_asked_for_and_told(safe_dir: str) -> None:
    checkpoint(f"{safe_dir}/web1")
    write(f"{checkpoint(f'{safe_dir}/web2')}/manifest.sig", "good")
    found = _listing.listing(
        safe_dir, verify=True, trust=lambda _data, signature: "" if signature == b"good" else "It is not signed."
    )
    told = [(one["state"], one["signed"], one["verified"], one["faults"], one["container"]) for one in found]
    assert told == [("untrusted", False, False, ["It is not signed."], ""), ("sealed", True, True, [], "web1")]

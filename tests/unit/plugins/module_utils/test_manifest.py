# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _manifest
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import FINGERPRINT, manifest, write


def entry(text: str) -> dict[str, t.Any]:
    return {"size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def sealed(directory: str) -> _manifest.Manifest:
    """A directory with two files, and its manifest."""
    write(f"{directory}/pages-1.img", "memory")
    write(f"{directory}/core-1.img", "registers")
    return manifest(files={"pages-1.img": entry("memory"), "core-1.img": entry("registers")})


def faults(directory: str, about: _manifest.Manifest, *, content: bool = False) -> list[str]:
    return _manifest.faults(directory, about, {"manifest.json", "consumed"}, content=content)


def test_manifest_is_read_back_as_it_was_written() -> None:
    about = manifest(files={"a": entry("x")})
    assert _manifest.parse(_manifest.dump(about), "m") == about


def test_manifest_text_is_steady() -> None:
    assert _manifest.dump({"b": 1, "a": [2]}) == '{\n "a": [\n  2\n ],\n "b": 1\n}\n'


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"format": 1,}', "\x00"])
def test_text_that_is_no_json_is_damage(text: str) -> None:
    with pytest.raises(StasisError, match="is not JSON"):
        _manifest.parse(text, "/srv/x/manifest.json")


@pytest.mark.parametrize("text", ["[]", "1", "null", '"x"'])
def test_json_that_is_no_object_is_damage(text: str) -> None:
    with pytest.raises(StasisError, match="is not a manifest"):
        _manifest.parse(text, "m")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_says_which_version_to_use(version: object) -> None:
    with pytest.raises(StasisError, match=r"this version of stasis\.lxc knows 1") as refusal:
        _manifest.parse(json.dumps(manifest(format=version)), "m")
    assert "version of the collection" in refusal.value.remedy


@pytest.mark.parametrize("key", sorted(set(_manifest._REQUIRED) - {"format"}))
@pytest.mark.parametrize("value", [None, 1.5], ids=["null", "other type"])
def test_each_key_has_to_be_there_with_its_type(key: str, value: object) -> None:
    with pytest.raises(StasisError, match=f"has no valid '{key}'"):
        _manifest.parse(json.dumps(manifest(**{key: value})), "m")
    missing = manifest()
    del missing[key]
    with pytest.raises(StasisError, match=f"has no valid '{key}'"):
        _manifest.parse(json.dumps(missing), "m")


@pytest.mark.parametrize(
    "one",
    [3, None, [], {}, {"size": 1}, {"sha256": "x"}, {"size": "1", "sha256": "x"}, {"size": 1, "sha256": 2}],
    ids=str,
)
def test_file_entry_that_is_none_is_damage(one: object) -> None:
    with pytest.raises(StasisError, match=r"has no valid entry for core-1\.img"):
        _manifest.parse(json.dumps(manifest(files={"core-1.img": one})), "m")


@pytest.mark.parametrize("one", [3, "x", {}, {"digest": "x"}, {**FINGERPRINT, "newest": "1"}], ids=str)
def test_fingerprint_that_is_none_is_damage(one: object) -> None:
    with pytest.raises(StasisError, match="has no valid 'fingerprint'"):
        _manifest.parse(json.dumps(manifest(fingerprint=one)), "m")


def test_manifest_without_a_fingerprint_is_whole() -> None:
    assert _manifest.parse(json.dumps(manifest(fingerprint=None)), "m")["fingerprint"] is None


def test_hashes_are_of_the_whole_file_in_the_order_of_names(safe_dir: str) -> None:
    big = "ab" * (1 << 20) + "c"
    write(f"{safe_dir}/b", big)
    write(f"{safe_dir}/a", "")
    found = _manifest.hash_files(safe_dir, ["b", "a"])
    assert list(found) == ["a", "b"]
    assert found == {"a": entry(""), "b": entry(big)}


def test_nothing_is_hashed_through_a_symlink(safe_dir: str) -> None:
    os.symlink("/etc/hostname", f"{safe_dir}/a")
    with pytest.raises(OSError):
        _manifest.hash_files(safe_dir, ["a"])


def test_directory_that_matches_has_no_faults(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/manifest.json", "{}")
    write(f"{safe_dir}/consumed", "whatever\n")
    assert faults(safe_dir, about) == []
    assert faults(safe_dir, about, content=True) == []


def test_missing_file_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.unlink(f"{safe_dir}/pages-1.img")
    assert faults(safe_dir, about) == ["pages-1.img is missing."]


def test_file_too_many_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/evil.img", "")
    assert faults(safe_dir, about) == ["evil.img is not in the manifest."]


def test_subdirectory_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.mkdir(f"{safe_dir}/sub")
    assert faults(safe_dir, about) == ["sub is not in the manifest."]


def test_other_size_is_a_fault_without_reading(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/pages-1.img", "mem")
    assert faults(safe_dir, about) == ["pages-1.img has 3 bytes, the manifest says 6."]


def test_other_content_of_the_same_size_is_a_fault_when_read(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/pages-1.img", "MEMORY")
    assert faults(safe_dir, about) == []
    assert faults(safe_dir, about, content=True) == ["pages-1.img has another content than the manifest says."]


@pytest.mark.parametrize("name", ["pages-1.img", "manifest.json", "consumed"])
def test_symlink_is_a_fault_also_among_the_files_beside_the_seal(safe_dir: str, name: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/manifest.json", "")
    os.rename(f"{safe_dir}/manifest.json", f"{safe_dir}/consumed")
    if os.path.lexists(f"{safe_dir}/{name}"):
        os.unlink(f"{safe_dir}/{name}")
    os.symlink("/etc/hostname", f"{safe_dir}/{name}")
    assert faults(safe_dir, about) == [f"{name} is not a regular file."]


@pytest.mark.parametrize("name", ["pages-1.img", "consumed"])
@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_file_that_others_can_write_is_a_fault(safe_dir: str, name: str, mode: int) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/consumed", "")
    os.chmod(f"{safe_dir}/{name}", mode)
    assert faults(safe_dir, about) == [f"{name} could have been changed by somebody other than root."]


def test_file_of_somebody_else_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.chown(f"{safe_dir}/core-1.img", 65534, -1)
    assert faults(safe_dir, about) == ["core-1.img could have been changed by somebody other than root."]


def test_all_faults_are_listed_in_order(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.unlink(f"{safe_dir}/pages-1.img")
    write(f"{safe_dir}/zz", "")
    write(f"{safe_dir}/core-1.img", "")
    assert faults(safe_dir, about, content=True) == [
        "core-1.img has 0 bytes, the manifest says 9.",
        "pages-1.img is missing.",
        "zz is not in the manifest.",
    ]


def test_name_in_a_manifest_that_leads_out_of_the_directory_is_never_read(safe_dir: str) -> None:
    about = manifest(files={"../../etc/hostname": entry("x")})
    assert faults(safe_dir, about, content=True) == ["../../etc/hostname is missing."]

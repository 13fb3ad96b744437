# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _records
from ansible_collections.stasis.lxc.plugins.module_utils._errors import RecordError

SOUND = {
    "eth0": b"eth0",
    "veth0": b"vethA",
    "port0": b"isolated 1\n",
    "cgroup-tree": b"owner 5:6\ndir .\nset cgroup.subtree_control +pids\ndir a b/\xff\nlimit pids.max 7\n",
    "device-programs": b'["0000000000000000"]\n',
    "device-list": b"c 1:3 rwm\n",
}


def image(directory: Path, **changes: bytes) -> str:
    for name, content in {**SOUND, **{name.replace("_", "-"): text for name, text in changes.items()}}.items():
        (directory / name).write_bytes(content)
    return os.fspath(directory)


def test_records_of_a_dump_are_sound(tmp_path: Path) -> None:
    _records.check(image(tmp_path))
    assert _records.device_programs(os.fspath(tmp_path)) == [bytes(8)]


def test_image_without_records_is_sound(tmp_path: Path) -> None:
    _records.check(os.fspath(tmp_path))
    assert _records.device_programs(os.fspath(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cgroup-tree", b"dir  ../other\n"),
        # Python's text mode knows more ends of line than the hook.
        ("cgroup-tree", b"dir .\rdir ../../other\n"),
        ("cgroup-tree", b"dir a\r/../../other\n"),
        ("cgroup-tree", b"dir a\xc2\x85\ndir \n"),
        ("device-list", b"c 1:3 rwm\rb 8:0 rwm\n"),
        ("device-programs", b"[1]"),
        ("port0", b"isolated 1\r\n"),
        ("eth0", b"eth0\r"),
        ("veth0", b"../x"),
    ],
    ids=ascii,
)
def test_unsound_record_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(RecordError) as refusal:
        _records.check(image(tmp_path, **{name: content}))
    assert refusal.value.file == name
    assert refusal.value.field in refusal.value.message


def test_record_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cgroup-tree").symlink_to("/dev/null")
    with pytest.raises(RecordError, match="kind of file"):
        _records.check(os.fspath(tmp_path))

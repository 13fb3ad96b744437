# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding what is watched by its file handle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _file_handles

INFO = (
    "pos:\t0\nflags:\t00\nmnt_id:\t17\nino:\t1038\n"
    "inotify wd:1 ino:11a sdev:fe00001 mask:4 ignored_mask:0 fhandle-bytes:14 fhandle-type:4d "
    "f_handle:1a01000000000000050000000000000007000000\n"
    "inotify wd:2 ino:2 sdev:28 mask:4 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:0200000000000000\n"
    "inotify wd:3 ino:2 sdev:28 mask:4 ignored_mask:0 \n"
)


def test_watches_of_a_descriptor() -> None:
    first, second = _file_handles.watches(INFO)
    assert (first.inode, first.device, first.kind) == (0x11A, "254:1", 0x4D)
    assert first.handle == bytes.fromhex("1a01000000000000050000000000000007000000")
    assert (second.device, len(second.handle)) == ("0:40", 8)


def test_what_cannot_be_opened_has_no_path(tmp_path: Path) -> None:
    one = _file_handles.Watch(1, "0:1", 0x7F, b"12345678")
    assert _file_handles.path_of(one, str(tmp_path)) == ""
    assert _file_handles.path_of(one, str(tmp_path / "gone")) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may open a file by its handle")
def test_path_of_a_real_watch(tmp_path: Path) -> None:
    libc = _file_handles.ctypes.CDLL(None, use_errno=True)
    link = tmp_path / "link"
    link.symlink_to("/nowhere")
    number = libc.inotify_init1(0)
    try:
        assert libc.inotify_add_watch(number, os.fsencode(link), 0x02000004) > 0
        found = _file_handles.watches(Path(f"/proc/self/fdinfo/{number}").read_text(encoding="utf-8"))
    finally:
        os.close(number)
    if not found:
        pytest.skip("NOT TESTED: this file system has no handles")
    assert _file_handles.path_of(found[0], str(tmp_path)) in (str(link), "")

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.stasis.lxc.plugins.module_utils import _link_remaps


def test_only_the_names_that_criu_gives_count() -> None:
    assert _link_remaps.is_link("/tmp/link_remap.3")
    for other in ("/tmp/link_remap.", "/tmp/link_remap.3x", "/tmp/my-link_remap.3", "/link_remap.3/a"):
        assert not _link_remaps.is_link(other)


def test_a_link_to_a_file_that_a_process_has_open_without_its_name_is_left_over(tmp_path: Path) -> None:
    gone, link, other = tmp_path / "gone", tmp_path / "link_remap.1", tmp_path / "link_remap.2"
    other.write_text("the container's own")
    with gone.open("w"):
        os.link(gone, link)
        gone.unlink()
        assert _link_remaps.left([os.getpid()]) == {str(link): f"/proc/{os.getpid()}/root{link}"}


def test_a_process_that_is_gone_has_left_nothing() -> None:
    assert _link_remaps.left([0]) == {}


def test_a_link_that_the_image_needs_is_missed_and_found_under_its_other_name(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    other = tmp_path / "tmp" / "other"
    other.write_text("x")
    os.link(other, tmp_path / "tmp" / "link_remap.1")
    links = _link_remaps.inodes(["/tmp/link_remap.1", "/tmp/other", "/tmp/link_remap.9"], str(tmp_path))
    assert links == {"/tmp/link_remap.1": other.stat().st_ino}
    assert _link_remaps.missing(links, str(tmp_path)) == {}
    (tmp_path / "tmp" / "link_remap.1").unlink()
    assert _link_remaps.missing(links, str(tmp_path)) == links
    assert _link_remaps.sources(set(links.values()), str(tmp_path)) == {other.stat().st_ino: str(other)}


def test_a_root_file_system_that_is_no_directory_has_no_links() -> None:
    assert _link_remaps.inodes(["/link_remap.1"], "/nowhere/image.raw") == {}


def test_ghost_files_are_those_made_since(tmp_path: Path) -> None:
    ghost = tmp_path / "tmp" / "a.cr.1f.ghost"
    ghost.parent.mkdir()
    for path in (ghost, tmp_path / "a.ghost", tmp_path / "b.cr.1.ghosts"):
        path.write_text("x")
    made = ghost.stat().st_ctime
    assert _link_remaps.ghosts(str(tmp_path), made - 1) == [str(ghost)]
    assert _link_remaps.ghosts(str(tmp_path), made + 1) == []

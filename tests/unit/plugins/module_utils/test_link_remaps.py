# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _link_remaps
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError


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
        (found,) = _link_remaps.left([os.getpid()])
        assert (found.path, found.process.pid, found.inode) == (str(link), os.getpid(), link.stat().st_ino)
        _link_remaps.remove(found)
        assert not link.exists()
        assert other.exists()
        _link_remaps.remove(found)  # it may have gone by itself


def test_a_process_that_is_gone_has_left_nothing() -> None:
    assert _link_remaps.left([0]) == []


@pytest.fixture
def inside(tmp_path: Path) -> t.Iterator[tuple[Path, Process]]:
    """A process whose root is a directory of ours, as that of a container's process is; the root, and the process."""
    root = tmp_path / "rootfs"
    (root / "tmp").mkdir(parents=True)
    argv = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && exec "$@"', str(root)]
    program = [sys.executable, "-c", IN_ROOT, str(root)]
    other = subprocess.Popen([*argv, *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    process = _container.process(other.pid)
    assert process is not None
    yield root, process
    other.communicate(b"\n")


# It holds a file that has lost its name, and that CRIU has given another one.
IN_ROOT = """
import ctypes, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
assert libc.pivot_root(b".", b".") == 0 and libc.umount2(b".", 2) == 0
held = open("/tmp/gone", "w")
os.link("/tmp/gone", "/tmp/link_remap.1")
os.unlink("/tmp/gone")
print("ready", flush=True)
input()
"""


def test_a_directory_that_is_exchanged_for_a_link_does_not_lead_to_the_hosts_files(
    inside: tuple[Path, Process], tmp_path: Path
) -> None:
    root, process = inside
    (found,) = _link_remaps.left([process.pid])
    assert found.path == "/tmp/link_remap.1"
    hosts = tmp_path / "host"
    hosts.mkdir()
    os.link(root / "tmp" / "link_remap.1", hosts / "link_remap.1")
    (root / "tmp").rename(root / "away")
    (root / "tmp").symlink_to(hosts)
    assert [one.path for one in _link_remaps.left([process.pid])] == ["/away/link_remap.1"]
    _link_remaps.remove(found)
    assert (hosts / "link_remap.1").exists()


def test_a_name_that_is_another_files_by_now_is_left_alone(inside: tuple[Path, Process]) -> None:
    root, process = inside
    (found,) = _link_remaps.left([process.pid])
    (root / "tmp" / "link_remap.1").unlink()
    (root / "tmp" / "link_remap.1").write_text("the container's own")
    with pytest.raises(StasisError, match="another file"):
        _link_remaps.remove(found)
    assert (root / "tmp" / "link_remap.1").exists()


def test_the_root_of_a_process_that_got_the_number_is_left_alone(inside: tuple[Path, Process]) -> None:
    root, process = inside
    (found,) = _link_remaps.left([process.pid])
    with pytest.raises(StasisError, match="has ended"):
        _link_remaps.remove(found._replace(process=process._replace(start=process.start + 1)))
    assert (root / "tmp" / "link_remap.1").exists()


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

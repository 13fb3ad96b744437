# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _names
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import write


@pytest.mark.parametrize("name", ["a", "7", "web1", "Web-1_a.b", "x" * 63])
def test_container_name_is_taken(name: str) -> None:
    assert _names.check_name(name) == name


@each(
    "name",
    [
        *[
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc",
            "-n",
            "--help",
            ".hidden",
            "_x",
            "a b",
            " a",
            "a ",
            "a\n",
            "a\nb",
            "\ta",
        ],
        *[
            "a\x00",
            "a'b",
            'a"b',
            "a$b",
            "a`b`",
            "a;b",
            "a|b",
            "a*",
            "a\\b",
            "a:b",
            "a@b",
            "a,b",
            "ä",
            "a\u2028b",
            "x" * 64,
        ],
    ],
    ids=ascii,
)
def test_hostile_container_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(StasisError, match="is not a container name") as refusal:
        _names.check_name(name)
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    "path", ["/a", "/srv/check-points/web1", "/srv/ä/ñ", "/srv/a:b", "/srv/a,b", "/srv/.hidden", "/srv/a=b"]
)
def test_path_is_taken(path: str) -> None:
    assert _names.check_path(path, "directory") == path


@each(
    "path",
    [
        *["", "relative", "./a", "../a", "~/a", "a/b"],
        *["/", "//", "//a", "/a//b", "/a/", "/a/.", "/a/..", "/a/../b", "/./a"],
        *["/a b", "/a\nb", "/a\n", "/a\tb", "/a\x00b", "/a\x7fb", "/a'b", '/a"b', "/a`id`", "/a$(id)", "/a;b", "/a&b"],
        *["/a|b", "/a<b", "/a>b", "/a{b", "/a}b", "/a*b", "/a?b", "/a!b", "/a#b", "/a~b", "/a[b", "/a]b", "/a\\b"],
        *["/-a", "/srv/-n", "/srv/--help/x"],
        *["/srv/a\u2028b", "/srv/a\x85b", "/srv/a\u00a0b", "/srv/a\u200bb", "/srv/\udcff", "/srv/a\rb", "/srv/a\x1bb"],
    ],
    ids=ascii,
)
def test_hostile_path_is_refused_in_one_line_that_names_the_option(path: str) -> None:
    with pytest.raises(StasisError, match=r"\Adirectory ") as refusal:
        _names.check_path(path, "directory")
    assert len(refusal.value.message.splitlines()) == 1
    refusal.value.message.encode("utf-8")


def test_program_of_root_below_directories_of_root_is_taken(safe_dir: str) -> None:
    _names.check_owned(write(f"{safe_dir}/bin/script", "", 0o755), "action_scripts", executable=True)


def test_missing_file_is_refused(safe_dir: str) -> None:
    with pytest.raises(StasisError, match="cannot be read: No such file"):
        _names.check_owned(f"{safe_dir}/none", "criu_config")


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602, 0o777])
def test_file_that_others_can_write_is_refused(safe_dir: str, mode: int) -> None:
    with pytest.raises(StasisError, match="could be changed by somebody other than root"):
        _names.check_owned(write(f"{safe_dir}/script", "", mode), "action_scripts")


def test_file_of_somebody_else_is_refused(safe_dir: str) -> None:
    os.chown(write(f"{safe_dir}/script", "", 0o755), 65534, -1)
    with pytest.raises(StasisError, match="could be changed by somebody other than root"):
        _names.check_owned(f"{safe_dir}/script", "action_scripts")


def test_program_that_cannot_be_executed_is_refused(safe_dir: str) -> None:
    path = write(f"{safe_dir}/script", "", 0o644)
    _names.check_owned(path, "criu_config")
    with pytest.raises(StasisError, match="is not executable") as refusal:
        _names.check_owned(path, "action_scripts", executable=True)
    assert refusal.value.remedy == f"Run chmod 755 {path}."


def test_directory_symlink_and_fifo_are_no_regular_files(safe_dir: str) -> None:
    os.mkdir(f"{safe_dir}/directory")
    os.symlink(write(f"{safe_dir}/script", "", 0o755), f"{safe_dir}/link")
    os.mkfifo(f"{safe_dir}/fifo")
    for name in ("directory", "link", "fifo"):
        with pytest.raises(StasisError, match="is not a regular file"):
            _names.check_owned(f"{safe_dir}/{name}", "action_scripts")


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777])
def test_file_below_a_directory_that_others_can_write_is_refused(safe_dir: str, mode: int) -> None:
    path = write(f"{safe_dir}/open/inner/script", "", 0o755)
    os.chmod(f"{safe_dir}/open", mode)
    with pytest.raises(StasisError, match=f"{safe_dir}/open, above action_scripts {path}, could be changed"):
        _names.check_owned(path, "action_scripts")


def test_parents_that_are_missing_are_no_fault(safe_dir: str) -> None:
    _names.check_parents(f"{safe_dir}/not/there/yet", "directory")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_parent_that_others_can_write_is_refused_by_name(safe_dir: str, mode: int) -> None:
    os.mkdir(f"{safe_dir}/open")
    os.chmod(f"{safe_dir}/open", mode)
    with pytest.raises(StasisError, match=f"{safe_dir}/open, above directory {safe_dir}/open/a/b, could be changed"):
        _names.check_parents(f"{safe_dir}/open/a/b", "directory")


def test_parent_of_somebody_else_is_refused(safe_dir: str) -> None:
    os.mkdir(f"{safe_dir}/home")
    os.chown(f"{safe_dir}/home", 65534, -1)
    with pytest.raises(StasisError, match="could be changed by somebody other than root"):
        _names.check_parents(f"{safe_dir}/home/a", "directory")


def test_sticky_tmp_is_no_place() -> None:
    with pytest.raises(StasisError, match="/tmp, above directory /tmp/web1, could be changed"):
        _names.check_parents("/tmp/web1", "directory")


def test_parent_that_is_a_file_is_refused(safe_dir: str) -> None:
    write(f"{safe_dir}/file", "")
    with pytest.raises(StasisError, match="is not a directory"):
        _names.check_parents(f"{safe_dir}/file/a", "directory")


def test_symlinked_parent_is_followed_and_taken_where_it_leads_to_a_safe_place(safe_dir: str) -> None:
    os.makedirs(f"{safe_dir}/real/inner")
    os.symlink("real/inner", f"{safe_dir}/relative")
    os.symlink(f"{safe_dir}/relative", f"{safe_dir}/absolute")
    os.symlink("real/../relative/../inner", f"{safe_dir}/winding")
    for name in ("relative", "absolute", "winding"):
        _names.check_parents(f"{safe_dir}/{name}/web1", "directory")


def test_symlinked_parent_that_leads_to_an_open_place_is_refused(safe_dir: str) -> None:
    os.makedirs(f"{safe_dir}/open/inner")
    os.chmod(f"{safe_dir}/open", 0o777)
    os.symlink(f"{safe_dir}/open/inner", f"{safe_dir}/link")
    with pytest.raises(StasisError, match=f"{safe_dir}/open, above"):
        _names.check_parents(f"{safe_dir}/link/web1", "directory")


def test_symlink_that_only_passes_through_an_open_place_is_refused(safe_dir: str) -> None:
    os.makedirs(f"{safe_dir}/open")
    os.makedirs(f"{safe_dir}/real")
    os.symlink(f"{safe_dir}/real", f"{safe_dir}/open/second")
    os.symlink(f"{safe_dir}/open/second", f"{safe_dir}/first")
    os.chmod(f"{safe_dir}/open", 0o777)
    with pytest.raises(StasisError, match=f"{safe_dir}/open, above"):
        _names.check_parents(f"{safe_dir}/first/web1", "directory")


def test_symlinked_parent_that_leads_nowhere_or_in_a_circle_is_refused(safe_dir: str) -> None:
    os.symlink("none", f"{safe_dir}/dangling")
    os.symlink("circle", f"{safe_dir}/circle")
    for name in ("dangling", "circle"):
        with pytest.raises(StasisError, match="is a symbolic link to nothing"):
            _names.check_parents(f"{safe_dir}/{name}/web1", "directory")

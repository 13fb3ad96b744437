# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._tree import Tree
from ansible_collections.stasis.lxc.tests.unit.support.make import tree as everything
from ansible_collections.stasis.lxc.tests.unit.support.make import write

FILE = "etc/systemd/system/x.service.d/ours.conf"


@pytest.fixture
def outside(safe_dir: str) -> str:
    """What the container must not reach."""
    write(f"{safe_dir}/outside/secret", "host\n")
    os.makedirs(f"{safe_dir}/outside/directory")
    return f"{safe_dir}/outside"


@pytest.fixture
def root(safe_dir: str) -> str:
    os.makedirs(f"{safe_dir}/rootfs/etc/systemd/system")
    return f"{safe_dir}/rootfs"


@pytest.fixture
def tree(root: str) -> t.Iterator[Tree]:
    made = Tree(root, (100000, 100001))
    yield made
    made.close()


def test_root_that_is_not_there_is_refused_by_name(safe_dir: str) -> None:
    with pytest.raises(StasisError, match="none cannot be read"):
        Tree(f"{safe_dir}/none")


def test_the_root_of_the_host_is_known(tree: Tree) -> None:
    hosts = Tree("/proc/self/root")
    assert hosts.is_hosts()
    hosts.close()
    assert not tree.is_hosts()


def test_a_name_is_removed_only_where_it_is_the_file_that_is_meant(root: str, outside: str, tree: Tree) -> None:
    write(f"{root}/etc/a", "one\n")
    found = tree.identity("etc/a")
    assert found is not None
    assert not tree.unlink("etc/a", (found[0], found[1] + 1))
    assert os.path.exists(f"{root}/etc/a")
    assert tree.unlink("etc/a", found)
    assert not os.path.exists(f"{root}/etc/a")
    assert tree.unlink("etc/a", found), "it is gone already"
    os.symlink(outside, f"{root}/out")
    secret = os.stat(f"{outside}/secret")
    assert tree.identity("out/secret") is None
    assert tree.unlink("out/secret", (secret.st_dev, secret.st_ino))
    assert os.path.exists(f"{outside}/secret")


def test_a_file_is_read_with_or_without_a_slash_in_front(root: str, tree: Tree) -> None:
    write(f"{root}/etc/a", "one\n")
    assert tree.text("etc/a") == tree.text("/etc//./a") == "one\n"
    assert tree.text("etc/none") is None
    assert tree.text("etc/a/below") is None


def test_bytes_that_are_no_utf_8_stay(root: str, tree: Tree) -> None:
    with open(f"{root}/etc/a", "wb") as stream:
        stream.write(b"caf\xe9\n")
    assert tree.text("etc/a") == "caf\udce9\n"


@pytest.mark.parametrize(
    ("target", "content"),
    [
        ("../usr/lib/a", "in usr\n"),
        ("/usr/lib/a", "in usr\n"),
        ("/../../usr/lib/a", "in usr\n"),
        ("../../../../../../usr/lib/a", "in usr\n"),
        ("/none", None),
        ("a-link", None),
    ],
)
def test_links_are_followed_inside_with_the_roots_own_slash(
    root: str, tree: Tree, target: str, content: str | None
) -> None:
    write(f"{root}/usr/lib/a", "in usr\n")
    os.symlink(target, f"{root}/etc/a-link")
    assert tree.text("etc/a-link") == content


def test_links_to_the_host_lead_nowhere(root: str, tree: Tree, outside: str) -> None:
    relative = os.path.relpath(outside, f"{root}/etc")
    for number, target in enumerate((f"{outside}/secret", f"{relative}/secret", f"/proc/self/root{outside}/secret")):
        os.symlink(target, f"{root}/etc/{number}")
        assert tree.text(f"etc/{number}") is None
    os.symlink(outside, f"{root}/etc/directory")
    os.symlink(relative, f"{root}/etc/relative")
    assert tree.names("etc/directory") == tree.names("etc/relative") == []
    assert tree.text("etc/directory/secret") is None
    assert not tree.exists("etc/directory")


def test_dots_in_a_path_do_not_leave_the_root(tree: Tree, outside: str) -> None:
    assert tree.text("../outside/secret") is None
    assert tree.text("etc/../../outside/secret") is None


def test_what_is_no_regular_file_is_not_read(root: str, tree: Tree) -> None:
    os.mkfifo(f"{root}/etc/fifo")
    os.mkdir(f"{root}/etc/directory")
    os.mknod(f"{root}/etc/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert [tree.text(f"etc/{name}") for name in ("fifo", "directory", "null")] == [None] * 3


def test_a_file_longer_than_any_unit_is_not_read(root: str, tree: Tree) -> None:
    with open(f"{root}/etc/long", "wb") as stream:
        stream.truncate(1 << 40)
    assert tree.text("etc/long") is None


def test_names_are_sorted_and_none_where_there_is_no_directory(root: str, tree: Tree) -> None:
    for name in ("b", "a"):
        write(f"{root}/etc/{name}", "")
    assert tree.names("etc") == ["a", "b", "systemd"]
    assert tree.names("etc/a") == tree.names("etc/none") == []


def test_real_is_the_path_without_links(root: str, tree: Tree) -> None:
    os.makedirs(f"{root}/usr/lib/systemd")
    os.symlink("usr/lib", f"{root}/lib")
    assert tree.real("lib/systemd") == "usr/lib/systemd"
    assert tree.real("lib/none") is None


def test_link_tells_what_a_link_says_and_nothing_of_others(root: str, tree: Tree) -> None:
    os.symlink("/dev/null", f"{root}/etc/masked")
    write(f"{root}/etc/file", "")
    assert tree.link("etc/masked") == "/dev/null"
    assert tree.link("etc/file") is None
    assert tree.link("etc/none/x") is None


def test_a_written_file_is_the_containers_roots_and_the_directories_made_for_it_are_too(root: str, tree: Tree) -> None:
    assert tree.missing(FILE) == ("etc/systemd/system/x.service.d",)
    before = os.umask(0o077)
    try:
        tree.write(FILE, "text\n")
    finally:
        os.umask(before)
    for path, mode in ((FILE, 0o644), (os.path.dirname(FILE), 0o755)):
        status = os.stat(f"{root}/{path}")
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (100000, 100001, mode)
    assert os.stat(f"{root}/etc/systemd/system").st_uid == 0, "one that was there stays as it is"
    assert os.listdir(f"{root}/{os.path.dirname(FILE)}") == ["ours.conf"]
    assert tree.missing(FILE) == ()


def test_a_file_is_replaced_and_removed(root: str, tree: Tree) -> None:
    tree.write(FILE, "one\n")
    tree.write(FILE, "two\n")
    assert tree.text(FILE) == "two\n"
    assert tree.changed(FILE) == os.stat(f"{root}/{FILE}").st_ctime
    tree.remove(FILE)
    tree.remove(FILE)
    tree.remove("etc/none/x")
    assert tree.text(FILE) is None
    assert tree.changed(FILE) == 0
    assert tree.remove_empty(os.path.dirname(FILE))
    assert not tree.remove_empty("etc")
    assert not tree.remove_empty("etc/none")


def test_nothing_is_written_through_a_link_to_the_host(root: str, tree: Tree, outside: str) -> None:
    before = everything(outside)
    os.symlink(f"{outside}/directory", f"{root}/etc/systemd/system/x.service.d")
    with pytest.raises(StasisError, match=r"x\.service\.d/ours\.conf in .* cannot be written: File exists"):
        tree.write(FILE, "text\n")
    os.unlink(f"{root}/etc/systemd/system/x.service.d")
    os.rmdir(f"{root}/etc/systemd/system")
    os.symlink(os.path.relpath(f"{outside}/directory", f"{root}/etc/systemd"), f"{root}/etc/systemd/system")
    with pytest.raises(StasisError):
        tree.write(FILE, "text\n")
    tree.remove("etc/systemd/system/secret")
    assert not tree.remove_empty("etc/systemd/system/directory")
    assert everything(outside) == before


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_written_through(
    root: str, tree: Tree, outside: str
) -> None:
    os.makedirs(f"{root}/{os.path.dirname(FILE)}")
    os.symlink(f"{outside}/secret", f"{root}/{FILE}")
    tree.write(FILE, "text\n")
    assert not os.path.islink(f"{root}/{FILE}")
    with open(f"{outside}/secret", encoding="ascii") as stream:
        assert stream.read() == "host\n"


def test_what_lies_in_the_way_of_a_directory_is_named(root: str, tree: Tree) -> None:
    write(f"{root}/etc/systemd/system/x.service.d", "a file")
    with pytest.raises(StasisError, match="cannot be written: Not a directory"):
        tree.write(FILE, "text\n")


def test_a_failure_leaves_no_half_written_file(root: str, tree: Tree) -> None:
    os.makedirs(f"{root}/{FILE}")
    with pytest.raises(StasisError, match="cannot be written: Is a directory"):
        tree.write(FILE, "text\n")
    assert os.listdir(f"{root}/{os.path.dirname(FILE)}") == ["ours.conf"]

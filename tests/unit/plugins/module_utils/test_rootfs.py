# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import time
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _files, _rootfs
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._rootfs import Fingerprint, Rootfs
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import write


@pytest.fixture
def rootfs(safe_dir: str) -> Rootfs:
    for path in ("etc/passwd", "etc/deep/er/file", "var/log/messages", "run/pid", "bin/sh"):
        write(f"{safe_dir}/{path}", "x")
    # The kernel's clock for files ticks every 4 to 10 ms.
    time.sleep(0.02)
    return _rootfs.locate(f"dir:{safe_dir}")


def taken(rootfs: Rootfs) -> Fingerprint:
    found = _rootfs.fingerprint(rootfs, settle=0.0)
    assert found is not None
    return found


@each(
    ("spec", "backing"),
    [
        ("/var/lib/lxc/web1/rootfs", "/var/lib/lxc/web1/rootfs"),
        ("dir:/var/lib/lxc/web1/rootfs", "/var/lib/lxc/web1/rootfs"),
        ("overlay:/var/lib/lxc/base/rootfs:/var/lib/lxc/web1/delta0", "/var/lib/lxc/web1/delta0"),
        ("overlayfs:/var/lib/lxc/base/rootfs:/var/lib/lxc/web1/delta0", "/var/lib/lxc/web1/delta0"),
        ("overlay:/l1:/l2:/upper", "/upper"),
        ("loop:/var/lib/lxc/web1/rootdev", "/var/lib/lxc/web1/rootdev"),
        ("btrfs:/var/lib/lxc/web1/rootfs", "/var/lib/lxc/web1/rootfs"),
        ("lvm:/dev/lxc/web1", "/dev/lxc/web1"),
        ("/srv/with:colon/rootfs", "/srv/with:colon/rootfs"),
        ("", ""),
    ],
)
def test_backing_is_what_the_container_writes_to(spec: str, backing: str) -> None:
    found = _rootfs.locate(spec)
    assert (found.spec, found.backing) == (spec, backing)


def test_rootfs_that_is_not_there_has_no_inode(safe_dir: str) -> None:
    assert _rootfs.locate(f"dir:{safe_dir}/none") == Rootfs(f"dir:{safe_dir}/none", f"{safe_dir}/none", 0, 0)


def test_identity_is_path_and_inode_without_the_device_that_a_reboot_may_change(rootfs: Rootfs) -> None:
    assert rootfs.identity() == {"backing": rootfs.backing, "inode": os.stat(rootfs.backing).st_ino}


def test_container_created_anew_has_another_identity(safe_dir: str) -> None:
    os.mkdir(f"{safe_dir}/rootfs")
    before = _rootfs.locate(f"{safe_dir}/rootfs").identity()
    os.rename(f"{safe_dir}/rootfs", f"{safe_dir}/old")
    os.mkdir(f"{safe_dir}/rootfs")
    assert _rootfs.locate(f"{safe_dir}/rootfs").identity() != before


def test_fingerprint_of_an_untouched_tree_stays(rootfs: Rootfs) -> None:
    assert taken(rootfs) == taken(rootfs)


def test_reading_leaves_no_trace(rootfs: Rootfs) -> None:
    before = taken(rootfs)
    with open(f"{rootfs.backing}/etc/passwd", encoding="utf-8") as stream:
        stream.read()
    os.listdir(f"{rootfs.backing}/etc/deep")
    os.stat(f"{rootfs.backing}/bin/sh")
    assert taken(rootfs) == before


def _write(top: str) -> None:
    with open(f"{top}/etc/passwd", "a", encoding="utf-8") as stream:
        stream.write("y")


def _overwrite_in_place(top: str) -> None:
    status = os.stat(f"{top}/etc/passwd")
    with open(f"{top}/etc/passwd", "r+", encoding="utf-8") as stream:
        stream.write("z")
    os.utime(f"{top}/etc/passwd", ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace(top: str) -> None:
    write(f"{top}/etc/passwd.new", "x")
    os.rename(f"{top}/etc/passwd.new", f"{top}/etc/passwd")


CHANGES: dict[str, t.Callable[[str], object]] = {
    "write": _write,
    "overwrite and set the old time again": _overwrite_in_place,
    "chmod": lambda top: os.chmod(f"{top}/etc/passwd", 0o644),
    "chown": lambda top: os.chown(f"{top}/etc/passwd", 7, 7),
    "rename": lambda top: os.rename(f"{top}/etc/passwd", f"{top}/etc/passwd-"),
    "unlink": lambda top: os.unlink(f"{top}/etc/passwd"),
    "replace": _replace,
    "create deep below": lambda top: write(f"{top}/etc/deep/er/new", ""),
    "remove a directory": lambda top: os.rename(f"{top}/var/log", f"{top}/log"),
    "symlink": lambda top: os.symlink("passwd", f"{top}/etc/link"),
    "touch": lambda top: os.utime(f"{top}/bin/sh"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_change_shows_in_the_fingerprint(rootfs: Rootfs, change: str) -> None:
    before = taken(rootfs)
    CHANGES[change](rootfs.backing)
    assert taken(rootfs).digest != before.digest


def test_newest_change_is_named(rootfs: Rootfs) -> None:
    os.chmod(f"{rootfs.backing}/var/log/messages", 0o640)
    found = taken(rootfs)
    assert found.newest_path == "/var/log/messages"
    assert found.newest == os.stat(f"{rootfs.backing}/var/log/messages").st_ctime_ns


def test_newest_change_in_the_top_itself_is_named_by_a_slash(rootfs: Rootfs) -> None:
    os.chmod(rootfs.backing, 0o750)
    assert taken(rootfs).newest_path == "/"


def test_every_entry_counts_once(rootfs: Rootfs) -> None:
    # The top, bin etc run var, sh passwd pid, deep log, er messages, file.
    assert (taken(rootfs).entries, taken(rootfs).complete) == (13, True)


def test_entry_beyond_the_fifty_thousandth_counts(safe_dir: str) -> None:
    for folder in range(51):
        os.mkdir(f"{safe_dir}/{folder:02}")
        for name in range(1000):
            os.mknod(f"{safe_dir}/{folder:02}/{name}")
    rootfs = _rootfs.locate(safe_dir)
    before = taken(rootfs)
    assert (before.entries, before.complete) == (51_052, True)
    time.sleep(0.02)
    with open(f"{safe_dir}/50/999", "w", encoding="utf-8") as stream:
        stream.write("x")
    assert taken(rootfs).digest != before.digest


def test_directory_that_cannot_be_read_makes_it_incomplete(rootfs: Rootfs, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def fails(path: str) -> t.Any:
        if path.endswith("/deep"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fails)
    found = taken(rootfs)
    assert not found.complete
    assert found.incomplete_because == "/etc/deep cannot be read: Input/output error"


def test_write_below_a_symbolic_link_to_the_rootfs_shows(rootfs: Rootfs, safe_dir: str) -> None:
    os.mkdir(f"{safe_dir}/elsewhere")
    os.symlink(rootfs.backing, f"{safe_dir}/elsewhere/link")
    linked = _rootfs.locate(f"dir:{safe_dir}/elsewhere/link")
    before = taken(linked)
    _write(rootfs.backing)
    assert taken(linked).digest != before.digest


@pytest.mark.parametrize("layer", ["l1", "l2", "upper"])
def test_write_in_any_layer_of_an_overlay_shows(safe_dir: str, layer: str) -> None:
    for name in ("l1", "l2", "upper"):
        write(f"{safe_dir}/{name}/etc/passwd", "x")
    rootfs = _rootfs.locate(f"overlay:{safe_dir}/l1:{safe_dir}/l2:{safe_dir}/upper")
    before = taken(rootfs)
    time.sleep(0.02)
    _write(f"{safe_dir}/{layer}")
    assert taken(rootfs).digest != before.digest


def test_symlink_is_not_followed(rootfs: Rootfs, safe_dir: str) -> None:
    os.symlink("/usr", f"{safe_dir}/usr")
    assert taken(rootfs).entries == 14


def test_name_that_is_no_utf8_does_not_stop_it(rootfs: Rootfs) -> None:
    before = taken(rootfs)
    with open(os.fsencode(rootfs.backing) + b"/etc/\xff\xfe", "wb"):
        pass
    assert taken(rootfs).entries == before.entries + 1


def test_image_file_counts_as_one_entry(safe_dir: str) -> None:
    rootfs = _rootfs.locate("loop:" + write(f"{safe_dir}/rootdev", "x"))
    before = taken(rootfs)
    assert before.entries == 1
    with open(rootfs.backing, "a", encoding="utf-8") as stream:
        stream.write("y")
    assert taken(rootfs).digest != before.digest


@pytest.mark.parametrize("spec", ["zfs:tmp", "rbd:pool", "tmp", ""])
def test_what_is_no_path_has_no_fingerprint(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A directory of that name in the working directory is not the root file system.
    monkeypatch.chdir("/")
    assert _rootfs.fingerprint(_rootfs.locate(spec)) is None


def test_image_file_of_qemu_nbd_proves_nothing(safe_dir: str) -> None:
    assert not taken(_rootfs.locate("nbd:" + write(f"{safe_dir}/disk.qcow2", "x"))).complete


def test_rootfs_that_cannot_be_read_has_no_fingerprint(safe_dir: str) -> None:
    assert _rootfs.fingerprint(_rootfs.locate(f"{safe_dir}/none")) is None


@pytest.mark.parametrize(("mounted", "entries"), [(True, 9), (False, 13)], ids=["mount", "subvolume"])
def test_mount_is_not_walked_into_but_a_subvolume_is(
    rootfs: Rootfs, monkeypatch: pytest.MonkeyPatch, mounted: bool, entries: int
) -> None:
    children = _rootfs._children

    def elsewhere(base: str, path: str, found: t.Any) -> list[tuple[str, os.stat_result]]:
        other = os.lstat("/proc")
        return [(name, other if name == "/etc" else status) for name, status in children(base, path, found)]

    monkeypatch.setattr(_rootfs, "_children", elsewhere)
    monkeypatch.setattr(_files, "mount_points", lambda: {f"{rootfs.backing}/etc"} if mounted else set())
    # The mount itself counts; passwd, deep, er and file do not.
    assert taken(rootfs).entries == entries


def test_fingerprint_for_the_manifest_has_plain_types(rootfs: Rootfs) -> None:
    found = taken(rootfs).as_dict()
    assert {key: type(value) for key, value in found.items()} == {
        "digest": str,
        "entries": int,
        "newest": int,
        "newest_path": str,
        "complete": bool,
        "incomplete_because": str,
    }


def test_layers_are_the_directories_that_hold_the_files(tmp_path: t.Any) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    top = str(tmp_path)
    assert (
        _rootfs.layers(f"{top}/a") == _rootfs.layers(f"dir:{top}/a") == _rootfs.layers(f"btrfs:{top}/a") == [f"{top}/a"]
    )
    assert _rootfs.layers(f"overlay:{top}/a:{top}/b:{top}/c") == [f"{top}/c", f"{top}/b", f"{top}/a"]
    for spec in ("", f"loop:{top}/image", f"dir:{top}/none", "lvm:/dev/null", f"overlay:{top}/a:{top}/none"):
        assert _rootfs.layers(spec) == []


MOUNTINFO = (
    "31 1 0:30 / /proc rw - proc proc rw\n"
    "240 183 0:78 / / rw,relatime shared:93 - overlay /l rw,lowerdir=/l,upperdir=/c/up,workdir=/c/wo\\040rk,uuid=on\n"
)


def test_the_work_directory_of_an_overlay_is_read_from_the_root_mount() -> None:
    assert _rootfs.overlay_work(MOUNTINFO) == "/c/wo rk"


def test_another_root_has_no_work_directory() -> None:
    assert _rootfs.overlay_work("240 183 8:1 / / rw - ext4 /dev/sda rw\n1 2 0:3 / /x rw - overlay o workdir=/w\n") == ""


@pytest.mark.parametrize("spec", ["overlay:/l2:/l1:/c/up", "overlayfs:/l2:/l1:/c/up"])
def test_an_overlay_is_mounted_with_the_directories_of_the_configuration(spec: str) -> None:
    assert _rootfs.overlay_options(spec, "/c/work") == "lowerdir=/l2:/l1,upperdir=/c/up,workdir=/c/work"


@pytest.mark.parametrize("spec", ["dir:/c/rootfs", "/c/rootfs", "loop:/c/rootdev"])
def test_what_is_no_overlay_needs_no_options(spec: str) -> None:
    assert _rootfs.overlay_options(spec, "") == ""


@pytest.mark.parametrize("work", ["", "work", "/etc", "/c/work,lowerdir=/etc", "/c/a\\:b", "/c/up/work"])
def test_an_image_cannot_have_something_else_mounted(work: str) -> None:
    with pytest.raises(StasisError, match="cannot be mounted"):
        _rootfs.overlay_options("overlay:/l:/c/up", work)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight's pure check of mounts and cgroups, on what real containers said and what cannot be made everywhere."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.stasis.lxc.plugins.module_utils import _preflight_mounts, _proc
from ansible_collections.stasis.lxc.plugins.module_utils._findings import Finding
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Descriptor
from ansible_collections.stasis.lxc.tests.unit.support.facts import INIT, INSIDE, OWN, facts, text, words


def mounts(
    name_or_lines: str, mapped: t.Container[str] = (), enabled: t.Container[str] = (), **changes: t.Any
) -> list[Finding]:
    given = text(name_or_lines) if name_or_lines.endswith("mountinfo") else ROOT + name_or_lines
    host = changes.pop("host", text("ordinary/host_mountinfo"))
    found = facts(mounts=tuple(_proc.mounts(given)), host_mounts=tuple(_proc.mounts(host)), **changes)
    return _preflight_mounts.check(found, mapped, enabled)


ROOT = "92 68 254:0 /var/lib/lxc/web1/rootfs / rw shared:1 - ext4 /dev/vda rw\n"
LXCFS = "300 92 0:70 /proc/cpuinfo /proc/cpuinfo rw - fuse.lxcfs lxcfs rw,user_id=0\n"
LXCFS_HOST = "80 27 0:70 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw,user_id=0\n"


def test_mounts_of_an_ordinary_container() -> None:
    assert mounts("ordinary/mountinfo") == []


def test_terminals_of_lxc_that_are_mounted_are_told_to_criu() -> None:
    assert mounts("terminals/mountinfo", mapped={"dev/tty1"}) == []


def test_part_of_a_file_system_that_is_mounted_nowhere() -> None:
    [one] = mounts("bind-orphan/mountinfo")
    assert (one.id, one.subject) == ("mount", "/srv")
    assert mounts("bind-orphan/mountinfo", mapped={"srv"}) == []


def test_lxcfs_is_found_on_the_host() -> None:
    assert mounts(LXCFS, host=LXCFS_HOST) == []
    assert mounts(LXCFS, mapped={"proc/cpuinfo"}, host="") == []
    assert words(mounts(LXCFS, host="")) == [("mount", "blocks")]
    assert words(mounts(LXCFS, host=LXCFS_HOST.replace("0:70", "0:71"))) == [("mount", "blocks")]


def test_fuse_of_its_own() -> None:
    assert words(mounts("300 92 0:70 / /mnt rw - fuse.sshfs me@there rw", host="")) == [("mount", "blocks")]


def test_file_systems_that_criu_does_not_know() -> None:
    line = "300 92 0:70 / /mnt rw - ramfs x rw"
    assert words(mounts(line)) == [("mount", "blocks")]
    assert mounts(line, enabled={"ramfs"}) == []
    assert mounts("300 92 8:1 / /mnt rw - ext4 /dev/sda1 rw", host="40 27 8:1 / /data rw - ext4 /dev/sda1 rw") == []


def test_mount_of_a_part_of_the_host() -> None:
    line = "300 92 254:0 /srv/data /data rw - ext4 /dev/vda rw"
    assert mounts(line) == []
    assert words(mounts(line, host="")) == [("mount", "blocks")]
    inside = "300 92 254:0 /var/lib/lxc/web1/rootfs/srv /data rw - ext4 /dev/vda rw"
    assert mounts(inside, host="") == []


def test_what_must_be_empty() -> None:
    line = "300 92 0:70 / /dev/mqueue rw - mqueue x rw"
    assert mounts(line) == []
    assert words(mounts(line, occupied=frozenset(("/dev/mqueue",)))) == [("mount", "blocks")]


def test_automount_points() -> None:
    inode = next(
        word.partition("=")[2]
        for word in text("autofs/mountinfo").replace(",", " ").split()
        if word.startswith("pipe_ino=")
    )
    writing = Descriptor(4, f"pipe:[{inode}]", text("autofs/fdinfo_4"))
    reading = Descriptor(3, f"pipe:[{inode}]", "flags:\t040000\n")
    init = replace(INIT, descriptors=(reading, writing))
    assert words(mounts("autofs/mountinfo", tasks=(init,))) == [("autofs", "may fail")]
    init = replace(INIT, descriptors=(writing,))
    assert words(mounts("autofs/mountinfo", tasks=(init,))) == [("autofs", "blocks")]


def test_peer_group_that_is_not_in_the_container() -> None:
    line = "300 92 0:70 / /mnt rw master:77 - tmpfs x rw"
    assert words(mounts(line)) == [("mount-sharing", "blocks")]
    assert mounts(line + "\n301 92 0:71 / /run rw shared:77 - tmpfs y rw") == []
    assert mounts(line, host="40 27 0:70 / /data rw shared:77 - tmpfs x rw") == []
    assert mounts(line, mapped={"mnt"}) == []


def test_cgroups_in_a_namespace_of_their_own_and_not() -> None:
    line = "300 92 0:40 /lxc.payload.web1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    host = "41 27 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    assert mounts(line, host="") == []
    assert mounts(line, host=host, own_namespaces={**OWN, "cgroup": INSIDE["cgroup"]}) == []


def test_names_that_criu_cannot_read() -> None:
    line = "300 92 0:70 / /mnt/{} rw - tmpfs x rw\n"
    for name in ("a\rb", "a\vb", "a\fb", "a\\012b"):
        [one] = mounts(line.format(name))
        assert (one.severity, one.subject) == ("blocks", "/mnt/" + name.replace("\\012", "\n"))
    for name in ("a\\040b", "a\\011b", "a\\134b", "a#b", "a\x1b\udcffb", "a\u2028b"):
        assert mounts(line.format(name)) == []


RUN = "310 92 0:80 / /run rw shared:9 - tmpfs x rw\n"


def nested(*lines: str, host: str = "") -> dict[str, str]:
    spaces = {f"mnt:[{number}]": tuple(_proc.mounts(text)) for number, text in enumerate(lines)}
    found = facts(mounts=tuple(_proc.mounts(ROOT + RUN)), host_mounts=tuple(_proc.mounts(host)), nested_mounts=spaces)
    return _preflight_mounts.unrestorable(found)


def test_mount_namespaces_whose_mounts_share_with_other_directories() -> None:
    first = "400 1 0:80 / /run rw shared:10 master:9 - tmpfs x rw\n401 1 0:80 /a /srv rw master:9 - tmpfs x rw\n"
    second = first.replace("shared:10", "shared:11").replace("/a /srv", "/b /mnt")
    assert nested(first, second) == {"mnt:[0]": "/srv", "mnt:[1]": "/mnt"}
    assert nested(first) == {}
    # One has a root above the other's, or both the same.
    assert nested(first, second.replace("/b ", "/a/b ")) == {}
    assert nested(first, second.replace("/b ", "/a ")) == {}
    assert nested(first, second.replace("shared:11 ", "")) == {}
    assert (
        nested(first, second.replace(" master:9 - tmpfs x rw\n401", " - tmpfs x rw\n401").replace("rw master:9", "rw"))
        == {}
    )


def test_mounts_that_the_dump_unmounts_or_the_host_has_are_no_trouble() -> None:
    one = "401 1 0:80 /{} /run/systemd/incoming rw master:9 - tmpfs x rw\n"
    assert nested(one.format("a"), one.format("b")) == {}
    other = one.replace("/run/systemd/incoming", "/srv")
    assert nested(other.format("a"), other.format("b"), host="20 1 0:80 / /x rw shared:9 - tmpfs x rw\n") == {}

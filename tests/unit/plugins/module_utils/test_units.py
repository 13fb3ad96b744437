# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _units
from ansible_collections.stasis.lxc.plugins.module_utils._tree import Tree
from ansible_collections.stasis.lxc.plugins.module_utils._units import Assignment, Unit, Units
from ansible_collections.stasis.lxc.tests.unit.support import root as roots
from ansible_collections.stasis.lxc.tests.unit.support.each import each

ETC = "etc/systemd/system"


@pytest.fixture
def root(safe_dir: str) -> str:
    return roots.make(f"{safe_dir}/rootfs")


@pytest.fixture
def units(root: str) -> t.Iterator[t.Callable[[], Units]]:
    tree = Tree(root)
    yield lambda: Units(tree)
    tree.close()


def loaded(units: t.Callable[[], Units], name: str) -> Unit:
    found = units().load(name)
    assert found is not None, name
    return found


def reached(units: t.Callable[[], Units], *also: str) -> set[str]:
    return {unit.name for unit in units().reached(also)}


@each(
    ("text", "found"),
    [
        ("", []),
        ("# c\n; c\n\n[Service]\nA=1\n", [("Service", "A", "1")]),
        ("[Service]\n  A = 1 2 \r\n", [("Service", "A", "1 2")]),
        ("[Service]\nA=1 \\\n  2\nB=\n", [("Service", "A", "1 2"), ("Service", "B", "")]),
        ("[Service]\nA=1 \\\n# between\n  2\n", [("Service", "A", "1 2")]),
        ("[Service]\nA=1 \\\n\nB=2\n", [("Service", "A", "1"), ("Service", "B", "2")]),
        ("[Service]\nA=1\\\\\nB=2\\", [("Service", "A", "1\\\\"), ("Service", "B", "2")]),
        ("A=1\n[X\nnonsense\n[Unit]\nA=b=c\n", [("", "A", "1"), ("Unit", "A", "b=c")]),
        ("[Unit]\nA=x\x0cB=y\n", [("Unit", "A", "x\x0cB=y")]),
    ],
)
def test_unit_files_are_read_as_systemd_reads_them(text: str, found: list[tuple[str, str, str]]) -> None:
    assert _units.parse(text, "s") == [Assignment(*one, "s") for one in found]


def test_what_a_boot_starts_is_reached_and_what_is_not_enabled_is_not(units: t.Callable[[], Units]) -> None:
    found = reached(units)
    assert {"systemd-logind.service", "plain.service", "hello.service", "nightly.service"} <= found
    assert "console-getty.service" in found, "systemd-getty-generator starts it in a container"
    assert "off.service" not in found


def test_what_runs_is_reached_whether_enabled_or_not(units: t.Callable[[], Units]) -> None:
    assert "off.service" in reached(units, "off.service", "none.service", "../etc/passwd", "x/y.service")


def test_a_service_started_over_the_bus_is_reached_by_its_alias(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "who.service", "[Service]\nPrivateUsers=yes\n")
    roots.link(root, f"{ETC}/dbus-who.service", f"/{roots.UNITS}/who.service")
    roots.unit(
        root, "who.service", "[D-BUS Service]\nSystemdService=dbus-who.service\n", "usr/share/dbus-1/system-services"
    )
    assert "who.service" in reached(units)


def test_a_template_is_reached_by_its_instance(units: t.Callable[[], Units], root: str) -> None:
    assert "getty@.service" not in reached(units), "nothing pulls getty.target in yet"
    roots.unit(root, "multi-user.target", "[Unit]\nWants=getty.target\n")
    roots.unit(root, "getty.target", "[Unit]\n")
    assert "getty@.service" in reached(units)


def test_sockets_name_their_service(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "hello.socket", "[Socket]\nAccept=yes\n")
    roots.unit(root, "hello@.service", "[Service]\n")
    assert "hello@.service" in reached(units)
    roots.unit(root, "hello.socket", "[Socket]\nService=plain.service\n")
    assert {"hello.service", "hello@.service"} & reached(units) == set()


def test_slices_of_a_service_and_those_above_are_reached(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "plain.service", "[Service]\nSlice=a-b.slice\n")
    assert {"a-b.slice", "a.slice", "-.slice", "system.slice"} <= reached(units)


def test_a_unit_that_is_masked_is_not_there(root: str, units: t.Callable[[], Units]) -> None:
    roots.link(root, f"{ETC}/systemd-logind.service", "/dev/null")
    roots.unit(root, "plain.service", "", ETC)
    assert units().load("systemd-logind.service") is units().load("plain.service") is None
    assert {"systemd-logind.service", "plain.service"} & reached(units) == set()


def test_a_unit_in_etc_takes_the_place_of_the_distributions(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "plain.service", "[Service]\nProtectClock=yes\n", ETC)
    found = loaded(units, "plain.service")
    assert (found.path, found.word("ProtectClock")) == (f"{ETC}/plain.service", "yes")


def test_lib_that_is_a_link_is_not_looked_at_twice(units: t.Callable[[], Units]) -> None:
    assert loaded(units, "systemd-logind.service").path == f"{roots.UNITS}/systemd-logind.service"


def test_lib_of_a_root_without_merged_usr_is_looked_at(safe_dir: str) -> None:
    roots.unit(f"{safe_dir}/old", "a.service", "[Service]\n", "lib/systemd/system")
    tree = Tree(f"{safe_dir}/old")
    found = Units(tree).load("a.service")
    tree.close()
    assert found is not None and found.path == "lib/systemd/system/a.service"


def test_drop_ins_count_in_the_order_of_their_names_wherever_they_are(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "plain.service.d/50-b.conf", "[Service]\nX=50\n")
    roots.unit(root, "plain.service.d/10-a.conf", "[Service]\nX=10\n", ETC)
    roots.unit(root, "service.d/30-all.conf", "[Service]\nX=30\n", ETC)
    roots.unit(root, "plain.service.d/README", "[Service]\nX=no\n", ETC)
    found = loaded(units, "plain.service")
    assert [line.value for line in found.values("X")] == ["10", "30", "50"]
    assert found.word("X") == "50"


def test_a_drop_in_hides_those_of_its_name_that_come_later(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "plain.service.d/a.conf", "[Service]\nX=distribution\n")
    roots.unit(root, "service.d/a.conf", "[Service]\nX=all\n", ETC)
    roots.link(root, f"{ETC}/plain.service.d/a.conf", "/dev/null")
    assert loaded(units, "plain.service").word("X") == ""


def test_drop_ins_of_alias_template_and_prefix_count(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "dbus-org.freedesktop.login1.service.d/a.conf", "[Service]\nA=1\n", ETC)
    roots.unit(root, "systemd-.service.d/b.conf", "[Service]\nB=1\n", ETC)
    roots.unit(root, "getty@.service.d/c.conf", "[Service]\nC=1\n", ETC)
    logind = loaded(units, "dbus-org.freedesktop.login1.service")
    assert (logind.name, logind.word("A"), logind.word("B")) == ("systemd-logind.service", "1", "1")
    assert loaded(units, "getty@tty1.service").word("C") == "1"


def test_an_empty_value_clears_what_was_there(root: str, units: t.Callable[[], Units]) -> None:
    roots.unit(root, "systemd-logind.service.d/a.conf", "[Service]\nDeviceAllow=\nProtectClock=\n", ETC)
    found = loaded(units, "systemd-logind.service")
    assert (found.values("DeviceAllow"), found.word("ProtectClock")) == ([], "")


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("usr/lib/systemd/libsystemd-shared-249.so", 249),
        ("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so", 257),
        ("usr/lib/systemd/libsystemd-core-257.so", 0),
    ],
)
def test_version_of_systemd_is_told_by_its_library(
    root: str, units: t.Callable[[], Units], path: str, version: int
) -> None:
    roots.unit(root, os.path.basename(path), "", os.path.dirname(path))
    assert units().version == version


def test_links_that_go_round_end(root: str, units: t.Callable[[], Units]) -> None:
    roots.link(root, f"{ETC}/a.service", "b.service")
    roots.link(root, f"{ETC}/b.service", "a.service")
    assert units().load("a.service") is None


def test_a_root_without_systemd_has_no_units(safe_dir: str) -> None:
    os.makedirs(f"{safe_dir}/busybox/etc")
    tree = Tree(f"{safe_dir}/busybox")
    found = Units(tree)
    assert not found.any
    assert [unit.name for unit in found.reached() if unit.path] == []
    tree.close()


def test_a_drop_in_can_be_added_replaced_and_taken_away() -> None:
    unit = Unit("a.service", "p", (Assignment("Service", "X", "1", "p"),))
    one = unit.with_drop_in("m.conf", [Assignment("Service", "X", "2", "m")])
    two = one.with_drop_in("a.conf", [Assignment("Service", "X", "3", "a")])
    assert (one.word("X"), two.word("X")) == ("2", "2")
    assert two.with_drop_in("m.conf", []).word("X") == "3"
    assert two.without("a.conf").without("m.conf") == unit

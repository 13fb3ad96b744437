# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _compatibility
from ansible_collections.stasis.lxc.plugins.module_utils._compatibility import REFUSE, WARN, FileState, Here
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.make import manifest

V1 = {"controllers": ["memory"], "mount": "/sys/fs/cgroup/memory", "path": "/lxc.payload.web1", "unified": False}
V2 = {"controllers": ["cpu", "memory"], "mount": "/sys/fs/cgroup", "path": "/lxc.payload.web1", "unified": True}
NAMED = {**V2, "controllers": []}
HERE = Here("x86_64", {"kernel": "6.18", "criu": "4.2.1", "lxc": "5.0.2"}, True, frozenset(), "none")
HYBRID = replace(HERE, cgroups=frozenset({"memory", "cpu"}))


def compare(here: Here = HERE, *, options: dict[str, str] | None = None, **changes: t.Any) -> list[tuple[str, str]]:
    """Severity and text of each difference, and that each has a remedy and is one line."""
    found = _compatibility.compare(manifest(**changes), here, **(options or {}))
    assert all(one.remedy and "\n" not in one.what + one.remedy for one in found)
    assert [one.severity for one in found] == sorted(one.severity for one in found)
    return [(one.severity, one.what) for one in found]


def versions(**changes: str) -> Here:
    return replace(HERE, versions={**HERE.versions, **changes})


def test_same_host_differs_in_nothing() -> None:
    assert compare() == []
    full = {"cgroups": [V2], "lsm": {"kind": "none", "label": ""}, "open_files": {"/bin/sh": [1, 2, 3]}}
    assert compare(replace(HERE, files={"/bin/sh": FileState(1, 2, 3)}), **full) == []


def test_other_architecture_is_refused_and_nothing_else_is_said() -> None:
    [(severity, what)] = compare(replace(versions(criu="3.0"), architecture="aarch64"))
    assert (severity, what) == (REFUSE, "The checkpoint was made on x86_64, and this host is aarch64.")


@each(
    ("here", "outcome"),
    [
        (versions(criu="4.2.1"), []),
        (versions(criu="4.2.2"), []),
        (versions(criu="4.10"), []),
        (versions(criu="10.0"), []),
        (versions(criu="4.2"), [REFUSE]),
        (versions(criu="3.17.1"), [REFUSE]),
        (versions(kernel="6.18.99"), []),
        (versions(kernel="7.0"), []),
        (versions(kernel="6.9"), [WARN]),
        (versions(kernel="5.18"), [WARN]),
        (versions(lxc="5.0.0"), []),
        (versions(lxc="6.0.4"), []),
        (versions(lxc="4.0.6"), [WARN]),
        (versions(lxc=""), []),
        (versions(criu="4.1", kernel="6.1", lxc="4.0"), [REFUSE, WARN, WARN]),
    ],
)
def test_older_programs(here: Here, outcome: list[str]) -> None:
    assert [severity for severity, _what in compare(here)] == outcome


def test_only_what_may_work_all_the_same_can_be_forced() -> None:
    here = replace(
        versions(criu="4.1"),
        cpu_errors=("Error: CPU.",),
        lsm="selinux",
        files={"/bin/sh": None},
    )
    about = manifest(cgroups=[V1], lsm={"kind": "apparmor", "label": "web"}, open_files={"/bin/sh": [1, 2, 3]})
    found = [one for one in _compatibility.compare(about, here) if one.severity == REFUSE]
    assert [one.forced for one in found] == [True, True, True, False, False]


def test_cpu_that_lacks_something_is_refused_with_what_criu_says() -> None:
    [(severity, what)] = compare(replace(HERE, cpu_errors=("Error (x.c:1): no avx512",)), cpu="A CPU")
    assert severity == REFUSE
    assert "no avx512" in what
    assert "A CPU" in what


@pytest.mark.parametrize(
    ("cgroups", "here", "outcome"),
    [
        ([], HERE, []),
        ([V1, NAMED], HYBRID, []),
        ([V1], replace(HYBRID, has_v2=False), []),
        ([V2], HERE, []),
        ([V1], HERE, [REFUSE]),
        ([V2], replace(HYBRID, has_v2=False), [REFUSE, WARN]),
        ([V1, NAMED], replace(HYBRID, has_v2=False), [REFUSE]),
        ([V2], HYBRID, [WARN]),
    ],
    ids=["none", "hybrid", "v1", "v2", "v1 to v2", "v2 to v1", "hybrid to v1", "v2 to hybrid"],
)
def test_cgroup_layouts(cgroups: list[dict[str, t.Any]], here: Here, outcome: list[str]) -> None:
    assert [severity for severity, _what in compare(here, cgroups=cgroups)] == outcome
    ignored = compare(here, cgroups=cgroups, options={"manage_cgroups": "ignore"})
    assert REFUSE not in [severity for severity, _what in ignored]


def test_the_remedy_names_manage_cgroups_only_where_it_is_not_set_yet() -> None:
    def remedies(**options: str) -> str:
        here = replace(HERE, has_v2=False)
        return " ".join(one.remedy for one in _compatibility.compare(manifest(cgroups=[V1, V2]), here, **options))

    assert "manage_cgroups" in remedies()
    assert "manage_cgroups" not in remedies(manage_cgroups="ignore")


@pytest.mark.parametrize(
    ("kind", "label", "here", "profile", "outcome"),
    [
        ("none", "", "none", "", []),
        ("apparmor", "web", "apparmor", "", []),
        ("none", "", "apparmor", "", [WARN]),
        ("apparmor", "unconfined", "none", "", []),
        ("apparmor", "web (enforce)", "none", "", [REFUSE]),
        ("apparmor", "unconfined", "none", "apparmor:x", [REFUSE]),
        ("selinux", "u:r:t:s0", "apparmor", "", [REFUSE]),
    ],
)
def test_security_modules(kind: str, label: str, here: str, profile: str, outcome: list[str]) -> None:
    found = compare(replace(HERE, lsm=here), lsm={"kind": kind, "label": label}, options={"lsm_profile": profile})
    assert [severity for severity, _what in found] == outcome


@pytest.mark.parametrize(("chosen", "outcome"), [("", [REFUSE]), ("apparmor:other", [])])
def test_profile_that_is_not_loaded_is_refused_unless_another_is_chosen(chosen: str, outcome: list[str]) -> None:
    here = replace(HERE, lsm="apparmor", missing_profile="web")
    found = compare(here, lsm={"kind": "apparmor", "label": "web (enforce)"}, options={"lsm_profile": chosen})
    assert [severity for severity, _what in found] == outcome
    assert all("web, which is not loaded here" in what for _severity, what in found)


def test_manifest_that_does_not_say_is_taken_for_the_same() -> None:
    assert compare(replace(HERE, lsm="apparmor", addresses={"10.0.0.1": "br0"}), cgroups=None) == []


def test_address_that_the_host_has_is_a_warning() -> None:
    here = replace(HERE, addresses={"10.0.0.2": "br0", "10.0.0.1": "br0"})
    found = compare(here, addresses=[{"nic": "eth0", "address": "10.0.0.2"}, {"nic": "eth1", "address": "10.0.0.3"}])
    assert [severity for severity, _what in found] == [WARN]
    assert "10.0.0.2 of eth0 is an address of this host too (br0)" in found[0][1]


FILES = {"/bin/sh": [100, 0o100755, 7], "/var/log/x": [-1, 0o100644, -1], "/etc/hosts": [9, 0o100644, 7, 1, 5]}


@each(
    ("files", "outcome", "words"),
    [
        ({}, [], ""),
        ({"/bin/sh": FileState(100, 0o100755, 7), "/var/log/x": FileState(9, 0o100644, 9)}, [], ""),
        ({"/bin/sh": FileState(101, 0o100755, 7)}, [REFUSE], "/bin/sh has 101 bytes, and had 100."),
        ({"/bin/sh": FileState(100, 0o100700, 7)}, [REFUSE], "/bin/sh has the mode 100700, and had 100755."),
        ({"/bin/sh": None}, [REFUSE], "/bin/sh is not there."),
        ({"/var/log/x": None}, [REFUSE], "/var/log/x is not there."),
        ({"/bin/sh": FileState(100, 0o100755, 8)}, [WARN], "written since the dump: /bin/sh."),
        ({"/bin/sh": FileState(100, 0o100755, 7, 1, 5)}, [], "a checkpoint that has no inodes"),
        ({"/etc/hosts": FileState(9, 0o100644, 7, 1, 5)}, [], "the same file"),
        ({"/etc/hosts": FileState(9, 0o100644, 7, 1, 6)}, [WARN], "of the same size and mode: /etc/hosts."),
        ({"/etc/hosts": FileState(9, 0o100644, 7, 2, 6)}, [], "another device"),
    ],
)
def test_files_that_criu_will_ask_for(files: dict[str, FileState | None], outcome: list[str], words: str) -> None:
    found = compare(replace(HERE, files=files), open_files=FILES)
    assert [severity for severity, _what in found] == outcome
    assert not found or words in found[0][1]


def test_many_files_make_one_line() -> None:
    many = {f"/f{number}": [1, 2, 3] for number in range(9)}
    [(severity, what)] = compare(replace(HERE, files=dict.fromkeys(many)), open_files=many)
    assert severity == REFUSE
    assert what.endswith("/f0 is not there. /f1 is not there. /f2 is not there. and 6 more")

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight as a whole: the container's own checks, the order of findings, the table, and the refusal."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _autostart, _findings, _preflight, _preflight_container
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import CriuOptions, MountMap
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._findings import Facts, Finding, Options
from ansible_collections.stasis.lxc.plugins.module_utils._host import Host
from ansible_collections.stasis.lxc.plugins.module_utils._lxc_config import LxcConfig
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic
from ansible_collections.stasis.lxc.plugins.module_utils._preflight_container import Memory, Space
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Task
from ansible_collections.stasis.lxc.tests.unit.support import make
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

HOST = Host(
    kernel="6.18.1",
    architecture="x86_64",
    cpu="",
    boot_id=make.BOOT,
    uptime=1.0,
    criu_path="/opt/criu/sbin/criu",
    criu_version="4.2",
    criu_git_id="",
    lxc_version="5.0.2",
    is_root=True,
)
MIB = 1 << 20


def words(found: t.Iterable[Finding]) -> list[tuple[str, str]]:
    return [(one.id, one.severity) for one in found]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"is_root": False}, [("not-root", "blocks")]),
        ({"criu_version": ""}, [("no-criu", "blocks")]),
        ({"criu_path": "", "criu_version": ""}, [("no-criu", "blocks")]),
        ({"criu_version": "3.17.1"}, [("old-criu", "blocks")]),
        ({"criu_version": "4.1.1"}, [("old-criu", "blocks")]),
        ({"criu_version": "4.1.1", "kernel": "6.12.48+deb13-amd64"}, []),
    ],
)
def test_host(changes: dict[str, t.Any], expected: list[tuple[str, str]]) -> None:
    assert words(_preflight_container.host_findings(replace(HOST, **changes))) == expected


def test_state() -> None:
    def state(word: str) -> str:
        found = _preflight_container.state_finding(make.container(word))
        return found.id if found else ""

    assert state("RUNNING") == ""
    assert state("FROZEN") == "frozen"
    assert state("STOPPED") == "not-running"


def container_words(given: Options | None = None, **changes: t.Any) -> list[tuple[str, str]]:
    return words(_preflight_container.container_findings(make.container(**changes), given or Options()))


def config(**entries: str) -> LxcConfig:
    return LxcConfig("/x", tuple((key.replace("_", "."), value) for key, value in entries.items()), "c1")


def test_ordinary_container_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_preflight_container.os.path, "isdir", lambda _path: True)
    assert container_words(Options(stop=True)) == []


def test_what_the_container_says_itself() -> None:
    stop = Options(stop=True)
    nic = Nic(0, "veth", "eth0", problems=("eth0 has a problem.", "eth0 has another."))
    assert container_words(nics=(nic,)) == [("nic", "blocks")] * 2
    outsider = (Process(7, 8, "bash"),)
    assert container_words(outsiders=outsider) == [("outsiders", "note")]
    assert container_words(stop, outsiders=outsider) == [("outsiders", "blocks")]
    assert container_words(ephemeral=True) == []
    assert container_words(stop, ephemeral=True) == [("ephemeral", "blocks")]
    starts = _autostart.Autostart(True, ())
    assert container_words(autostart=starts) == []
    assert container_words(stop, autostart=starts) == [("autostart", "blocks")]
    assert container_words(Options(stop=True, autostart="inhibit"), autostart=starts) == [("autostart", "note")]


@each(
    ("kernel", "space", "expected"),
    [
        ("6.18.1-x", Space(1, "ext4"), "note"),
        ("5.10.0-23", Space(1, "ext4"), "may fail"),
        ("5.12", Space(1, "ext4"), "note"),
        ("5.12", Space(1, "btrfs"), "may fail"),
        ("6.1.0", Space(1, "tmpfs"), "may fail"),
        ("6.3.0", Space(1, "tmpfs"), "note"),
        ("6.18.1", Space(1, "zfs"), "may fail"),
        ("6.18.1", Space(1, ""), "may fail"),
        ("6.18.1", None, "note"),
        ("5.10.0", None, "may fail"),
    ],
)
def test_user_namespace_needs_idmapped_mounts(kernel: str, space: Space | None, expected: str) -> None:
    inside = make.container(config=config(lxc_idmap="u 0 100000 65536"))
    found = _preflight_container.user_namespace_findings(inside, kernel, space)
    assert words(found) == [("user-namespace", expected)]
    assert _preflight_container.user_namespace_findings(make.container(), kernel, space) == []


@pytest.mark.parametrize(
    ("profile", "there", "expected"),
    [
        ("generated", True, [("apparmor", "note")]),
        ("lxc-container-default-cgns", True, [("apparmor", "note")]),
        ("unconfined", True, []),
        ("", True, []),
        ("generated", False, []),
    ],
)
def test_apparmor(monkeypatch: pytest.MonkeyPatch, profile: str, there: bool, expected: list[tuple[str, str]]) -> None:
    monkeypatch.setattr(_preflight_container.os.path, "isdir", lambda _path: there)
    found = config(lxc_apparmor_profile=profile) if profile else config()
    assert container_words(config=found) == expected


def test_directory_inside_the_container(safe_dir: str) -> None:
    inside = f"{make.LXC_PATH}/{make.NAME}/checkpoint"
    assert ("directory", "blocks") in container_words(Options(directory=inside))
    assert container_words(Options(directory=f"{safe_dir}/web1")) == []
    assert container_words(Options(directory="/tmp/web1")) == [("directory", "blocks")]


def room(memory: Memory) -> list[tuple[str, str]]:
    return words(_preflight_container.memory_findings(Facts((Task(100, 1, "init", "S"),)), memory, "web1"))


def test_memory_limit() -> None:
    assert room(Memory()) == []
    assert room(Memory(used=60 * MIB, limit=64 * MIB)) == []
    assert room(Memory(used=61 * MIB, limit=64 * MIB)) == [("memory-limit", "may fail")]
    assert room(Memory(used=70 * MIB, limit=64 * MIB)) == [("memory-limit", "may fail")]


# The whole


def finding(severity: str, subject: str = "app (pid 5, 2 inside), descriptor 3", word: str = "descriptor") -> Finding:
    return Finding(word, severity, subject, "It is so.", "Change it.")


def test_the_worst_comes_first_and_nothing_comes_twice() -> None:
    given = [finding("note"), finding("may fail"), finding("blocks"), finding("note")]
    assert [one.severity for one in _preflight._ordered(given)] == ["blocks", "may fail", "note"]


def test_a_long_series_is_cut_and_says_so() -> None:
    given = [finding("blocks", f"app (pid {pid}, {pid} inside)") for pid in range(100)]
    found = _preflight._ordered([*given, finding("blocks", "other (pid 7, 7 inside)")])
    assert len(found) == 6
    assert found[4].subject.endswith("and 95 more like it")
    assert found[5].subject == "other (pid 7, 7 inside)"


def test_verdict() -> None:
    assert _findings.verdict([]) == "ready"
    assert _findings.verdict([finding("note")]) == "ready"
    assert _findings.verdict([finding("note"), finding("may fail")]) == "risky"
    assert _findings.verdict([finding("may fail"), finding("blocks")]) == "blocked"


def test_refusal_names_the_first_that_blocks_and_carries_all() -> None:
    container = make.container()
    _preflight.refuse(container, [finding("may fail")])
    with pytest.raises(StasisError) as caught:
        _preflight.refuse(container, [finding("blocks"), finding("blocks", "x (pid 1, 1 inside)"), finding("note")])
    message = caught.value.message
    assert "app (pid 5, 2 inside), descriptor 3: It is so." in message
    assert "1 more finding of this kind" in message
    assert message.endswith("Nothing was frozen. Change it. With preflight: warn, CRIU tries all the same.")
    assert len(caught.value.data["findings"]) == 3


def test_table() -> None:
    each = {"id": "descriptor", "severity": "blocks", "subject": "app", "what": "It is so.", "remedy": "Change it."}
    looked = [
        {
            "name": "web1",
            "verdict": "blocked",
            "counts": {"blocks": 1, "may fail": 0, "loses": 0, "note": 2},
            "findings": [each],
        },
        {
            "name": "db",
            "verdict": "ready",
            "counts": {"blocks": 0, "may fail": 0, "loses": 0, "note": 0},
            "findings": [],
        },
    ]
    assert _preflight.summary(looked, [{"container": "web1", **each}]) == [
        "web1  blocked  1 blocks, 2 note",
        "    blocks    descriptor              app: It is so. Change it.",
        "db    ready    nothing found",
    ]


def test_table_of_a_host_where_nothing_could_be_looked_at() -> None:
    each = {"id": "not-root", "severity": "blocks", "subject": "user", "what": "It is so.", "remedy": "Change it."}
    [line] = _preflight.summary([], [{"container": "", **each}])
    assert line.startswith("blocks    not-root")


def params(**changes: t.Any) -> dict[str, t.Any]:
    spec = _preflight.argument_spec()
    return {**{name: one.get("default") for name, one in spec.items()}, **changes}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": ["../x"]}, "container name"),
        ({"lxc_path": "relative"}, "lxc_path"),
        ({"directory": "/with space"}, "directory"),
        ({"ghost_limit": -1}, "ghost_limit"),
    ],
)
def test_hostile_parameters(monkeypatch: pytest.MonkeyPatch, changes: dict[str, t.Any], word: str) -> None:
    monkeypatch.setattr(_preflight, "_look_at_host", lambda _path, _runner: (HOST, []))
    runner = StrictRunner()
    with pytest.raises(StasisError, match=word):
        _preflight.run(params(**changes), runner)


def test_user_who_is_not_root_gets_the_finding_and_no_container_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(HOST, is_root=False)
    found = _preflight_container.host_findings(other)
    monkeypatch.setattr(_preflight, "_look_at_host", lambda _path, _runner: (other, found))
    report = _preflight.run(params(), StrictRunner())
    assert report.verdict == "blocked"
    assert [one["id"] for one in report.findings] == ["not-root"]
    assert report.counts["blocks"] == 1
    assert report.containers == []


def test_running_containers_are_those_with_a_configuration(safe_dir: str) -> None:
    for name in ("b", "a"):
        make.write(f"{safe_dir}/{name}/config", "")
    runner = StrictRunner(Call(["lxc-ls", "-P", safe_dir, "-1", "--active"], stdout="b\na\nnested/x\n", timeout=60))
    assert _preflight.running(runner, safe_dir) == ["a", "b"]
    runner.assert_done()


def test_lxc_ls_that_fails_is_said() -> None:
    runner = StrictRunner(Call(["lxc-ls", "-P", "/x", "-1", "--active"], rc=1, stderr="no such path"))
    with pytest.raises(StasisError, match="no such path"):
        _preflight.running(runner, "/x")


def test_container_that_ends_while_it_is_looked_at_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_runner: t.Any, name: str, _lxc_path: str) -> t.Any:
        raise StasisError(f"{name} is gone.")

    monkeypatch.setattr(_preflight, "_look_at_host", lambda _path, _runner: (HOST, []))
    monkeypatch.setattr(_preflight, "running", lambda _runner, _path: ["one", "two"])
    monkeypatch.setattr(_preflight._container, "observe", gone)
    report = _preflight.run(params(), StrictRunner())
    assert [one["findings"][0]["what"] for one in report.containers] == ["one is gone.", "two is gone."]
    assert report.verdict == "risky"
    with pytest.raises(StasisError, match="one is gone"):
        _preflight.run(params(name=["one"]), StrictRunner())


def test_mounts_that_criu_is_told_of() -> None:
    mounts = (MountMap("srv/data", "/srv/data"),)
    given = Options(criu=CriuOptions(external_mounts=(MountMap("mnt", "/x"),), criu_args=("--skip-mnt", "/skipped")))
    assert _preflight._mapped(make.container(mounts=mounts), given) == {"srv/data", "mnt", "skipped"}
    assert _preflight._mapped(make.container(terminals=("dev/console", "dev/tty1")), Options()) == {
        "dev/console",
        "dev/tty1",
    }


def test_sysctls_of_the_configuration_that_nobody_sets_again() -> None:
    given = config(lxc_sysctl_net_core_somaxconn="777")
    assert container_words(config=given) == [("sysctl", "loses")]
    assert container_words(config=config(lxc_sysctl_net_ipv4_conf_all_forwarding="1")) == []
    assert container_words(config=config(lxc_sysctl_kernel_shmmax="1")) == []

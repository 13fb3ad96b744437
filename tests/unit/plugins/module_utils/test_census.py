# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is taken of a census, and what becomes of it."""

from __future__ import annotations

import os
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _census,
    _census_compare,
    _census_network,
    _census_tasks,
    _iproute,
    _proc,
)
from ansible_collections.stasis.lxc.plugins.module_utils._census_compare import Subject
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._runner import SystemRunner
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import StrictRunner

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max nice priority         0                    0
"""
TIMERS = """ID: 0
signal: 14/0000000000000000
notify: signal/pid.4711
ClockID: 1
ID: 3
signal: 34/00007f0000000000
notify: signal/tid.4712
ClockID: -37690
"""


def test_limits_are_both() -> None:
    assert _census_tasks.limits(LIMITS) == {
        "limit of cpu time": "unlimited unlimited",
        "limit of open files": "1024 524288",
        "limit of nice priority": "0 0",
    }


def test_timers_have_no_ids_of_the_host() -> None:
    assert _census_tasks.timers(TIMERS) == {
        "0": "signal 14, signal/pid, clock 1",
        "3": "signal 34, signal/tid, clock of a CPU time",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/lxc.payload.web-1/system.slice/a.service\n", "/system.slice/a.service"),
        ("4:memory:/lxc.payload.web\n0::/lxc.payload.web\n", "/"),
        ("0::/user.slice\n", ""),
        ("", ""),
    ],
)
def test_cgroup_is_below_the_containers(text: str, expected: str) -> None:
    assert _census_tasks.cgroup(text) == expected


def test_flags_of_a_descriptor() -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK
    assert _census_tasks.flags(f"{flags:o}") == ("read and write", "append, nonblocking")
    assert _census_tasks.flags("0") == ("read", "none")


@pytest.mark.parametrize(("text", "expected"), [("0-2,5\n", {0, 1, 2, 5}), ("", set()), ("3", {3})])
def test_list_of_processors(text: str, expected: set[int]) -> None:
    assert _census_tasks.cpus_of(text) == expected


def test_ids_are_those_inside() -> None:
    assert _census_tasks.inside({"NSpid": "4711\t20\t1"}, 1) == "20/1"


def test_system_v_objects() -> None:
    shm = "key shmid perms size cpid\n 0 5 1600 4096 4\n7 6 600 8192 4\n"
    assert _census_network.sysv(shm, 3) == {"5": "key 0, mode 1600, size 4096", "6": "key 7, mode 600, size 8192"}
    # How much is in a queue changes.
    assert _census_network.sysv("key msqid perms cbytes\n0 1 600 77\n", 0) == {"1": "key 0, mode 600"}
    assert _census_network.sysv("", 3) == {}


BATCH = """[{"ifname":"eth0","flags":["UP","LOWER_UP"],"mtu":1500,"txqlen":1000,"address":"02:00:00:00:00:01","group":"default",
"addr_info":[{"local":"10.1.1.2","prefixlen":24,"valid_life_time":4294967295},{"local":"10.1.1.3","prefixlen":24,"dynamic":true}]}]
[{"dst":"10.1.1.0/24","dev":"eth0","protocol":"kernel"},{"dst":"default","gateway":"10.1.1.1","dev":"eth0","protocol":"ra"},
{"type":"local","dst":"::1","dev":"lo","table":"local"},{"dst":"10.89.0.0/16","gateway":"10.1.1.7","dev":"eth0","table":"123",
"flags":["linkdown"]}]
[{"priority":0,"src":"all","table":"local"}]
[{"dst":"10.1.1.77","dev":"eth0","lladdr":"02:00:00:00:00:77","state":["PERMANENT"]}]
[{"dst":"10.1.1.8","dev":"eth0"}]
[{"id":42,"gateway":"10.1.1.9","dev":"eth0","flags":[]}]
src 10.0.0.0/8 dst 10.1.0.0/16
\tdir out priority 0 ptype main
"""


def test_network_without_what_changes_by_itself() -> None:
    found, policies = _iproute.documents(BATCH)
    assert _census_network.network(found, [{"priority": 5, "src": "all"}], policies) == {
        "interface": {"eth0": "MTU 1500 queue length 1000 02:00:00:00:00:01 UP"},
        "address": {"10.1.1.2/24 on eth0": ""},
        "route": {"10.89.0.0/16 via 10.1.1.7 dev eth0 table 123": ""},
        "rule": {"priority 0 src all table local": "", "of IPv6, priority 5 src all": ""},
        "neighbour": {"10.1.1.77 at 02:00:00:00:00:77 on eth0": ""},
        "proxy": {"of 10.1.1.8 on eth0": ""},
        "nexthop": {"42": "dev eth0 gateway 10.1.1.9"},
        "xfrm policy": {"src 10.0.0.0/8 dst 10.1.0.0/16": ""},
    }


def test_batch_of_iproute2() -> None:
    text = """[{}]\n[{"a":"it\\'s"}, 5]\n[ ]\nsrc any\n"""
    assert _iproute.documents(text) == ([[], [{"a": "it's"}], []], "src any\n")
    assert _iproute.documents("") == ([], "")


def test_tables_of_nftables_are_hashed_one_by_one() -> None:
    listing = "# Warning: table ip nat is managed by iptables-nft, do not touch!\ntable ip nat {\n\tchain A {\n\t}\n}\ntable inet x {\n}\n"
    found = _census_network.tables(listing)
    assert list(found) == ["ip nat", "inet x"]
    assert all(value.startswith(_census_compare.DIGEST) for value in found.values())
    assert _census_network.tables(listing.replace("chain A", "chain B"))["ip nat"] != found["ip nat"]


def test_mounts_by_their_targets() -> None:
    text = (
        "71 1 0:50 / / rw,relatime shared:11 - ext4 /dev/a rw\n"
        "72 71 0:51 / /a rw master:3 - tmpfs none rw,size=1k\n"
        "73 72 0:52 / /a ro - tmpfs none rw\n"
        "74 71 0:53 / /b rw - autofs systemd-1 rw\n"
        "75 71 0:54 /3 /dev/console rw - devpts devpts rw\n"
        "76 71 0:54 / /dev/pts rw - devpts devpts rw\n"
    )
    assert _census._mounts(_proc.mounts(text)) == {
        "at /": "ext4, rw,relatime, shared",
        "at /a": "tmpfs, rw, slave",
        "at /a (2)": "tmpfs, ro, private",
        "at /dev/pts": "devpts, rw, private",
    }


@pytest.fixture
def alone() -> t.Iterator[subprocess.Popen[bytes]]:
    """A process in namespaces of its own, with a route and a sysctl."""
    script = (
        "ip link set lo up; ip route add 10.89.0.0/16 dev lo table 123; echo 55 >/proc/sys/net/ipv4/tcp_keepalive_time;"
        "echo ready; exec sleep 600"
    )
    process = subprocess.Popen(
        ["unshare", "--net", "--ipc", "--uts", "--mount", "sh", "-c", script], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    # Until it is what it stays.
    while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def test_two_looks_at_what_runs_are_the_same(alone: subprocess.Popen[bytes]) -> None:
    own = os.readlink("/proc/self/ns/net")
    first = _census.take(SystemRunner(), alone.pid)
    assert first.missing == []
    assert {"network", "IPC", "host name", "mounts", f"process {alone.pid}"} <= first.census.keys()
    assert "10.89.0.0/16 dev lo table 123 scope link" in first.census["network"].things["route"]
    assert first.census["network"].values["sysctl net.ipv4.tcp_keepalive_time"] == "55"
    assert first.census[f"process {alone.pid}"].name == "sleep"
    second = _census.take(SystemRunner(), alone.pid)
    assert _census_compare.compare(first.census, second.census) == []
    assert _census_compare.compare(second.census, first.census) == []
    assert os.readlink("/proc/thread-self/ns/net") == own


def test_each_thing_that_changes_outside_is_said(alone: subprocess.Popen[bytes]) -> None:
    first = _census.take(SystemRunner(), alone.pid)
    os.setpriority(os.PRIO_PROCESS, alone.pid, 7)
    Path(f"/proc/{alone.pid}/oom_score_adj").write_text("17")
    subprocess.run(["prlimit", "--pid", str(alone.pid), "--nofile=77:99"], check=True)
    enter = ["nsenter", f"--net=/proc/{alone.pid}/ns/net", f"--uts=/proc/{alone.pid}/ns/uts"]
    subprocess.run([*enter, "ip", "route", "flush", "table", "123"], check=True)
    subprocess.run([*enter, "hostname", "another"], check=True)
    lost = _census_compare.compare(first.census, _census.take(SystemRunner(), alone.pid).census)
    assert sorted(line.partition(": ")[2].split(" was ")[0] for line in lost) == sorted(
        [
            "nice value",
            "oom_score_adj",
            "limit of open files",
            "hostname",
            "route 10.89.0.0/16 dev lo table 123 scope link is gone.",
        ]
    )


def test_what_is_gone_is_missing_and_raises_nothing() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    taken = _census.take(StrictRunner(), process.pid)
    assert not [key for key in taken.census if key.startswith("process")]


def test_namespace_that_cannot_be_entered_is_missing(
    alone: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_named: object) -> t.NoReturn:
        raise StasisError("nsenter could not be started: No.")

    monkeypatch.setattr(_census_network, "look", refuse)
    warnings = _census.record(StrictRunner(), alone.pid, str(tmp_path))
    assert len(warnings) == 1
    assert "network: nsenter could not be started" in warnings[0]
    assert f"process {alone.pid}" in _census_compare.decode((tmp_path / "census.json").read_bytes())


def test_image_without_a_census_has_nothing_to_say(tmp_path: Path) -> None:
    assert _census.losses(StrictRunner(), 1, str(tmp_path)) == ([], [])


@pytest.mark.parametrize("content", [b"garbage", None])
def test_census_that_is_none_is_one_warning(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "census.json"
    if content is None:
        path.symlink_to("/dev/null")
    else:
        path.write_bytes(content)
    lost, warnings = _census.losses(StrictRunner(), 1, str(tmp_path))
    assert lost == []
    assert len(warnings) == 1
    assert "census.json" in warnings[0]


def test_many_losses_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"network": Subject("", {f"sysctl {number}": "1" for number in range(50)})}
    after = {"network": Subject("", {f"sysctl {number}": "2" for number in range(50)})}
    (tmp_path / "census.json").write_bytes(_census_compare.encode(before))
    monkeypatch.setattr(_census, "take", lambda _runner, _init: _census.Taken(after, []))
    lost, warnings = _census.losses(StrictRunner(), 1, str(tmp_path))
    assert (len(lost), len(warnings)) == (50, 21)
    assert "30 things more" in warnings[-1]


def test_census_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_census, "take", lambda _runner, _init: _census.Taken({}, []))
    warnings = _census.record(StrictRunner(), 1, str(tmp_path / "absent"))
    assert len(warnings) == 1
    assert "could not be written" in warnings[0]

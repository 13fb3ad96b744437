# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian containers with systemd, prepared and taken back by the module and the role; systemd itself says what it read."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import PREFIX, Container, run, until
from distribution import Distribution, everything
from module import Answer, Module
from preflight import Pre

pytestmark = pytest.mark.long

LOGIND = "systemd-logind.service"
GETTY = "console-getty.service"
PLACE = "etc/systemd/system"
FILE = "zz-stasis-checkpointable.conf"
# Each is in the way of every dump of a stock Debian container, whatever the host's cgroups.
ALWAYS = {
    (LOGIND, "hostname"),
    (LOGIND, "ip-filter"),
    ("systemd-journald.service", "ip-filter"),
    (GETTY, "console"),
}
# Every setting that the rules know, switched on, but for the few that systemd refuses together or on their own.
ALL_ON = """\
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sleep infinity
IPAddressDeny=any
IPAddressAllow=localhost
IPAccounting=yes
SocketBindAllow=tcp:80
SocketBindDeny=any
RestrictNetworkInterfaces=lo
DevicePolicy=closed
DeviceAllow=/dev/null rw
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
PrivateUsers=yes
PrivateIPC=yes
PrivateTmp=yes
ProtectSystem=strict
SystemCallFilter=@system-service @clock sethostname
SystemCallErrorNumber=EPERM
"""
# For a program of its own, as the module would do it on a host with cgroup v2 alone.
PLANNED = """\
import sys
from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointable_plan, _tree, _units
tree = _tree.Tree(sys.argv[1])
units = _units.Units(tree).reached(["stasis-all.service"])
plan = _checkpointable_plan.decide(units, _checkpointable_plan.Facts(), ("all",), {}, tree.missing)
for change in plan.files:
    tree.write(change.path, change.after)
"""


@pytest.fixture
def prepare(module: Module) -> Module:
    return dataclasses.replace(module, name="lxc_checkpointable")


@pytest.fixture
def preflight(module: Module) -> Module:
    return dataclasses.replace(module, name="lxc_checkpoint_preflight")


def debian(lxc: Factory, suite: str, **options: t.Any) -> Distribution:
    made = Distribution(f"{PREFIX}{suite}", lxc.session / "lxc")
    lxc.made.append(made)
    made.make(suite, **options)
    return made


def options(container: Distribution, **more: t.Any) -> dict[str, t.Any]:
    return {"name": container.name, "lxc_path": str(container.lxc_path), **more}


def good(answer: Answer) -> Answer:
    assert not answer.get("failed"), answer.get("msg")
    return answer


def relaxed(answer: Answer) -> set[tuple[str, str]]:
    return {(one["unit"], one["relaxation"]) for one in answer["relaxations"]}


def findings(preflight: Module, container: Distribution) -> set[tuple[str, str]]:
    """What blocks a checkpoint: the kind of finding and the program."""
    answer = good(preflight.run(**options(container, name=[container.name])))
    return {(one["id"], one["subject"].split(" ")[0]) for one in answer["findings"] if one["severity"] == "blocks"}


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_debian_is_prepared_and_taken_back_to_the_last_byte(lxc: Factory, prepare: Module, suite: str) -> None:
    container = debian(lxc, suite)
    before = everything(container.root)
    config = container.config.read_bytes()
    predicted = good(prepare.run(check_mode=True, **options(container)))
    assert everything(container.root) == before, "check mode wrote something"
    done = good(prepare.run(**options(container)))
    assert done == predicted
    assert done["changed"] and relaxed(done) >= ALWAYS and not done["blocked"]
    after = everything(container.root)
    assert {name for name in after if after[name] != before.get(name) and not (container.root / name).is_dir()} == {
        path.lstrip("/") for path in done["files"]
    }
    assert not good(prepare.run(**options(container)))["changed"]
    assert container.config.read_bytes() == config
    assert good(prepare.run(**options(container, state="absent")))["removed"] == done["files"]
    assert everything(container.root) == before
    assert not good(prepare.run(**options(container, state="absent")))["changed"]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_running_debian_loses_what_blocks_it_and_gets_it_back(
    lxc: Factory, prepare: Module, preflight: Module, suite: str
) -> None:
    container = debian(lxc, suite)
    container.start()
    health = container.health()
    until(lambda: ("terminal", "agetty") in findings(preflight, container), 30, "the getty is on the console")
    assert ("nested-uts-namespace", "systemd-logind") in findings(preflight, container)

    written = good(prepare.run(**options(container)))
    assert relaxed(written) >= ALWAYS
    assert {LOGIND, GETTY} <= set(written["restart_needed"]) and written["reload_needed"]
    assert ("nested-uts-namespace", "systemd-logind") in findings(preflight, container), "it has not taken effect yet"

    predicted = good(prepare.run(check_mode=True, **options(container, restart=True)))
    done = good(prepare.run(**options(container, restart=True)))
    assert predicted["changed"] and done["changed"] and not done["restart_needed"]
    assert set(done["restarted"]) == set(written["restart_needed"])
    assert not good(prepare.run(**options(container, restart=True)))["changed"]
    # dbus still runs as another user, which is the host's affair and not one of its settings.
    assert findings(preflight, container) == (set() if may_read_limits() else {("resource-capability", "dbus-daemon")})
    assert container.properties(LOGIND, "ProtectHostname", "ActiveState") == {
        "ProtectHostname": "no",
        "ActiveState": "active",
    }
    assert container.properties(GETTY, "ActiveState") == {"ActiveState": "inactive"}
    assert container.health() == health

    back = good(prepare.run(**options(container, state="absent", restart=True)))
    assert LOGIND in back["restarted"]
    assert container.properties(LOGIND, "ProtectHostname") == {"ProtectHostname": "yes"}
    assert not list((container.root / PLACE).glob(f"*/{FILE}"))


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_an_unprivileged_debian_gets_files_of_its_own_root(
    lxc: Factory, prepare: Module, preflight: Module, suite: str
) -> None:
    container = debian(lxc, suite, first=1_000_000)
    container.start()
    until(lambda: ("terminal", "agetty") in findings(preflight, container), 30, "the getty is on the console")
    done = good(prepare.run(**options(container, restart=True)))
    assert "ip-filter" not in {one["relaxation"] for one in done["relaxations"]}, "it can load no BPF program"
    for path in done["files"]:
        status = (container.root / path.lstrip("/")).stat()
        assert (status.st_uid, status.st_gid) == (1_000_000, 1_000_000)
    assert findings(preflight, container) == set()
    assert not good(prepare.run(**options(container, restart=True)))["changed"]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_what_is_set_instead_is_what_systemd_reads(lxc: Factory, suite: str) -> None:
    container = debian(lxc, suite)
    (container.root / PLACE / "stasis-all.service").write_text(ALL_ON)
    wants = container.root / PLACE / "multi-user.target.wants/stasis-all.service"
    wants.symlink_to("/etc/systemd/system/stasis-all.service")
    environment = {**os.environ, "PYTHONPATH": str(lxc.module.collections)}
    subprocess.run([sys.executable, "-c", PLANNED, str(container.root)], env=environment, check=True, timeout=600)
    container.start()
    asked = (
        "IPAddressDeny IPAddressAllow IPAccounting DevicePolicy DeviceAllow PrivateDevices ProtectClock ProtectHostname"
    )
    asked += " PrivateUsers PrivateIPC PrivateTmp ProtectSystem ActiveState SocketBindAllow SocketBindDeny"
    found = container.properties("stasis-all.service", *asked.split(), "RestrictNetworkInterfaces", "SystemCallFilter")
    filtered = set(found.pop("SystemCallFilter").split())
    capabilities = container.properties("stasis-all.service", "CapabilityBoundingSet")["CapabilityBoundingSet"].split()
    assert found == {
        **dict.fromkeys(["IPAddressDeny", "IPAddressAllow", "DeviceAllow", "SocketBindAllow", "SocketBindDeny"], ""),
        **dict.fromkeys(
            ["IPAccounting", "PrivateDevices", "ProtectClock", "ProtectHostname", "PrivateUsers", "PrivateIPC"], "no"
        ),
        "RestrictNetworkInterfaces": "",
        "DevicePolicy": "auto",
        "PrivateTmp": "yes",
        "ProtectSystem": "strict",
        "ActiveState": "active",
    }
    assert "read" in filtered
    assert not {"sethostname", "setdomainname", "clock_settime", "settimeofday", "ioperm"} & filtered
    assert "cap_chown" in capabilities and not {"cap_sys_time", "cap_wake_alarm", "cap_mknod"} & set(capabilities)
    verified = container.inside("systemd-analyze", "verify", "stasis-all.service", LOGIND, GETTY, check=False)
    assert FILE not in verified, verified


def test_the_role_does_the_same_and_says_what_it_costs(lxc: Factory, module: Module) -> None:
    container = debian(lxc, "trixie")
    before = everything(container.root)
    extra = {"checkpointable_name": container.name, "checkpointable_lxc_path": str(container.lxc_path)}
    predicted = role(module, extra, "--check", "--diff")
    assert everything(container.root) == before
    assert "+ProtectHostname=no" in predicted and "changed=1" in predicted
    applied = role(module, extra)
    assert f"{LOGIND}: hostname relaxed. Lost: " in applied and "changed=1" in applied
    assert "changed=0" in role(module, extra)
    narrowed = role(module, {**extra, "checkpointable_relax": ["console"]})
    assert f"{LOGIND}: hostname STILL BLOCKS a checkpoint. relax does not allow it." in narrowed
    container.start()
    running = role(module, {**extra, "checkpointable_restart": True})
    assert "Say what a checkpoint would meet now" in running
    assert "changed=1" in running
    assert "changed=0" in role(module, {**extra, "checkpointable_restart": True})
    container.stop()
    assert "changed=1" in role(module, {**extra, "checkpointable_state": "absent"})
    assert not list((container.root / PLACE).glob(f"*/{FILE}"))


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_prepared_debian_goes_through_three_generations(lxc: Factory, prepare: Module, suite: str) -> None:
    container = debian(lxc, suite)
    if not may_read_limits():
        run_bus_as_root(container)
    add_pinger(container)
    good(prepare.run(**options(container)))
    container.start()
    health = container.health()
    checkpoint = lxc.checkpoint(container)
    for generation in range(3):
        checkpoint.checkpointed(overwrite=True)
        checkpoint.checkpointed(overwrite=True, stop=True)
        predicted = checkpoint.predicted("restored")
        answer = checkpoint.restored()
        assert answer["notes"] == predicted["notes"]
        # CRIU does not know this flag, with which newer systemd mounts credentials.
        assert [line for line in answer["lost"] if "nosymfollow" not in line] == []
        assert answer["changed"] and ("systemctl daemon-reload" in " ".join(answer["notes"])) == has_pidfs()
        assert container.health() == health
        if generation == 0:
            until_pinged(container)
        container.inside("systemctl", "restart", LOGIND, "systemd-journald.service", "dbus.service", "ssh.service")
        container.inside(
            "systemd-run",
            "--on-active=1",
            "--timer-property=AccuracySec=100ms",
            "touch",
            f"/root/generation-{generation}",
        )
        until((container.root / f"root/generation-{generation}").exists, 20, "a timer that was set fires")
        container.inside("logger", f"generation {generation}")
        until(
            lambda number=generation: f"generation {number}" in container.inside("journalctl", "-b"),
            20,
            "journald logs",
        )
        assert container.health() == health
        assert not good(prepare.run(**options(container, restart=True)))["changed"]


PINGER = "pinger.service"
# Each time with a socket of its own, as sd_notify(3).
PINGS = """\
use Socket;
while (1) {
    socket(my $socket, PF_UNIX, SOCK_DGRAM, 0) or die $!;
    send($socket, "WATCHDOG=1", 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die $!;
    close($socket);
    sleep 1;
}
"""


def add_pinger(container: Distribution) -> None:
    """A service that tells systemd every second that it lives. That of logind does so too rarely to wait for."""
    units = container.root / PLACE
    (container.root / "usr/local/sbin/pinger").write_text(PINGS)
    (units / PINGER).write_text(
        "[Service]\nExecStart=/usr/bin/perl /usr/local/sbin/pinger\nWatchdogSec=3600\nNotifyAccess=main\nRestart=no\n"
    )
    (units / "multi-user.target.wants" / PINGER).symlink_to(f"/etc/systemd/system/{PINGER}")


def until_pinged(container: Distribution) -> None:
    """Wait until systemd has taken a ping of a service of before, which is still the process of before."""
    keys = ("ActiveState", "MainPID")
    before = container.properties(PINGER, "WatchdogTimestampMonotonic", *keys)
    after = {}

    def pinged() -> bool:
        after.update(container.properties(PINGER, "WatchdogTimestampMonotonic", *keys))
        return after != before

    until(pinged, 10, "systemd takes a notification of a service of before")
    assert [after[key] for key in keys] == [before[key] for key in keys]
    assert before["ActiveState"] == "active"
    assert container.properties(LOGIND, "NRestarts") == {"NRestarts": "0"}


def has_pidfs() -> bool:
    """Whether the kernel is 6.9 or newer."""
    return tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 9)


def may_read_limits() -> bool:
    """Whether root has CAP_SYS_RESOURCE, without which CRIU dumps no process of another user."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> 24 & 1)


def run_bus_as_root(container: Distribution) -> None:
    """The one process of another user that a small Debian has."""
    folder = container.root / PLACE / "dbus.service.d"
    folder.mkdir()
    (folder / "root.conf").write_text("[Service]\nUser=\nGroup=\nAmbientCapabilities=\n")
    (container.root / "etc/dbus-1/system-local.conf").write_text("<busconfig><user>root</user></busconfig>\n")


def test_a_network_namespace_of_a_process_comes_back(lxc: Factory, trouble: Path) -> None:
    """So PrivateNetwork= needs no relaxation."""
    container = Pre(lxc, trouble).start("namespace", "net", network=True)
    checkpoint = lxc.checkpoint(container)
    for _generation in range(2):
        before = network_namespaces(container)
        assert len(before) == 2
        checkpoint.stopped()
        checkpoint.resumed()
        assert network_namespaces(container) == before


def network_namespaces(container: Container) -> list[list[str]]:
    """The names of the interfaces in each network namespace of a container's processes."""
    found: dict[str, list[str]] = {}
    for pid in descendants(container.init_pid):
        links = json.loads(run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-j", "link").stdout)
        found[os.readlink(f"/proc/{pid}/ns/net")] = sorted(link["ifname"] for link in links)
    return sorted(found.values())


def descendants(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        found += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
    return found


def role(module: Module, extra: dict[str, t.Any], *argv: str) -> str:
    """Apply the role to this host by ansible-playbook, which must work; what it says, in one long line."""
    play = [
        {"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["stasis.lxc.checkpointable"]}
    ]
    path = module.scratch / "checkpointable.json"
    path.write_text(json.dumps(play))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *(str(path), "-i", "localhost,", "-e", json.dumps(extra), *argv),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=module.scratch,
        timeout=1800,
        check=False,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(module.collections),
            "ANSIBLE_HOME": str(module.scratch),
            "ANSIBLE_LOCAL_TEMP": str(module.scratch / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(module.scratch / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

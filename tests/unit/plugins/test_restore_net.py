# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hook under every shell that /bin/sh may be, with an `ip`, `bridge` and `sync` that only write down their calls."""

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest

HOOK = Path(__file__).resolve().parents[3] / "roles" / "criu" / "files" / "restore-net"
SHELLS = {"dash": ["/usr/bin/dash"], "busybox": ["/bin/busybox", "sh"]}

# argv on one line, then standard input; `sync` has no input. Fails as often as its name stands in `fail`.
FAKE = """#!/bin/sh
me=${0##*/}
{
    echo "$me $*"
    case $* in *-batch*) /bin/cat ;; esac
} >>"$FAKE_LOG"
case ,$FAKE_FAIL, in *,$me,*) exit 1 ;; esac
exit 0
"""


class Bench:
    """One image directory, one work directory, and the hook to be run on them."""

    def __init__(self, root: Path, shell: t.Sequence[str]) -> None:
        self.shell = list(shell)
        self.images = root / "images"
        self.work = root / "work"
        self.sysfs = root / "sys"
        self.proc = root / "proc"
        self.log = root / "log"
        self.path = root / "bin"
        for directory in (self.images, self.work, self.sysfs / "class" / "net", self.path):
            directory.mkdir(parents=True)
        for name in ("ip", "bridge", "sync"):
            self.script(self.path / name, FAKE)

    @staticmethod
    def script(path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    def record(self, **words: str) -> None:
        """Records as the module writes them: exactly the given text, no newline added."""
        for name, text in words.items():
            (self.images / name).write_text(text)

    def veth(self, number: int, **more: str) -> None:
        self.record(**{f"eth{number}": f"eth{number}", f"veth{number}": f"host{number}"})
        self.record(**{f"{kind}{number}": text for kind, text in more.items()})

    def bridge(self, name: str) -> None:
        (self.sysfs / "class" / "net" / name / "bridge").mkdir(parents=True)

    def port(self, veth: str) -> Path:
        port = self.sysfs / "class" / "net" / veth / "brport"
        port.mkdir(parents=True)
        return port

    def sysctl(self, veth: str, family: str, name: str, value: str) -> Path:
        path = self.proc / "sys" / "net" / family / "conf" / veth / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
        return path

    def run(self, action: str, *, fail: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "CRTOOLS_SCRIPT_ACTION": action,
            "CRTOOLS_IMAGE_DIR": str(self.images),
            "STASIS_WORK": str(self.work),
            "STASIS_SYSFS": str(self.sysfs),
            "STASIS_PROCFS": str(self.proc),
            "FAKE_LOG": str(self.log),
            "FAKE_FAIL": fail,
            # Nothing but our doubles: the hook has to do with builtins.
            "PATH": str(self.path),
        }
        given.update(environment)
        return subprocess.run(
            [*self.shell, str(HOOK)],
            env={key: value for key, value in given.items() if value != "UNSET"},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def calls(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def said(self) -> str:
        log = self.work / "hook.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture(params=sorted(SHELLS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, SHELLS[request.param])


def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class TestLock:
    def test_takes_every_bridged_veth_out_of_its_bridge_in_one_ip(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        bench.veth(1, bridge="br1")
        assert bench.run("network-lock").returncode == 0
        assert bench.calls() == "ip -batch -\nlink set dev host0 nomaster\nlink set dev host1 nomaster\n\n"

    def test_a_gap_in_the_numbers_does_not_end_the_list(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        bench.veth(3, bridge="br3")
        bench.veth(12, bridge="br12")
        assert bench.run("network-lock").returncode == 0
        assert {line for line in bench.calls().splitlines() if "nomaster" in line} == {
            "link set dev host0 nomaster",
            "link set dev host3 nomaster",
            "link set dev host12 nomaster",
        }

    @pytest.mark.parametrize("bridge", [{}, {"bridge": ""}], ids=["no-bridge-record", "empty-bridge-record"])
    def test_a_veth_without_a_bridge_is_left_alone(self, bench: Bench, bridge: dict[str, str]) -> None:
        bench.veth(0, **bridge)
        assert bench.run("network-lock").returncode == 0
        assert bench.calls() == ""

    def test_records_of_the_seed_with_a_newline_are_read_too(self, bench: Bench) -> None:
        bench.record(eth0="eth0\n", veth0="host0\n", bridge0="br0\n")
        assert bench.run("network-lock").returncode == 0
        assert "link set dev host0 nomaster\n" in bench.calls()

    def test_without_any_record_nothing_is_called(self, bench: Bench) -> None:
        assert bench.run("network-lock").returncode == 0
        assert bench.calls() == ""

    def test_a_missing_eth_record_aborts_the_dump_before_anything_is_detached(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        bench.record(veth1="host1", bridge1="br1")
        assert bench.run("network-lock").returncode == 1
        assert bench.calls() == ""
        assert "eth1 is missing" in bench.said()

    def test_a_failing_ip_aborts_the_dump(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run("network-lock", fail="ip").returncode == 1
        assert "taken out of their bridges" in bench.said()

    def test_with_crius_own_lock_the_bridges_are_left_alone(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run("network-lock", STASIS_LOCK="criu").returncode == 0
        assert bench.run("network-unlock", STASIS_LOCK="criu").returncode == 0
        assert bench.calls() == ""

    def test_a_passed_deadline_aborts_before_anything_is_detached(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run("network-lock", STASIS_DEADLINE=str(uptime() - 1)).returncode == 1
        assert bench.calls() == ""
        assert "timeout" in bench.said()

    def test_records_are_read_from_the_directory_of_the_module_where_it_gives_one(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        bench.veth(0, bridge="br0")
        other = tmp_path / "other records"
        other.mkdir()
        for name, text in (("eth0", "eth0"), ("veth0", "elsewhere"), ("bridge0", "br9")):
            (other / name).write_text(text)
        assert bench.run("network-lock", STASIS_NICS=str(other)).returncode == 0
        assert bench.calls() == "ip -batch -\nlink set dev elsewhere nomaster\n\n"


class TestUnlock:
    def test_a_plain_port_is_put_back_by_one_ip(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0", mac="fe:00:00:00:00:01", mtu="1400")
        bench.veth(2, mac="fe:00:00:00:00:02")
        assert bench.run("network-unlock").returncode == 0
        assert bench.calls() == (
            "ip -force -batch -\n"
            "link set dev host0 address fe:00:00:00:00:01\n"
            "link set dev host0 mtu 1400\n"
            "link set dev host0 master br0\n"
            "link set dev host2 address fe:00:00:00:00:02\n"
            "link set dev host0 up\n"
            "link set dev host2 up\n"
            "\n"
        )

    def test_a_port_comes_up_only_when_it_is_isolated_and_in_its_vlans(self, bench: Bench) -> None:
        port = bench.port("host0")
        bench.veth(
            0,
            bridge="br0",
            port="isolated 1\ngroup_fwd_mask 0x8\n",
            vlan="del vid 1\nadd vid 10 pvid untagged\n",
            state="disabled",
        )
        assert bench.run("network-unlock").returncode == 0
        assert bench.calls() == (
            "ip -force -batch -\n"
            "link set dev host0 master br0\n"
            "\n"
            "bridge -force -batch -\n"
            "vlan del dev host0 vid 1\n"
            "vlan add dev host0 vid 10 pvid untagged\n"
            "\n"
            "ip -force -batch -\n"
            "link set dev host0 up\n"
            "\n"
            "bridge -force -batch -\n"
            "link set dev host0 state disabled\n"
            "\n"
        )
        assert (port / "isolated").read_text() == "1"
        assert (port / "group_fwd_mask").read_text() == "0x8"

    def test_one_damaged_record_does_not_keep_the_others_off_the_network(self, bench: Bench) -> None:
        bench.record(veth0="host0")
        bench.veth(1, bridge="br1")
        bench.record(veth2="", eth2="eth2")
        assert bench.run("network-unlock").returncode == 1
        assert bench.calls() == "ip -force -batch -\nlink set dev host1 master br1\nlink set dev host1 up\n\n"
        assert "eth0 is missing" in bench.said()
        assert "veth2 is empty" in bench.said()

    def test_a_failing_ip_is_said_and_the_rest_is_still_done(self, bench: Bench) -> None:
        port = bench.port("host0")
        bench.veth(0, bridge="br0", port="isolated 1\n", vlan="add vid 5\n")
        assert bench.run("network-unlock", fail="ip").returncode == 1
        assert "vlan add dev host0 vid 5\n" in bench.calls()
        assert (port / "isolated").read_text() == "1"
        assert "not everything could be put back: ip" in bench.said()

    def test_an_attribute_that_the_kernel_refuses_is_named(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0", port="isolated 1\n")
        assert bench.run("network-unlock").returncode == 1
        assert "host0:isolated" in bench.said()
        assert "link set dev host0 up\n" in bench.calls()

    def test_attaches_even_if_a_user_script_fails_or_the_deadline_has_passed(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        bench.veth(0, bridge="br0")
        scripts = tmp_path / "scripts"
        scripts.write_text(f"{bench.script(tmp_path / 'bad', chr(35) + '!/bin/sh' + chr(10) + 'exit 9' + chr(10))}\n")
        done = bench.run("network-unlock", STASIS_SCRIPTS=str(scripts), STASIS_DEADLINE="0")
        assert done.returncode == 1
        assert "link set dev host0 master br0\n" in bench.calls()
        assert "failed with status 9" in bench.said()

    def test_a_users_script_runs_even_if_something_could_not_be_attached(self, bench: Bench, tmp_path: Path) -> None:
        bench.veth(0, bridge="br0")
        ran = tmp_path / "ran"
        script = bench.script(tmp_path / "undo", f"#!/bin/sh\necho yes >{ran}\n")
        (tmp_path / "scripts").write_text(f"{script}\n")
        assert bench.run("network-unlock", fail="ip", STASIS_SCRIPTS=str(tmp_path / "scripts")).returncode == 1
        assert ran.read_text() == "yes\n"

    def test_a_restore_attaches_whatever_the_lock_of_the_dump_was(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        done = bench.run("network-unlock", STASIS_LOCK="criu", STASIS_RESTORED=str(bench.work / "restored"))
        assert done.returncode == 0
        assert "link set dev host0 master br0\n" in bench.calls()


class TestUserScripts:
    def scripts(self, bench: Bench, tmp_path: Path, *statuses: int) -> tuple[Path, Path]:
        order = tmp_path / "order"
        lines = []
        for number, status in enumerate(statuses):
            text = f'#!/bin/sh\necho "{number} $CRTOOLS_SCRIPT_ACTION" >>{order}\nexit {status}\n'
            lines.append(f"{bench.script(tmp_path / f'script {number}', text)}\n")
        (tmp_path / "scripts").write_text("".join(lines))
        return tmp_path / "scripts", order

    @pytest.mark.parametrize("action", ["pre-dump", "network-lock", "pre-resume", "post-resume", "setup-namespaces"])
    def test_run_in_the_listed_order_at_every_event(self, bench: Bench, tmp_path: Path, action: str) -> None:
        scripts, order = self.scripts(bench, tmp_path, 0, 0, 0)
        assert bench.run(action, STASIS_SCRIPTS=str(scripts)).returncode == 0
        assert order.read_text() == f"0 {action}\n1 {action}\n2 {action}\n"

    def test_the_first_failure_stops_the_rest(self, bench: Bench, tmp_path: Path) -> None:
        scripts, order = self.scripts(bench, tmp_path, 0, 3, 0)
        assert bench.run("pre-dump", STASIS_SCRIPTS=str(scripts)).returncode == 1
        assert order.read_text() == "0 pre-dump\n1 pre-dump\n"
        assert "script 1 failed with status 3" in bench.said()

    def test_a_list_that_cannot_be_read_is_a_failure_not_an_empty_list(self, bench: Bench, tmp_path: Path) -> None:
        assert bench.run("pre-dump", STASIS_SCRIPTS=str(tmp_path / "gone")).returncode == 1
        assert "cannot be read" in bench.said()

    def test_a_failing_script_at_network_lock_leaves_the_veth_attached(self, bench: Bench, tmp_path: Path) -> None:
        bench.veth(0, bridge="br0")
        scripts, _order = self.scripts(bench, tmp_path, 1)
        assert bench.run("network-lock", STASIS_SCRIPTS=str(scripts)).returncode == 1
        assert bench.calls() == ""


class TestCommit:
    @pytest.fixture
    def commit(self, bench: Bench) -> Path:
        (bench.images / "core-1.img").write_text("x")
        (bench.images / "pages-1.img").write_text("x")
        return bench.images / "committed"

    def test_the_image_is_synced_before_the_record_is_written_and_the_record_after(
        self, bench: Bench, commit: Path
    ) -> None:
        bench.script(
            bench.path / "sync",
            f'#!/bin/sh\nif [ -e "{commit}" ]; then c=there; else c=absent; fi\necho "$c: sync $*" >>"$FAKE_LOG"\n',
        )
        before = uptime()
        assert bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_SYNC="1").returncode == 0
        images = bench.images
        assert bench.calls() == (
            f"absent: sync {images}/core-1.img {images}/pages-1.img {images}\nthere: sync {commit} {images}\n"
        )
        word, boot, second = commit.read_text().split()
        assert (word, boot) == ("committed", boot_id())
        assert before <= int(second) <= uptime()

    @pytest.mark.parametrize("sync", ["0", "UNSET"])
    def test_without_sync_only_the_record_is_written(self, bench: Bench, commit: Path, sync: str) -> None:
        assert bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_SYNC=sync).returncode == 0
        assert commit.exists()
        assert bench.calls() == ""

    def test_an_image_that_cannot_be_synced_is_not_committed(self, bench: Bench, commit: Path) -> None:
        assert bench.run("post-dump", fail="sync", STASIS_COMMIT=str(commit), STASIS_SYNC="1").returncode == 1
        assert not commit.exists()

    def test_a_failing_user_script_leaves_the_image_uncommitted(
        self, bench: Bench, commit: Path, tmp_path: Path
    ) -> None:
        script = bench.script(tmp_path / "no", "#!/bin/sh\nexit 1\n")
        (tmp_path / "scripts").write_text(f"{script}\n")
        done = bench.run(
            "post-dump", STASIS_COMMIT=str(commit), STASIS_SYNC="1", STASIS_SCRIPTS=str(tmp_path / "scripts")
        )
        assert done.returncode == 1
        assert not commit.exists()
        assert bench.calls() == ""

    @pytest.mark.parametrize("deadline", ["-1", "soon"])
    def test_a_passed_or_senseless_deadline_leaves_the_image_uncommitted(
        self, bench: Bench, commit: Path, deadline: str
    ) -> None:
        assert bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_DEADLINE=deadline).returncode == 1
        assert not commit.exists()

    def test_a_deadline_to_come_is_no_hindrance(self, bench: Bench, commit: Path) -> None:
        done = bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_DEADLINE=str(uptime() + 100))
        assert done.returncode == 0
        assert commit.exists()

    def test_a_full_file_system_is_a_veto(self, bench: Bench, commit: Path) -> None:
        commit.symlink_to("/dev/full")
        assert bench.run("post-dump", STASIS_COMMIT=str(commit)).returncode == 1
        assert "could not be written" in bench.said()

    def test_nothing_is_committed_where_the_module_asks_for_no_record(self, bench: Bench) -> None:
        assert bench.run("post-dump", STASIS_SYNC="1").returncode == 0
        assert bench.calls() == ""


class TestRestored:
    def test_the_record_names_boot_init_and_start_time_and_is_synced(self, bench: Bench) -> None:
        restored = bench.work / "restored"
        process = subprocess.Popen(["/bin/sleep", "30"])
        try:
            done = bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(process.pid))
            start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        finally:
            process.kill()
            process.wait()
        assert done.returncode == 0
        assert restored.read_text().split()[:4] == ["restored", boot_id(), str(process.pid), start]
        assert bench.calls() == f"sync {restored} {bench.work}\n"

    def test_a_command_with_a_parenthesis_does_not_shift_the_fields(self, bench: Bench, tmp_path: Path) -> None:
        program = tmp_path / "a) b ("
        program.symlink_to("/bin/sleep")
        process = subprocess.Popen([str(program), "30"])
        try:
            restored = bench.work / "restored"
            bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(process.pid))
            start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        finally:
            process.kill()
            process.wait()
        assert restored.read_text().split()[3] == start

    def test_a_second_restore_adds_a_line(self, bench: Bench) -> None:
        restored = bench.work / "restored"
        for _time in range(2):
            bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(os.getpid()))
        assert len(restored.read_text().splitlines()) == 2

    @pytest.mark.parametrize("pid", ["UNSET", "4194305"])
    def test_an_unknown_init_aborts_the_restore(self, bench: Bench, pid: str) -> None:
        restored = bench.work / "restored"
        assert bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=pid).returncode == 1
        assert not restored.exists()

    def test_a_record_that_does_not_reach_the_disk_aborts_the_restore(self, bench: Bench) -> None:
        restored = str(bench.work / "restored")
        done = bench.run("post-restore", fail="sync", STASIS_RESTORED=restored, CRTOOLS_INIT_PID=str(os.getpid()))
        assert done.returncode == 1

    def test_a_missing_bridge_aborts_the_restore_before_it_is_recorded(self, bench: Bench) -> None:
        bench.bridge("br0")
        bench.veth(0, bridge="br0")
        bench.veth(1, bridge="gone")
        restored = bench.work / "restored"
        done = bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(os.getpid()))
        assert done.returncode == 1
        assert not restored.exists()
        assert "eth1: the bridge gone does not exist" in bench.said()

    def test_an_interface_that_is_no_bridge_aborts_the_restore(self, bench: Bench) -> None:
        (bench.sysfs / "class" / "net" / "eth7").mkdir()
        bench.veth(0, bridge="eth7")
        assert bench.run("post-restore").returncode == 1

    def test_bridges_that_exist_let_it_pass(self, bench: Bench) -> None:
        bench.bridge("br0")
        bench.veth(0, bridge="br0")
        bench.veth(1)
        assert bench.run("post-restore").returncode == 0


class TestDevices:
    def test_nothing_runs_before_the_rules_about_device_nodes_are_in_force(self, bench: Bench) -> None:
        given = {"STASIS_DEVICES": "1", "STASIS_WORK": str(bench.work)}
        done = bench.run("post-restore", **given)
        assert done.returncode == 1
        assert "rules about device nodes are not in force" in done.stderr
        (bench.work / "devices").touch()
        assert bench.run("post-restore", **given).returncode == 0

    def test_container_without_rules_is_not_held_up(self, bench: Bench) -> None:
        assert bench.run("post-restore", STASIS_WORK=str(bench.work)).returncode == 0


class TestProtocol:
    def test_answers_with_its_protocol(self, bench: Bench) -> None:
        done = subprocess.run([*bench.shell, str(HOOK), "--protocol"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "1\n")

    @pytest.mark.parametrize("missing", ["CRTOOLS_IMAGE_DIR", "CRTOOLS_SCRIPT_ACTION"])
    def test_refuses_to_run_without_what_criu_sets(self, bench: Bench, missing: str) -> None:
        bench.veth(0, bridge="br0")
        done = bench.run("network-lock", **{missing: "UNSET"})
        assert done.returncode == 1
        assert f"{missing} is not set" in done.stderr
        assert bench.calls() == ""

    @pytest.mark.parametrize("action", ["pre-dump", "pre-restore", "pre-resume", "post-resume", "status-ready"])
    def test_other_events_touch_nothing(self, bench: Bench, action: str) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run(action).returncode == 0
        assert bench.calls() == ""

    def test_past_the_point_of_return_no_deadline_counts(self, bench: Bench) -> None:
        for action in ("pre-resume", "post-resume"):
            assert bench.run(action, STASIS_DEADLINE="0").returncode == 0

    @pytest.mark.parametrize("action", ["pre-dump", "pre-restore", "post-setup-namespaces", "post-restore"])
    def test_a_passed_deadline_is_a_veto_at_every_event_before(self, bench: Bench, action: str) -> None:
        assert bench.run(action, STASIS_DEADLINE="0").returncode == 1


class TestHostSide:
    """A veth outside its bridge must not hand packets to the host, see set_host_side in the hook."""

    RECORD: t.ClassVar = {"bridge": "br0", "sysctl": "ipv4 rp_filter 0\nipv6 disable_ipv6 0\n"}

    def test_is_shut_off_while_the_network_is_locked(self, bench: Bench) -> None:
        bench.veth(0, **self.RECORD)
        files = [bench.sysctl("host0", "ipv4", "rp_filter", "0"), bench.sysctl("host0", "ipv6", "disable_ipv6", "0")]
        assert bench.run("network-lock").returncode == 0
        assert [file.read_text() for file in files] == ["1", "1"]

    def test_is_as_before_when_the_network_is_unlocked(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0", sysctl="ipv4 rp_filter 2\nipv6 disable_ipv6 0\n")
        files = [bench.sysctl("host0", "ipv4", "rp_filter", "1"), bench.sysctl("host0", "ipv6", "disable_ipv6", "1")]
        assert bench.run("network-unlock").returncode == 0
        assert [file.read_text() for file in files] == ["2", "0"]

    def test_dump_is_refused_where_it_cannot_be_shut_off(self, bench: Bench) -> None:
        bench.veth(0, **self.RECORD)
        assert bench.run("network-lock").returncode == 1
        assert "host0 could not be shut off" in bench.said()
        assert bench.calls() == ""

    def test_without_a_record_nothing_is_changed(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        file = bench.sysctl("host0", "ipv4", "rp_filter", "0")
        assert bench.run("network-lock").returncode == 0
        assert file.read_text() == "0"


class TestCgroups:
    """The v2 cgroups that the container made; `mkdir` and `chown` are the host's own."""

    RECORD = (
        "dir .\nset cgroup.subtree_control +pids\nlimit pids.max 50\n"
        "dir init.scope\n"
        "dir system.slice\nset cgroup.subtree_control +pids\n"
        "dir system.slice/dev-disk\\x2dby.mount\n"
        "dir system.slice/with a space.service\nlimit pids.max 7\nlimit cpu.max 5000 100000\n"
    )

    @staticmethod
    def given(bench: Bench, record: str, payload: str = "lxc.payload.web1-1") -> tuple[Path, dict[str, str]]:
        mount = bench.work / "cgroup mount"
        top = mount / payload
        top.mkdir(parents=True)
        bench.record(**{"cgroup-tree": record})
        return top, {
            "STASIS_CGROUPS": str(bench.images / "cgroup-tree"),
            "STASIS_CGROUP_DIR": str(top),
            "STASIS_CGROUP_MOUNT": str(mount),
            "STASIS_CGROUP_PATH": f"/{payload}",
            "PATH": f"{bench.path}:/usr/bin:/bin",
        }

    def test_are_made_with_their_controllers_when_the_namespaces_are_there(self, bench: Bench) -> None:
        top, environment = self.given(bench, self.RECORD)
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_dir()) == [
            "init.scope",
            "system.slice",
            "system.slice/dev-disk\\x2dby.mount",
            "system.slice/with a space.service",
        ]
        assert (top / "cgroup.subtree_control").read_text() == "+pids"
        assert (top / "system.slice/cgroup.subtree_control").read_text() == "+pids"
        assert not (top / "pids.max").exists(), "limits come when the tasks are there"

    def test_get_their_limits_when_the_tasks_are_there(self, bench: Bench) -> None:
        top, environment = self.given(bench, self.RECORD)
        (top / "system.slice/with a space.service").mkdir(parents=True)
        done = bench.run("post-restore", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert (top / "pids.max").read_text() == "50"
        assert (top / "system.slice/with a space.service/pids.max").read_text() == "7"
        assert (top / "system.slice/with a space.service/cpu.max").read_text() == "5000 100000"

    def test_path_without_a_slash_is_liblxcs_form_on_v2(self, bench: Bench) -> None:
        top, environment = self.given(bench, self.RECORD)
        done = bench.run("post-setup-namespaces", **{**environment, "STASIS_CGROUP_PATH": "lxc.payload.web1-1"})
        assert done.returncode == 0
        assert (top / "init.scope").is_dir()

    def test_belong_to_whom_they_belonged(self, bench: Bench) -> None:
        record = "owner 1234:1235\ndir .\ndir a.slice\ndir a.slice/b\nown 2234:2235\n"
        top, environment = self.given(bench, record)
        bench.script(bench.path / "chown", FAKE)
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert (
            bench.calls()
            == f"chown -R -- 1234:1235 {top}/a.slice {top}/a.slice/b\nchown -R -- 2234:2235 {top}/a.slice/b\n"
        )

    def test_fail_the_restore_where_they_cannot_be_made(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir init.scope\n")
        (top / "init.scope").write_text("a file in the way")
        done = bench.run("post-setup-namespaces", **environment)
        assert done.returncode == 1
        assert "could not be made" in bench.said()

    def test_limit_that_the_kernel_refuses_is_said_and_not_fatal(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\nlimit pids.max 50\n")
        (top / "pids.max").mkdir()
        done = bench.run("post-restore", **environment)
        assert done.returncode == 0
        assert "could not be given pids.max = 50" in bench.said()

    def test_one_made_meanwhile_is_added_at_the_dump(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir init.scope\n")
        for name, control in (("init.scope", ""), ("new.slice", "pids cpu"), ("new.slice/one.service", "")):
            (top / name).mkdir()
            (top / name / "cgroup.subtree_control").write_text(control + "\n")
        (top / "cgroup.stat").write_text("nr_descendants 3\nnr_dying_descendants 0\n")
        done = bench.run("post-dump", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert (bench.images / "cgroup-tree").read_text() == (
            "dir .\ndir init.scope\ndir new.slice\nset cgroup.subtree_control +pids +cpu\ndir new.slice/one.service\n"
        )

    def test_record_stays_where_the_number_is_the_same(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir init.scope\n")
        (top / "unseen.slice").mkdir()
        (top / "cgroup.stat").write_text("nr_descendants 1\n")
        assert bench.run("post-dump", **environment).returncode == 0
        assert (bench.images / "cgroup-tree").read_text() == "dir .\ndir init.scope\n"

    @pytest.mark.parametrize("event", ["post-dump", "post-setup-namespaces", "post-restore"])
    def test_are_left_alone_without_a_record(self, bench: Bench, event: str) -> None:
        top, environment = self.given(bench, "")
        done = bench.run(event, **{**environment, "STASIS_CGROUPS": "UNSET"})
        assert (done.returncode, done.stderr) == (0, "")
        assert list(top.iterdir()) == []


class TestMadeVeths:
    """For a restore into a user namespace the hook makes the veths before CRIU makes the namespaces."""

    def test_are_made_under_the_names_of_their_records(self, bench: Bench) -> None:
        bench.veth(0, peer="peerA")
        bench.veth(3, peer="peerB")
        done = bench.run("setup-namespaces")
        assert done.returncode == 0, done.stderr
        assert (
            "link add dev host0 type veth peer name peerA\nlink add dev host3 type veth peer name peerB"
            in bench.calls()
        )

    def test_are_left_to_criu_without_such_a_record(self, bench: Bench) -> None:
        bench.veth(0)
        assert bench.run("setup-namespaces").returncode == 0
        assert bench.calls() == ""

    def test_that_cannot_be_made_abort_the_restore(self, bench: Bench) -> None:
        bench.veth(0, peer="peerA")
        assert bench.run("setup-namespaces", fail="ip").returncode == 1
        assert "could not be made" in bench.said()


class TestIpv6:
    """The hook enters the container's network, where these run a shell; the double runs it here, on no kernel's files."""

    @pytest.fixture
    def namespace(self, bench: Bench, tmp_path: Path) -> Path:
        settings = tmp_path / "net"
        settings.mkdir()
        for name, value in (("accept_dad", "2"), ("ip_nonlocal_bind", "0")):
            (settings / name).write_text(value)
        # $1 --net=..., $2 /bin/sh, $3 -c, $4 the script, $5 sh, $6 its file
        bench.script(
            bench.path / "nsenter",
            '#!/bin/sh\necho "$1" >>"$FAKE_LOG"\ncase ,$FAKE_FAIL, in *,nsenter,*) exit 1 ;; esac\n'
            f'script=$(printf "%s" "$4" | /usr/bin/sed "s,/proc/sys/net/ipv6/conf/[*],{settings},; '
            f's,/proc/sys/net/ipv6,{settings},")\nexec "$2" "$3" "$script" "$5" "$6"\n',
        )
        return settings

    @staticmethod
    def values(settings: Path) -> list[str]:
        return [(settings / name).read_text() for name in ("accept_dad", "ip_nonlocal_bind")]

    def test_sockets_may_bind_to_addresses_that_are_not_ready_and_these_do_not_wait(
        self, bench: Bench, namespace: Path
    ) -> None:
        done = bench.run("post-setup-namespaces", STASIS_IPV6="1", CRTOOLS_INIT_PID="4711")
        assert done.returncode == 0, done.stderr
        assert "--net=/proc/4711/ns/net" in bench.calls()
        assert self.values(namespace) == ["0", "1"]

    def test_everything_is_as_before_when_the_tasks_run(self, bench: Bench, namespace: Path) -> None:
        for action in ("post-setup-namespaces", "pre-resume", "post-resume"):
            assert bench.run(action, STASIS_IPV6="1", CRTOOLS_INIT_PID="4711").returncode == 0
        assert self.values(namespace) == ["2", "0"]

    def test_a_container_without_ipv6_is_left_alone(self, bench: Bench, namespace: Path) -> None:
        for action in ("post-setup-namespaces", "post-resume"):
            assert bench.run(action, CRTOOLS_INIT_PID="4711").returncode == 0
        assert bench.calls() == ""
        assert self.values(namespace) == ["2", "0"]

    def test_what_cannot_be_entered_aborts_the_restore(self, bench: Bench, namespace: Path) -> None:
        done = bench.run("post-setup-namespaces", STASIS_IPV6="1", CRTOOLS_INIT_PID="4711", fail="nsenter")
        assert done.returncode == 1
        assert "IPv6" in bench.said()

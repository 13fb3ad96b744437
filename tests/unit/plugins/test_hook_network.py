# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The veths in the hook: out of their bridges, back again as they were, and made for a user namespace."""

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.hook_bench import SHELLS, Bench, uptime


@pytest.fixture(params=sorted(SHELLS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, SHELLS[request.param])


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
        assert "eth1 is missing" in bench.refused()

    def test_a_failing_ip_aborts_the_dump(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run("network-lock", fail="ip").returncode == 1
        assert "taken out of their bridges" in bench.refused()

    def test_with_crius_own_lock_the_bridges_are_left_alone(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run("network-lock", STASIS_LOCK="criu").returncode == 0
        assert bench.run("network-unlock", STASIS_LOCK="criu").returncode == 0
        assert bench.calls() == ""

    def test_a_passed_deadline_aborts_before_anything_is_detached(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run("network-lock", STASIS_DEADLINE=str(uptime() - 1)).returncode == 1
        assert bench.calls() == ""
        assert "timeout" in bench.refused()

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
        assert "eth0 is missing" in bench.warned()
        assert "veth2 is empty" in bench.warned()
        assert bench.refused() == ""

    def test_a_failing_ip_is_said_and_the_rest_is_still_done(self, bench: Bench) -> None:
        port = bench.port("host0")
        bench.veth(0, bridge="br0", port="isolated 1\n", vlan="add vid 5\n")
        assert bench.run("network-unlock", fail="ip").returncode == 1
        assert "vlan add dev host0 vid 5\n" in bench.calls()
        assert (port / "isolated").read_text() == "1"
        assert "not everything could be put back: ip" in bench.warned()
        assert bench.refused() == ""

    def test_an_attribute_that_the_kernel_refuses_is_named(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0", port="isolated 1\n")
        assert bench.run("network-unlock").returncode == 1
        assert "host0:isolated" in bench.warned()
        assert bench.refused() == ""
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
        assert "failed with status 9" in bench.warned()
        assert bench.refused() == ""

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

    def test_one_setting_that_cannot_be_put_back_does_not_keep_the_others(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0", sysctl="ipv4 rp_filter 2\nipv6 disable_ipv6 0\n")
        file = bench.sysctl("host0", "ipv6", "disable_ipv6", "1")
        assert bench.run("network-unlock").returncode == 1
        assert file.read_text() == "0"
        assert "host0:rp_filter" in bench.warned()

    def test_dump_is_refused_where_it_cannot_be_shut_off(self, bench: Bench) -> None:
        bench.veth(0, **self.RECORD)
        assert bench.run("network-lock").returncode == 1
        assert "host0 could not be shut off" in bench.refused()
        assert bench.calls() == ""

    def test_without_a_record_nothing_is_changed(self, bench: Bench) -> None:
        bench.veth(0, bridge="br0")
        file = bench.sysctl("host0", "ipv4", "rp_filter", "0")
        assert bench.run("network-lock").returncode == 0
        assert file.read_text() == "0"


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
        assert "could not be made" in bench.refused()


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
        assert (bench.work / "ipv6").read_text() == "", "the module would put it back once more"

    def test_what_cannot_be_put_back_is_said_and_left_to_the_module(self, bench: Bench, namespace: Path) -> None:
        assert bench.run("post-setup-namespaces", STASIS_IPV6="1", CRTOOLS_INIT_PID="4711").returncode == 0
        assert bench.run("post-resume", STASIS_IPV6="1", CRTOOLS_INIT_PID="4711", fail="nsenter").returncode == 0
        assert "IPv6" in bench.warned()
        assert bench.refused() == ""
        assert (bench.work / "ipv6").read_text().split() == [
            f"{namespace}/accept_dad",
            "2",
            f"{namespace}/ip_nonlocal_bind",
            "0",
        ]

    def test_a_record_that_is_gone_is_said(self, bench: Bench, namespace: Path) -> None:
        assert bench.run("post-setup-namespaces", STASIS_IPV6="1", CRTOOLS_INIT_PID="4711").returncode == 0
        (bench.work / "ipv6").unlink()
        assert bench.run("post-resume", STASIS_IPV6="1", CRTOOLS_INIT_PID="4711").returncode == 0
        assert "IPv6" in bench.warned()

    def test_a_container_without_ipv6_is_left_alone(self, bench: Bench, namespace: Path) -> None:
        for action in ("post-setup-namespaces", "post-resume"):
            assert bench.run(action, CRTOOLS_INIT_PID="4711").returncode == 0
        assert bench.calls() == ""
        assert self.values(namespace) == ["2", "0"]

    def test_what_cannot_be_entered_aborts_the_restore(self, bench: Bench, namespace: Path) -> None:
        done = bench.run("post-setup-namespaces", STASIS_IPV6="1", CRTOOLS_INIT_PID="4711", fail="nsenter")
        assert done.returncode == 1
        assert "IPv6" in bench.refused()


class TestLost:
    """As LXC's monitor runs it: with the name of the container, `lxc` and `stop` behind its own argument."""

    ARGUMENTS = ("--lost", "web1", "lxc", "stop")

    def lost(self, bench: Bench, **environment: str) -> str:
        given = {"CRTOOLS_SCRIPT_ACTION": "UNSET", "CRTOOLS_IMAGE_DIR": "UNSET", "STASIS_NICS": str(bench.images)}
        done = bench.run("", *self.ARGUMENTS, **{**given, **environment})
        assert (done.returncode, done.stderr) == (0, "")
        return bench.calls()

    @pytest.fixture
    def init(self, bench: Bench) -> t.Iterator[subprocess.Popen[bytes]]:
        """A restored init that lives, as the hook itself has recorded it."""
        process = subprocess.Popen(["/bin/sleep", "30"])
        restored = str(bench.work / "restored")
        assert bench.run("post-restore", STASIS_RESTORED=restored, CRTOOLS_INIT_PID=str(process.pid)).returncode == 0
        bench.log.unlink()
        bench.veth(0, bridge="br0")
        bench.veth(2)
        yield process
        process.kill()
        process.wait()

    def test_the_veths_of_a_container_that_still_lives_are_removed(
        self, bench: Bench, init: subprocess.Popen[bytes]
    ) -> None:
        assert self.lost(bench) == "ip -force -batch -\nlink del dev host0\nlink del dev host2\n\n"

    def test_after_an_ordinary_stop_nothing_is_done(self, bench: Bench, init: subprocess.Popen[bytes]) -> None:
        init.kill()
        os.waitid(os.P_PID, init.pid, os.WEXITED | os.WNOWAIT)
        assert self.lost(bench) == "", "a zombie was taken for a living init"
        init.wait()
        assert self.lost(bench) == ""

    def test_another_process_with_its_pid_is_not_it(self, bench: Bench, init: subprocess.Popen[bytes]) -> None:
        (bench.work / "init").write_text(f"{init.pid} 17\n")
        assert self.lost(bench) == ""

    @pytest.mark.parametrize("unset", ["STASIS_WORK", "STASIS_NICS"])
    def test_without_a_record_nothing_is_done(self, bench: Bench, init: subprocess.Popen[bytes], unset: str) -> None:
        assert self.lost(bench, **{unset: "UNSET"}) == ""

    def test_a_failure_keeps_nobody_elses_hook_from_being_run(
        self, bench: Bench, init: subprocess.Popen[bytes]
    ) -> None:
        given = {"CRTOOLS_SCRIPT_ACTION": "UNSET", "CRTOOLS_IMAGE_DIR": "UNSET", "STASIS_NICS": str(bench.images)}
        assert bench.run("", *self.ARGUMENTS, fail="ip", **given).returncode == 0
        assert "could not all be removed" in bench.warned()

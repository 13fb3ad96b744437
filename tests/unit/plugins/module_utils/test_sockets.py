# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _sockets
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._nics import Nic

# /proc/PID/net/tcp and tcp6 of a container whose server listens on [::]:7000, captured on kernel 6.18.
FIXTURES = Path(__file__).parents[2] / "fixtures" / "sockets"


def captured(name: str) -> list[_sockets.Connection]:
    return [
        connection
        for family in ("tcp", "tcp6")
        for connection in _sockets.parse((FIXTURES / f"{name}.{family}").read_text())
    ]


def veth(index: int, **more: object) -> Nic:
    return Nic(**{"index": index, "kind": "veth", "name": f"eth{index}", "veth": "h", "bridge": "br0", **more})  # type: ignore[arg-type]


def test_a_client_of_an_ipv6_socket_is_an_ipv4_connection() -> None:
    (one,) = captured("bridge")
    assert (str(one.local), one.local_port) == ("10.213.20.11", 7000)
    assert (str(one.remote), one.remote_port, one.state) == ("10.213.20.1", 49332, 1)


def test_ipv6_addresses_are_read_in_the_hosts_byte_order() -> None:
    assert {str(one.local) for one in captured("six")} == {"::1"}


def test_listening_and_time_wait_sockets_are_no_connections() -> None:
    assert "06" in (FIXTURES / "own.tcp").read_text()
    assert len(captured("own")) == 2


@pytest.mark.parametrize(("name", "local"), [("bridge", False), ("loopback", True), ("own", True), ("six", True)])
def test_only_connections_that_never_leave_the_container_are_local(name: str, local: bool) -> None:
    assert _sockets.local_only(captured(name)) is local


def test_two_ends_on_two_addresses_of_the_container_are_local() -> None:
    header = "  sl  local_address rem_address   st\n"
    out = "   0: 0B14D50A:DA3C 0C14D50A:1B58 01\n"
    back = "   1: 0C14D50A:1B58 0B14D50A:DA3C 08\n"
    assert _sockets.local_only(_sockets.parse(header + out + back))
    assert not _sockets.local_only(_sockets.parse(header + out))
    assert _sockets.local_only(_sockets.parse(header + out), ["10.213.20.12/24"])


def test_reads_both_families_of_a_running_container(tmp_path: Path) -> None:
    net = tmp_path / "42" / "net"
    net.mkdir(parents=True)
    for family in ("tcp", "tcp6"):
        (net / family).write_text((FIXTURES / f"loopback.{family}").read_text())
    assert _sockets.established(42, proc=str(tmp_path)) == captured("loopback")


def test_a_kernel_without_ipv6_is_no_error(tmp_path: Path) -> None:
    net = tmp_path / "42" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_text((FIXTURES / "own.tcp").read_text())
    assert len(_sockets.established(42, proc=str(tmp_path))) == 1


def test_a_container_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StasisError, match="init 42 is gone"):
        _sockets.established(42, proc=str(tmp_path))


class TestChooseLock:
    def test_bridged_veths_with_connections_to_the_outside_are_detached(self) -> None:
        assert _sockets.choose_lock([veth(0), veth(2), Nic(3, "empty")], captured("bridge")) == "bridge"

    def test_without_any_nic_there_is_nothing_to_detach_and_nothing_to_filter(self) -> None:
        assert _sockets.choose_lock([], []) == "bridge"

    @pytest.mark.parametrize("name", ["loopback", "own", "six"])
    def test_a_connection_inside_the_container_needs_crius_lock(self, name: str) -> None:
        assert _sockets.choose_lock([veth(0)], captured(name)) == "criu"

    @pytest.mark.parametrize(
        "other",
        [
            veth(1, bridge=""),
            veth(1, problems=("eth1 would lose something.",)),
            Nic(1, "none"),
            Nic(1, "macvlan", "eth1", link="eth0"),
            Nic(1, "tun", "tap0"),
            Nic(1, "inner veth", "docker0"),
        ],
        ids=lambda nic: f"{nic.kind}-{nic.name}-{len(nic.problems)}",
    )
    def test_a_nic_that_cannot_be_detached_needs_crius_lock(self, other: Nic) -> None:
        assert _sockets.choose_lock([veth(0), other], captured("bridge")) == "criu"

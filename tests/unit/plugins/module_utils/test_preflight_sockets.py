# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight's pure check of sockets and terminals, on what real containers said and what cannot be made everywhere."""

from __future__ import annotations

import sys
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _findings, _preflight_sockets
from ansible_collections.stasis.lxc.plugins.module_utils._findings import Options
from ansible_collections.stasis.lxc.plugins.module_utils._proc import Descriptor, Task
from ansible_collections.stasis.lxc.tests.unit.support.each import each
from ansible_collections.stasis.lxc.tests.unit.support.facts import (
    CHARACTER,
    facts,
    options,
    process,
    status,
    text,
    words,
)


def sockets(*held: Descriptor, given: Options | None = None, **changes: t.Any) -> list[tuple[str, str]]:
    return words(_preflight_sockets.check(facts(process(descriptors=held), **changes), given or Options()))


def test_unix_sockets_of_an_ordinary_process() -> None:
    unix = tuple(_preflight_sockets.unix_sockets(text("ordinary/ss")))
    assert len(unix) == len(text("ordinary/ss").splitlines())
    assert {one.type for one in unix} == {"u_str", "u_dgr", "u_seq"}
    [listener] = [one for one in unix if one.state == "LISTEN"]
    assert len(listener.pending) == 1
    assert [one.open for one in unix].count(False) == 1
    held = [Descriptor(number, f"socket:[{one.inode}]", protocol="UNIX") for number, one in enumerate(unix)]
    assert sockets(*held, unix=unix) == []
    # Without its listener the connection that waits there is lost.
    rest = [one for one in held if one.inode != listener.inode]
    assert sockets(*rest, unix=tuple(one for one in unix if one.inode != listener.inode)) == [("unix-peer", "blocks")]


def test_unix_socket_with_a_name_that_has_spaces() -> None:
    line = "u_str ESTAB  0      0      /tmp/a b 12 c 901 * 902 <-> ino:1 dev:0/65024"
    [one] = _preflight_sockets.unix_sockets(line + "\nnonsense\n")
    assert (one.inode, one.peer, one.open) in ((901, 902, True), (12, 902, True))


def unix(kind: str, inode: int, peer: int, queued: int = 0) -> _findings.UnixSocket:
    return _findings.UnixSocket(kind, "ESTAB", queued, inode, peer, True)


def test_unix_peers_outside() -> None:
    held = [Descriptor(3, "socket:[10]", protocol="UNIX"), Descriptor(4, "socket:[11]", protocol="UNIX")]
    assert sockets(*held, unix=(unix("u_str", 10, 11), unix("u_str", 11, 10))) == []
    assert sockets(*held, unix=(unix("u_str", 10, 99),)) == [("unix-peer", "blocks")]
    assert sockets(*held, unix=(unix("u_dgr", 10, 99),)) == [("unix-peer", "blocks")]
    assert sockets(*held, unix=(unix("u_dgr", 10, 0),)) == []
    assert sockets(*held, unix=(unix("u_str", 20, 99),)) == [], "of a process outside"


def test_unix_peer_that_may_be_on_its_way() -> None:
    held = Descriptor(3, "socket:[10]", protocol="UNIX")
    assert sockets(held, unix=(unix("u_str", 10, 99, queued=1),)) == [("unix-peer", "may fail")]


def test_external_datagram_sockets() -> None:
    held = Descriptor(3, "socket:[10]", protocol="UNIX")
    given = options(criu_args=("--ext-unix-sk",))
    near = (unix("u_dgr", 10, 99), unix("u_dgr", 99, 0))
    assert sockets(held, unix=near) == [("unix-peer", "blocks")]
    assert sockets(held, given=given, unix=near) == []
    assert sockets(held, given=given, unix=near[:1]) == [("unix-peer", "blocks")], "in another network namespace"
    assert sockets(held, given=given, unix=(unix("u_str", 10, 99),)) == [("unix-peer", "blocks")]


@pytest.mark.parametrize("protocol", ["AF_VSOCK", "XDP", "MPTCP", "SCTP", "ALG", "TIPC", "MPTCPv6"])
def test_sockets_that_criu_does_not_know(protocol: str) -> None:
    assert sockets(Descriptor(3, "socket:[10]", protocol=protocol)) == [("socket", "blocks")]


@each("protocol", ["TCP", "TCPv6", "UDP", "RAW", "PING", "PACKET", "NETLINK", "UNIX-STREAM", ""])
def test_sockets_that_criu_keeps(protocol: str) -> None:
    assert sockets(Descriptor(3, "socket:[10]", protocol=protocol)) == []


def test_one_socket_in_many_processes_is_one_finding() -> None:
    held = Descriptor(3, "socket:[10]", protocol="XDP")
    tasks = [process(pid=pid, descriptors=(held,)) for pid in (5, 6, 7)]
    assert words(_preflight_sockets.check(facts(*tasks), Options())) == [("socket", "blocks")]


def test_netlink_data() -> None:
    assert _preflight_sockets.unread_netlink(text("ordinary/net_netlink")) == {}
    unread = _preflight_sockets.unread_netlink(text("netlink-unread/net_netlink"))
    [inode] = [number for number in unread if f"socket:[{number}]" in text("netlink-unread/fd")]
    assert unread[inode] > 0
    assert sockets(Descriptor(3, f"socket:[{inode}]", protocol="NETLINK"), unread=unread) == [
        ("netlink-data", "may fail")
    ]
    assert sockets(Descriptor(3, "socket:[1]", protocol="NETLINK"), unread=unread) == []


def test_connections_that_wait() -> None:
    tcp = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1B58 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
        "   1: 0100007F:1B58 0100007F:9C40 01 00000000:00000005 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1\n"
    )
    assert _preflight_sockets.unaccepted(tcp) == 2
    assert _preflight_sockets.unaccepted("") == 0
    # Of the connection only: one has no socket yet, and one listens.
    assert _preflight_sockets.connected(tcp) == {2}
    assert _preflight_sockets.connected(tcp.replace("0        0 2 1", "0        0 0 1")) == set()
    assert sockets(backlog=2) == [("tcp-in-flight", "note")]
    assert sockets(backlog=2, given=options(skip_in_flight=False)) == [("tcp-in-flight", "may fail")]


def test_tcp_connections_that_are_not_to_be_kept() -> None:
    held = Descriptor(3, "socket:[10]", protocol="TCP")
    given = options(tcp_established=False)
    assert sockets(held, connected=frozenset((10,))) == []
    assert sockets(held, connected=frozenset((10, 11)), given=given) == [("tcp-established", "blocks")]
    assert sockets(held, connected=frozenset((11,)), given=given) == [], "which no process holds"


def test_terminals() -> None:
    slave = Descriptor(0, "/dev/pts/3", "mnt_id:\t9\n", status(CHARACTER, (136, 3)))
    master = Descriptor(7, "/dev/ptmx", "mnt_id:\t9\ntty-index:\t3\n", status(CHARACTER, (5, 2)))
    control = Descriptor(8, "/dev/tty", "mnt_id:\t9\n", status(CHARACTER, (5, 0)))
    null = Descriptor(9, "/dev/null", "mnt_id:\t9\n", status(CHARACTER, (1, 3)))
    assert sockets(slave, master, null) == []
    assert sockets(slave) == [("terminal", "blocks")]
    assert sockets(replace(slave, link="/dev/pts/3 (deleted)")) == []
    assert sockets(slave, given=options(criu_args=("--shell-job",))) == []
    assert sockets(control) == [("terminal", "may fail")]


@pytest.mark.parametrize(
    ("inside", "name", "link", "remedy"),
    [
        (1, "init", "/dev/pts/0", "lxc.console.path = none"),
        (60, "agetty", "/dev/pts/0", "console-getty.service"),
        (60, "syslogd", "/dev/console", "lxc.console.path = none"),
        (60, "bash", "/dev/pts/0", "End the login"),
    ],
)
def test_remedy_for_a_terminal_depends_on_who_uses_it(inside: int, name: str, link: str, remedy: str) -> None:
    task = Task(
        1060, inside, name, "S", descriptors=(Descriptor(0, link, "mnt_id:\t9\n", status(CHARACTER, (136, 0))),)
    )
    [one] = _preflight_sockets.check(facts(tasks=(task,)), Options())
    assert remedy in one.remedy


def test_controlling_terminal_is_fine_beside_the_terminal_itself() -> None:
    slave = Descriptor(0, "/dev/pts/3", "mnt_id:\t9\n", status(CHARACTER, (136, 3)))
    master = Descriptor(7, "/dev/ptmx", "mnt_id:\t9\ntty-index:\t3\n", status(CHARACTER, (5, 2)))
    control = Descriptor(8, "/dev/tty", "mnt_id:\t9\n", status(CHARACTER, (5, 0)))
    assert sockets(control, slave, master) == []


TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {one}:1B5E {other}:A096 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0
"""
LINK_LOCAL = f"{int.from_bytes(bytes((0xFE, 0x80, 0, 0)), sys.byteorder):08X}" + "0" * 24
OTHER = f"{int.from_bytes(bytes((0x20, 0x01, 0x0D, 0xB8)), sys.byteorder):08X}" + "0" * 24


@pytest.mark.parametrize(
    ("one", "other", "state", "expected"),
    [
        (LINK_LOCAL, LINK_LOCAL, "01", {9}),
        (OTHER, LINK_LOCAL, "02", {9}),
        (LINK_LOCAL, OTHER, "08", {9}),
        (LINK_LOCAL, OTHER, "0A", set()),
        (OTHER, OTHER, "01", set()),
    ],
)
def test_connections_over_a_link_local_address(one: str, other: str, state: str, expected: set[int]) -> None:
    text = TCP6.format(one=one, other=other, state=state, inode=9)
    assert _preflight_sockets.link_local(text) == expected


def test_connection_over_a_link_local_address_blocks_where_it_is_the_containers() -> None:
    one = Descriptor(3, "socket:[9]", protocol="TCPv6")
    assert sockets(one, link_local=frozenset((9,))) == [("tcp-link-local", "blocks")]
    assert sockets(one, link_local=frozenset((8,))) == []


@pytest.mark.parametrize(
    ("pending", "sent", "expected"),
    [((11,), 0, []), ((11,), 5, [("unix-in-flight", "may fail")]), ((0,), 0, [("unix-in-flight", "may fail")])],
)
def test_unix_connections_that_are_not_accepted(
    pending: tuple[int, ...], sent: int, expected: list[tuple[str, str]]
) -> None:
    held = [Descriptor(3, "socket:[10]", protocol="UNIX"), Descriptor(4, "socket:[11]", protocol="UNIX")]
    listener = _findings.UnixSocket("u_str", "LISTEN", 1, 10, 0, True, pending)
    client = _findings.UnixSocket("u_str", "ESTAB", 0, 11, 0, bool(pending[0]), (), sent)
    assert sockets(*held[: 1 + bool(pending[0])], unix=(listener, client)) == expected


def test_what_a_unix_socket_has_sent() -> None:
    [one] = _preflight_sockets.unix_sockets("u_str ESTAB 0      768    * 901 * 0 <-> ")
    assert (one.queued, one.sent) == (0, 768)


def test_renamed_unix_socket_loses() -> None:
    one = Descriptor(3, "socket:[10]", protocol="UNIX")
    assert sockets(one, renamed={10: ("/run/a", "/run/b")}) == [("unix-renamed", "loses")]
    assert sockets(one, renamed={11: ("/run/a", "/run/b")}) == []


def test_name_and_file_of_a_unix_socket() -> None:
    [one] = _preflight_sockets.unix_sockets("u_str LISTEN 0 5 /run/a b 901 * 0 <-> ino:77 dev:0/65024 peers: 0 12")
    assert (one.name, one.file, one.pending) == ("/run/a b", 77, (0, 12))

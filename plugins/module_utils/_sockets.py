# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The TCP connections of a container, read from /proc, and what they mean for the network lock."""

from __future__ import annotations

import ipaddress
import sys
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files, _nics

Address = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

# Every state of a connection whose other end can still send to it, by its number in include/net/tcp_states.h:
# not TIME_WAIT (6), CLOSE (7), LISTEN (10) nor NEW_SYN_RECV (12), which no socket of a task stands behind.
_ALIVE = frozenset((1, 2, 3, 4, 5, 8, 9, 11))


class Connection(t.NamedTuple):
    """One TCP connection: both ends (IPv4-mapped IPv6 addresses as IPv4), and the kernel's number of its state."""

    local: Address
    local_port: int
    remote: Address
    remote_port: int
    state: int


def established(init_pid: int, *, proc: str = "/proc") -> list[Connection]:
    """The TCP connections in the network namespace of init_pid that are not closed, IPv4 first.

    Raises StasisError where the container is gone. Without IPv6 in the kernel there is no tcp6; that is no error.
    """
    found = []
    for family in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/{init_pid}/net/{family}", encoding="ascii") as stream:
                found += parse(stream.read())
        except FileNotFoundError as exc:
            if family == "tcp":
                raise _errors.StasisError(f"The container's init {init_pid} is gone.", "Run the task again.") from exc
    return found


def parse(text: str) -> list[Connection]:
    """The connections that are not closed in the text of /proc/net/tcp or tcp6. Pure."""
    found = []
    for line in _files.lines(text)[1:]:
        fields = line.split()
        if len(fields) < 4 or int(fields[3], 16) not in _ALIVE:
            continue
        local, local_port = _endpoint(fields[1])
        remote, remote_port = _endpoint(fields[2])
        found.append(Connection(local, local_port, remote, remote_port, int(fields[3], 16)))
    return found


def local_only(connections: t.Sequence[Connection], own_addresses: t.Iterable[str] = ()) -> bool:
    """Whether any of the connections never leaves the container: over loopback, or between its own addresses.

    A container's two ends of one connection need no own_addresses: the connection then is in the list twice,
    once from each end. Pure.
    """
    own = {ipaddress.ip_address(address.partition("/")[0]) for address in own_addresses}
    ends = {(one.local, one.local_port, one.remote, one.remote_port) for one in connections}
    return any(
        one.local.is_loopback
        or one.remote.is_loopback
        or one.local == one.remote
        or one.remote in own
        or (one.remote, one.remote_port, one.local, one.local_port) in ends
        for one in connections
    )


def choose_lock(nics: t.Sequence[_nics.Nic], connections: t.Sequence[Connection]) -> str:
    """What `network_lock: auto` means for this container: "bridge" or "criu". Pure.

    "bridge": the hook takes the veths out of their bridges, which stops every connection that leaves the
    container, and is faster. "criu": CRIU's own packet filter, wherever something would go on over another way,
    and where a veth has something that taking it out of its bridge would cost (its problems).
    """
    for nic in nics:
        bridged = nic.kind == "veth" and nic.bridge and not nic.problems
        if not bridged and nic.kind != "empty":
            return "criu"
    return "criu" if local_only(connections) else "bridge"


def _endpoint(text: str) -> tuple[Address, int]:
    """`0100007F:1F90` and its like: the address in 32-bit words in the host's byte order, the port in hex."""
    digits, _colon, port = text.partition(":")
    words = [int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(words))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped, int(port, 16)
    return address, int(port, 16)

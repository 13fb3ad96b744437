# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Findings about sockets and terminals, whose other end may be outside of the container. Pure."""

from __future__ import annotations

import os
import re
import stat
import sys
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _files, _findings, _proc

# What the kernel calls the protocols of the sockets that CRIU knows (read: dump_socket() in its sockets.c and
# can_dump_ipproto() in its sk-inet.c).
_KEPT = frozenset(
    [
        "UNIX",
        "UNIX-STREAM",
        "NETLINK",
        "PACKET",
        "TCP",
        "TCPv6",
        "UDP",
        "UDPv6",
        "UDP-Lite",
        "UDPLITEv6",
        "RAW",
        "RAWv6",
        "PING",
        "PINGv6",
    ]
)
_REMEDIES = {
    "MPTCP": "Turn Multipath TCP off: GODEBUG=multipathtcp=0 for a program in Go, sysctl net.mptcp.enabled=0 inside.",
}
_SS = re.compile(
    r"(u_\w+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(.*?)\s+(\d+)\s+\S.*?\s+(\d+)\s+([<-]-[->])(?: ino:(\d+))?(?:.*? peers:([\d ]*))?"
)
# TIME_WAIT, CLOSE, LISTEN and NEW_SYN_RECV, by their numbers in include/net/tcp_states.h.
_UNCONNECTED = frozenset(("06", "07", "0A", "0C"))
_GETTY = "console-getty.service"
_PTMX, _PTS, _CTTY = (5, 2), 136, (5, 0)


def unix_sockets(text: str) -> list[_findings.UnixSocket]:
    """The sockets in the output of `ss -H -x -a -n -e`. Lines in another form are left out."""
    found = []
    for line in _files.lines(text):
        match = _SS.match(line)
        if match:
            kind, state, queued, sent, name, inode, peer, shut, file, peers = match.groups()
            pending = tuple(int(number) for number in (peers or "").split())
            found.append(
                _findings.UnixSocket(
                    kind,
                    state,
                    int(queued),
                    int(inode),
                    int(peer),
                    shut == "<->",
                    pending,
                    int(sent),
                    name,
                    int(file or 0),
                )
            )
    return found


def unread_netlink(text: str) -> dict[int, int]:
    """Bytes that wait to be read, by inode, in the text of /proc/PID/net/netlink."""
    rows = [line.split() for line in _files.lines(text)[1:]]
    return {int(row[9]): int(row[4]) for row in rows if len(row) > 9 and row[4] != "0"}


def unaccepted(text: str) -> int:
    """Connections that wait to be accepted, in the text of /proc/PID/net/tcp or tcp6."""
    rows = [line.split() for line in _files.lines(text)[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if len(row) > 4 and row[3] == "0A")


def connected(text: str) -> set[int]:
    """Inodes of the sockets that have a connection, in the text of /proc/PID/net/tcp or tcp6."""
    rows = [line.split() for line in _files.lines(text)[1:]]
    return {int(row[9]) for row in rows if len(row) > 9 and row[3] not in _UNCONNECTED} - {0}


def link_local(text: str) -> set[int]:
    """Inodes of the connections from or to a link-local address (fe80::/10), in the text of /proc/PID/net/tcp6."""
    rows = [line.split() for line in _files.lines(text)[1:]]
    return {
        int(row[9])
        for row in rows
        if len(row) > 9 and row[3] not in _UNCONNECTED and any(_is_link_local(text) for text in row[1:3])
    } - {0}


def _is_link_local(text: str) -> bool:
    # The kernel prints each four bytes of the address as a number of its own byte order.
    first = int(text[:8], 16).to_bytes(4, sys.byteorder)
    return first[0] == 0xFE and first[1] & 0xC0 == 0x80


def check(facts: _findings.Facts, options: _findings.Options) -> list[_findings.Finding]:
    """Every finding about sockets and terminals."""
    found: list[_findings.Finding] = []
    holders: dict[int, tuple[_proc.Task, _proc.Descriptor]] = {}
    for task in facts.tasks:
        for one in task.descriptors:
            if one.kind == "socket":
                holders.setdefault(one.inode, (task, one))
    for inode, (task, one) in holders.items():
        found += _socket(facts, inode, f"{task.label}, descriptor {one.number}", one.protocol)
    subjects = {inode: f"{task.label}, descriptor {one.number}" for inode, (task, one) in holders.items()}
    if not options.criu.tcp_established:
        found += _connections(facts, subjects)
    found += _link_local(facts, subjects)
    found += _peers(facts, options, subjects)
    found += _unaccepted(facts, subjects)
    found += _renamed(facts, subjects)
    found += _waiting(facts, options)
    if not options.allows.shell_job:
        found += _terminals(facts)
    return found


def _socket(facts: _findings.Facts, inode: int, subject: str, protocol: str) -> t.Iterator[_findings.Finding]:
    if protocol and protocol not in _KEPT:
        family = protocol[3:] if protocol.startswith("AF_") else protocol
        yield _findings.Finding(
            "socket",
            _findings.BLOCKS,
            subject,
            f"It is a socket of kind {family}, which CRIU cannot dump.",
            _REMEDIES.get(family, "Stop the program first."),
        )
    if inode in facts.unread:
        yield _findings.Finding(
            "netlink-data",
            _findings.MAY_FAIL,
            subject,
            f"{facts.unread[inode]} bytes wait to be read in its netlink socket; the dump fails unless they are by then.",
            "Run the task again; where it stays so, restart the program, which does not read its socket.",
        )


def _connections(facts: _findings.Facts, inside: t.Mapping[int, str]) -> t.Iterator[_findings.Finding]:
    for inode in sorted(facts.connected & set(inside)):
        yield _findings.Finding(
            "tcp-established",
            _findings.BLOCKS,
            inside[inode],
            "It has a TCP connection, and tcp_established is false.",
            "Set tcp_established to true, or close it.",
        )


def _link_local(facts: _findings.Facts, inside: t.Mapping[int, str]) -> t.Iterator[_findings.Finding]:
    for inode in sorted(facts.link_local & set(inside)):
        yield _findings.Finding(
            "tcp-link-local",
            _findings.BLOCKS,
            inside[inode],
            "It has a TCP connection over an IPv6 link-local address (fe80::), which CRIU dumps and cannot restore.",
            "Close it, or connect over another address.",
        )


def _unaccepted(facts: _findings.Facts, inside: t.Mapping[int, str]) -> t.Iterator[_findings.Finding]:
    sockets = {one.inode: one for one in facts.unix}
    for one in facts.unix:
        if one.state != "LISTEN" or one.inode not in inside:
            continue
        written = [number for number in one.pending if number in sockets and sockets[number].sent]
        if 0 in one.pending:
            what = "was closed by its client before it was accepted"
        elif written:
            what = "already has data, and is not accepted yet"
        else:
            continue
        yield _findings.Finding(
            "unix-in-flight",
            _findings.MAY_FAIL,
            inside[one.inode],
            f"A connection to its Unix socket {what}; the dump fails unless it is accepted by then.",
            "Run the task again; where it stays so, restart the program, which does not accept.",
        )


def _peers(
    facts: _findings.Facts, options: _findings.Options, inside: t.Mapping[int, str]
) -> t.Iterator[_findings.Finding]:
    ours = [one for one in facts.unix if one.inode in inside]
    pending = {number for one in facts.unix for number in one.pending}
    # A descriptor that is on its way through a socket is in no process, so that its holder cannot be told.
    travelling = any(one.state != "LISTEN" and one.queued for one in ours)
    external = options.allows.external_unix
    listed = {one.inode for one in facts.unix}
    for one in ours:
        if one.state == "LISTEN" or one.peer in inside:
            continue
        lost = one.type != "u_dgr" and one.state == "ESTAB" and one.open and one.inode not in pending
        if not one.peer and not lost:
            continue
        # That option helps with datagrams alone, and only where the other end lives in the same network namespace.
        if one.type == "u_dgr" and external and one.peer in listed:
            continue
        yield _findings.Finding(
            "unix-peer",
            _findings.MAY_FAIL if travelling else _findings.BLOCKS,
            inside[one.inode],
            "The other end of its Unix socket is outside of the container.",
            "Stop the program, or what it talks to on the host; look for sockets in the bind mounts of the configuration.",
        )


def _renamed(facts: _findings.Facts, inside: t.Mapping[int, str]) -> t.Iterator[_findings.Finding]:
    for inode, (old, new) in sorted(facts.renamed.items()):
        if inode in inside:
            yield _findings.lost(
                "unix-renamed",
                inside[inode],
                f"Its Unix socket was renamed from {old} to {new}; a restore makes it under the old name.",
                f"After the restore run `mv {old} {new}` inside, or restart the program.",
            )


def _waiting(facts: _findings.Facts, options: _findings.Options) -> t.Iterator[_findings.Finding]:
    if facts.backlog:
        waiting = f"{facts.backlog} TCP connection{'s wait' if facts.backlog > 1 else ' waits'} to be accepted"
        if options.criu.skip_in_flight:
            yield _findings.Finding(
                "tcp-in-flight",
                _findings.NOTE,
                "network",
                f"{waiting}; CRIU leaves them out, and their clients must connect again.",
                "Run the task when the server has accepted them.",
            )
        else:
            yield _findings.Finding(
                "tcp-in-flight",
                _findings.MAY_FAIL,
                "network",
                f"{waiting}, and skip_in_flight is false.",
                "Set skip_in_flight to true, or run the task again.",
            )


def _terminals(facts: _findings.Facts) -> t.Iterator[_findings.Finding]:
    held = [(task, one) for task in facts.tasks for one in task.descriptors if _is_terminal(one)]
    masters = {_proc.status(one.info).get("tty-index") for _task, one in held if _number(one) == _PTMX}
    for task, one in held:
        subject = f"{task.label}, descriptor {one.number}"
        major, minor = _number(one)
        # A terminal whose master is gone has lost its name as well, and CRIU keeps it as one that hangs up.
        if major == _PTS and str(minor) not in masters and not one.link.endswith(_proc.DELETED):
            yield _findings.Finding(
                "terminal",
                _findings.BLOCKS,
                subject,
                f"It uses the terminal {one.link}, whose master is outside of the container.",
                _terminal_remedy(task, one),
            )
        elif (major, minor) == _CTTY and not any(
            _number(other)[0] == _PTS for holder, other in held if holder.pid == task.pid
        ):
            yield _findings.Finding(
                "terminal",
                _findings.MAY_FAIL,
                subject,
                "It has opened /dev/tty, and CRIU may not find the terminal behind it.",
                "End the session, or send the output of the program to a file.",
            )


def _terminal_remedy(task: _proc.Task, one: _proc.Descriptor) -> str:
    if task.name.endswith("getty"):
        return f"Run `systemctl disable --now {_GETTY}` inside, or set lxc.console.path = none and start it again."
    if task.inside == 1 or one.link.endswith("/console"):
        return "Set lxc.console.path = none in the container's configuration, and start it again."
    return "End the login or lxc-attach session; for a daemon, send its output to a file."


def _is_terminal(one: _proc.Descriptor) -> bool:
    return one.status is not None and stat.S_ISCHR(one.status.st_mode) and _number(one)[0] in (5, _PTS)


def _number(one: _proc.Descriptor) -> tuple[int, int]:
    rdev = one.status.st_rdev if one.status else 0
    return os.major(rdev), os.minor(rdev)

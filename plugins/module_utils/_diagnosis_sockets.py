# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What goes wrong at a dump: sockets and pipes that CRIU cannot dump, or not at this moment."""

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis_types

SOCKET_RULES: tuple[_diagnosis_types.Rule, ...] = (
    # IP sockets
    _diagnosis_types.Rule(
        "tcp_connected",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.DUMP,
        ("Connected TCP socket, consider using --%",),
        "The container has established TCP connections, and CRIU was not told what to do with them.",
        "Set tcp_established to true; at the restore tcp_close: true has them closed instead of taken up again.",
        "criu/sk-inet.c, can_dump_inet_sk()",
    ),
    _diagnosis_types.Rule(
        "tcp_in_flight",
        _diagnosis_types.TRANSIENT,
        _diagnosis_types.DUMP,
        ("In-flight connection (l) for %",),
        "A TCP connection was being set up and not accepted yet.",
        "Try again, or set skip_in_flight to true: the client then connects anew.",
        "criu/sk-inet.c, can_dump_inet_sk()",
    ),
    _diagnosis_types.Rule(
        "tcp_changing",
        _diagnosis_types.TRANSIENT,
        _diagnosis_types.DUMP,
        ("Socket state % obtained but expected %", "Unknown inet socket % state %"),
        "A TCP connection changed its state while CRIU looked at it.",
        "Try again.",
        "criu/sk-inet.c, gen_uncon_sk()",
    ),
    _diagnosis_types.Rule(
        "tcp_repair",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.DUMP,
        ("libsoccr_save() failed with %", "Unable to set TCP_REPAIR with setsockopt%"),
        "The kernel does not let CRIU read the state of a TCP connection.",
        "Run as root with CAP_NET_ADMIN on a kernel with CONFIG_TCP_REPAIR, or end the connection before.",
        "criu/sk-tcp.c, dump_tcp_conn_state()",
    ),
    _diagnosis_types.Rule(
        "tcp_lock",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.BOTH,
        (
            "Failed to lock TCP connection %",
            "Locking connection failed using nftables",
            "Iptables configuration failed",
        ),
        "CRIU could not block or let through the packets of a TCP connection with the firewall.",
        "Install iptables or nftables, or set network_lock to bridge or skip at the dump.",
        "criu/sk-tcp.c, tcp_repair_established()",
    ),
    _diagnosis_types.Rule(
        "mptcp",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.DUMP,
        ("Unsupported proto 262 for socket %",),
        "A program uses Multipath TCP, which CRIU cannot dump; servers in Go 1.24 and newer do so by default.",
        "Set GODEBUG=multipathtcp=0 in the program's environment, or net.mptcp.enabled=0 in the container.",
        "criu#2655",
    ),
    _diagnosis_types.Rule(
        "ip_protocol",
        _diagnosis_types.IMPOSSIBLE,
        _diagnosis_types.DUMP,
        (
            "Unsupported proto % for socket %",
            "Can't dump % inet socket %. Only stream, dgram and raw are supported.",
        ),
        "A program uses an IP protocol that CRIU cannot dump, for instance SCTP.",
        "Stop that program for the time of the dump.",
        "criu/sk-inet.c, can_dump_ipproto()",
    ),
    _diagnosis_types.Rule(
        "udp_corked",
        _diagnosis_types.TRANSIENT,
        _diagnosis_types.DUMP,
        ("Can't dump corked dgram socket %",),
        "A program was putting a UDP datagram together, and what it has is not readable.",
        "Try again.",
        "criu/sk-inet.c, can_dump_inet_sk()",
    ),
    # Other sockets
    _diagnosis_types.Rule(
        "socket_family",
        _diagnosis_types.IMPOSSIBLE,
        _diagnosis_types.DUMP,
        (
            "BUG! Unknown socket collected (family %",
            "Sockets (family % proto %) are not collected",
            "Unknown pair family %",
        ),
        "A program uses sockets of a family that CRIU cannot dump; 38 is AF_ALG, 40 AF_VSOCK, 44 AF_XDP.",
        "Stop that program for the time of the dump.",
        "criu/sockets.c, dump_socket()",
    ),
    _diagnosis_types.Rule(
        "netlink_unread",
        _diagnosis_types.TRANSIENT,
        _diagnosis_types.DUMP,
        ("The socket has data to read",),
        "A netlink socket, mostly of udev or systemd, had messages that its program had not read yet.",
        "Try again when nothing starts, stops or changes in the container.",
        "criu#508",
    ),
    _diagnosis_types.Rule(
        "netlink_groups",
        _diagnosis_types.IMPOSSIBLE,
        _diagnosis_types.DUMP,
        (
            "The netlink socket % has more than 32 groups",
            "The netlink socket % is bound to groups but not to portid",
            "Groups above 32 are not supported yet",
        ),
        "A program listens to netlink groups in a way that CRIU cannot dump.",
        "Stop that program for the time of the dump.",
        "criu/sk-netlink.c, dump_one_netlink_fd()",
    ),
    _diagnosis_types.Rule(
        "packet_membership",
        _diagnosis_types.IMPOSSIBLE,
        _diagnosis_types.DUMP,
        ("Multiple MC membership not supported (but can be)", "Unknown mc membership type %"),
        "A packet socket, mostly of a sniffer or a DHCP server, has joined a group more than once.",
        "Stop that program for the time of the dump.",
        "criu/sk-packet.c, dump_mreqs()",
    ),
    _diagnosis_types.Rule(
        "unix_peer_outside",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.DUMP,
        (
            "Dangling connection %",
            "Unix socket % without peer %",
            "Unix socket % with unreachable peer %",
            "External socket is used. Consider using --%",
            "Can't dump half of stream unix connection.%",
            "Can't dump name-less external socket.",
        ),
        "A process is connected through a Unix socket to one outside the container, mostly through a bind mount.",
        "Stop the service that uses it for the time of the dump, or take the bind mount of the socket away; for datagram "
        "sockets criu_args: [--ext-unix-sk] may do.",
        "criu/sk-unix.c, dump_one_unix_fd()",
    ),
    _diagnosis_types.Rule(
        "unix_in_flight",
        _diagnosis_types.TRANSIENT,
        _diagnosis_types.DUMP,
        (
            "Non-empty write queue on an in-flight socket %",
            "In-flight connection on non-listening socket %",
            "Found a closed in-flight socket to %",
        ),
        "A connection to a Unix socket had not been accepted yet and already had data.",
        "Try again when the service that listens answers.",
        "criu/sk-unix.c, dump_one_unix_fd()",
    ),
    _diagnosis_types.Rule(
        "unix_descriptor_in_flight",
        _diagnosis_types.TRANSIENT,
        _diagnosis_types.DUMP,
        (
            "Control messages in queue, not supported",
            "More than 1 SCM is not possible",
            "Unexpected 2nd SCM_RIGHTS from the kernel",
        ),
        "A descriptor or credentials were on their way through a Unix socket.",
        "Try again when the receiver has read them.",
        "criu/sk-queue.c, dump_packet_cmsg()",
    ),
    _diagnosis_types.Rule(
        "socket_other_netns",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.DUMP,
        ("Unable to dump a socket from an external network namespace",),
        "A process has a socket of a network namespace that is not the container's.",
        "Restart the program that got the socket from outside.",
        "criu/net.c, get_socket_ns()",
    ),
    _diagnosis_types.Rule(
        "pipe_packets",
        _diagnosis_types.IMPOSSIBLE,
        _diagnosis_types.DUMP,
        ("The packetized mode for pipes is not supported yet",),
        "A pipe in packet mode (O_DIRECT) holds data, which CRIU cannot dump.",
        "Try again when it has been read; if it stays, stop the program that uses it.",
        "criu/pipes.c, dump_one_pipe()",
    ),
)

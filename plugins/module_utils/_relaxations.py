# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The settings of systemd units that CRIU cannot dump, as data: what is set instead, what is lost, how one knows.

What gives a service only a mount namespace of its own (PrivateTmp=, ProtectSystem=, ProtectHome=, ProtectProc= ...) is not
here: CRIU keeps those.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

# What has to be so for a setting to have an effect in this container at all. In a user namespace bpf() loads nothing; where
# there is cgroup v1 as well, systemd filters device nodes by that.
BPF = "bpf"
DEVICE_BPF = "device bpf"
# systemd 257 was seen to add ProtectClock='s filter only to a unit that has a filter anyway, which device-filter takes back.
CLOCK_BPF = "device bpf for the clock"
# They make systemd load BPF programs.
ALL_BPF = frozenset((BPF, DEVICE_BPF, CLOCK_BPF))
NAMESPACES = "namespaces"
# systemd from 254 on shows a service the file with its own cgroup's memory pressure, where cgroup v2 has that controller.
PRESSURE = "memory pressure"
# Credentials lie in a ramfs, which CRIU does not know: with systemd before 254, or where a tmpfs cannot be kept from being
# swapped out, with a kernel before 6.3 or in a user namespace.
RAMFS = "credentials in a ramfs"
CONSOLE = "console"
TERMINALS = "terminals"

# How a value is read: lines that add up, of which any counts; the last word, which counts unless it is one of `off`; a
# word in lines that add up; lines that name no file of their own; whether the unit would be started at all.
LINES = "lines"
WORD = "word"
MENTIONS = "mentions"
BARE = "bare"
STARTS = "starts"

NO = ("no", "false", "off", "0", "n", "f")


@dataclass(frozen=True)
class Directive:
    """One setting. settings: the lines that take it back. off, on: values (lower case) that have no effect, or the only
    ones that have. unless: another setting and the values with which this one does no harm."""

    key: str
    kind: str
    settings: tuple[str, ...]
    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    mentions: str = ""
    unless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """Settings with the same cause.

    id: for checkpointable_relax. types: of units. units: only these names, all where empty. section: of the settings,
    "" for the type's own. remains: also for units that have done their work and count as active. lost, kept: in words,
    for people; kept is what the settings put in the place of what is lost. hardening: whether that is lost.
    """

    id: str
    needs: str
    directives: tuple[Directive, ...]
    lost: str
    evidence: str
    reference: str
    kept: str = ""
    types: tuple[str, ...] = ("service",)
    units: tuple[str, ...] = ()
    section: str = ""
    remains: bool = False
    hardening: bool = True


_RESOURCE = ("service", "slice", "socket", "mount", "swap")
_BPF_EVIDENCE = "Can't dump file N of that type [600] (unknown /anon_inode:bpf-prog)"
_LINK_EVIDENCE = "Can't dump file N of that type [600] (unknown /anon_inode:bpf_link)"
_MAN = "systemd.exec(5)"
_MAN_RESOURCE = "systemd.resource-control(5)"

RULES: tuple[Rule, ...] = (
    Rule(
        id="ip-filter",
        needs=BPF,
        types=_RESOURCE,
        directives=(
            Directive("IPAddressDeny", LINES, ("IPAddressDeny=",)),
            Directive("IPAddressAllow", LINES, ("IPAddressAllow=",)),
            Directive("IPAccounting", WORD, ("IPAccounting=no",), NO),
        ),
        lost="The filter that lets the unit reach only certain IP addresses, and its IP accounting.",
        kept="RestrictAddressFamilies=, where the unit has it, still keeps it from opening IP sockets.",
        evidence=_BPF_EVIDENCE,
        reference=_MAN_RESOURCE,
    ),
    Rule(
        id="network-filter",
        needs=BPF,
        types=_RESOURCE,
        directives=(
            Directive("SocketBindAllow", LINES, ("SocketBindAllow=",)),
            Directive("SocketBindDeny", LINES, ("SocketBindDeny=",)),
            Directive("RestrictNetworkInterfaces", LINES, ("RestrictNetworkInterfaces=",)),
            Directive("IPIngressFilterPath", LINES, ("IPIngressFilterPath=",)),
            Directive("IPEgressFilterPath", LINES, ("IPEgressFilterPath=",)),
            Directive("BPFProgram", LINES, ("BPFProgram=",)),
        ),
        lost="The limits on ports that the unit may bind and interfaces that it may use, and BPF programs given to it.",
        evidence=_LINK_EVIDENCE,
        reference=_MAN_RESOURCE,
    ),
    Rule(
        id="device-filter",
        needs=DEVICE_BPF,
        types=_RESOURCE,
        directives=(
            Directive("DevicePolicy", WORD, ("DevicePolicy=auto",), ("auto",)),
            Directive("DeviceAllow", LINES, ("DeviceAllow=",)),
            Directive(
                "PrivateDevices",
                WORD,
                (
                    "PrivateDevices=no",
                    "CapabilityBoundingSet=~CAP_MKNOD CAP_SYS_RAWIO",
                    "SystemCallFilter=~@raw-io:EPERM",
                ),
                NO,
            ),
        ),
        lost="The filter of device nodes, and with PrivateDevices= the /dev of its own: the unit reaches what the container may.",
        kept="The container's own device filter. Instead of PrivateDevices= its capabilities and system calls stay barred.",
        evidence=_BPF_EVIDENCE,
        reference=_MAN_RESOURCE,
    ),
    Rule(
        id="clock",
        needs=CLOCK_BPF,
        directives=(
            Directive(
                "ProtectClock",
                WORD,
                (
                    "ProtectClock=no",
                    "CapabilityBoundingSet=~CAP_SYS_TIME CAP_WAKE_ALARM",
                    "SystemCallFilter=~@clock:EPERM",
                ),
                NO,
            ),
        ),
        lost="Nothing but the filter of /dev/rtc*, a filter of device nodes. Only before systemd 257.",
        kept="The system calls and capabilities that set the clock stay barred.",
        evidence=_BPF_EVIDENCE,
        reference=_MAN,
    ),
    Rule(
        id="networkd-monitor",
        needs=BPF,
        units=("systemd-networkd.service",),
        directives=(Directive("SystemCallFilter", MENTIONS, ("SystemCallFilter=~bpf:EPERM",), mentions="bpf"),),
        lost="networkd no longer notices when somebody else changes a sysctl that it has set. It is not hardening.",
        kept="Everything else; networkd goes on without its monitor, and may no longer use bpf().",
        evidence="Can't dump file N of that type [600] (unknown /anon_inode:bpf-map)",
        reference="systemd-networkd 257, its sysctl monitor",
        hardening=False,
    ),
    Rule(
        id="hostname",
        needs=NAMESPACES,
        directives=(
            Directive(
                "ProtectHostname",
                WORD,
                ("ProtectHostname=no", "SystemCallFilter=~sethostname:EPERM setdomainname:EPERM"),
                NO,
            ),
        ),
        lost="The UTS namespace of the unit's own: it sees it when the container's host name changes.",
        kept="It still cannot change the host name: the two system calls stay barred.",
        evidence="Can't dump nested uts namespace for N",
        reference=_MAN,
    ),
    Rule(
        id="users",
        needs=NAMESPACES,
        directives=(Directive("PrivateUsers", WORD, ("PrivateUsers=no",), NO),),
        lost="The user namespace of the unit's own: root in the unit is the container's root, with the unit's capabilities.",
        evidence="Can't dump nested user namespace for N",
        reference=_MAN,
    ),
    Rule(
        id="ipc",
        needs=NAMESPACES,
        directives=(
            Directive("PrivateIPC", WORD, ("PrivateIPC=no",), NO),
            Directive("IPCNamespacePath", WORD, ("IPCNamespacePath=",)),
        ),
        lost="The IPC namespace of the unit's own: it shares System V IPC and POSIX message queues with the container.",
        evidence="Can't dump nested ipc namespace for N",
        reference=_MAN,
    ),
    Rule(
        id="pids",
        needs=NAMESPACES,
        directives=(Directive("PrivatePIDs", WORD, ("PrivatePIDs=no",), NO),),
        lost="The pid namespace of the unit's own: it sees the other processes of the container.",
        evidence="Can't dump nested pid namespace for N",
        reference=_MAN,
    ),
    Rule(
        id="control-groups",
        needs=NAMESPACES,
        directives=(
            Directive("ProtectControlGroups", WORD, ("ProtectControlGroups=yes",), on=("strict",)),
            Directive("ProtectControlGroups", WORD, ("ProtectControlGroups=no",), on=("private",)),
        ),
        lost="The cgroup namespace of the unit's own: it sees the container's whole cgroup tree.",
        kept="With ProtectControlGroups=strict it still cannot write to it.",
        evidence="Can't dump nested cgroup namespace for N",
        reference=_MAN,
    ),
    Rule(
        id="memory-pressure",
        needs=PRESSURE,
        directives=(
            Directive(
                "ProtectControlGroups",
                WORD,
                ("MemoryPressureWatch=off",),
                NO,
                unless=("MemoryPressureWatch", "off", "skip", *NO),
            ),
        ),
        lost="The unit no longer frees memory by itself when memory is short. It is not hardening.",
        kept="ProtectControlGroups= itself. systemd mounts the file to watch into the unit's mount namespace because of it.",
        evidence="mnt-v2: Failed to move_mount from N to N: Invalid argument",
        reference="systemd.resource-control(5); docs/design.md, Found on the way",
        hardening=False,
    ),
    Rule(
        id="credentials",
        needs=RAMFS,
        remains=True,
        directives=(
            Directive("LoadCredential", BARE, ("LoadCredential=",)),
            Directive("LoadCredentialEncrypted", BARE, ("LoadCredentialEncrypted=",)),
        ),
        lost="Credentials that the container's manager hands over; LXC hands none over. It is not hardening.",
        kept="Credentials from files and in units: a unit that has such a one is left alone.",
        evidence="mnt: FS mnt ./run/credentials/NAME dev 0xN root / unsupported id N",
        reference=_MAN,
        hardening=False,
    ),
    Rule(
        id="imported-credentials",
        needs=RAMFS,
        directives=(Directive("ImportCredential", LINES, ("ImportCredential=",)),),
        lost="Credentials that the container's manager hands over; LXC hands none over. It is not hardening.",
        kept="Credentials that the unit has in other ways.",
        evidence="mnt: FS mnt ./run/credentials/NAME dev 0xN root / unsupported id N",
        reference=_MAN,
        hardening=False,
    ),
    Rule(
        id="console",
        needs=CONSOLE,
        units=("console-getty.service",),
        section="Unit",
        directives=(Directive("ConditionVirtualization", STARTS, ("ConditionVirtualization=!lxc",)),),
        lost="The login prompt on the container's console (lxc-start -F, lxc-console -t 0). It is not hardening.",
        kept="lxc-attach, ssh, and a login prompt under any other container manager.",
        evidence="tty: Unable to find a master for N",
        reference="docs/design.md, Found on the way",
        hardening=False,
    ),
    Rule(
        id="terminals",
        needs=TERMINALS,
        units=("getty@.service", "container-getty@.service"),
        section="Unit",
        directives=(Directive("ConditionVirtualization", STARTS, ("ConditionVirtualization=!lxc",)),),
        lost="The login prompts on the container's terminals (lxc-console). It is not hardening.",
        kept="lxc-attach, ssh, and login prompts under any other container manager.",
        evidence="tty: Unable to find a master for N",
        reference="docs/design.md, Found on the way",
        hardening=False,
    ),
)

# Started over the bus when somebody asks, gone after half a minute.
BRIEF_UNITS = frozenset(
    f"systemd-{name}.service" for name in ("hostnamed", "timedated", "localed", "importd", "portabled", "sysupdated")
)
IDS = tuple(rule.id for rule in RULES)


def by_id(name: str) -> Rule:
    """The rule with this id."""
    return next(rule for rule in RULES if rule.id == name)


def table() -> t.Iterator[tuple[str, str, str, str]]:
    """For the README: id, settings that are taken back, what is lost, what stays."""
    for rule in RULES:
        keys = ", ".join(f"{one.key}=" for one in rule.directives)
        yield rule.id, keys if not rule.units else f"{', '.join(rule.units)}", rule.lost, rule.kept

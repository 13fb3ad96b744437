# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _checkpointable_plan as plan
from ansible_collections.stasis.lxc.plugins.module_utils import _relaxations, _units
from ansible_collections.stasis.lxc.plugins.module_utils._checkpointable_plan import FILE, Facts, Plan
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._units import Unit
from ansible_collections.stasis.lxc.tests.unit.support import root as roots
from ansible_collections.stasis.lxc.tests.unit.support.each import each

ALL = ("all",)
LOGIND = "systemd-logind.service"
PATH = f"etc/systemd/system/{LOGIND}.d/{FILE}"


def unit(name: str = LOGIND, text: str = roots.LOGIND, **drop_ins: str) -> Unit:
    """A unit with drop-ins, which are named without their end."""
    path = f"{roots.UNITS}/{name}"
    made = Unit(name, path, tuple(_units.parse(text, path)))
    for file, more in drop_ins.items():
        made = made.with_drop_in(f"{file}.conf", _units.parse(more, f"etc/{file}.conf"))
    return made


def decide(
    *units: Unit,
    facts: Facts | None = None,
    relax: t.Sequence[str] = ALL,
    ours: t.Mapping[str, str] | None = None,
    missing: t.Mapping[str, tuple[str, ...]] | None = None,
) -> Plan:
    return plan.decide(units, facts or Facts(), relax, ours or {}, lambda path: (missing or {}).get(path, ()))


def settings(found: Plan, path: str = PATH) -> list[str]:
    """The lines of a drop-in that are no comments."""
    text = next(one.after for one in found.files if one.path == path)
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_each_setting_that_cannot_be_dumped_is_taken_back_and_no_other() -> None:
    found = decide(unit())
    assert {one.rule.id for one in found.relaxations} == {"ip-filter", "device-filter", "clock", "hostname"}
    assert settings(found) == [
        "[Service]",
        "IPAddressDeny=",
        "DeviceAllow=",
        "ProtectClock=no",
        "CapabilityBoundingSet=~CAP_SYS_TIME CAP_WAKE_ALARM",
        "SystemCallFilter=~@clock:EPERM",
        "ProtectHostname=no",
        "SystemCallFilter=~sethostname:EPERM setdomainname:EPERM",
    ]


@pytest.mark.parametrize(
    ("lines", "barred"),
    [
        ("", "~sethostname:EPERM setdomainname:EPERM"),
        ("SystemCallErrorNumber=EPERM", "~sethostname:EPERM setdomainname:EPERM"),
        ("SystemCallFilter=@system-service", "~sethostname:EPERM setdomainname:EPERM"),
        ("SystemCallFilter=~@mount\nSystemCallErrorNumber=EPERM", "~sethostname:EPERM setdomainname:EPERM"),
        ("SystemCallFilter=@system-service\nSystemCallErrorNumber=EACCES", "~sethostname:EPERM setdomainname:EPERM"),
        ("SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM", "~sethostname setdomainname"),
        (
            "SystemCallFilter=~a\nSystemCallFilter=\nSystemCallFilter=b\nSystemCallErrorNumber=1",
            "~sethostname setdomainname",
        ),
    ],
)
def test_system_calls_stay_barred_in_a_way_that_the_filter_of_the_unit_bears(lines: str, barred: str) -> None:
    found = decide(unit("a.service", f"[Service]\nProtectHostname=yes\n{lines}\n"))
    assert settings(found, plan.path_of("a.service")) == [
        "[Service]",
        "ProtectHostname=no",
        f"SystemCallFilter={barred}",
    ]


def test_a_service_without_any_needs_nothing() -> None:
    text = "[Service]\nPrivateTmp=yes\nProtectSystem=strict\nProtectHome=yes\nProtectProc=invisible\nProtectKernelLogs=yes\n"
    assert decide(unit("a.service", text)) == Plan()


@each(
    ("text", "rule", "line"),
    [
        ("IPAddressAllow=localhost", "ip-filter", "IPAddressAllow="),
        ("IPAccounting=yes", "ip-filter", "IPAccounting=no"),
        ("SocketBindDeny=any", "network-filter", "SocketBindDeny="),
        ("RestrictNetworkInterfaces=lo", "network-filter", "RestrictNetworkInterfaces="),
        ("DevicePolicy=closed", "device-filter", "DevicePolicy=auto"),
        ("PrivateDevices=true", "device-filter", "PrivateDevices=no"),
        ("PrivateUsers=self", "users", "PrivateUsers=no"),
        ("PrivateIPC=yes", "ipc", "PrivateIPC=no"),
        ("IPCNamespacePath=/run/x", "ipc", "IPCNamespacePath="),
        ("PrivatePIDs=yes", "pids", "PrivatePIDs=no"),
        ("ProtectHostname=private", "hostname", "ProtectHostname=no"),
        ("ProtectControlGroups=yes", "memory-pressure", "MemoryPressureWatch=off"),
    ],
)
def test_any_service_with_such_a_setting_is_found(text: str, rule: str, line: str) -> None:
    found = decide(unit("a.service", f"[Service]\n{text}\n"))
    assert [one.rule.id for one in found.relaxations] == [rule]
    assert settings(found, plan.path_of("a.service"))[:2] == ["[Service]", line]
    assert found.relaxations[0].directives == (f"{text} ({roots.UNITS}/a.service)",)


@pytest.mark.parametrize(("value", "instead"), [("private", "no"), ("strict", "yes")])
def test_a_cgroup_namespace_is_taken_back(value: str, instead: str) -> None:
    found = decide(unit("a.service", f"[Service]\nProtectControlGroups={value}\n"), facts=Facts(pressure=False))
    assert settings(found, plan.path_of("a.service")) == ["[Service]", f"ProtectControlGroups={instead}"]
    found = decide(unit("a.service", f"[Service]\nProtectControlGroups={value}\n"))
    assert not any(one.problem for one in found.relaxations)


def test_pressure_is_watched_where_nothing_hides_the_cgroups() -> None:
    assert decide(unit("a.service", "[Service]\nMemoryPressureWatch=on\n")) == Plan()
    forced = decide(unit("a.service", "[Service]\nMemoryPressureWatch=on\nProtectControlGroups=yes\n"))
    assert settings(forced, plan.path_of("a.service")) == ["[Service]", "MemoryPressureWatch=off"]


@each(
    "text",
    [
        "IPAddressDeny=any\nIPAddressDeny=",
        "DevicePolicy=auto",
        "DevicePolicy=closed\nDevicePolicy=",
        "PrivateDevices=no",
        "ProtectClock=yes\nProtectClock=off",
        "PrivateUsers=0",
        "ProtectControlGroups=yes\nMemoryPressureWatch=off",
        "ProtectControlGroups=yes\nMemoryPressureWatch=no",
        "ProtectControlGroups=private\nProtectControlGroups=no",
    ],
)
def test_a_setting_that_is_not_in_effect_is_left_alone(text: str) -> None:
    assert decide(unit("a.service", f"[Service]\n{text}\n")) == Plan()


def test_a_setting_in_another_section_does_not_count() -> None:
    assert decide(unit("a.service", "[Unit]\nProtectClock=yes\n[Socket]\nIPAddressDeny=any\n")) == Plan()


def test_other_types_than_services_are_looked_at_for_filters_alone() -> None:
    found = decide(unit("a.slice", "[Slice]\nIPAddressDeny=any\nProtectHostname=yes\n"))
    assert settings(found, plan.path_of("a.slice")) == ["[Slice]", "IPAddressDeny="]


def test_filters_are_left_alone_where_systemd_makes_none() -> None:
    assert {one.rule.id for one in decide(unit(), facts=Facts(bpf=False)).relaxations} == {"hostname"}
    assert {one.rule.id for one in decide(unit(), facts=Facts(unified=False)).relaxations} == {"ip-filter", "hostname"}
    assert decide(unit(), facts=Facts(bpf=False, namespaces=False)) == Plan()


def test_networkd_loses_its_monitor_where_it_has_one() -> None:
    new = unit("systemd-networkd.service", "[Service]\nSystemCallFilter=@system-service bpf\n")
    found = decide(new, facts=Facts(unified=False))
    assert settings(found, plan.path_of(new.name)) == ["[Service]", "SystemCallFilter=~bpf:EPERM"]
    assert not found.relaxations[0].problem
    assert decide(unit("systemd-networkd.service", "[Service]\nSystemCallFilter=@system-service\n")) == Plan()
    assert decide(replace(new, name="a.service")) == Plan()


def test_a_getty_on_the_console_is_kept_from_starting_under_lxc() -> None:
    getty = unit("console-getty.service", roots.FILES["console-getty.service"])
    found = decide(getty)
    assert settings(found, plan.path_of(getty.name)) == ["[Unit]", "ConditionVirtualization=!lxc"]
    assert not found.relaxations[0].problem
    assert decide(getty, facts=Facts(console=False)) == Plan()


def test_gettys_on_terminals_only_where_they_would_start() -> None:
    distribution = unit("getty@.service", roots.FILES["getty@.service"])
    assert decide(distribution) == Plan(), "there is no /dev/tty0 in a container"
    template = unit("getty@.service", "[Service]\nTTYPath=/dev/%I\n")
    assert [one.rule.id for one in decide(template).relaxations] == ["terminals"]
    assert decide(template, facts=Facts(terminals=False)) == Plan()


@each(
    ("conditions", "starts"),
    [
        (["Virtualization=!container"], False),
        (["Virtualization=!lxc"], False),
        (["Virtualization=container"], True),
        (["Virtualization=lxc"], True),
        (["Virtualization=vm"], False),
        (["Virtualization=no"], False),
        (["Virtualization=!vm"], True),
        (["Virtualization=private-users"], True),
        (["PathIsReadWrite=/sys"], False),
        (["PathIsReadWrite=/srv"], True),
        (["PathExists=/dev/tty0"], False),
        (["PathExists=!/dev/tty0"], True),
        (["PathExists=/dev/tty0", ""], True),
        (["PathExists=|/dev/tty0"], False),
        (["PathExists=|/dev/tty0", "PathExists=|/none"], True),
        (["PathExists=|/dev/tty0", "PathExists=|/none", "Virtualization=!lxc"], False),
        (["Virtualization=|!lxc", "Virtualization=lxc"], False),
    ],
)
def test_a_unit_whose_conditions_bar_it_is_left_alone(conditions: list[str], starts: bool) -> None:
    lines = "".join(f"Condition{one}\n" if one else "ConditionNull=\n" for one in conditions)
    text = f"[Unit]\n{lines}[Service]\nProtectHostname=yes\n"
    assert bool(decide(unit("a.service", text)).files) is starts


def test_sys_that_can_be_written_starts_udev() -> None:
    udev = unit("systemd-udevd.service", "[Unit]\nConditionPathIsReadWrite=/sys\n[Service]\nProtectHostname=yes\n")
    assert decide(udev) == Plan()
    assert decide(udev, facts=Facts(sys_writable=True)).relaxations


def test_what_runs_for_a_moment_is_named_and_left_alone() -> None:
    nightly = unit("nightly.service", "[Service]\nType=oneshot\nPrivateIPC=yes\n")
    hostnamed = unit("systemd-hostnamed.service", "[Service]\nIPAddressDeny=any\n")
    harmless = unit("b.service", "[Service]\nType=oneshot\n")
    assert decide(nightly, hostnamed, harmless) == Plan()
    assert plan.brief([nightly, hostnamed, harmless, unit()], Facts()) == [
        "nightly.service",
        "systemd-hostnamed.service",
    ]
    assert plan.brief([nightly, hostnamed], Facts(bpf=False)) == ["nightly.service"]


def test_credentials_that_come_from_nowhere_are_not_asked_for_where_they_lie_in_a_ramfs() -> None:
    text = "[Service]\nType=oneshot\nRemainAfterExit=yes\nLoadCredential=a\nLoadCredential=b\n"
    found = decide(unit("a.service", text))
    assert settings(found, plan.path_of("a.service")) == ["[Service]", "LoadCredential="]
    assert not found.relaxations[0].problem
    assert decide(unit("a.service", text), facts=Facts(ramfs=False)) == Plan()
    brief = unit("a.service", text.replace("RemainAfterExit=yes\n", ""))
    assert decide(brief) == Plan()
    assert plan.brief([brief], Facts()) == ["a.service"]


@pytest.mark.parametrize("line", ["LoadCredential=key:/etc/key", "SetCredential=word:x"])
def test_credentials_that_a_unit_has_are_left_to_it(line: str) -> None:
    assert decide(unit("a.service", f"[Service]\nLoadCredential=a\n{line}\n")) == Plan()


def test_imported_credentials_stay_mounted_while_a_service_runs() -> None:
    text = "[Service]\nImportCredential=journal.*\n"
    found = decide(unit("systemd-journald.service", text))
    assert settings(found, plan.path_of("systemd-journald.service")) == ["[Service]", "ImportCredential="]
    once = "[Service]\nType=oneshot\nRemainAfterExit=yes\nImportCredential=sysctl.*\n"
    assert decide(unit("sysctl.service", once)) == Plan()


def test_what_is_kept_from_starting_needs_nothing_else() -> None:
    getty = unit("console-getty.service", "[Service]\nImportCredential=agetty.*\nPrivateIPC=yes\n")
    assert settings(decide(getty), plan.path_of(getty.name)) == ["[Unit]", "ConditionVirtualization=!lxc"]
    assert "PrivateIPC=no" in settings(decide(getty, relax=["ipc"]), plan.path_of(getty.name))


def test_what_runs_is_looked_at_whatever_its_conditions_say() -> None:
    udev = unit("systemd-udevd.service", "[Unit]\nConditionPathIsReadWrite=/sys\n[Service]\nProtectHostname=yes\n")
    found = decide(udev, facts=Facts(active=frozenset([udev.name])))
    assert [one.rule.id for one in found.relaxations] == ["hostname"]
    getty = unit("console-getty.service", "[Service]\n")
    running = decide(getty, facts=Facts(active=frozenset([getty.name])))
    assert running.relaxations[0].done, "it runs still, but would not start again"


def test_a_users_own_drop_in_is_read_and_relaxed_as_well() -> None:
    found = decide(unit("a.service", "[Service]\n", override="[Service]\nPrivateUsers=yes\n"))
    assert found.relaxations[0].directives == ("PrivateUsers=yes (etc/override.conf)",)
    assert decide(unit(hardened="[Service]\nProtectHostname=no\n")).relaxations[-1].rule.id == "clock"


def test_a_drop_in_that_comes_after_ours_is_named_as_what_blocks() -> None:
    found = decide(
        unit("a.service", "[Service]\nPrivateUsers=yes\nPrivateIPC=yes\n", zzz="[Service]\nPrivateUsers=yes\n")
    )
    users, ipc = found.relaxations
    assert not users.done and "etc/zzz.conf" in users.problem
    assert ipc.done
    assert settings(found, plan.path_of("a.service")) == ["[Service]", "PrivateIPC=no"]


@pytest.mark.parametrize(
    ("relax", "done"),
    [
        ([], set()),
        (["hostname"], {"hostname"}),
        ([LOGIND], {"ip-filter", "device-filter", "clock", "hostname"}),
        ([f"{LOGIND}/clock", "ip-filter"], {"ip-filter", "clock"}),
        (["other.service"], set()),
    ],
)
def test_only_what_relax_allows_is_done_and_the_rest_is_said(relax: list[str], done: set[str]) -> None:
    found = decide(unit(), relax=relax)
    assert {one.rule.id for one in found.relaxations if one.done} == done
    assert {one.rule.id for one in found.relaxations if not one.allowed} == {
        "ip-filter",
        "device-filter",
        "clock",
        "hostname",
    } - done
    assert bool(found.files) is bool(done)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ProtectControlGroups=yes", True),
        ("ProtectControlGroups=strict", True),
        ("ProtectControlGroups=no", False),
        ("PrivateTmp=yes", False),
        ("ProtectControlGroups=yes\nMemoryPressureWatch=off", False),
        ("ProtectControlGroups=yes\nMemoryPressureWatch=auto", True),
    ],
)
def test_memory_is_not_watched_by_a_file_that_is_mounted_for_a_unit(text: str, wanted: bool) -> None:
    hardened = unit("a.service", f"[Service]\n{text}\n")
    found = decide(hardened, relax=["memory-pressure"])
    done = [one.settings for one in found.relaxations if one.rule.id == "memory-pressure" and one.done]
    assert done == ([("MemoryPressureWatch=off",)] if wanted else [])
    without = decide(hardened, facts=Facts(pressure=False))
    assert not any(one.rule.id == "memory-pressure" for one in without.relaxations)


def test_names_in_relax_that_are_nothing_there_are_told() -> None:
    assert decide(unit(), relax=["ssh.service", LOGIND, "hostname"]).unknown == ("ssh.service",)


@pytest.mark.parametrize(
    "entry", ["", "host-name", "a/b.service", "a.service/none", "../x.service", "a.target", "a.service\n"]
)
def test_relax_takes_no_other_words(entry: str) -> None:
    with pytest.raises(StasisError, match="neither a relaxation nor a unit"):
        plan.check_relax(["all", entry])


def test_the_second_time_nothing_changes() -> None:
    first = decide(unit())
    text = first.files[0].after
    after = unit().with_drop_in(FILE, _units.parse(text, PATH))
    second = decide(after, ours={PATH: text})
    assert (second.changed, second.relaxations, second.units) == (False, first.relaxations, first.units)


def test_what_is_no_longer_needed_or_allowed_goes() -> None:
    text = decide(unit(), missing={PATH: (f"etc/systemd/system/{LOGIND}.d",)}).files[0].after
    for found in (decide(ours={PATH: text}), decide(unit(), relax=[], ours={PATH: text}), plan.undo({PATH: text})):
        assert [(one.path, one.unit, one.before, one.after) for one in found.files] == [(PATH, LOGIND, text, "")]
        assert found.directories == (f"etc/systemd/system/{LOGIND}.d",)
    narrowed = decide(unit(), relax=["hostname"], ours={PATH: text})
    assert f"# Directories made for it: etc/systemd/system/{LOGIND}.d" in narrowed.files[0].after
    assert narrowed.directories == ()


def test_directories_made_for_several_files_go_with_the_last() -> None:
    other = unit("a.service", "[Service]\nPrivateIPC=yes\n")
    path = plan.path_of("a.service")
    top = "etc/systemd/system"
    first = decide(other, missing={path: (top, f"{top}/a.service.d")}).files[0].after
    second = decide(other, unit(), ours={path: first}, missing={PATH: (f"{top}/{LOGIND}.d",)}).files[0].after
    assert plan.undo({PATH: second}).directories == (f"{top}/{LOGIND}.d", top)


def test_directories_that_a_file_did_not_need_are_not_removed_whatever_it_says() -> None:
    text = f"{plan.MARK}\n# Directories made for it: etc/ssh /etc usr etc/systemd/system\n"
    assert plan.undo({PATH: text}).directories == ("etc/systemd/system",)


def test_a_drop_in_says_what_it_is_and_why() -> None:
    text = decide(unit()).files[0].after
    assert text.startswith(plan.MARK + "\n")
    for rule in ("ip-filter", "device-filter", "clock", "hostname"):
        one = _relaxations.by_id(rule)
        assert {f"#   Why: CRIU says: {one.evidence}", f"#   Lost: {one.lost}"} <= set(text.splitlines())
    assert f"# hostname: ProtectHostname=yes ({roots.UNITS}/{LOGIND})" in text
    assert _units.parse(text, PATH) == [
        _units.Assignment("Service", *line.split("=", 1), PATH) for line in settings(decide(unit()))[1:]
    ]


def test_hostile_text_in_a_unit_stays_in_its_comment() -> None:
    text = "[Service]\nIPCNamespacePath=/a\u2028\x0b\udce9" + "x" * 1000 + "\\\\\n"
    found = decide(unit("a.service", text)).files[0].after
    assert [line for line in found.split("\n") if line and not line.startswith("#")] == [
        "[Service]",
        "IPCNamespacePath=",
    ]
    assert found.isprintable() or set(found) - {"\n"} == {char for char in found if char.isprintable()}
    assert not any(line.endswith("\\") for line in found.split("\n"))

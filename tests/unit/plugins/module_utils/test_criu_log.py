# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_log, _diagnosis
from ansible_collections.stasis.lxc.tests.unit.support.each import each

# Captured from CRIU 4.1.1 and 4.2, cut to what surrounds errors and warnings.
FIXTURES = Path(__file__).parents[2] / "fixtures" / "criu_log"

# The file, the line that it is about, and the rule that knows it.
CAPTURED = [
    ("dump-passcred.log", "sockets: Can't get 1:16 opt: Operation not supported", "criu_older_than_6_16"),
    ("dump-connected-tcp.log", "inet: Connected TCP socket, consider using --tcp-established option.", "tcp_connected"),
    (
        "dump-ghost-limit.log",
        "Can't dump ghost file /srv/capture/ghostfile of 4194304 size, increase limit",
        "ghost_limit",
    ),
    ("dump-in-flight.log", "inet: In-flight connection (l) for 15c31", "tcp_in_flight"),
    ("dump-nested-uts.log", "Can't dump nested uts namespace for 1372", "nested_namespace"),
    ("dump-no-iptables.log", 'execvp("iptables-restore", ...) failed: No such file or directory', "firewall_missing"),
    ("dump-no-such-pid.log", "Unable to detach from 4000000: No such process", "process_gone"),
    ("dump-tty.log", "tty: Found slave peer index 0 without correspond master peer", "tty_outside"),
    ("restore-bad-size.log", "File srv/capture/size/in has bad size 9 (expect 4)", "file_changed"),
    ("restore-pid-taken.log", "Can't fork for 1253: File exists", "pid_taken"),
]

# From logs of other hosts, which this collection's notes on CRIU quote.
REPORTED = [
    ("(00.024) Error (criu/vdso.c:395): Unexpected rt vDSO area bounds", "criu_older_than_6_13"),
    ("(00.1) Error (criu/tty.c:2399): tty: Unable to find a master for /3", "tty_outside"),
    ("(00.1) Error (criu/tty.c:2338): tty: Found dangling tty with sid 0 pgid 0 (pts) on peer fd 0.", "tty_outside"),
    ("(00.1) Error (criu/net.c:3745): net: Can't add interface veth1 to bridge lxcbr0: No such device", "bridge"),
    ("(00.1)      1: Error (criu/cr-restore.c:1539): Pid 7 do not match expected 8", "pid_taken"),
    ("(00.1) pie: 1: Error (criu/pie/restorer.c:195): can't write lsm profile -2", "lsm_profile"),
    ("(00.1) Error (criu/lsm.c:358): mismatched lsm types and lsm profile specified", "lsm_absent"),
    ("(00.1) Error (criu/net.c:3226): net: Locking network failed using nftables", "network_lock"),
    ("iptables-restore v1.8.9 (nf_tables): line 4: CHAIN_ADD failed (No such file): chain CRIU", "firewall_leftover"),
    (
        "(10.0) Error (criu/seize.c:635): Unable to freeze cgroup /sys/fs/cgroup/x (100 x 100ms attempts)",
        "freeze_failed",
    ),
    (
        "lxc-checkpoint: c1: ../src/lxc/criu.c: exec_criu: 295 Failed getting freezer path for 3:freezer",
        "freezer_missing",
    ),
    ("(00.1) 1: Error (criu/sk-inet.c:1049): inet: Can't bind inet socket (id 9): Cannot assign it", "address_missing"),
]


def captured(name: str) -> list[str]:
    return _criu_log.error_lines((FIXTURES / name).read_text(encoding="utf-8"))


@each(("name", "message", "rule"), CAPTURED)
def test_the_first_error_of_a_captured_log_is_its_cause(name: str, message: str, rule: str) -> None:
    assert captured(name)[0].endswith(message)


@each(("name", "message", "rule"), CAPTURED)
def test_the_cause_in_a_captured_log_is_known(name: str, message: str, rule: str) -> None:
    assert [one.id for one in _diagnosis.diagnose_lines(captured(name))][:1] == [rule]


@each(("line", "rule"), REPORTED)
def test_a_line_that_users_report_is_an_error_with_a_known_cause(line: str, rule: str) -> None:
    assert [one.id for one in _diagnosis.diagnose_lines(_criu_log.error_lines(line))] == [rule]


@pytest.mark.parametrize("name", ["dump-success.log", "restore-success.log"])
def test_the_log_of_a_success_has_no_errors(name: str) -> None:
    assert captured(name) == []


@pytest.mark.parametrize(
    "line",
    [
        "(00.03) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted",
        "Error: ipv4: Address already assigned.",
        "Error: ipv6: address already assigned.",
    ],
)
def test_an_error_that_successful_runs_have_too_is_left_out(line: str) -> None:
    assert _criu_log.error_lines(line) == []


def test_a_line_comes_out_as_it_stands_in_the_log() -> None:
    line = "(00.030129)  11771: Error (criu/files-reg.c:2175): File srv/x has bad size 9 (expect 4)"
    assert _criu_log.error_lines(f"(00.01) fine\n{line}\n(00.04) fine too\n") == [line]


def test_lines_keep_their_order() -> None:
    lines = ["(00.02) Error (b.c:1): later", "(00.01) Error (a.c:1): earlier"]
    assert _criu_log.error_lines("\n".join(lines)) == lines


def test_a_line_that_only_names_an_error_is_none() -> None:
    assert _criu_log.error_lines("(00.01) Dumping path for 3 fd via self 12 [/tmp/Error (criu/x.c:1): fake]") == []


def test_a_warning_is_no_error() -> None:
    assert _criu_log.error_lines("(00.01) Warn  (criu/x.c:1): Will restore 1 with interrupted system call") == []


def test_an_assertion_of_criu_is_an_error() -> None:
    line = "(00.71)      1: BUG at criu/pie/restorer.c:1900"
    assert _criu_log.error_lines(line) == [line]


def test_what_liblxc_says_on_standard_error_is_an_error() -> None:
    text = (FIXTURES / "lxc-checkpoint-not-defined.stderr").read_text(encoding="utf-8")
    assert _criu_log.error_lines(text) == [text.strip()]


def test_an_error_in_liblxcs_log_file_is_an_error() -> None:
    line = "lxc-checkpoint c1 20261122224500.123 ERROR    criu - ../src/lxc/criu.c:do_restore:1080 - Failed to fork"
    assert _criu_log.error_lines(line) == [line]


def test_a_debug_line_in_liblxcs_log_file_is_no_error() -> None:
    assert _criu_log.error_lines("lxc-checkpoint c1 20261122224500.123 DEBUG    criu - x.c:f:1 - Using fd 3") == []


def test_what_only_follows_from_an_error_is_left_out() -> None:
    assert len(captured("dump-ghost-limit.log")) == 1


def test_what_only_follows_is_kept_where_nothing_else_is_left() -> None:
    line = "(00.04) Error (criu/cr-dump.c:2111): Dumping FAILED."
    assert _criu_log.error_lines(line) == [line]


def test_a_repeated_message_comes_out_once() -> None:
    text = "(00.01) Error (a.c:1): same\n(00.02) Error (a.c:1): same\n"
    assert _criu_log.error_lines(text) == ["(00.01) Error (a.c:1): same"]


def test_at_most_twenty_lines_come_out() -> None:
    text = "\n".join(f"(00.01) Error (a.c:{number}): x" for number in range(1000))
    assert len(_criu_log.error_lines(text)) == 20


def test_a_long_line_is_cut_to_500_characters() -> None:
    (line,) = _criu_log.error_lines("(00.01) Error (a.c:1): " + "x" * 10000)
    assert len(line) == 500


def test_characters_that_would_upset_a_terminal_are_replaced() -> None:
    assert _criu_log.error_lines("(00.01) Error (a.c:1): \x1b[31mred\udcff") == ["(00.01) Error (a.c:1): ?[31mred?"]


def test_no_text_has_no_errors() -> None:
    assert _criu_log.error_lines("") == []

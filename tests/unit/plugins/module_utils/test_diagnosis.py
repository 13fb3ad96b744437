# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _diagnosis
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_rules import RULES
from ansible_collections.stasis.lxc.plugins.module_utils._diagnosis_types import CLASSES, Rule
from ansible_collections.stasis.lxc.tests.unit.support.each import each

# Captured from containers and processes that were made to fail in just this way, and from some that did not; see README.md.
LOGS = Path(__file__).parents[2] / "fixtures" / "logs"
FAILED = sorted(path.name for path in LOGS.glob("*.log") if not path.name.startswith("success--"))
SUCCEEDED = sorted(path.name for path in LOGS.glob("success--*.log"))

TCP = "(00.1) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option."
GHOST = "(00.2) Error (criu/files-reg.c:1031): Can't dump ghost file /x of 4194304 size, increase limit"
NETLINK = "(00.3) Error (criu/sk-netlink.c:77): netlink: The socket has data to read"
TIMEOUT = "(10.0) Error (criu/cr-dump.c:1655): Timeout reached. Try to interrupt: 0"
GONE = "(00.4) Error (compel/src/lib/infect.c:417): Unable to detach from 7: No such process"
FAILED_LINE = "(00.5) Error (criu/cr-dump.c:1975): Dumping FAILED."
DONE = "(00.6) Dumping finished successfully"


def ids(*lines: str) -> list[str]:
    return [one.id for one in _diagnosis.diagnose("\n".join(lines))]


# What users report most, in the words of CRIU's and liblxc's sources.
REPORTED = [
    ("tty: Unable to find a master for /3", "tty_outside"),
    ("tty: Found dangling tty with sid 9 pgid 9 (pts) on peer fd 2.", "tty_outside"),
    ("netlink: The socket has data to read", "netlink_unread"),
    ("Can't dump nested uts namespace for 7", "nested_namespace"),
    ("Can't dump file 9 of that type [600] (anon anon_inode:bpf-prog)", "fd_bpf"),
    ("Can't dump file 9 of that type [600] (anon anon_inode:[io_uring])", "fd_io_uring"),
    ("Can't dump file 9 of that type [600] (anon anon_inode:[new])", "fd_other"),
    ("send_fds failed (-22)", "fd_io_uring"),
    ("Unable to connect a transport socket: Permission denied", "parasite_refused"),
    ("can't write lsm profile -2", "lsm_profile"),
    ("mismatched lsm types and lsm profile specified", "lsm_absent"),
    ("mnt: 96:./proc/uptime doesn't have a proper root mount", "mount_unknown"),
    ("mnt: No mapping for 96:./x mountpoint", "mount_mapping"),
    (
        "mnt: Mount 9 ./x (master_id: 5 shared_id: 0) has unreachable sharing. Try --enable-external-masters.",
        "mount_sharing",
    ),
    ("mnt-v2: Failed to move_mount from 7 to /x: Invalid argument", "mount_engine"),
    ("Can't dump ghost file /x of 4194304 size, increase limit", "ghost_limit"),
    # A line before it, `Handle 0x...:0x... cannot be opened`, is only a warning.
    ("fsnotify: Can't dump that handle", "watch_handle"),
    ("inet: In-flight connection (l) for 15c31", "tcp_in_flight"),
    ("inet: Connected TCP socket, consider using --tcp-established option.", "tcp_connected"),
    ("inet: Can't bind inet socket (id 9): Cannot assign requested address", "address_missing"),
    ("inet: Can't bind inet socket (id 9): Address already in use", "port_taken"),
    ("inet: Can't connect inet socket back: Cannot assign requested address", "address_missing"),
    ("net: Locking network failed: iptables-restore returned 1", "network_lock"),
    ('execvp("iptables-restore", ...) failed: No such file or directory', "firewall_missing"),
    ("Tracking memory is not available. Consider omitting --track-mem option.", "track_mem"),
    ("Unexpected rt vDSO area bounds", "criu_older_than_6_13"),
    ("7 has rseq but kernel lacks get_rseq_conf feature", "rseq_kernel"),
    ("Unable to freeze cgroup /sys/fs/cgroup/x (100 x 100ms attempts)", "freeze_failed"),
    ("Timeout reached. Try to interrupt: 0", "dump_timeout"),
    ("File srv/x has bad size 9 (expect 4)", "file_changed"),
    ("File srv/x has bad mode 0100644 (expect 0100755)", "file_mode"),
    ("File srv/x has bad build-ID", "file_changed"),
    ("Pid 7 do not match expected 8", "pid_taken"),
    ("Thread pid mismatch 7/8", "pid_taken"),
    ("-17 reported by netlink: File exists", "nic_name_taken"),
    ("-34 reported by netlink: Numerical result out of range", "nic_name_bad"),
    ("net: Can't add interface veth1 to bridge lxcbr0: No such device", "bridge"),
    ("net: Unable to specify ifindex in the target namespace.", "nic_ifindex"),
    ("cpu: FPU feature required by image is not supported on host (task 7)", "cpu_features"),
    ("cpu: CPU xsave size mismatch (0x340/0x240)", "cpu_features"),
    ("unix: External socket is used. Consider using --ext-unix-sk option.", "unix_peer_outside"),
    ("unix: Can't dump half of stream unix connection. name: (null); peer name: /x", "unix_peer_outside"),
    ("autofs: Process 7 autofs pipe fd 8 is not empty.", "autofs_busy"),
    ("zombie 7 (comm x) found while seizing", "task_ending"),
    ("Unable to open netns-9.img: Permission denied", "image_unreadable"),
    ("The --root option is required to restore a mount namespace", "root_missing"),
    ("page-pipe: tee: 65536: Operation not permitted", "pipe_limit"),
]
REPORTED_BARE = [
    ("iptables-restore v1.8.9 (nf_tables): line 4: CHAIN_ADD failed (No such file): chain CRIU", "firewall_leftover"),
    (
        "lxc-checkpoint: c1: ../src/lxc/criu.c: exec_criu: 295 Failed getting freezer path for 3:freezer",
        "freezer_missing",
    ),
    (
        "lxc-checkpoint: c1: ../src/lxc/criu.c: exec_criu: 397 No such file or directory - Failed getting freezer path",
        "freezer_missing",
    ),
    (
        "lxc-checkpoint c1 20261128084458.446 ERROR    criu - ../src/lxc/criu.c:exec_criu:404 - "
        "Input/output error - Failed to freezer cgroup entry",
        "freezer_missing",
    ),
    (
        "lxc-checkpoint: c1: ../src/lxc/criu.c: load_tty_major_minor: 227 Invalid argument - Failed to load tty information",
        "console_differs",
    ),
    (
        "lxc-checkpoint: c1: ../src/lxc/criu.c: f: 270 No such file or directory - Failed to find criu binary",
        "criu_not_found",
    ),
]


def log(name: str) -> str:
    return (LOGS / name).read_text(encoding="utf-8")


def test_there_are_captured_logs() -> None:
    assert len(FAILED) > 150
    assert len({name[: -len(".log")].split("--")[0] for name in FAILED}) > 120
    assert len(SUCCEEDED) > 10


@each("name", FAILED)
def test_a_captured_failure_has_its_cause_first(name: str) -> None:
    assert ids(log(name))[:1] == [name[: -len(".log")].split("--")[0]]


@each("name", FAILED)
def test_the_evidence_is_a_line_of_the_log(name: str) -> None:
    lines = [line.rstrip() for line in log(name).split("\n")]
    for one in _diagnosis.diagnose(log(name)):
        assert one.evidence in lines


@each("name", SUCCEEDED)
def test_a_captured_success_has_no_cause(name: str) -> None:
    assert ids(log(name)) == []


@each("name", [name for name in SUCCEEDED if "liblxc" not in name])
def test_no_line_of_a_success_is_known_to_a_rule_even_without_its_end(name: str) -> None:
    assert ids(log(name).split("finished successfully")[0]) == []


@each("name", FAILED)
def test_no_log_names_a_path_of_the_machine_where_it_was_captured(name: str) -> None:
    assert not any(f"/{folder}/" in log(name) for folder in ("work", "root", "opt", "home"))
    assert "stasis-t" not in log(name) and "session-" not in log(name)
    for line in log(name).split("\n"):
        assert "Running on" not in line or "Running on host1 Linux" in line


def filled(text: str) -> str:
    return text.replace("%", "7").rstrip("$")


@each(("rule", "text"), [pytest.param(rule, text, id=f"{rule.id}: {text}") for rule in RULES for text in rule.says])
def test_every_text_of_a_rule_leads_to_it(rule: Rule, text: str) -> None:
    before = [f"(00.1) {filled(rule.last[1])}"] if rule.last else []
    assert ids(*before, f"(00.1)      1: Error (criu/x.c:1): {filled(text)}") == [rule.id]


@pytest.mark.parametrize(
    ("tried", "rule"),
    [
        (["./sys/fs/cgroup"], "watch_cgroup_gone"),
        (["./sys/fs/cgroup", "./etc"], "watch_handle"),
        (["./etc", "./sys/fs/cgroup"], "watch_cgroup_gone"),
        ([], "watch_handle"),
    ],
)
def test_what_was_tried_last_tells_which_rule_counts(tried: list[str], rule: str) -> None:
    lines = [f"(00.1) fsnotify: \t\tTrying via mntid 7 root / ns_mountpoint @{place} (15)" for place in tried]
    assert ids(*lines, "(00.2) Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle") == [rule]


@pytest.mark.parametrize(
    ("rule", "text"), [pytest.param(rule, text, id=f"{rule.id}: {text}") for rule in RULES for text in rule.notes]
)
def test_every_note_of_a_rule_leads_to_it(rule: Rule, text: str) -> None:
    assert ids(f"(00.1) pie: 1: {filled(text)}") == [rule.id]


@each(("message", "rule"), REPORTED, ids=[message for message, _rule in REPORTED])
def test_what_users_report_has_its_rule(message: str, rule: str) -> None:
    assert ids(f"(00.1) Error (criu/x.c:1): {message}", FAILED_LINE) == [rule]


@pytest.mark.parametrize(("line", "rule"), REPORTED_BARE)
def test_what_users_report_of_other_programs_has_its_rule(line: str, rule: str) -> None:
    assert ids(line, FAILED_LINE) == [rule]


def test_the_root_cause_is_not_the_last_line() -> None:
    assert ids(TCP, GONE, FAILED_LINE) == ["tcp_connected"]


def test_of_two_causes_the_earlier_comes_first() -> None:
    assert ids(GHOST, TCP, FAILED_LINE) == ["ghost_limit", "tcp_connected"]


def test_a_symptom_comes_after_a_later_cause() -> None:
    assert ids(TIMEOUT, TCP) == ["tcp_connected", "dump_timeout"]


def test_what_follows_from_everything_counts_only_where_it_is_alone() -> None:
    assert ids(GONE, FAILED_LINE) == ["process_gone"]


def test_a_cause_that_is_said_twice_comes_out_once_with_its_first_line() -> None:
    first = _diagnosis.diagnose("\n".join([NETLINK, NETLINK.replace("00.3", "00.9")]))
    assert [one.evidence for one in first] == [NETLINK]


def test_what_was_repaired_before_a_success_is_no_cause() -> None:
    zombie = "(00.1) Error (criu/seize.c:335): zombie 7 (comm x) found while seizing"
    assert ids(zombie, DONE) == []
    assert ids(zombie, FAILED_LINE) == ["task_ending"]


def test_what_fails_after_a_success_is_a_cause() -> None:
    assert ids(DONE, TCP) == ["tcp_connected"]


def test_an_unknown_error_has_no_diagnosis() -> None:
    assert ids("(00.1) Error (criu/new.c:1): Something unheard of", FAILED_LINE) == []


@pytest.mark.parametrize("text", ["", "\n\n", "\0\0", "no log at all\n", "Error", "(00.1)", "Error (", "%s%s%s"])
def test_what_is_no_log_has_no_diagnosis(text: str) -> None:
    assert ids(text) == []


@pytest.mark.parametrize(
    "line",
    [
        "(00.1) Dumping path for 3 fd via self 12 [/tmp/Error (criu/x.c:1): inet: Connected TCP socket, consider using --x]",
        "(00.1) Error (criu/x.c:1): File named Connected TCP socket, consider using --x is odd",
        "(00.1) Warn  (criu/x.c:1): Connected TCP socket, consider using --x",
        "Connected TCP socket, consider using --tcp-established option.",
    ],
)
def test_a_name_in_the_container_cannot_make_a_diagnosis(line: str) -> None:
    assert ids(line) == []


def test_the_same_message_is_known_without_a_time_stamp() -> None:
    assert ids(TCP.split(") ", 1)[1]) == ["tcp_connected"]


def test_evidence_is_bounded_and_printable() -> None:
    (one,) = _diagnosis.diagnose(
        f"Error (criu/files-reg.c:1): File \x1b[31m{'x' * 9000} has bad size 1 (expect 2)" + "\n" + TCP
    )
    assert one.id == "tcp_connected"
    (one,) = _diagnosis.diagnose(f"Error (criu/files-reg.c:1): File \x1b[31m{'x' * 900} has bad size 1 (expect 2)")
    assert len(one.evidence) == 500 and one.evidence.isprintable()


def test_there_are_at_most_ten_diagnoses() -> None:
    lines = [f"Error (criu/x.c:1): {filled(rule.says[0])}" for rule in RULES]
    assert len(ids(*lines)) == 10


def test_a_diagnosis_is_json_with_these_keys() -> None:
    (one,) = _diagnosis.diagnose(TCP)
    assert list(json.loads(json.dumps(one.as_dict()))) == ["id", "class", "cause", "evidence", "remedy", "reference"]


def test_a_long_log_takes_seconds_not_minutes() -> None:
    text = "(00.099838)      2: \tReceive fd for 2 from /var/lib/lxc/web1/rootfs/dev/null\n" * 200_000 + TCP
    began = time.monotonic()
    assert ids(text) == ["tcp_connected"]
    assert time.monotonic() - began < 200


def test_a_line_of_many_megabytes_is_no_trouble() -> None:
    began = time.monotonic()
    ids("Error (criu/x.c:1): " + "Can't dump file of that type " * 300_000)
    assert time.monotonic() - began < 100


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([NETLINK], True),
        ([NETLINK, TIMEOUT], True),
        ([NETLINK, TCP], False),
        ([TCP], False),
        ([TIMEOUT, NETLINK], True),
        ([], False),
    ],
)
def test_trying_again_may_help_where_every_cause_is_transient(lines: list[str], expected: bool) -> None:
    assert _diagnosis.is_transient(_diagnosis.diagnose("\n".join(lines))) is expected


#
# The table
#


def test_there_are_more_than_sixty_rules() -> None:
    assert len(RULES) > 60


def test_every_class_has_rules() -> None:
    assert {rule.kind for rule in RULES} == set(CLASSES)


def test_ids_are_unique() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


@each("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_well_formed(rule: Rule) -> None:
    assert rule.id.replace("_", "").isalnum() and rule.id == rule.id.lower()
    assert rule.kind in CLASSES
    assert rule.when in ("dump", "restore", "both")
    assert rule.says and all(text.strip("%$ ") for text in rule.says)
    assert rule.reference


@each("rule", RULES, ids=lambda rule: rule.id)
def test_cause_and_remedy_are_one_line_that_ends_with_a_full_stop(rule: Rule) -> None:
    for text in (rule.cause, rule.remedy):
        assert "\n" not in text and text.endswith(".") and text[0].isupper() and len(text) < 300


def test_an_issue_is_given_as_its_address() -> None:
    known = {rule.id: rule for rule in RULES}
    assert known["freezer_missing"].link == "https://github.com/lxc/lxc/issues/4643"
    assert known["ghost_limit"].link == "criu/files-reg.c, dump_ghost_remap()"

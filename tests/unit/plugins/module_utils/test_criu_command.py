# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import fields, replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _criu_command
from ansible_collections.stasis.lxc.plugins.module_utils._criu_command import (
    CriuOptions,
    DumpFacts,
    MountMap,
    RestoreFacts,
)
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.each import each

DEFAULTS = CriuOptions()
DUMP = DumpFacts(init_pid=4321, images="/srv/cp/.web1.stasis-staging", hook="/usr/local/libexec/stasis/restore-net")
RESTORE = RestoreFacts(images="/srv/cp/web1", work="/var/log/stasis/w", hook="/usr/local/libexec/stasis/restore-net")

# fmt: off
DEFAULT_DUMP = [
    "/opt/criu/sbin/criu", "dump",
    "--no-default-config",
    "-D", "/srv/cp/.web1.stasis-staging", "-o", "dump.log", "-v4",
    "--action-script", "/usr/local/libexec/stasis/restore-net",
    "--tcp-established", "--file-locks", "--link-remap", "--manage-cgroups=full",
    "--ext-mount-map", "auto", "--enable-external-sharing", "--enable-external-masters",
    "--enable-fs", "hugetlbfs", "--enable-fs", "tracefs",
    "-t", "4321", "--network-lock", "skip",
    "--skip-in-flight", "--force-irmap",
    "--leave-running",
]
DEFAULT_PRE_DUMP = [
    "/opt/criu/sbin/criu", "pre-dump",
    "--no-default-config",
    "-D", "/srv/cp/.web1.stasis-staging", "-o", "pre-dump.log", "-v4",
    "--action-script", "/usr/local/libexec/stasis/restore-net",
    "--tcp-established", "--file-locks", "--link-remap", "--manage-cgroups=full",
    "--ext-mount-map", "auto", "--enable-external-sharing", "--enable-external-masters",
    "--enable-fs", "hugetlbfs", "--enable-fs", "tracefs",
    "-t", "4321", "--network-lock", "skip",
    "--skip-in-flight", "--force-irmap",
]
DEFAULT_RESTORE = [
    "--no-default-config",
    "-D", "/srv/cp/web1", "-o", "restore.log", "-v4",
    "--action-script", "/usr/local/libexec/stasis/restore-net",
    "--tcp-established", "--file-locks", "--link-remap", "--manage-cgroups=full",
    "--ext-mount-map", "auto", "--enable-external-sharing", "--enable-external-masters",
    "--enable-fs", "hugetlbfs", "--enable-fs", "tracefs",
    "-W", "/var/log/stasis/w",
    "--restore-detached", "--restore-sibling",
]
# fmt: on


def dump(options: CriuOptions = DEFAULTS, facts: DumpFacts = DUMP) -> list[str]:
    return _criu_command.dump("/opt/criu/sbin/criu", options, facts)


def pre_dump(options: CriuOptions = DEFAULTS, facts: DumpFacts = DUMP) -> list[str]:
    return _criu_command.pre_dump("/opt/criu/sbin/criu", options, facts)


def restore(options: CriuOptions = DEFAULTS, facts: RestoreFacts = RESTORE) -> list[str]:
    return _criu_command.restore(options, facts)


def edited(argv: list[str], after: str, gone: t.Sequence[str], new: t.Sequence[str]) -> list[str]:
    """argv with `new` in the place of `gone`, which follows the last `after`."""
    at = len(argv) - argv[::-1].index(after)
    assert argv[at : at + len(gone)] == list(gone), argv[at:]
    return [*argv[:at], *new, *argv[at + len(gone) :]]


def test_default_dump_is_exactly_this() -> None:
    assert dump() == DEFAULT_DUMP


def test_default_pre_dump_is_exactly_this_and_never_leaves_running() -> None:
    assert pre_dump() == DEFAULT_PRE_DUMP


def test_default_restore_is_exactly_this() -> None:
    assert restore() == DEFAULT_RESTORE


# Option, its other value, the word before the place, what stood there, what stands there then.
COMMON: list[tuple[dict[str, t.Any], str, list[str], list[str]]] = [
    ({"criu_config": "/etc/criu/web.conf"}, "--no-default-config", [], ["--config", "/etc/criu/web.conf"]),
    ({"verbosity": 0}, ".log", ["-v4"], ["-v0"]),
    ({"tcp_established": False}, "/usr/local/libexec/stasis/restore-net", ["--tcp-established"], []),
    ({"file_locks": False}, "--tcp-established", ["--file-locks"], []),
    ({"link_remap": False}, "--file-locks", ["--link-remap"], []),
    ({"manage_cgroups": "soft"}, "--link-remap", ["--manage-cgroups=full"], ["--manage-cgroups=soft"]),
]
OF_A_DUMP: list[tuple[dict[str, t.Any], str, list[str], list[str]]] = [
    ({"skip_in_flight": False}, "skip", ["--skip-in-flight"], []),
    ({"force_irmap": False}, "--skip-in-flight", ["--force-irmap"], []),
    ({"ghost_limit": 0}, "--force-irmap", [], ["--ghost-limit", "0"]),
    ({"ghost_limit": 1073741824}, "--force-irmap", [], ["--ghost-limit", "1073741824"]),
    ({"external_mounts": (MountMap("srv/data", "/mnt/data"),)}, "skip", [], ["--ext-mount-map", "/srv/data:srv/data"]),
]
OF_A_RESTORE: list[tuple[dict[str, t.Any], str, list[str], list[str]]] = [
    ({"tcp_close": True}, "--restore-sibling", [], ["--tcp-close"]),
    ({"lsm_profile": "apparmor:web"}, "--restore-sibling", [], ["--lsm-profile", "apparmor:web"]),
    (
        {"external_mounts": (MountMap("srv/data", "/mnt/data"),)},
        "--restore-sibling",
        [],
        ["--ext-mount-map", "srv/data:/mnt/data"],
    ),
]
ACTIONS: dict[str, tuple[t.Callable[[CriuOptions], list[str]], list[str], str]] = {
    "dump": (dump, DEFAULT_DUMP, "dump.log"),
    "pre-dump": (pre_dump, DEFAULT_PRE_DUMP, "pre-dump.log"),
    "restore": (restore, DEFAULT_RESTORE, "restore.log"),
}
FLIPPED = [
    (action, *case)
    for action, own in (("dump", OF_A_DUMP), ("pre-dump", OF_A_DUMP), ("restore", OF_A_RESTORE))
    for case in (*COMMON, *own)
]


@each(
    ("action", "change", "after", "gone", "new"),
    FLIPPED,
    ids=[f"{case[0]} {next(iter(case[1].items()))!r}".replace("/", "_") for case in FLIPPED],
)
def test_one_option_changes_its_own_words_and_no_other(
    action: str, change: dict[str, t.Any], after: str, gone: list[str], new: list[str]
) -> None:
    build, default, log = ACTIONS[action]
    assert build(CriuOptions(**change)) == edited(default, log if after == ".log" else after, gone, new)


@pytest.mark.parametrize("change", [{"tcp_close": True}, {"lsm_profile": "apparmor:web"}], ids=["tcp_close", "lsm"])
def test_options_of_a_restore_say_nothing_to_a_dump(change: dict[str, t.Any]) -> None:
    assert dump(CriuOptions(**change)) == DEFAULT_DUMP
    assert pre_dump(CriuOptions(**change)) == DEFAULT_PRE_DUMP


@pytest.mark.parametrize(
    "change",
    [{"skip_in_flight": False}, {"force_irmap": False}, {"ghost_limit": 5}],
    ids=["skip_in_flight", "force_irmap", "ghost_limit"],
)
def test_options_of_a_dump_say_nothing_to_a_restore(change: dict[str, t.Any]) -> None:
    assert restore(CriuOptions(**change)) == DEFAULT_RESTORE


DUMP_FACTS: list[tuple[dict[str, t.Any], str, list[str], list[str]]] = [
    ({"init_pid": 7}, "-t", ["4321"], ["7"]),
    ({"images": "/srv/x"}, "-D", ["/srv/cp/.web1.stasis-staging"], ["/srv/x"]),
    ({"hook": "/opt/hook"}, "--action-script", ["/usr/local/libexec/stasis/restore-net"], ["/opt/hook"]),
    ({"network_lock": "nftables"}, "--network-lock", ["skip"], ["nftables"]),
    (
        {"cgroup_roots": ("cpu,cpuacct:/lxc.payload.web1", "pids:/lxc.payload.web1")},
        "skip",
        [],
        ["--cgroup-root", "cpu,cpuacct:/lxc.payload.web1", "--cgroup-root", "pids:/lxc.payload.web1"],
    ),
    ({"cgroup_yard": "/run/stasis/cgroups"}, "skip", [], ["--cgroup-yard", "/run/stasis/cgroups"]),
    (
        {"mounts": (MountMap("lib", "/usr/lib"), MountMap("srv/a", "/srv/b"))},
        "skip",
        [],
        ["--ext-mount-map", "/lib:lib", "--ext-mount-map", "/srv/a:srv/a"],
    ),
    ({"terminals": ("dev/console",)}, "skip", [], ["--ext-mount-map", "/dev/console:dev/console"]),
    ({"parent": "../1"}, "--force-irmap", [], ["--prev-images-dir", "../1"]),
    ({"track_mem": True}, "--force-irmap", [], ["--track-mem"]),
]


@each(("change", "after", "gone", "new"), DUMP_FACTS, ids=[next(iter(case[0])) for case in DUMP_FACTS])
def test_one_fact_changes_its_own_words_of_dump_and_pre_dump(
    change: dict[str, t.Any], after: str, gone: list[str], new: list[str]
) -> None:
    facts = replace(DUMP, **change)
    assert dump(facts=facts) == edited(DEFAULT_DUMP, after, gone, new)
    assert pre_dump(facts=facts) == edited(DEFAULT_PRE_DUMP, after, gone, new)


def test_stopping_dump_is_the_default_without_leave_running() -> None:
    assert dump(facts=replace(DUMP, leave_running=False)) == DEFAULT_DUMP[:-1]


RESTORE_FACTS: list[tuple[dict[str, t.Any], str, list[str], list[str]]] = [
    ({"images": "/srv/x"}, "-D", ["/srv/cp/web1"], ["/srv/x"]),
    ({"work": "/run/w"}, "-W", ["/var/log/stasis/w"], ["/run/w"]),
    ({"hook": "/opt/hook"}, "--action-script", ["/usr/local/libexec/stasis/restore-net"], ["/opt/hook"]),
    ({"mounts": (MountMap("lib", "/usr/lib"),)}, "--restore-sibling", [], ["--ext-mount-map", "lib:/usr/lib"]),
    (
        {"externals": ("veth[eth0]:vethA", "netdev[eth1]:enp3s0")},
        "--restore-sibling",
        [],
        ["--external", "veth[eth0]:vethA", "--external", "netdev[eth1]:enp3s0"],
    ),
]


@pytest.mark.parametrize(
    ("change", "after", "gone", "new"), RESTORE_FACTS, ids=[next(iter(case[0])) for case in RESTORE_FACTS]
)
def test_one_fact_changes_its_own_words_of_restore(
    change: dict[str, t.Any], after: str, gone: list[str], new: list[str]
) -> None:
    assert restore(facts=replace(RESTORE, **change)) == edited(DEFAULT_RESTORE, after, gone, new)


def test_configured_mounts_come_before_those_of_the_task() -> None:
    options = CriuOptions(external_mounts=(MountMap("b", "/b"),))
    maps = [word for word in dump(options, replace(DUMP, mounts=(MountMap("a", "/a"),))) if ":" in word]
    assert maps == ["/a:a", "/b:b"]


@pytest.mark.parametrize("action", ["dump", "pre-dump", "restore"])
def test_extra_arguments_come_last_in_their_order(action: str) -> None:
    build, default, _log = ACTIONS[action]
    extra = ("--timeout", "30", "--mntns-compat-mode")
    assert build(CriuOptions(criu_args=extra)) == [*default, *extra]


def test_everything_at_once_is_exactly_this() -> None:
    options = CriuOptions(
        tcp_established=False,
        skip_in_flight=False,
        file_locks=False,
        link_remap=False,
        force_irmap=False,
        ghost_limit=9,
        manage_cgroups="strict",
        external_mounts=(MountMap("m", "/m"),),
        criu_args=("-j",),
        criu_config="/etc/c",
        verbosity=2,
    )
    facts = DumpFacts(
        1, "/i", "/h", ("pids:p",), "/y", (MountMap("a", "/a"),), ("dev/tty1",), "iptables", True, "../1", True
    )
    # fmt: off
    assert dump(options, facts) == [
        "/opt/criu/sbin/criu", "dump", "--no-default-config", "--config", "/etc/c", "-D", "/i", "-o", "dump.log", "-v2",
        "--action-script", "/h", "--manage-cgroups=strict", "--ext-mount-map", "auto", "--enable-external-sharing",
        "--enable-external-masters", "--enable-fs", "hugetlbfs", "--enable-fs", "tracefs", "-t", "1",
        "--network-lock", "iptables", "--cgroup-root", "pids:p", "--cgroup-yard", "/y", "--ext-mount-map", "/a:a",
        "--ext-mount-map", "/m:m", "--ext-mount-map", "/dev/tty1:dev/tty1", "--ghost-limit", "9",
        "--prev-images-dir", "../1", "--track-mem", "--leave-running", "-j",
    ]
    # fmt: on


def test_the_freezer_is_left_alone_because_criu_polls_it_slowly() -> None:
    assert not [word for word in dump() + restore() if "freeze" in word]


# Every option of CRIU 4.2 that takes part in what the module promises, with its short form, from criu/config.c.
_REFUSED = """
    --tree -t --leave-stopped -s --leave-running -R --restore-detached -d --restore-sibling -S --daemon --images-dir -D
    --work-dir -W --log-file -o --join-ns -J --root -r --help -h --tcp-established --close --log-pid --version -V
    --pidfile --veth-pair --action-script --link-remap --file-locks -l --page-server --address --port
    --prev-images-dir --ms --track-mem --auto-dedup --libdir -L --force-irmap --ext-mount-map -M --exec-cmd
    --manage-cgroups --cgroup-root --inherit-fd --feature --enable-external-sharing --enable-external-masters
    --freeze-cgroup --ghost-limit --lsm-profile --external --lazy-pages --cgroup-props --cgroup-props-file
    --skip-in-flight --status-fd --tcp-close --verbosity -v --ps-socket --stream --config --no-default-config
    --pre-dump-mode --network-lock --unprivileged --cgroup-yard --empty-ns --check-only
"""
_FREE = """
    --shell-job -j --ext-unix-sk -x --evasive-devices --cpu-cap --skip-mnt --enable-fs --irmap-scan-path --timeout
    --extra --experimental --all --cgroup-dump-controller --deprecated --display-stats --weak-sysctls
    --tls-cacert --tls-cacrl --tls-cert --tls-key --tls --tls-no-cn-verify --file-validation --skip-file-rwx-check --lsm-mount-context --mntns-compat-mode
    --ghost-fiemap --allow-uprobes
"""
REFUSED, FREE = _REFUSED.split(), _FREE.split()


@pytest.mark.parametrize("version", ["4.1.1", "4.2"])
def test_every_option_that_criu_lists_is_either_managed_or_known_to_be_free(version: str) -> None:
    path = os.path.join(os.path.dirname(__file__), f"../../fixtures/criu_cli/help-{version}.txt")
    with open(path, encoding="utf-8") as stream:
        listed = set(re.findall(r"(?<![\w-])--(?!no-)[a-z][a-z-]+", stream.read()))
    assert len(listed) > 50
    assert sorted(listed - {*REFUSED, *FREE}) == []


@each("option", REFUSED)
def test_managed_option_is_refused_by_name(option: str) -> None:
    with pytest.raises(StasisError, match=f"criu_args may not set {option}, which this module manages"):
        _criu_command.check_extra_arguments([option], "criu_args")


@pytest.mark.parametrize("form", ["--{}=1", "--no-{}", "--no-{}=1"])
def test_managed_option_is_refused_with_its_value_attached_and_when_taken_back(form: str) -> None:
    for option in REFUSED:
        if option.startswith("--"):
            with pytest.raises(StasisError, match="which this module manages"):
                _criu_command.check_extra_arguments([form.format(option[2:])], "criu_args")


@each("option", ["--leave-r", "--tcp-e", "--t", "--ro", "--no-leave-r", "--no-tcp", "--no-", "--no", "--"])
def test_abbreviation_that_getopt_would_complete_is_refused(option: str) -> None:
    with pytest.raises(StasisError, match="which this module manages"):
        _criu_command.check_extra_arguments([option], "criu_args")


@each(
    "word",
    ["-v4", "-vvvv", "-D/srv/other", "-t1", "-W/tmp", "-jR", "-jl", "-jD/srv/other", "-x12R", "-", "-L/tmp/plugins"],
)
def test_short_option_is_refused_with_its_value_and_in_a_cluster(word: str) -> None:
    with pytest.raises(StasisError, match="which this module manages"):
        _criu_command.check_extra_arguments([word], "criu_args")


def test_every_other_option_is_free() -> None:
    for option in FREE:
        _criu_command.check_extra_arguments([option], "criu_args")
        if option.startswith("--"):
            _criu_command.check_extra_arguments([f"{option}=1"], "criu_args")


def test_value_after_a_free_option_is_not_taken_for_an_option() -> None:
    _criu_command.check_extra_arguments(["--timeout", "30", "-x12,13", "--skip-mnt", "/a=b"], "criu_args")


@pytest.mark.parametrize("word", ["", "a\nb", "--timeout\t3", "\x00"])
def test_empty_word_and_control_character_are_refused(word: str) -> None:
    with pytest.raises(StasisError, match="criu_config contains an empty word or a control character"):
        _criu_command.check_extra_arguments(["-j", word], "criu_config")


def test_every_option_that_the_builder_writes_is_managed_or_only_adds() -> None:
    options = CriuOptions(tcp_close=True, ghost_limit=1, lsm_profile="apparmor:x", criu_config="/c")
    facts = replace(
        DUMP,
        cgroup_roots=("pids:p",),
        cgroup_yard="/yard",
        mounts=(MountMap("a", "/a"),),
        terminals=("dev/tty1",),
        parent="..",
        track_mem=True,
    )
    # Every field has a value of its own, or an option of the builder would not be among the words.
    assert not [one.name for one in fields(facts) if getattr(facts, one.name) in ("", (), False, None)]
    words = {
        word for word in dump(options, facts) + pre_dump(options, facts) + restore(options) if word.startswith("-")
    }
    words -= {"--enable-fs"}
    for word in sorted(words):
        with pytest.raises(StasisError):
            _criu_command.check_extra_arguments([word], "criu_args")


def test_nothing_else_in_the_collection_spells_an_option_of_criu() -> None:
    plugins = os.path.dirname(os.path.dirname(os.path.abspath(_criu_command.__file__)))
    # Those that criu_info and the network lock ask CRIU with are not of a dump or restore.
    spelled = re.compile(
        r"""["'](--(?:tcp-|file-locks|link-remap|manage-cgroups|ext-mount-map|external|enable-(?:fs|ext)|skip-in-flight"""
        r"""|force-irmap|ghost-limit|leave-|restore-|cgroup-root|freeze-cgroup|lsm-profile|action-script|prev-images"""
        r"""|track-mem|network-lock|images-dir|work-dir|tree|veth-pair|inherit-fd)[a-z=-]*)"""
    )
    found = []
    for directory, _children, files in os.walk(plugins):
        for name in files:
            if name.endswith(".py") and name != "_criu_command.py":
                with open(os.path.join(directory, name), encoding="utf-8") as stream:
                    found += [f"{name}: {match}" for match in spelled.findall(stream.read())]
    assert found == []


def test_that_search_finds_the_options_in_the_builder() -> None:
    with open(_criu_command.__file__, encoding="utf-8") as stream:
        assert '"--tcp-established"' in stream.read()


def test_what_further_arguments_allow() -> None:
    assert _criu_command.allowances([]) == _criu_command.Allowances()
    found = _criu_command.allowances(["--enable-fs", "a,b", "--enable-fs=c", "--skip-mnt", "/x", "-j", "-x1,2"])
    assert found.file_systems == {"a", "b", "c"}
    assert found.skipped_mounts == {"/x"}
    assert (found.shell_job, found.external_unix, found.uprobes) == (True, True, False)
    assert _criu_command.allowances(["--allow-uprobes", "--enable-fs"]) == _criu_command.Allowances(uprobes=True)


def test_cpuinfo_writes_no_log_into_the_image() -> None:
    assert _criu_command.cpuinfo("/c", "check", "/image") == [
        "/c",
        "cpuinfo",
        "check",
        "--no-default-config",
        "-D",
        "/image",
    ]

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
import os
import typing as t
from dataclasses import dataclass, field, replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _cgroup_yard,
    _checkpoint,
    _container,
    _criu_command,
    _diagnosis,
    _dump,
    _files,
    _host,
    _image,
    _install_record,
    _network_lock,
    _nics,
    _preflight,
    _restore,
    _retry,
    _rootfs,
    _runner,
    _surroundings,
    _workspace,
)
from ansible_collections.stasis.lxc.plugins.module_utils._attempts import RunError
from ansible_collections.stasis.lxc.plugins.module_utils._autostart import Autostart
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container, Process
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.plugins.module_utils._findings import BLOCKS, MAY_FAIL, NOTE, Finding
from ansible_collections.stasis.lxc.plugins.module_utils._host import Host
from ansible_collections.stasis.lxc.plugins.module_utils._install_record import InstallRecord
from ansible_collections.stasis.lxc.plugins.module_utils._result import Result
from ansible_collections.stasis.lxc.tests.unit.support.make import (
    BOOT,
    INIT,
    container,
    draft,
    manifest,
    params,
    tree,
    write,
)
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

CRIU = "/opt/criu-4.2/sbin/criu"
RECORD = InstallRecord(1, 1, "0.1.0", CRIU, "4.2", "source", "/usr/libexec/hook", "h", "/usr/libexec/l/criu", "l")
HOST = Host("6.18.5", "x86_64", "A CPU", BOOT, 100.0, CRIU, "4.2.1", "", "5.0.2", True)
VETH = _nics.Nic(0, "veth", name="eth0", veth="veth1a2b", bridge="lxcbr0", mac="fe:00:00:00:00:01", mtu=1500)
SURROUNDINGS = {"lsm": {"kind": "none", "label": ""}, "addresses": [], "rootfs": "dir:/rootfs"}
BPF = Finding("descriptor", BLOCKS, "systemd (pid 7)", "It is open on bpf-prog.", "Stop it.")
FANOTIFY = Finding("fanotify", MAY_FAIL, "av (pid 8)", "It watches a file system.", "Stop it.")
NETLINK = Finding("netlink-data", MAY_FAIL, "udevd (pid 9)", "9 bytes wait.", "Run it again.")
ZOMBIE = Finding("zombie", NOTE, "x (pid 10)", "It is a zombie.", "Nothing needs to be done.")
RISKS = [FANOTIFY, NETLINK, replace(FANOTIFY, subject="av (pid 11)"), ZOMBIE]
RESTORED = Process(7777, 222222, "init")


@dataclass
class House:
    """What observing is faked to find; `run` goes the whole way from parameters to result."""

    top: str
    directory: str
    monkeypatch: pytest.MonkeyPatch
    found: Container
    calls: list[Call] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def run(self, *, check_mode: bool, **options: t.Any) -> Result:
        runner = StrictRunner(*self.calls)
        result = _checkpoint.run(
            params(**{"directory": self.directory, "lxc_path": f"{self.top}/lxc", **options}),
            runner,
            check_mode=check_mode,
        )
        runner.assert_done()
        return result


@pytest.fixture
def house(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> House:
    write(f"{safe_dir}/lxc/web1/rootfs/etc/passwd", "x")
    write(f"{safe_dir}/lxc/web1/config", "lxc.uts.name = web1\n")
    rootfs = _rootfs.locate(f"dir:{safe_dir}/lxc/web1/rootfs")
    made = House(
        safe_dir,
        f"{safe_dir}/checkpoints/web1",
        monkeypatch,
        container("RUNNING", lxc_path=f"{safe_dir}/lxc", rootfs=rootfs, nics=(VETH,)),
    )
    monkeypatch.setattr(_workspace, "LOCKS", f"{safe_dir}/run")
    monkeypatch.setattr(_install_record, "read", lambda: RECORD)
    monkeypatch.setattr(_install_record, "verify", lambda _record: None)
    monkeypatch.setattr(_host, "observe", lambda *_arguments: HOST)
    monkeypatch.setattr(_container, "observe", lambda *_arguments: made.found)
    monkeypatch.setattr(_preflight, "findings", lambda *_arguments: made.findings)
    monkeypatch.setattr(_nics, "free_names", lambda *_arguments: [])
    monkeypatch.setattr(_surroundings, "record", lambda *_arguments: SURROUNDINGS)
    monkeypatch.setattr(_cgroup_yard, "observe", lambda: {"unified": "/sys/fs/cgroup"})
    return made


def checkpointed(house: House, **changes: t.Any) -> None:
    """A sealed checkpoint of the container, fresh for it as it is now unless a change says otherwise."""
    rootfs = house.found.rootfs
    found = _rootfs.fingerprint(rootfs)
    assert found is not None
    about = {
        "lxc_path": f"{house.top}/lxc",
        "identity": rootfs.identity(),
        "fingerprint": found.as_dict(),
        "nics": [{**vars(VETH), "port": {}}],
        **changes,
    }
    staging = _image.stage(house.directory, draft(lxc_path=f"{house.top}/lxc"))
    for name, text in (("eth0", "eth0"), ("veth0", "veth1a2b"), ("bridge0", "lxcbr0"), ("pages-1.img", "memory")):
        write(f"{staging}/{name}", text)
    write(f"{staging}/committed", "committed B 1\n")
    _image.seal(staging, manifest(**about))
    _image.publish(house.directory)


def stop(house: House) -> None:
    house.found = replace(house.found, state="STOPPED", init=None, monitor=None, nics=())


def nobody_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on whoever writes or starts something fails the test."""

    def act(*_arguments: t.Any, **_more: t.Any) -> t.NoReturn:
        raise AssertionError("check mode must not act")

    for module, names in (
        (_dump, ["dump", "finish"]),
        (_restore, ["restore"]),
        (_image, ["stage", "seal", "publish", "remove", "discard", "add_record", "set_fingerprint"]),
        (_files, ["write_durably", "replace_file", "exchange", "make_directories", "remove_tree"]),
        (_runner, ["run_to_files"]),
        (_workspace, ["locked", "Workspace"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, act)


def acts_are_faked(monkeypatch: pytest.MonkeyPatch, house: House) -> None:
    """CRIU and LXC do their work at once, and well."""

    def dump(_runner: object, _container: object, wanted: t.Any, order: _dump.DumpOrder, _locks: object) -> t.Any:
        return {**order.draft, "stats": {"frozen_time": 5}, "files": {}, "size": 0}, []

    def restore(*arguments: t.Any) -> _restore.Restored:
        order = arguments[5]
        return _restore.Restored(
            RESTORED, [CRIU, "restore", *order.arguments("WORKDIR", arguments[3].directory)], {}, "/log", []
        )

    monkeypatch.setattr(_workspace, "locked", lambda *_a, **_k: contextlib.nullcontext(7))
    monkeypatch.setattr(_dump, "dump", dump)
    monkeypatch.setattr(_restore, "restore", restore)
    monkeypatch.setattr(_container, "wait_stopped", lambda *_arguments: True)


Prepare = t.Callable[[House], None]


def _nothing(_house: House) -> None:
    pass


def _sealed(house: House) -> None:
    checkpointed(house)


def _sealed_and_stopped(house: House) -> None:
    stop(house)
    checkpointed(house)


def _stale(house: House) -> None:
    stop(house)
    checkpointed(house, config_digest="another")


def _left_running(house: House) -> None:
    stop(house)
    checkpointed(house, stopped=False)


def _restored(house: House) -> None:
    checkpointed(house)
    _image.add_record(house.directory, f"restored {BOOT} {INIT.pid} {INIT.start} 1")


def _autostarted(house: House) -> None:
    house.found = replace(house.found, autostart=Autostart(True, ()))


def _frozen(house: House) -> None:
    house.found = replace(house.found, state="FROZEN")


def _bad_nic(house: House) -> None:
    house.found = replace(house.found, nics=(replace(VETH, problems=("eth0 is odd.",)),))


def _blocked(house: House) -> None:
    house.findings = [BPF, *RISKS]


def _trash(house: House) -> None:
    checkpointed(house)
    write(f"{_image.trash_path(house.directory)}/pages-1.img", "old")


def _committed(house: House) -> None:
    stop(house)
    found = house.found
    about = {
        "lxc_path": f"{house.top}/lxc",
        "identity": found.rootfs.identity(),
        "stopped": True,
        "nics": [{**vars(VETH), "port": {}}],
        "init": {"pid": INIT.pid, "start": INIT.start, "boot_id": BOOT},
        "config_digest": found.config.digest,
    }
    staging = _image.stage(house.directory, draft(**about))
    for name, text in (
        ("eth0", "eth0"),
        ("veth0", "veth1a2b"),
        ("bridge0", "lxcbr0"),
        ("committed", "committed B 1\n"),
    ):
        write(f"{staging}/{name}", text)


def _sealed_not_published(house: House) -> None:
    _sealed_and_stopped(house)
    os.rename(house.directory, _image.staging_path(house.directory))


def _interrupted(house: House) -> None:
    _image.stage(house.directory, draft(lxc_path=f"{house.top}/lxc"))


def _tampered(house: House) -> None:
    _sealed_and_stopped(house)
    write(f"{house.directory}/pages-1.img", "MEMORY")


def _tampered_record(house: House) -> None:
    _sealed_and_stopped(house)
    # As long as before, and no record any more: what the seal says comes first.
    write(f"{house.directory}/eth0", "    ")


def _foreign(house: House) -> None:
    write(f"{house.directory}/notes.txt", "mine")


# What is there, the task's options, the action or words of the refusal.
CASES: dict[str, tuple[Prepare, dict[str, t.Any], str]] = {
    "first dump": (_nothing, {}, "dump"),
    "first dump, stopping": (_nothing, {"stop": True}, "dump"),
    "have one": (_sealed, {}, "none"),
    "have one, overwrite": (_sealed, {"overwrite": True}, "dump"),
    "have one, stop": (_sealed, {"stop": True}, "dump"),
    "stopped by it": (_sealed_and_stopped, {"stop": True}, "none"),
    "stopped otherwise": (_stale, {"stop": True}, "is stale: The configuration of the container has changed"),
    "stopped without": (stop, {"stop": True}, "there is no checkpoint"),
    "frozen": (_frozen, {}, "is frozen"),
    "blocked by the preflight": (
        _blocked,
        {"stop": True},
        "cannot be checkpointed. systemd (pid 7): It is open on bpf",
    ),
    "bad NIC": (_bad_nic, {}, "eth0 is odd."),
    "autostart": (_autostarted, {"stop": True}, "would be started by"),
    "autostart inhibited": (_autostarted, {"stop": True, "autostart": "inhibit"}, "dump"),
    "autostart ignored": (_autostarted, {"stop": True, "autostart": "ignore"}, "dump"),
    "foreign": (_foreign, {}, "is not a checkpoint"),
    "after an interruption": (_interrupted, {}, "dump"),
    "after an interrupted removal": (_trash, {}, "none"),
    "after an interruption behind the commit": (_committed, {"stop": True}, "none"),
    "after an interruption behind the seal": (_sealed_not_published, {"stop": True}, "none"),
    "restore after an interruption behind the commit": (_committed, {"state": "restored"}, "restore"),
    "restore after an interruption behind the seal": (_sealed_not_published, {"state": "restored"}, "restore"),
    "restore": (_sealed_and_stopped, {"state": "restored"}, "restore"),
    "restore by size": (_sealed_and_stopped, {"state": "restored", "verify": "size"}, "restore"),
    "restored already": (_restored, {"state": "restored"}, "none"),
    "restore over a running one": (_sealed, {"state": "restored"}, "is RUNNING and was not restored from"),
    "restore of nothing": (stop, {"state": "restored"}, "There is no checkpoint in"),
    "restore of a stale one": (_stale, {"state": "restored"}, "is not fresh: The configuration"),
    "restore of a stale one, allowed": (_stale, {"state": "restored", "allow_stale": True}, "restore"),
    "restore of one left running": (_left_running, {"state": "restored"}, "was left running when it was dumped"),
    "restore of a tampered one": (_tampered, {"state": "restored"}, "does not match its seal: pages-1.img"),
    "restore of one with a tampered record": (_tampered_record, {"state": "restored"}, "does not match its seal: eth0"),
    "remove": (_sealed, {"state": "absent"}, "remove"),
    "remove nothing": (_nothing, {"state": "absent"}, "none"),
    "remove the only fresh one": (_sealed_and_stopped, {"state": "absent"}, "is the only fresh checkpoint"),
    "remove it all the same": (_sealed_and_stopped, {"state": "absent", "force": True}, "remove"),
    "remove what is not ours": (_foreign, {"state": "absent"}, "is not a checkpoint"),
}
SAME = ["changed", "action", "state", "command", "stale_reasons", "warnings", "notes", "recovered", "diff"]


@pytest.mark.parametrize("case", list(CASES))
def test_check_mode_writes_nothing_and_predicts_the_real_run(case: str, house: House) -> None:
    prepare, options, outcome = CASES[case]
    prepare(house)
    before = tree(house.top)
    refused = outcome not in ("dump", "restore", "remove", "none")

    with house.monkeypatch.context() as patch:
        nobody_acts(patch)
        if refused:
            with pytest.raises(StasisError) as refusal:
                house.run(check_mode=True, **options)
            assert outcome in refusal.value.what
        else:
            predicted = house.run(check_mode=True, **options)
    assert tree(house.top) == before

    acts_are_faked(house.monkeypatch, house)
    if refused:
        with pytest.raises(StasisError) as again:
            house.run(check_mode=False, **options)
        assert (again.value.message, again.value.data) == (refusal.value.message, refusal.value.data)
        return
    assert (predicted.action, predicted.changed) == (outcome, outcome != "none" or bool(predicted.recovered))
    done = house.run(check_mode=False, **options)
    assert {key: getattr(done, key) for key in SAME} == {key: getattr(predicted, key) for key in SAME}


def test_diff_shows_both_sides(house: House) -> None:
    assert house.run(check_mode=True, stop=True).diff == {
        "before": {"container": "running", "checkpoint": "absent"},
        "after": {"container": "stopped", "checkpoint": "sealed"},
    }


def test_command_is_the_builders_with_what_was_observed(house: House) -> None:
    facts = _criu_command.DumpFacts(
        init_pid=INIT.pid,
        images=_image.staging_path(house.directory),
        hook=RECORD.hook,
        cgroup_yard="/run/stasis/cgroups",
        leave_running=False,
    )
    result = house.run(check_mode=True, stop=True)
    assert result.command == _criu_command.dump(CRIU, _criu_command.CriuOptions(), facts)


def test_restore_gives_criu_the_nics_of_the_records(house: House) -> None:
    _sealed_and_stopped(house)
    command = house.run(check_mode=True, state="restored").command
    assert command[:2] == [CRIU, "restore"]
    assert command[command.index("-W") + 1] == "WORKDIR"
    assert command[-2:] == ["--external", "veth[eth0]:veth1a2b"]


def test_restore_takes_nics_elsewhere(house: House) -> None:
    _sealed_and_stopped(house)
    nics = [{"name": "eth0", "bridge": "br1", "veth": "vethNew"}]
    assert house.run(check_mode=True, state="restored", nics=nics).command[-1] == "veth[eth0]:vethNew"


def test_restore_remembers_the_options_of_the_dump_unless_the_task_sets_them(house: House) -> None:
    stop(house)
    checkpointed(
        house,
        options={
            "tcp_established": False,
            "manage_cgroups": "soft",
            "external_mounts": [{"target": "srv", "source": "/mnt"}],
            "verbosity": 0,
        },
    )
    command = house.run(check_mode=True, state="restored").command
    assert "--tcp-established" not in command
    assert "--manage-cgroups=soft" in command
    assert "srv:/mnt" in command
    assert "-v4" in command, "only what belongs to the image is remembered"
    command = house.run(check_mode=True, state="restored", tcp_established=True, manage_cgroups="full").command
    assert "--tcp-established" in command
    assert "--manage-cgroups=full" in command


def test_forced_restore_stops_the_container_first(house: House) -> None:
    checkpointed(house)
    options = {"state": "restored", "force": True, "allow_stale": True}
    predicted = house.run(check_mode=True, **options)
    acts_are_faked(house.monkeypatch, house)
    house.calls = [Call(["lxc-stop", "-P", f"{house.top}/lxc", "-n", "web1", "-k"], timeout=300)]
    done = house.run(check_mode=False, **options)
    assert done.diff == predicted.diff
    assert done.init_pid == RESTORED.pid


def test_network_that_is_not_ready_is_told_before_a_forced_stop(house: House) -> None:
    checkpointed(house)
    house.monkeypatch.setattr(_nics, "free_names", lambda *_arguments: ["There is no bridge lxcbr0."])
    for check_mode in (True, False):
        house.monkeypatch.setattr(_workspace, "locked", lambda *_a, **_k: contextlib.nullcontext(7))
        with pytest.raises(StasisError, match=r"There is no bridge lxcbr0\."):
            house.run(check_mode=check_mode, state="restored", force=True, allow_stale=True)


def test_veth_of_the_container_that_will_be_stopped_is_not_in_the_way(house: House) -> None:
    checkpointed(house)
    house.monkeypatch.setattr(_nics, "free_names", lambda *_arguments: ["The name veth1a2b is taken."])
    options = {"state": "restored", "force": True, "allow_stale": True}
    assert house.run(check_mode=True, **options).action == "restore"


def test_lock_of_the_network_is_chosen_before_the_freeze(house: House) -> None:
    house.monkeypatch.setattr(
        _network_lock, "choose", lambda option, *_more: _network_lock.Lock("nftables", False, "nftables")
    )
    command = house.run(check_mode=True).command
    assert command[command.index("--network-lock") + 1] == "nftables"


def test_draft_of_a_dump_says_what_the_manifest_needs(house: House) -> None:
    orders = []

    def dump(_runner: object, _container: object, _wanted: object, order: _dump.DumpOrder, locks: object) -> t.Any:
        orders.append((order, locks))
        return {**order.draft, "stats": {}}, ["A warning."]

    acts_are_faked(house.monkeypatch, house)
    house.monkeypatch.setattr(_dump, "dump", dump)
    _autostarted(house)
    house.found = replace(house.found, autostart=Autostart(True, ("lxc@web1.service",)))
    result = house.run(check_mode=False, stop=True, autostart="inhibit")
    order, locks = orders[0]
    assert (locks, order.inhibit, order.lock_by_hook, list(order.argv)) == ((7, 7), True, True, result.command)
    assert result.warnings == ["A warning."]
    missing = set(manifest()) - set(order.draft) - {"fingerprint", "stats", "files", "size"}
    assert missing == set()
    assert order.draft["init"] == {"pid": INIT.pid, "start": INIT.start, "boot_id": BOOT}
    assert order.draft["autostart_units"] == ["lxc@web1.service"]
    assert order.draft["autostart_inhibited"] is True
    assert (order.draft["generation"], order.draft["stopped"]) == (1, True)
    assert json.loads(json.dumps(order.draft))["nics"][0]["veth"] == "veth1a2b"


@pytest.mark.parametrize(
    ("remembered", "generation"),
    [
        ({"init_pid": INIT.pid, "init_start": INIT.start, "generation": 4}, 5),
        ({"init_pid": INIT.pid, "init_start": INIT.start + 1, "generation": 4}, 1),
        ({"init_pid": 1, "init_start": 1, "generation": 4}, 1),
    ],
    ids=["restored and runs since", "another process under its pid", "started anew"],
)
def test_generation_goes_on_from_what_was_restored(house: House, remembered: dict[str, int], generation: int) -> None:
    key = _workspace.key("web1", f"{house.top}/lxc")
    write(f"{house.top}/run/{key}.json", json.dumps(remembered))
    assert _restore.running_generation(house.found) + 1 == generation


def test_host_without_the_role_is_told_its_name(house: House) -> None:
    house.monkeypatch.setattr(_install_record, "read", lambda: None)
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True)
    assert refusal.value.remedy == "Apply the role stasis.lxc.criu to it."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"criu_version": ""}, "There is no working CRIU at /opt/criu-4.2/sbin/criu."),
        ({"criu_version": "3.17.1"}, "CRIU 3.17.1 does not work on kernel 6.18.5, which needs"),
    ],
)
def test_host_without_a_criu_that_works_is_refused(house: House, changes: dict[str, str], words: str) -> None:
    house.monkeypatch.setattr(_host, "observe", lambda *_arguments: replace(HOST, **changes))
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True)
    assert words in refusal.value.what


def test_absent_needs_no_criu_and_no_container(house: House) -> None:
    checkpointed(house)
    house.monkeypatch.setattr(_install_record, "read", lambda: None)
    os.unlink(f"{house.top}/lxc/web1/config")
    assert house.run(check_mode=True, state="absent").diff["before"] == {"container": "absent", "checkpoint": "sealed"}


def test_user_who_is_not_root_is_told_to_become(house: House) -> None:
    house.monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StasisError, match="needs root") as refusal:
        house.run(check_mode=True)
    assert refusal.value.remedy == "Set become: true for the task."


def test_script_that_somebody_else_could_change_is_refused(house: House) -> None:
    script = write(f"{house.top}/script", "#!/bin/sh\n", 0o777)
    with pytest.raises(StasisError, match="could be changed by somebody other than root"):
        house.run(check_mode=True, action_scripts=[script])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("leave-running\n", "criu_config may not set --leave-running"),
        ("# a comment\n\n  tcp-close # another\n", "criu_config may not set --tcp-close"),
        ("timeout 30\nno-file-locks\n", "criu_config may not set --no-file-locks"),
        ("leave-r\n", "criu_config may not set --leave-r"),
        ("v 4\n", "criu_config may not set --v"),
        ("--images-dir /srv\n", "criu_config may not set --images-dir"),
    ],
)
def test_configuration_of_criu_may_not_touch_what_is_managed(house: House, text: str, words: str) -> None:
    path = write(f"{house.top}/criu.conf", text)
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True, criu_config=path)
    assert words in refusal.value.what


def test_configuration_of_criu_is_handed_over_by_name(house: House) -> None:
    path = write(f"{house.top}/criu.conf", "# ours\ntimeout 30\nmntns-compat-mode\n")
    command = house.run(check_mode=True, criu_config=path).command
    assert command[command.index("--config") + 1] == path


def test_what_was_recovered_is_told_also_where_the_task_is_refused(house: House) -> None:
    _interrupted(house)
    _frozen(house)
    with pytest.raises(StasisError, match="is frozen") as refusal:
        house.run(check_mode=True)
    assert refusal.value.data["recovered"] == [
        f"removed {_image.staging_path(house.directory)}, left by an interrupted checkpoint"
    ]


def test_directory_is_checked_before_anything_is_observed(house: House) -> None:
    def never(*_arguments: t.Any) -> t.NoReturn:
        raise AssertionError("observed too early")

    house.monkeypatch.setattr(_install_record, "read", never)
    house.monkeypatch.setattr(_container, "observe", never)
    for state in ("checkpointed", "restored", "absent"):
        with pytest.raises(StasisError, match="above directory"):
            house.run(check_mode=True, state=state, directory="/tmp/web1")


#
# Preflight and retries
#


def test_what_may_fail_is_told_in_a_line_for_each_kind_and_what_the_dump_has_settled_is_not(house: House) -> None:
    house.findings = RISKS
    result = house.run(check_mode=True)
    assert [one["id"] for one in result.findings] == ["fanotify", "netlink-data", "fanotify", "zombie"]
    assert result.warnings == [
        "Preflight, fanotify, may fail: av (pid 8) (and 1 more of this kind, see findings): "
        "It watches a file system. Stop it.",
        "Preflight, netlink-data, may fail: udevd (pid 9): 9 bytes wait. Run it again.",
    ]
    acts_are_faked(house.monkeypatch, house)
    done = house.run(check_mode=False)
    assert done.findings == result.findings
    assert done.warnings == result.warnings[:1]


def test_refusal_carries_every_finding(house: House) -> None:
    _blocked(house)
    with pytest.raises(StasisError) as refusal:
        house.run(check_mode=True)
    assert len(refusal.value.data["findings"]) == 5
    assert refusal.value.remedy == "Nothing was frozen. Stop it. With preflight: warn, CRIU tries all the same."


def test_what_blocks_is_tried_all_the_same_where_the_task_says_so(house: House) -> None:
    _blocked(house)
    predicted = house.run(check_mode=True, preflight="warn")
    assert predicted.action == "dump"
    assert predicted.warnings[0] == "Preflight, descriptor, blocks: systemd (pid 7): It is open on bpf-prog. Stop it."
    acts_are_faked(house.monkeypatch, house)
    done = house.run(check_mode=False, preflight="warn")
    assert done.changed
    assert not any("bpf" in line for line in done.warnings), "it was dumped, so it did not block"


def test_preflight_knows_what_the_configuration_of_criu_allows(house: House) -> None:
    asked = []

    def findings(_runner: object, _container: object, _host: object, options: t.Any) -> list[Finding]:
        asked.append(options)
        return []

    house.monkeypatch.setattr(_preflight, "findings", findings)
    path = write(f"{house.top}/criu.conf", "# ours\nshell-job\nenable-fs ramfs # odd\n")
    house.run(check_mode=True, stop=True, criu_config=path, criu_args=["--allow-uprobes"])
    (options,) = asked
    assert (options.stop, options.directory) == (True, house.directory)
    assert options.allows.shell_job
    assert options.allows.uprobes
    assert options.allows.file_systems == {"ramfs"}


def unread(**changes: t.Any) -> RunError:
    line = "(00.1) Error (criu/sk-netlink.c:77): netlink: The socket has data to read"
    given: dict[str, t.Any] = {"diagnoses": _diagnosis.diagnose(line), "as_before": True, "rc": 1, **changes}
    return RunError("web1 was not dumped.", "Try again.", **given)


def failing(house: House, *failures: StasisError) -> list[tuple[t.Any, ...]]:
    """The dumps to come: they fail in this way, and then work. Returns what each was given."""
    acts_are_faked(house.monkeypatch, house)
    works, left, given = _dump.dump, list(failures), []

    def dump(*arguments: t.Any) -> t.Any:
        given.append(arguments)
        if left:
            raise left.pop(0)
        return works(*arguments)

    house.monkeypatch.setattr(_dump, "dump", dump)
    house.monkeypatch.setattr(_retry, "delay", lambda _attempt: 0.0)
    return given


def test_dump_is_tried_again_with_what_is_there_then(house: House) -> None:
    given = failing(house, unread())
    first = house.found
    now = replace(first, terminals=("dev/tty1",))

    def observe(*_arguments: t.Any) -> Container:
        return now if given else first

    house.monkeypatch.setattr(_container, "observe", observe)
    done = house.run(check_mode=False)
    assert done.changed
    assert [one["id"] for one in done.retried] == ["netlink_unread"]
    assert [arguments[1] for arguments in given] == [first, now]
    assert "/dev/tty1:dev/tty1" in given[1][3].argv


def test_failure_that_stays_is_told_with_the_tries_before_it_and_the_findings(house: House) -> None:
    house.findings = [NETLINK]
    given = failing(house, unread(), unread(), unread())
    with pytest.raises(StasisError) as failure:
        house.run(check_mode=False)
    assert len(given) == 3
    assert [one["id"] for one in failure.value.data["retried"]] == ["netlink_unread"] * 2
    assert failure.value.data["diagnoses"][0]["class"] == "transient"
    assert failure.value.data["findings"][0]["id"] == "netlink-data"


def test_container_that_is_another_by_then_is_not_dumped(house: House) -> None:
    given = failing(house, unread())
    first = house.found
    house.monkeypatch.setattr(
        _container, "observe", lambda *_arguments: replace(first, init=RESTORED) if given else first
    )
    with pytest.raises(StasisError, match="not what it was at the first try"):
        house.run(check_mode=False)
    assert len(given) == 1

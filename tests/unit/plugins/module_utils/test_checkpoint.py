# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way: what each state does with what is there, and that check mode had said the same."""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _criu_command,
    _dump,
    _host,
    _image,
    _install_record,
    _network_lock,
    _nics,
    _restore,
    _workspace,
)
from ansible_collections.stasis.lxc.plugins.module_utils._autostart import Autostart
from ansible_collections.stasis.lxc.plugins.module_utils._errors import RecordError, StasisError
from ansible_collections.stasis.lxc.tests.unit.support.house import (
    BPF,
    CRIU,
    RECORD,
    RESTORED,
    RISKS,
    VETH,
    House,
    acts_are_faked,
    build,
    checkpointed,
    nobody_acts,
    stop,
)
from ansible_collections.stasis.lxc.tests.unit.support.make import BOOT, INIT, draft, manifest, tree, write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call


@pytest.fixture
def house(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> House:
    return build(safe_dir, monkeypatch)


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
        ("committed", f"committed {_host.boot_id()} {int(time.clock_gettime(time.CLOCK_BOOTTIME))}\n"),
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


def test_checkpoint_that_nobody_vouches_for_is_restored_only_where_the_task_allows_it(house: House) -> None:
    stop(house)
    checkpointed(house, options={"external_mounts": [{"target": "srv", "source": "/mnt"}]})
    os.unlink(f"{house.directory}/manifest.host")
    before = tree(house.top)
    with pytest.raises(StasisError, match="nothing proves that this host made it"):
        house.run(check_mode=True, state="restored")
    options = {"state": "restored", "allow_unsigned": True}
    with pytest.raises(StasisError, match=r"asks for bind mounts of this host.*/mnt at srv") as refusal:
        house.run(check_mode=True, **options)
    assert "external_mounts" in refusal.value.remedy
    mounts = [{"target": "srv", "source": "/mnt/other"}]
    command = house.run(check_mode=True, external_mounts=mounts, **options).command
    assert "srv:/mnt/other" in command
    assert tree(house.top) == before


@pytest.mark.parametrize("name", ["veth0", "cgroup-tree", "device-list", "device-programs"])
@pytest.mark.parametrize("check_mode", [False, True])
def test_record_that_no_dump_writes_is_refused_before_the_container_is_stopped(
    house: House, name: str, check_mode: bool
) -> None:
    checkpointed(house)
    write(f"{house.directory}/{name}", "dir  ../../other\n")
    nobody_acts(house.monkeypatch)
    house.monkeypatch.setattr(_workspace, "locked", lambda *_a, **_k: contextlib.nullcontext(7))
    with pytest.raises(RecordError, match=f"{name} has no valid"):
        house.run(check_mode=check_mode, state="restored", force=True, allow_stale=True, verify="none")


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
        return _dump.Dumped({**order.draft, "stats": {}}, ["A warning."], None)

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


def test_absent_needs_no_criu_and_no_container(house: House) -> None:
    checkpointed(house)
    house.monkeypatch.setattr(_install_record, "read", lambda: None)
    os.unlink(f"{house.top}/lxc/web1/config")
    assert house.run(check_mode=True, state="absent").diff["before"] == {"container": "absent", "checkpoint": "sealed"}


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

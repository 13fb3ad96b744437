# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host with one container, for the whole way from parameters to result: what is observed is set, CRIU and LXC double."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, field, replace

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _cgroup_yard,
    _checkpoint,
    _container,
    _dump,
    _files,
    _host,
    _image,
    _install_record,
    _nics,
    _preflight,
    _restore,
    _rootfs,
    _runner,
    _surroundings,
    _workspace,
)
from ansible_collections.stasis.lxc.plugins.module_utils._container import Container, Process
from ansible_collections.stasis.lxc.plugins.module_utils._findings import BLOCKS, MAY_FAIL, NOTE, Finding
from ansible_collections.stasis.lxc.plugins.module_utils._host import Host
from ansible_collections.stasis.lxc.plugins.module_utils._install_record import InstallRecord
from ansible_collections.stasis.lxc.plugins.module_utils._result import Result
from ansible_collections.stasis.lxc.tests.unit.support.make import BOOT, container, draft, manifest, params, write
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


def build(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> House:
    """The host with its container, which runs; for a fixture of each file of tests."""
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
        return _dump.Dumped({**order.draft, "stats": {"frozen_time": 5}, "files": {}, "size": 0}, [], None)

    def restore(*arguments: t.Any) -> _restore.Restored:
        order = arguments[5]
        return _restore.Restored(
            RESTORED, [CRIU, "restore", *order.arguments("WORKDIR", arguments[3].directory)], {}, "/log", []
        )

    monkeypatch.setattr(_workspace, "locked", lambda *_a, **_k: contextlib.nullcontext(7))
    monkeypatch.setattr(_dump, "dump", dump)
    monkeypatch.setattr(_restore, "restore", restore)
    monkeypatch.setattr(_container, "wait_stopped", lambda *_arguments: True)

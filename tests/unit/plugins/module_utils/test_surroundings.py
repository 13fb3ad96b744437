# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _criu_files,
    _nic_problems,
    _nics,
    _surroundings,
)
from ansible_collections.stasis.lxc.plugins.module_utils._compatibility import FileState
from ansible_collections.stasis.lxc.plugins.module_utils._host import Host
from ansible_collections.stasis.lxc.plugins.module_utils._rootfs import Rootfs
from ansible_collections.stasis.lxc.tests.unit.support.make import BOOT, container, manifest, write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

CRIU = "/opt/criu/sbin/criu"
HOST = Host("6.18.5", "x86_64", "A CPU", BOOT, 100.0, CRIU, "4.2.1", "", "5.0.2", True)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "images"
INSIDE = ["nsenter", "--net=/proc/4321/ns/net", "ip", "-j", "-d", "addr"]
CHECK = [CRIU, "cpuinfo", "check", "--no-default-config", "-D", "/image"]


def link(name: str, *addresses: tuple[str, str]) -> dict[str, t.Any]:
    return {"ifname": name, "addr_info": [{"local": local, "scope": scope} for local, scope in addresses]}


def test_record_has_the_addresses_that_others_reach_it_by() -> None:
    links = [link("lo", ("127.0.0.1", "host")), link("eth0", ("10.0.0.5", "global"), ("fe80::1", "link"))]
    runner = StrictRunner(Call(INSIDE, stdout=json.dumps(links)))
    found = _surroundings.record(container(nics=(_nics.Nic(0, "veth", name="eth0"),)), runner)
    assert found["addresses"] == [{"nic": "eth0", "address": "10.0.0.5"}]
    assert set(found["lsm"]) == {"kind", "label"}
    assert found["rootfs"] == "dir:/var/lib/lxc/web1/rootfs"
    runner.assert_done()


def test_container_in_the_hosts_network_has_no_addresses_of_its_own() -> None:
    runner = StrictRunner()
    assert _surroundings.record(container(nics=(_nics.Nic(0, "none"),)), runner)["addresses"] == []


@pytest.mark.parametrize(("rc", "left"), [(0, ["cpuinfo.img"]), (1, [])])
def test_cpu_is_recorded_privately_or_not_at_all(safe_dir: str, rc: int, left: list[str]) -> None:
    runner = StrictRunner(
        Call(
            [CRIU, "cpuinfo", "dump", "--no-default-config", "-D", safe_dir],
            rc=rc,
            effect=lambda: write(f"{safe_dir}/cpuinfo.img", "half", 0o644),
        )
    )
    _surroundings.record_cpu(runner, CRIU, safe_dir)
    assert os.listdir(safe_dir) == left
    assert not left or os.stat(f"{safe_dir}/cpuinfo.img").st_mode & 0o777 == 0o600
    runner.assert_done()


def test_files_are_recorded_with_the_time_only_of_what_nobody_writes(tmp_path: Path) -> None:
    image, rootfs = tmp_path / "image", tmp_path / "rootfs"
    shutil.copytree(FIXTURES, image)
    write(f"{rootfs}/bin/workload", "program")
    write(f"{rootfs}/tmp/log", "log")
    found = _surroundings.record_files(os.fspath(image), f"dir:{rootfs}")
    program, log = (rootfs / "bin/workload").stat(), (rootfs / "tmp/log").stat()
    assert found["/bin/workload"] == [893936, 0o100755, program.st_mtime_ns, program.st_dev, program.st_ino]
    assert found["/tmp/log"] == [-1, 0o100644, -1, log.st_dev, log.st_ino]
    assert found["/"] == [-1, 0o40755, -1, -1, -1]
    assert _surroundings.record_files(os.fspath(image), "")["/bin/workload"] == [893936, 0o100755, -1, -1, -1]


def test_path_that_a_restore_would_refuse_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["/a", "a", "/../etc/link_remap.1", "//a", "/a\0b", "/a/./b", "/a\nb", "/\udcff"]
    monkeypatch.setattr(_criu_files, "read", lambda _image: [_criu_files.OpenFile(path, 1, 1, True) for path in paths])
    assert sorted(_surroundings.record_files("/image", "")) == ["/a", "/a\nb", "/\udcff"]


def test_name_of_an_interface_with_a_control_character_is_read() -> None:
    done = Call(INSIDE, stdout='[{"ifname": "a\x01b", "ifindex": 2}]')
    assert _nics.inside_links(4321, StrictRunner(done)) == [{"ifname": "a\x01b", "ifindex": 2}]
    assert "rename it" in _nic_problems.inside_problems({"ifname": "a\x01b"})[0]


def observe(runner: StrictRunner, about: dict[str, t.Any], rootfs: str = "") -> t.Any:
    found = container("STOPPED")
    if rootfs:
        found = replace(found, rootfs=Rootfs(f"dir:{rootfs}", rootfs, 1, 2))
    here = _surroundings.observe(about, "/image", found, HOST, runner)
    runner.assert_done()
    return here


def test_nothing_is_asked_that_the_manifest_does_not_need() -> None:
    here = observe(StrictRunner(), manifest(files={"cpuinfo.img": {}}))
    assert (here.architecture, here.versions["criu"], here.cpu_errors, here.files) == ("x86_64", "4.2.1", (), {})


def test_cpu_is_checked_on_another_boot_only_where_it_was_recorded() -> None:
    init = {"pid": 1, "start": 2, "boot_id": "another"}
    about = manifest(init=init, files={"cpuinfo.img": {}})
    assert observe(StrictRunner(Call(CHECK)), about).cpu_errors == ()
    assert observe(StrictRunner(), manifest(init=init)).cpu_errors == ()
    said = "Error (criu/arch/x86/cpu.c:223): cpu: CPU instruction capabilities do not match run time\n"
    assert observe(StrictRunner(Call(CHECK, rc=1, stderr=said)), about).cpu_errors == (said.strip(),)
    assert observe(StrictRunner(Call(CHECK, rc=1)), about).cpu_errors == ("criu cpuinfo check ended with 1.",)


@pytest.mark.parametrize(
    ("rc", "said", "found"),
    [(0, json.dumps([link("br0", ("10.0.0.5", "global"))]), {"10.0.0.5": "br0"}), (1, "", {}), (0, "nonsense", {})],
)
def test_addresses_of_the_host_are_asked_for_where_the_container_has_some(
    rc: int, said: str, found: dict[str, str]
) -> None:
    runner = StrictRunner(Call(["ip", "-j", "addr"], rc=rc, stdout=said))
    assert observe(runner, manifest(addresses=[{"nic": "eth0", "address": "10.0.0.5"}])).addresses == found


def test_files_are_looked_at_in_the_root_file_system_and_never_outside(tmp_path: Path) -> None:
    write(f"{tmp_path}/rootfs/bin/sh", "shell", 0o755)
    write(f"{tmp_path}/secret", "x")
    os.symlink("/etc", f"{tmp_path}/rootfs/etc")
    os.symlink("bin/sh", f"{tmp_path}/rootfs/link")
    asked = ("/bin/sh", "/link", "/gone", "/bin/sh/x", "/", "/etc/passwd", "/../secret", "relative")
    here = observe(StrictRunner(), manifest(open_files={path: [0, 0, 0] for path in asked}), f"{tmp_path}/rootfs")
    assert set(here.files) == {"/bin/sh", "/link", "/gone", "/bin/sh/x", "/"}
    assert here.files["/gone"] is None
    assert here.files["/bin/sh/x"] is None
    shell = here.files["/bin/sh"]
    assert (shell.size, shell.mode) == (5, 0o100755)
    assert here.files["/link"].mode & 0o170000 == 0o120000
    assert here.files["/"].mode & 0o170000 == 0o040000


def test_layers_of_an_overlay_are_looked_at_from_the_top(tmp_path: Path) -> None:
    layers = [f"{tmp_path}/upper", f"{tmp_path}/lower"]
    write(f"{layers[1]}/both", "lower")
    write(f"{layers[0]}/both", "up")
    write(f"{layers[1]}/below", "below")
    write(f"{layers[1]}/removed", "x")
    os.mknod(f"{layers[0]}/removed", 0o020000, 0)
    found = {path: _surroundings.look(layers, path) for path in ("/both", "/below", "/removed", "/none")}
    assert isinstance(found["/both"], FileState)
    assert isinstance(found["/below"], FileState)
    assert (found["/both"].size, found["/below"].size) == (2, 5)
    assert (found["/removed"], found["/none"]) == (None, None)


def test_security_module_is_told_by_the_signs_that_criu_goes_by(tmp_path: Path) -> None:
    assert _surroundings.lsm(os.fspath(tmp_path)) == "none"
    write(f"{tmp_path}/fs/selinux/enforce", "1")
    assert _surroundings.lsm(os.fspath(tmp_path)) == "selinux"
    os.makedirs(f"{tmp_path}/kernel/security/apparmor")
    assert _surroundings.lsm(os.fspath(tmp_path)) == "apparmor"

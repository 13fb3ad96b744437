# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hook writes down for the module: an image is committed, a container was restored."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.hook_bench import SHELLS, Bench, boot_id, uptime


@pytest.fixture(params=sorted(SHELLS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, SHELLS[request.param])


class TestCommit:
    @pytest.fixture
    def commit(self, bench: Bench) -> Path:
        (bench.images / "core-1.img").write_text("x")
        (bench.images / "pages-1.img").write_text("x")
        return bench.images / "committed"

    def test_the_image_is_synced_before_the_record_is_written_and_the_record_after(
        self, bench: Bench, commit: Path
    ) -> None:
        bench.script(
            bench.path / "sync",
            f'#!/bin/sh\nif [ -e "{commit}" ]; then c=there; else c=absent; fi\necho "$c: sync $*" >>"$FAKE_LOG"\n',
        )
        before = uptime()
        images = bench.images
        # What this hook itself has added to.
        cgroups = str(bench.images / "cgroup-tree")
        done = bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_SYNC="1", STASIS_CGROUPS=cgroups)
        assert done.returncode == 0
        assert bench.calls() == (
            f"absent: sync {images}/core-1.img {images}/pages-1.img {cgroups} {images}\nthere: sync {commit} {images}\n"
        )
        word, boot, second = commit.read_text().split()
        assert (word, boot) == ("committed", boot_id())
        assert before <= int(second) <= uptime()

    @pytest.mark.parametrize("sync", ["0", "UNSET"])
    def test_without_sync_only_the_record_is_written(self, bench: Bench, commit: Path, sync: str) -> None:
        assert bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_SYNC=sync).returncode == 0
        assert commit.exists()
        assert bench.calls() == ""

    def test_an_image_that_cannot_be_synced_is_not_committed(self, bench: Bench, commit: Path) -> None:
        assert bench.run("post-dump", fail="sync", STASIS_COMMIT=str(commit), STASIS_SYNC="1").returncode == 1
        assert not commit.exists()

    def test_a_failing_user_script_leaves_the_image_uncommitted(
        self, bench: Bench, commit: Path, tmp_path: Path
    ) -> None:
        script = bench.script(tmp_path / "no", "#!/bin/sh\nexit 1\n")
        (tmp_path / "scripts").write_text(f"{script}\n")
        done = bench.run(
            "post-dump", STASIS_COMMIT=str(commit), STASIS_SYNC="1", STASIS_SCRIPTS=str(tmp_path / "scripts")
        )
        assert done.returncode == 1
        assert not commit.exists()
        assert bench.calls() == ""

    @pytest.mark.parametrize("deadline", ["-1", "soon"])
    def test_a_passed_or_senseless_deadline_leaves_the_image_uncommitted(
        self, bench: Bench, commit: Path, deadline: str
    ) -> None:
        assert bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_DEADLINE=deadline).returncode == 1
        assert not commit.exists()

    def test_a_deadline_to_come_is_no_hindrance(self, bench: Bench, commit: Path) -> None:
        done = bench.run("post-dump", STASIS_COMMIT=str(commit), STASIS_DEADLINE=str(uptime() + 100))
        assert done.returncode == 0
        assert commit.exists()

    def test_a_full_file_system_is_a_veto(self, bench: Bench, commit: Path) -> None:
        commit.symlink_to("/dev/full")
        assert bench.run("post-dump", STASIS_COMMIT=str(commit)).returncode == 1
        assert "could not be written" in bench.refused()

    def test_nothing_is_committed_where_the_module_asks_for_no_record(self, bench: Bench) -> None:
        assert bench.run("post-dump", STASIS_SYNC="1").returncode == 0
        assert bench.calls() == ""


class TestRestored:
    def test_the_record_names_boot_init_and_start_time_and_is_synced(self, bench: Bench) -> None:
        restored = bench.work / "restored"
        process = subprocess.Popen(["/bin/sleep", "30"])
        try:
            done = bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(process.pid))
            start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        finally:
            process.kill()
            process.wait()
        assert done.returncode == 0
        assert restored.read_text().split()[:4] == ["restored", boot_id(), str(process.pid), start]
        assert bench.calls() == f"sync {restored} {bench.work}\n"
        # As every file of a checkpoint, whatever the umask of the task.
        assert restored.stat().st_mode & 0o777 == 0o600

    def test_a_command_with_a_parenthesis_does_not_shift_the_fields(self, bench: Bench, tmp_path: Path) -> None:
        program = tmp_path / "a) b ("
        program.symlink_to("/bin/sleep")
        process = subprocess.Popen([str(program), "30"])
        try:
            restored = bench.work / "restored"
            bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(process.pid))
            start = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        finally:
            process.kill()
            process.wait()
        assert restored.read_text().split()[3] == start

    def test_a_second_restore_adds_a_line(self, bench: Bench) -> None:
        restored = bench.work / "restored"
        for _time in range(2):
            bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(os.getpid()))
        assert len(restored.read_text().splitlines()) == 2

    @pytest.mark.parametrize("pid", ["UNSET", "4194305"])
    def test_an_unknown_init_aborts_the_restore(self, bench: Bench, pid: str) -> None:
        restored = bench.work / "restored"
        assert bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=pid).returncode == 1
        assert not restored.exists()

    def test_a_record_that_does_not_reach_the_disk_aborts_the_restore(self, bench: Bench) -> None:
        restored = str(bench.work / "restored")
        done = bench.run("post-restore", fail="sync", STASIS_RESTORED=restored, CRTOOLS_INIT_PID=str(os.getpid()))
        assert done.returncode == 1

    def test_a_missing_bridge_aborts_the_restore_before_it_is_recorded(self, bench: Bench) -> None:
        bench.bridge("br0")
        bench.veth(0, bridge="br0")
        bench.veth(1, bridge="gone")
        restored = bench.work / "restored"
        done = bench.run("post-restore", STASIS_RESTORED=str(restored), CRTOOLS_INIT_PID=str(os.getpid()))
        assert done.returncode == 1
        assert not restored.exists()
        assert "eth1: the bridge gone does not exist" in bench.refused()

    def test_an_interface_that_is_no_bridge_aborts_the_restore(self, bench: Bench) -> None:
        (bench.sysfs / "class" / "net" / "eth7").mkdir()
        bench.veth(0, bridge="eth7")
        assert bench.run("post-restore").returncode == 1

    def test_bridges_that_exist_let_it_pass(self, bench: Bench) -> None:
        bench.bridge("br0")
        bench.veth(0, bridge="br0")
        bench.veth(1)
        assert bench.run("post-restore").returncode == 0

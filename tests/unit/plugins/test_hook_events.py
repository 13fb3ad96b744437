# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the hook lets CRIU go on: its protocol, deadlines, the user's scripts, rules about device nodes."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.hook_bench import HOOK, SHELLS, Bench


@pytest.fixture(params=sorted(SHELLS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, SHELLS[request.param])


class TestUserScripts:
    def scripts(self, bench: Bench, tmp_path: Path, *statuses: int) -> tuple[Path, Path]:
        order = tmp_path / "order"
        lines = []
        for number, status in enumerate(statuses):
            text = f'#!/bin/sh\necho "{number} $CRTOOLS_SCRIPT_ACTION" >>{order}\nexit {status}\n'
            lines.append(f"{bench.script(tmp_path / f'script {number}', text)}\n")
        (tmp_path / "scripts").write_text("".join(lines))
        return tmp_path / "scripts", order

    @pytest.mark.parametrize("action", ["pre-dump", "network-lock", "pre-resume", "post-resume", "setup-namespaces"])
    def test_run_in_the_listed_order_at_every_event(self, bench: Bench, tmp_path: Path, action: str) -> None:
        scripts, order = self.scripts(bench, tmp_path, 0, 0, 0)
        assert bench.run(action, STASIS_SCRIPTS=str(scripts)).returncode == 0
        assert order.read_text() == f"0 {action}\n1 {action}\n2 {action}\n"

    def test_the_first_failure_stops_the_rest(self, bench: Bench, tmp_path: Path) -> None:
        scripts, order = self.scripts(bench, tmp_path, 0, 3, 0)
        assert bench.run("pre-dump", STASIS_SCRIPTS=str(scripts)).returncode == 1
        assert order.read_text() == "0 pre-dump\n1 pre-dump\n"
        assert "script 1 failed with status 3" in bench.refused()

    @pytest.mark.parametrize("action", ["network-unlock", "pre-resume", "post-resume"])
    def test_where_criu_goes_on_in_any_case_a_failure_is_said_and_the_rest_run(
        self, bench: Bench, tmp_path: Path, action: str
    ) -> None:
        scripts, order = self.scripts(bench, tmp_path, 3, 0)
        assert bench.run(action, STASIS_SCRIPTS=str(scripts)).returncode == 1
        assert order.read_text() == f"0 {action}\n1 {action}\n"
        assert "script 0 failed with status 3" in bench.warned()
        assert bench.refused() == ""

    def test_hear_sigterm_though_the_hook_does_not(self, bench: Bench, tmp_path: Path) -> None:
        bench.script(tmp_path / "one", '#!/bin/sh\nkill -TERM "$$"\n')
        (tmp_path / "scripts").write_text(f"{tmp_path}/one\n")
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            done = bench.run("pre-dump", STASIS_SCRIPTS=str(tmp_path / "scripts"), STASIS_ENV="/usr/bin/env")
        finally:
            signal.signal(signal.SIGTERM, before)
        assert done.returncode == 1
        assert "failed with status 143" in bench.refused()

    def test_a_list_that_cannot_be_read_is_a_failure_not_an_empty_list(self, bench: Bench, tmp_path: Path) -> None:
        assert bench.run("pre-dump", STASIS_SCRIPTS=str(tmp_path / "gone")).returncode == 1
        assert "cannot be read" in bench.refused()

    def test_a_failing_script_at_network_lock_leaves_the_veth_attached(self, bench: Bench, tmp_path: Path) -> None:
        bench.veth(0, bridge="br0")
        scripts, _order = self.scripts(bench, tmp_path, 1)
        assert bench.run("network-lock", STASIS_SCRIPTS=str(scripts)).returncode == 1
        assert bench.calls() == ""


class TestDevices:
    def test_nothing_runs_before_the_rules_about_device_nodes_are_in_force(self, bench: Bench) -> None:
        given = {"STASIS_DEVICES": "1", "STASIS_WORK": str(bench.work)}
        done = bench.run("post-restore", **given)
        assert done.returncode == 1
        assert "rules about device nodes are not in force" in done.stderr
        (bench.work / "devices").touch()
        assert bench.run("post-restore", **given).returncode == 0

    def test_container_without_rules_is_not_held_up(self, bench: Bench) -> None:
        assert bench.run("post-restore", STASIS_WORK=str(bench.work)).returncode == 0


class TestProtocol:
    def test_answers_with_its_protocol(self, bench: Bench) -> None:
        done = subprocess.run([*bench.shell, str(HOOK), "--protocol"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "1\n")

    @pytest.mark.parametrize("missing", ["CRTOOLS_IMAGE_DIR", "CRTOOLS_SCRIPT_ACTION"])
    def test_refuses_to_run_without_what_criu_sets(self, bench: Bench, missing: str) -> None:
        bench.veth(0, bridge="br0")
        done = bench.run("network-lock", **{missing: "UNSET"})
        assert done.returncode == 1
        assert f"{missing} is not set" in done.stderr
        assert bench.calls() == ""

    @pytest.mark.parametrize("action", ["pre-dump", "pre-restore", "pre-resume", "post-resume", "status-ready"])
    def test_other_events_touch_nothing(self, bench: Bench, action: str) -> None:
        bench.veth(0, bridge="br0")
        assert bench.run(action).returncode == 0
        assert bench.calls() == ""

    def test_past_the_point_of_return_no_deadline_counts(self, bench: Bench) -> None:
        for action in ("pre-resume", "post-resume"):
            assert bench.run(action, STASIS_DEADLINE="0").returncode == 0

    @pytest.mark.parametrize("action", ["pre-dump", "pre-restore", "post-setup-namespaces", "post-restore"])
    def test_a_passed_deadline_is_a_veto_at_every_event_before(self, bench: Bench, action: str) -> None:
        assert bench.run(action, STASIS_DEADLINE="0").returncode == 1

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cgroups that the hook records at a dump and makes at a restore."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.hook_bench import FAKE, SHELLS, Bench


@pytest.fixture(params=sorted(SHELLS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, SHELLS[request.param])


class TestCgroups:
    """The v2 cgroups that the container made; `mkdir` and `chown` are the host's own."""

    RECORD = (
        "dir .\nset cgroup.subtree_control +pids\nlimit pids.max 50\n"
        "dir init.scope\n"
        "dir system.slice\nset cgroup.subtree_control +pids\n"
        "dir system.slice/dev-disk\\x2dby.mount\n"
        "dir system.slice/with a space.service\nlimit pids.max 7\nlimit cpu.max 5000 100000\n"
    )

    @staticmethod
    def given(bench: Bench, record: str, payload: str = "lxc.payload.web1-1") -> tuple[Path, dict[str, str]]:
        mount = bench.work / "cgroup mount"
        top = mount / payload
        top.mkdir(parents=True)
        bench.record(**{"cgroup-tree": record})
        return top, {
            "STASIS_CGROUPS": str(bench.images / "cgroup-tree"),
            "STASIS_CGROUP_DIR": str(top),
            "STASIS_CGROUP_MOUNT": str(mount),
            "STASIS_CGROUP_PATH": f"/{payload}",
            "PATH": f"{bench.path}:/usr/bin:/bin",
        }

    def test_are_made_with_their_controllers_when_the_namespaces_are_there(self, bench: Bench) -> None:
        top, environment = self.given(bench, self.RECORD)
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_dir()) == [
            "init.scope",
            "system.slice",
            "system.slice/dev-disk\\x2dby.mount",
            "system.slice/with a space.service",
        ]
        assert (top / "cgroup.subtree_control").read_text() == "+pids"
        assert (top / "system.slice/cgroup.subtree_control").read_text() == "+pids"
        assert not (top / "pids.max").exists(), "limits come when the tasks are there"

    def test_get_their_limits_when_the_tasks_are_there(self, bench: Bench) -> None:
        top, environment = self.given(bench, self.RECORD)
        (top / "system.slice/with a space.service").mkdir(parents=True)
        done = bench.run("post-restore", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert (top / "pids.max").read_text() == "50"
        assert (top / "system.slice/with a space.service/pids.max").read_text() == "7"
        assert (top / "system.slice/with a space.service/cpu.max").read_text() == "5000 100000"

    def test_path_without_a_slash_is_liblxcs_form_on_v2(self, bench: Bench) -> None:
        top, environment = self.given(bench, self.RECORD)
        done = bench.run("post-setup-namespaces", **{**environment, "STASIS_CGROUP_PATH": "lxc.payload.web1-1"})
        assert done.returncode == 0
        assert (top / "init.scope").is_dir()

    def test_belong_to_whom_they_belonged(self, bench: Bench) -> None:
        record = "owner 1234:1235\ndir .\ndir a.slice\ndir a.slice/b\nown 2234:2235\n"
        top, environment = self.given(bench, record)
        bench.script(bench.path / "chown", FAKE)
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert bench.calls() == f"chown -R -- 1234:1235 {top}/a.slice\nchown -R -- 2234:2235 {top}/a.slice/b\n"

    def test_those_that_criu_has_made_on_its_way_belong_to_whom_they_belonged_too(self, bench: Bench) -> None:
        record = "owner 1234:1235\ndir .\ndir system.slice\ndir system.slice/with tasks\ndir with a space\n"
        top, environment = self.given(bench, record)
        (top / "system.slice/with tasks").mkdir(parents=True)
        (top / "with a space").mkdir()
        bench.script(bench.path / "chown", FAKE)
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert bench.calls() == f"chown -R -- 1234:1235 {top}/system.slice {top}/with a space\n"

    def test_files_of_a_controller_are_there_before_they_are_given_away(self, bench: Bench) -> None:
        top, environment = self.given(bench, "owner 1234:1235\ndir .\ndir a\nset cgroup.subtree_control +pids\n")
        bench.script(bench.path / "chown", f"#!/bin/sh\ncat '{top}/a/cgroup.subtree_control' >&2\n")
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, "+pids")

    def test_what_limits_them_is_not_given_away_with_them(self, bench: Bench) -> None:
        record = (
            "dir .\ngive 1234:1234 g=u cgroup.procs memory.oom.group\ndir with a space\ngive 5:6 g-w cgroup.procs\n"
        )
        top, environment = self.given(bench, record)
        for name in ("chown", "chmod"):
            bench.script(bench.path / name, FAKE)
        for path in (top / "cgroup.procs", top / "memory.max", top / "with a space/cgroup.procs"):
            path.parent.mkdir(exist_ok=True)
            path.write_text("")
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        # memory.oom.group is not there on this host.
        assert bench.calls() == (
            f"chown -- 1234:1234 {top}/. {top}/./cgroup.procs\n"
            f"chmod g=u {top}/. {top}/./cgroup.procs\n"
            f"chown -- 5:6 {top}/with a space {top}/with a space/cgroup.procs\n"
            f"chmod g-w {top}/with a space {top}/with a space/cgroup.procs\n"
        )

    def test_the_payload_cgroup_is_given_away_in_every_hierarchy(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ngive 0:1234 g=u cgroup.procs\ndir a\ngive 5:6 g-w\n")
        for name in ("chown", "chmod"):
            bench.script(bench.path / name, FAKE)
        (top / "cgroup.procs").write_text("")
        pids, gone = bench.work / "pids of v1", bench.work / "gone"
        group = pids / top.name
        group.mkdir(parents=True)
        for name in ("tasks", "cgroup.procs", "pids.max"):
            (group / name).write_text("")
        done = bench.run("post-setup-namespaces", **environment, STASIS_CGROUP_V1=f"{pids}\n{gone}")
        assert (done.returncode, done.stderr) == (0, "")
        assert bench.calls().splitlines()[:2] == [
            f"chown -- 0:1234 {top}/. {top}/./cgroup.procs {group} {group}/tasks {group}/cgroup.procs",
            f"chmod g=u {top}/. {top}/./cgroup.procs {group} {group}/tasks {group}/cgroup.procs",
        ]
        assert bench.calls().splitlines()[2:] == [f"chown -- 5:6 {top}/a", f"chmod g-w {top}/a"]

    def test_directory_may_be_given_away_alone(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir a\ngive 5:6 g-w\n")
        for name in ("chown", "chmod"):
            bench.script(bench.path / name, FAKE)
        assert bench.run("post-setup-namespaces", **environment).returncode == 0
        assert bench.calls() == f"chown -- 5:6 {top}/a\nchmod g-w {top}/a\n"

    def test_fail_the_restore_where_they_cannot_be_given_away(self, bench: Bench) -> None:
        _top, environment = self.given(bench, "dir .\ngive 1234:1234 g=u cgroup.procs\n")
        bench.script(bench.path / "chown", "#!/bin/sh\nexit 1\n")
        done = bench.run("post-setup-namespaces", **environment)
        assert done.returncode == 1
        assert "could not be given to its owner" in bench.refused()

    def test_fail_the_restore_where_they_cannot_be_made(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir init.scope\n")
        (top / "init.scope").write_text("a file in the way")
        done = bench.run("post-setup-namespaces", **environment)
        assert done.returncode == 1
        assert "could not be made" in bench.refused()

    def test_limit_that_the_kernel_refuses_is_said_and_not_fatal(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\nlimit pids.max 50\n")
        (top / "pids.max").mkdir()
        done = bench.run("post-restore", **environment)
        assert done.returncode == 0
        assert "could not be given pids.max = 50" in bench.warned()
        assert bench.refused() == ""

    @pytest.mark.parametrize("event", ["post-setup-namespaces", "post-restore"])
    def test_record_that_cannot_be_read_stops_the_restore(self, bench: Bench, event: str) -> None:
        _top, environment = self.given(bench, "dir .\nlimit pids.max 50\n")
        done = bench.run(event, **{**environment, "STASIS_CGROUPS": f"{bench.images}/gone"})
        assert done.returncode == 1
        assert "cannot be read" in bench.refused()

    def test_that_have_no_place_are_said_once(self, bench: Bench) -> None:
        _top, environment = self.given(bench, "dir .\nlimit pids.max 50\n")
        for event in ("post-setup-namespaces", "post-restore"):
            assert bench.run(event, **{**environment, "STASIS_CGROUP_PATH": "UNSET"}).returncode == 0
        assert bench.warned().count("liblxc named no cgroup") == 1

    def test_dump_that_cannot_look_for_new_ones_is_refused(self, bench: Bench) -> None:
        _top, environment = self.given(bench, "dir .\n")
        # A shell that is busybox is its own `find`.
        missing = bench.shell == SHELLS["dash"]
        assert bench.run("post-dump", **{**environment, "PATH": str(bench.path)}).returncode == int(missing)
        assert ("find is missing" in bench.refused()) is missing

    def test_one_made_meanwhile_is_added_at_the_dump(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir init.scope\n")
        for name, control in (("init.scope", ""), ("new.slice", "pids cpu"), ("new.slice/one.service", "")):
            (top / name).mkdir()
            (top / name / "cgroup.subtree_control").write_text(control + "\n")
        done = bench.run("post-dump", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert (bench.images / "cgroup-tree").read_text() == (
            "dir .\ndir init.scope\ndir new.slice\nset cgroup.subtree_control +pids +cpu\ndir new.slice/one.service\n"
        )

    def test_one_made_in_the_place_of_another_is_added_at_the_dump(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir ended.service\n")
        (top / "begun.service").mkdir()
        (top / "begun.service" / "cgroup.subtree_control").write_text("\n")
        assert bench.run("post-dump", **environment).returncode == 0
        assert (bench.images / "cgroup-tree").read_text() == "dir .\ndir ended.service\ndir begun.service\n"

    def test_record_stays_where_nothing_is_new(self, bench: Bench) -> None:
        top, environment = self.given(bench, "dir .\ndir init.scope\n")
        (top / "init.scope").mkdir()
        assert bench.run("post-dump", **environment).returncode == 0
        assert (bench.images / "cgroup-tree").read_text() == "dir .\ndir init.scope\n"

    @pytest.mark.parametrize(
        "names",
        [
            ["a\nb"],
            ["a\n"],
            ["\na"],
            ["\n"],
            ["a  b"],
            [" a"],
            ["a "],
            ["a\tb"],
            ["a\rb"],
            ["\x1b[2J"],
            ["a", "a\n"],
            ["a\n", "b"],
        ],
        ids=ascii,
    )
    def test_one_whose_name_cannot_be_recorded_keeps_the_container_running(
        self, bench: Bench, names: list[str]
    ) -> None:
        top, environment = self.given(bench, "dir .\n")
        for name in names:
            (top / name).mkdir()
        commit = bench.images / "committed"
        done = bench.run("post-dump", **environment, STASIS_COMMIT=str(commit))
        assert done.returncode == 1
        assert "in its name" in bench.refused()
        assert bench.refused().count("\n") == 1
        assert not commit.exists()

    def test_line_break_that_continues_as_another_path_is_found(self, bench: Bench) -> None:
        """In a list of paths, one a line, this one is the paths of `a` and of `b`."""
        top, environment = self.given(bench, "dir .\ndir a\n")
        (top / "a").mkdir()
        (top / f"a\n{top}/b").mkdir(parents=True)
        assert bench.run("post-dump", **environment).returncode == 1

    @pytest.mark.parametrize("event", ["post-dump", "post-setup-namespaces", "post-restore"])
    def test_are_left_alone_without_a_record(self, bench: Bench, event: str) -> None:
        top, environment = self.given(bench, "")
        done = bench.run(event, **{**environment, "STASIS_CGROUPS": "UNSET"})
        assert (done.returncode, done.stderr) == (0, "")
        assert list(top.iterdir()) == []

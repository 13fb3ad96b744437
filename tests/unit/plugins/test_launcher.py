# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The launcher under every shell that /bin/sh may be, with a CRIU that prints its arguments and its environment."""

from __future__ import annotations

import os
import shlex
import subprocess
import typing as t
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[3] / "roles" / "criu" / "files" / "launcher"
SHELLS = {"dash": ["/usr/bin/dash"], "busybox": ["/bin/busybox", "sh"]}

FAKE_CRIU = """#!/bin/sh
printf '<%s>\\n' "$@"
echo "config ${CRIU_CONFIG_FILE-unset}"
echo "pid $$"
echo "cgroup ${STASIS_CGROUP_PATH-unset}"
"""

# What liblxc 6 passes for a restore with two veths, a console and bind mounts.
LIBLXC = shlex.split(
    "restore --tcp-established --file-locks --link-remap --manage-cgroups=full --ext-mount-map auto"
    " --enable-external-sharing --enable-external-masters --enable-fs hugetlbfs --enable-fs tracefs"
    " -D /srv/cp -o /srv/cp/restore.log --cgroup-root cpu,memory:lxc.payload.web1 --cgroup-root name=systemd:x"
    " -v4 --action-script /usr/share/lxc/lxc-restore-net --ext-mount-map sys/fs/fuse:/sys/fs/fuse"
    " --root /usr/lib/x86_64-linux-gnu/lxc/rootfs --restore-detached --restore-sibling"
    " --inherit-fd fd[7]:tty[5:1] --ext-mount-map console:/dev/pts/3 --lsm-profile apparmor:generated"
    " --external veth[eth0]:vethA@br0 --external veth[eth1]:vethB@br0 --veth-pair eth0=vethA --pidfile /run/p"
)
KEPT = [
    "--cgroup-root",
    "cpu,memory:lxc.payload.web1",
    "--cgroup-root",
    "name=systemd:x",
    "--root",
    "/usr/lib/x86_64-linux-gnu/lxc/rootfs",
    "--inherit-fd",
    "fd[7]:tty[5:1]",
    "--ext-mount-map",
    "console:/dev/pts/3",
]


class Bench:
    def __init__(self, root: Path, shell: t.Sequence[str]) -> None:
        self.shell = list(shell)
        self.work = root / "work dir"
        self.work.mkdir()
        self.criu = root / "criu real"
        self.criu.write_text(FAKE_CRIU)
        self.criu.chmod(0o755)

    def plan(self, *words: str, end: str = "\n") -> None:
        (self.work / "argv").write_text("\n".join(words) + end)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"STASIS_CRIU": str(self.criu), "STASIS_WORK": str(self.work), "PATH": "/nonexistent"}
        given.update(environment)
        return subprocess.run(
            [*self.shell, str(LAUNCHER), *arguments],
            env={key: value for key, value in given.items() if value != "UNSET"},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    @staticmethod
    def words(done: subprocess.CompletedProcess[str]) -> list[str]:
        assert done.returncode == 0, done.stderr
        return [line[1:-1] for line in done.stdout.splitlines() if line.startswith("<")]


@pytest.fixture(params=sorted(SHELLS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    made = Bench(tmp_path, SHELLS[request.param])
    made.plan("-D", "/srv/cp")
    return made


def test_keeps_what_only_liblxc_knows_and_takes_the_rest_from_the_plan(bench: Bench) -> None:
    bench.plan("--no-default-config", "-D", "/srv/cp", "-o", "restore.log", "--external", "veth[eth0]:vethA")
    words = bench.words(bench.run(*LIBLXC))
    assert words == [
        "restore",
        *KEPT,
        "--no-default-config",
        "-D",
        "/srv/cp",
        "-o",
        "restore.log",
        "--external",
        "veth[eth0]:vethA",
    ]


def test_payload_cgroup_is_told_to_a_module_that_waits_for_it(bench: Bench) -> None:
    bench.words(bench.run(*LIBLXC))
    assert not (bench.work / "cgroup").exists()
    bench.words(bench.run("restore", "--cgroup-root", "cpu,memory:lxc.payload.web1", STASIS_DEVICES="1"))
    assert (bench.work / "cgroup").read_text() == "lxc.payload.web1\n"


def test_rules_about_device_nodes_of_cgroup_v1_are_written_one_by_one(bench: Bench) -> None:
    group = bench.work / "devices/lxc.payload.web1"
    group.mkdir(parents=True)
    # A fifo shows each write as it comes; two files would only have the last.
    rules = ["c *:* m", "c 1:3 rwm"]
    (bench.work / "list").write_text("".join(f"{rule}\n" for rule in rules))
    for name in ("devices.deny", "devices.allow"):
        os.mkfifo(group / name)
    held = [os.open(group / name, os.O_RDWR) for name in ("devices.deny", "devices.allow")]
    try:
        given = {"STASIS_DEVICE_LIST": str(bench.work / "list"), "STASIS_DEVICE_MOUNT": str(bench.work / "devices")}
        bench.words(bench.run("restore", "--cgroup-root", "devices:/lxc.payload.web1", **given))
        assert [os.read(one, 4096).decode() for one in held] == ["a\n", "c *:* m\nc 1:3 rwm\n"]
    finally:
        for one in held:
            os.close(one)


def test_rule_about_device_nodes_that_cannot_be_set_stops_the_restore(bench: Bench) -> None:
    (bench.work / "list").write_text("c *:* m\n")
    given = {"STASIS_DEVICE_LIST": str(bench.work / "list"), "STASIS_DEVICE_MOUNT": str(bench.work)}
    done = bench.run("restore", "--cgroup-root", "devices:lxc.payload.web1", **given)
    assert done.returncode != 0
    assert "devices.deny cannot be written" in done.stderr


def test_words_with_spaces_quotes_and_stars_stay_one_word(bench: Bench) -> None:
    planned = ["-D", "/srv/my images", "it's", '"x"', "*", "$HOME", "a\\b", "", "--last"]
    bench.plan(*planned)
    words = bench.words(bench.run("restore", "--root", "/var/lib/my roots/*"))
    assert words == ["restore", "--root", "/var/lib/my roots/*", *planned]


def test_a_last_word_without_a_newline_is_not_lost(bench: Bench) -> None:
    bench.plan("-D", "/srv/cp", end="")
    assert bench.words(bench.run("restore")) == ["restore", "-D", "/srv/cp"]


def test_what_ran_is_written_down(bench: Bench) -> None:
    bench.plan("-D", "/srv/my images")
    bench.words(bench.run("restore", "--root", "/r", "-v4"))
    ran = (bench.work / "argv.ran").read_text()
    assert ran == f"{bench.criu}\nrestore\n--root\n/r\n-D\n/srv/my images\n"


@pytest.mark.parametrize("value", ["console:", "auto", "sys/fs/fuse:/sys/fs/fuse", "/dev/console:console"])
def test_mount_maps_other_than_a_real_console_are_dropped(bench: Bench, value: str) -> None:
    assert bench.words(bench.run("restore", "--ext-mount-map", value)) == ["restore", "-D", "/srv/cp"]


@pytest.mark.parametrize("option", ["-v", "-v4", "--manage-cgroups", "--manage-cgroups=soft", "--restore-sibling"])
def test_options_of_ours_are_dropped(bench: Bench, option: str) -> None:
    assert bench.words(bench.run("restore", option)) == ["restore", "-D", "/srv/cp"]


@pytest.mark.parametrize("arguments", [["--leave-stopped"], ["--root", "/r", "--new=1"], ["stray"], ["-vv"]])
def test_an_option_that_is_not_known_is_an_error_that_names_it(bench: Bench, arguments: list[str]) -> None:
    done = bench.run("restore", *arguments)
    assert done.returncode == 125
    assert arguments[-1] in (bench.work / "launcher.error").read_text()
    assert done.stdout == ""


def test_an_option_without_its_value_is_an_error(bench: Bench) -> None:
    done = bench.run("restore", "--root")
    assert done.returncode == 125
    assert "--root without its value" in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["check", "--feature", "mem_dirty_track"], []])
def test_every_other_command_passes_through_unchanged(bench: Bench, arguments: list[str]) -> None:
    (bench.work / "argv").unlink()
    done = bench.run(*arguments)
    assert done.returncode == 0
    # printf prints its format once where there is no argument.
    assert [word for word in bench.words(done) if word] == arguments
    assert not (bench.work / "argv.ran").exists()


def test_liblxc_stays_the_parent_because_criu_takes_the_place_of_the_launcher(bench: Bench) -> None:
    process = subprocess.Popen(
        [*bench.shell, str(LAUNCHER), "restore"],
        env={"STASIS_CRIU": str(bench.criu), "STASIS_WORK": str(bench.work)},
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _nothing = process.communicate(timeout=200)
    assert f"pid {process.pid}\n" in said


def test_criu_reads_no_configuration_of_others(bench: Bench) -> None:
    assert "config unset\n" in bench.run("restore", CRIU_CONFIG_FILE="/etc/criu/other.conf").stdout
    assert "config unset\n" in bench.run("--version", CRIU_CONFIG_FILE="/etc/criu/other.conf").stdout


@pytest.mark.parametrize("work", ["UNSET", "", "/nonexistent"])
def test_without_the_planned_command_nothing_runs(bench: Bench, work: str) -> None:
    done = bench.run("restore", STASIS_WORK=work)
    assert done.returncode == 125
    assert done.stdout == ""
    assert "planned command" in done.stderr


def test_a_work_directory_without_a_plan_is_an_error(bench: Bench) -> None:
    (bench.work / "argv").unlink()
    assert bench.run("restore").returncode == 125
    assert "planned command" in (bench.work / "launcher.error").read_text()


def test_a_record_that_cannot_be_written_is_an_error_before_criu_runs(bench: Bench) -> None:
    (bench.work / "argv.ran").symlink_to("/dev/full")
    done = bench.run("restore")
    assert done.returncode == 125
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["restore"], ["--version"], []])
def test_refuses_to_be_anybodys_criu_without_the_module(bench: Bench, arguments: list[str]) -> None:
    done = bench.run(*arguments, STASIS_CRIU="UNSET")
    assert done.returncode == 125
    assert "lxc_checkpoint only" in done.stderr


def test_answers_with_its_protocol(bench: Bench) -> None:
    done = bench.run("--stasis-protocol", STASIS_CRIU="UNSET", STASIS_WORK="UNSET")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_payload_cgroup_that_only_liblxc_knows_is_told_to_the_hook(bench: Bench) -> None:
    bench.plan("--no-default-config")
    assert "cgroup x\n" in bench.run(*LIBLXC).stdout


@pytest.mark.parametrize("status", [0, 1])
def test_an_overlay_is_mounted_on_the_root_before_criu_runs(bench: Bench, tmp_path: Path, status: int) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    # A path to every shell: busybox would take its own applet for a bare name.
    (tools / "mount").write_text(f'#!/bin/sh\nprintf "<%s>" "$@" >{tmp_path}/mounted\nexit {status}\n')
    (tools / "mount").chmod(0o755)
    options = "lowerdir=/my l,upperdir=/u,workdir=/w"
    done = bench.run("restore", "--root", "/my r", STASIS_OVERLAY=options, PATH=str(tools))
    assert (tmp_path / "mounted").read_text() == f"<-n><-t><overlay><-o><{options}><overlay></my r>"
    if status == 0:
        assert bench.words(done) == ["restore", "--root", "/my r", "-D", "/srv/cp"]
    else:
        assert done.returncode == 125
        assert "overlay could not be mounted" in (bench.work / "launcher.error").read_text()

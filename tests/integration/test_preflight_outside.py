# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight and what ties a container to its host: sockets, terminals, lxc-attach, mounts, disk; and the whole module."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import Container, run, until
from fuse import Fuse
from module import Checkpoint, Module
from preflight import CRIU, Pre, bind, criu, fails, named, only, ready
from work import Work, count

_numbers = itertools.count(1)


@pytest.fixture
def pre(lxc: Factory, trouble: Path) -> Pre:
    return Pre(lxc, trouble)


def listening(container: Container, kind: int) -> socket.socket:
    """A socket of the host's, inside the root file system."""
    found = socket.socket(socket.AF_UNIX, kind)
    # The path of a socket is short, and that of a root file system is not.
    top = os.open(container.root / "run", os.O_PATH)
    try:
        found.bind(f"/proc/self/fd/{top}/host")
    finally:
        os.close(top)
    if kind == socket.SOCK_STREAM:
        found.listen(5)
    return found


def test_unix_connection_that_the_host_has_not_accepted_blocks(pre: Pre) -> None:
    container = pre.create("unix-stream", "/run/host")
    with listening(container, socket.SOCK_STREAM):
        pre.begin(container)
        fails(pre, container, "blocks", "unix-peer", "Dangling connection")


def test_unix_connection_to_the_host_blocks(pre: Pre) -> None:
    container = pre.create("unix-stream", "/run/host")
    with listening(container, socket.SOCK_STREAM) as host:
        pre.begin(container)
        connection, _name = host.accept()
        with connection:
            fails(pre, container, "blocks", "unix-peer", "External socket is used")


def test_datagrams_to_the_host_block(pre: Pre) -> None:
    container = pre.create("unix-dgram", "/run/host")
    with listening(container, socket.SOCK_DGRAM):
        pre.begin(container)
        fails(pre, container, "blocks", "unix-peer", "without peer")


def test_terminal_whose_master_is_outside_blocks(pre: Pre) -> None:
    container = pre.create("slave-alone", "/run/host")
    kept: list[int] = []
    with listening(container, socket.SOCK_STREAM) as host:

        def keep() -> None:
            connection, _name = host.accept()
            with connection:
                kept.extend(socket.recv_fds(connection, 1, 1)[1])
                connection.send(b"x")

        thread = threading.Thread(target=keep)
        thread.start()
        pre.begin(container)
        thread.join(100)
    try:
        fails(pre, container, "blocks", "terminal", "correspond master peer")
    finally:
        for number in kept:
            os.close(number)


def attach(container: Container, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["lxc-attach", "-P", str(container.lxc_path), "-n", container.name, "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_lxc_attach_blocks_where_the_container_stops(pre: Pre) -> None:
    container = pre.start("nothing")
    session = attach(container, "/bin/sleep", "600")
    try:
        until(lambda: "outsiders" in only(pre.ask(container), "note"), 10)
        assert pre.ask(container)["verdict"] == "ready"
        finding = named(pre.ask(container, stop=True), "outsiders")
        assert finding["severity"] == "blocks"
        assert "sleep (pid " in finding["subject"]
        assert pre.dump(container)["rc"] == 0, "that it is left out is no error to CRIU, which is why it is refused"
        assert session.poll() is None
        assert pre.dump(container, stop=True)["rc"] == 0
        session.wait(200)
        until(lambda: container.state == "STOPPED", 20)
    finally:
        session.kill()
        session.wait()


def test_daemon_that_lxc_attach_has_started_blocks(pre: Pre) -> None:
    container = pre.start("nothing")
    attach(container, "/bin/sh", "-c", "sleep 600 </proc/uptime >/proc/uptime 2>&1 & exit 0").wait(100)
    attach(container, "/bin/sh", "-c", "sleep 600 </proc/uptime >/run/out 2>/run/out & exit 0").wait(100)
    fails(pre, container, "blocks", "foreign-session", "outside of its pid namespace")


def test_frozen_container_blocks(pre: Pre) -> None:
    container = pre.start("nothing")
    container.lxc("freeze")
    answer = pre.ask(container)
    assert only(answer, "blocks") == ["frozen"]
    dumped = pre.dump(container)
    assert dumped["rc"] != 0
    assert any("Timeout reached" in line for line in dumped["errors"]), dumped["errors"]
    container.lxc("unfreeze")
    assert pre.ask(container)["verdict"] == "ready"


def test_stopped_container_blocks(pre: Pre) -> None:
    container = pre.start("nothing")
    init = container.init_pid
    container.stop()
    assert only(pre.ask(container), "blocks") == ["not-running"]
    images = pre.lxc.session / "no-images"
    images.mkdir()
    dumped = run(
        criu(), "dump", "--no-default-config", "-t", str(init), "-D", str(images), "-o", "dump.log", check=False
    )
    assert dumped.returncode != 0
    assert "No such process" in (images / "dump.log").read_text()


def test_disk_without_room_blocks(pre: Pre) -> None:
    container = pre.start("memory", "48")
    small = pre.lxc.session / "small"
    small.mkdir(mode=0o700)
    run("mount", "-t", "tmpfs", "-o", "mode=700,size=24m", "stasis-small", str(small))
    try:
        answer = pre.ask(container, directory=str(small / "images/deep"))
        assert only(answer, "blocks") == ["space"]
        assert pre.dump(container, small)["rc"] != 0
        checkpoint = Checkpoint(pre.lxc.module, container, small / "images" / container.name)
        refused = checkpoint.refused("checkpointed", "MiB are free, and at least", "Nothing was frozen", stop=True)
        free, least = map(float, re.findall(r"([0-9.]+) MiB", refused["msg"])[:2])
        assert free <= 24 < 48 <= least < 56
        run("mount", "-o", f"remount,size={int(least) + 2}m", str(small))
        # What fits is dumped, though it is little more than what is surely written.
        checkpoint.checkpointed()
    finally:
        run("umount", str(small))
    assert pre.ask(container, directory=str(pre.lxc.session / "images"))["verdict"] == "ready"


# Mounts from the host


@pytest.fixture
def fuse(clean_host: Path) -> t.Iterator[Path]:
    made = Fuse(clean_host / f"fuse-{next(_numbers)}")
    try:
        yield made.where / "file"
    finally:
        made.stop()
        made.where.rmdir()


def test_file_of_a_fuse_file_system_in_the_configuration_is_ready_and_dumped(pre: Pre, fuse: Path) -> None:
    ready(pre, pre.start("nothing", config=[bind(str(fuse), "mnt/file")]))


def test_file_of_a_fuse_file_system_from_a_hook_is_ready_and_dumped(pre: Pre, fuse: Path) -> None:
    hook = pre.lxc.script(
        "mount",
        f"mkdir -p $LXC_ROOTFS_MOUNT/mnt; : >$LXC_ROOTFS_MOUNT/mnt/file; mount -n --bind {fuse} $LXC_ROOTFS_MOUNT/mnt/file",
    )
    ready(pre, pre.start("nothing", config=[f"lxc.hook.mount = {hook}"]))


def test_fuse_file_system_that_the_host_has_unmounted_blocks(pre: Pre, fuse: Path) -> None:
    hook = pre.lxc.script(
        "mount",
        f"mkdir -p $LXC_ROOTFS_MOUNT/mnt; : >$LXC_ROOTFS_MOUNT/mnt/file; mount -n --bind {fuse} $LXC_ROOTFS_MOUNT/mnt/file",
    )
    container = pre.start("nothing", config=[f"lxc.hook.mount = {hook}"])
    run("umount", "-l", str(fuse.parent))
    fails(pre, container, "blocks", "mount", "proper root mount")


@pytest.fixture
def shared(clean_host: Path) -> t.Iterator[Path]:
    """A shared mount of the host's."""
    where = clean_host / f"shared-{next(_numbers)}"
    where.mkdir()
    run("mount", "-t", "tmpfs", "stasis-shared", str(where))
    run("mount", "--make-shared", str(where))
    try:
        yield where
    finally:
        run("umount", str(where), check=False)
        where.rmdir()


def slave_of(pre: Pre, shared: Path) -> Container:
    """A container with a slave of a mount of the host's."""
    target = "$LXC_ROOTFS_MOUNT/mnt"
    hook = pre.lxc.script(
        "mount", f"mkdir -p {target}; mount -n --bind {shared} {target} && mount -n --make-slave {target}"
    )
    return pre.start("nothing", config=[f"lxc.hook.mount = {hook}"])


def test_slave_of_a_mount_of_the_host_is_ready_and_dumped(pre: Pre, shared: Path) -> None:
    ready(pre, slave_of(pre, shared))


def test_slave_of_a_mount_that_the_host_has_no_more_blocks(pre: Pre, shared: Path) -> None:
    container = slave_of(pre, shared)
    # Its peer group lives on, in a mount namespace of somebody else's.
    other = subprocess.Popen(["unshare", "-m", "--propagation", "unchanged", "sleep", "600"])
    try:
        until(lambda: os.readlink(f"/proc/{other.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"), 10)
        run("umount", str(shared))
        fails(pre, container, "blocks", "mount-sharing", "unreachable sharing")
    finally:
        other.kill()
        other.wait()


# The host, and the whole


@pytest.fixture
def huge_pages() -> t.Iterator[None]:
    """A few huge pages that are free."""
    setting = Path("/proc/sys/vm/nr_hugepages")
    before = setting.read_text()
    setting.write_text(str(int(before) + 4))
    if int(setting.read_text()) < int(before) + 4:
        setting.write_text(before)
        pytest.skip("NOT TESTED on this host: its memory is too fragmented for huge pages")
    yield
    setting.write_text(before)


def test_huge_pages_are_a_note_and_come_back(pre: Pre, huge_pages: None) -> None:
    container = pre.start("hugepages")
    answer = ready(pre, container)
    finding = named(answer, "hugepages")
    assert finding["severity"] == "note"
    assert "hugepages (pid " in finding["subject"]
    checkpoint = pre.lxc.checkpoint(container)
    assert not checkpoint.stopped()["warnings"]
    checkpoint.resumed()
    assert "hugepages" in only(pre.ask(container), "note")


def test_criu_that_is_too_old_for_the_kernel_blocks(pre: Pre) -> None:
    container = pre.start("nothing")
    imitation = pre.lxc.script("criu", "echo Version: 3.15")
    answer = pre.ask(container, criu_path=imitation)
    assert only(answer, "blocks") == ["old-criu"]
    assert "3.15" in named(answer, "old-criu")["what"]


def test_criu_of_the_distribution_blocks_where_it_does_not_work(pre: Pre) -> None:
    folder = pre.lxc.session / "distribution"
    folder.mkdir()
    # Into our own directory; nothing is installed.
    run("sh", "-c", f"cd {folder} && apt-get -q -o APT::Sandbox::User=root download criu && dpkg-deb -x criu_*.deb .")
    program = str(folder / "usr/sbin/criu")
    answer = pre.ask(pre.start("nothing"), criu_path=program)
    if "old-criu" not in only(answer, "blocks"):
        pytest.skip(f"NOT TESTED on this host: its own CRIU {answer['criu_version']} is new enough for its kernel")
    # CRIU before 4.1 fails at any process of kernel 6.13, CRIU before 4.2 at one of kernel 6.16 that has an IP socket.
    listens = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(flush=True); time.sleep(600)"
    process = subprocess.Popen(
        ["setsid", sys.executable, "-c", listens], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout
        process.stdout.readline()
        images = folder / "images"
        images.mkdir()
        options = ["-t", str(process.pid), "-D", str(images), "-o", "dump.log", "--leave-running", "--shell-job"]
        dumped = run(program, "dump", *options, check=False)
        assert dumped.returncode != 0
        log = (images / "dump.log").read_text()
        assert "vDSO" in log or "Can't get 1:16 opt" in log
    finally:
        process.kill()
        process.communicate()


def test_file_that_is_no_criu_blocks(pre: Pre) -> None:
    answer = pre.ask(pre.start("nothing"), criu_path=pre.lxc.script("criu", "exit 0"))
    assert only(answer, "blocks") == ["no-criu"]


def test_every_running_container_is_looked_at_where_none_is_named(pre: Pre) -> None:
    good, bad = pre.start("nothing"), pre.start("io-uring")
    idle = pre.create("nothing")
    answer = pre.ask(None)
    found = {one["name"]: one["verdict"] for one in answer["containers"]}
    assert found == {good.name: "ready", bad.name: "blocked"}
    assert idle.name not in found
    assert answer["verdict"] == "blocked"
    assert [one["container"] for one in answer["findings"]] == [bad.name]
    assert answer["counts"]["blocks"] == 1
    table = "\n".join(answer["summary"])
    assert good.name in table
    assert "io_uring" in table


def test_unknown_container_is_named(pre: Pre) -> None:
    given: dict[str, t.Any] = {"name": "nobody", "lxc_path": str(pre.lxc.session / "lxc")}
    answer = pre.module.run(**given, **({"criu_path": CRIU} if CRIU else {}))
    assert answer["failed"]
    assert "nobody" in answer["msg"]


def test_a_process_more_costs_the_preflight_a_few_files_and_no_program(pre: Pre) -> None:
    def work(processes: int) -> Work:
        container = pre.crowd(processes)

        def ask(module: Module) -> None:
            answer = module.run(name=container.name, lxc_path=str(container.lxc_path))
            assert answer["verdict"] == "ready", answer["summary"]

        return count(pre.module, pre.lxc.session / f"count-{processes}", ask)

    few, many = work(10), work(200)
    assert many.programs == few.programs
    assert (many.files - few.files) / 190 <= 40

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on the disk at the moment of a power cut: checkpoints on a file system of their own, whose device is copied."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import run, until
from module import Checkpoint


class Disk:
    """A file system in a file. What was not written to the device yet is in no copy of that file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o755)
        self._device = directory / "device"
        self._copy = directory / "copy"
        self.top = directory / "top"
        self.top.mkdir(mode=0o755)
        run("truncate", "-s", "256M", str(self._device))
        run("mkfs.ext4", "-q", str(self._device))
        # The kernel's own clean-up of a file that is written anew and renamed would hide what was not synced.
        run("mount", "-o", "loop,noauto_da_alloc", str(self._device), str(self.top))

    def fail(self) -> None:
        """The power fails: the device stays as it is now."""
        run("cp", "--sparse=always", str(self._device), str(self._copy))

    def come_back(self) -> None:
        """After the next boot: nothing is there but what was on the device when the power failed."""
        run("umount", str(self.top))
        run("mount", "-o", "loop", str(self._copy), str(self.top))

    def remove(self) -> None:
        run("umount", str(self.top), check=False)
        for path in (self._device, self._copy):
            path.unlink(missing_ok=True)


@pytest.fixture
def disk(lxc: Factory) -> t.Iterator[Disk]:
    made = Disk(lxc.session / "disk")
    try:
        yield made
    finally:
        made.remove()
        made.top.rmdir()
        made.top.parent.rmdir()


def counter(lxc: Factory, disk: Disk) -> Checkpoint:
    container = lxc.start("counter 7000").container
    return Checkpoint(lxc.module, container, disk.top / "checkpoints" / container.name)


def look(checkpoint: Checkpoint) -> tuple[str, list[str]]:
    """The state of a checkpoint, and its faults; every file is read."""
    info = dataclasses.replace(checkpoint.module, name="lxc_checkpoint_info")
    found = info.run(path=str(checkpoint.directory.parent), verify=True)["checkpoints"]
    return next((one["state"], one["faults"]) for one in found if one["path"] == str(checkpoint.directory))


@pytest.mark.parametrize("stop", [True, False], ids=["stop", "leave running"])
def test_a_checkpoint_that_was_reported_is_whole_after_a_power_cut(lxc: Factory, disk: Disk, stop: bool) -> None:
    checkpoint = counter(lxc, disk)
    checkpoint.checkpointed(stop=stop)
    disk.fail()
    disk.come_back()
    assert look(checkpoint) == ("sealed", [])


def test_an_older_checkpoint_goes_only_for_one_that_is_on_disk(lxc: Factory, disk: Disk) -> None:
    checkpoint = counter(lxc, disk)
    first = checkpoint.checkpointed()["checkpoint"]
    second = checkpoint.checkpointed(overwrite=True)["checkpoint"]
    disk.fail()
    disk.come_back()
    assert look(checkpoint) == ("sealed", [])
    assert checkpoint.manifest == second != first


def test_a_container_that_was_stopped_before_a_power_cut_goes_on(lxc: Factory, disk: Disk) -> None:
    """The module is held as soon as the image is committed, so that nothing but the hook has brought it to the disk."""
    checkpoint = counter(lxc, disk)
    container = checkpoint.container
    before = container.count()
    record = disk.top / "checkpoints" / f".{container.name}.stasis-staging" / "committed"
    process = lxc.module.start(**checkpoint.options("checkpointed", stop=True))
    try:
        deadline = time.monotonic() + 600
        while not record.exists():
            assert time.monotonic() < deadline and process.poll() is None, "the image was never committed"
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: container.state == "STOPPED", 60, "the dump stops the container")
        assert record.exists(), "the module was held too late to prove anything"
        disk.fail()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    disk.come_back()
    answer = checkpoint.resumed()
    assert answer["recovered"]
    container.assert_counts()
    assert container.count() >= before

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint of a container whose root file system is a block device or an image file is fresh only if nothing wrote to it."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import Container, run
from module import Checkpoint


class OnDevice(Container):
    """Its files are where only its own processes see them."""

    @property
    def root(self) -> Path:
        pid = self.init_pid
        return Path(f"/proc/{pid}/root") if pid else self.directory / "rootfs"


def _on_image_file(disk: Path) -> tuple[str, t.Callable[[], object]]:
    return f"loop:{disk}", lambda: None


def _on_block_device(disk: Path) -> tuple[str, t.Callable[[], object]]:
    # liblxc mounts any block device that it is told of in this way.
    device = run("losetup", "-f", "--show", str(disk)).stdout.strip()
    return f"lvm:{device}", lambda: run("losetup", "-d", device)


PLACES = {"image file": _on_image_file, "block device": _on_block_device}


@pytest.fixture(params=list(PLACES))
def checkpoint(lxc: Factory, request: pytest.FixtureRequest) -> Checkpoint:
    if not shutil.which("mkfs.ext4") or not Path("/dev/loop-control").exists():
        pytest.skip("no mkfs.ext4 or no loop devices")
    made = lxc.create()
    container = OnDevice(made.name, made.lxc_path, made.address)
    disk = container.directory / "rootdev"
    run("truncate", "-s", "64M", str(disk))
    run("mkfs.ext4", "-q", "-d", str(made.root), str(disk))
    shutil.rmtree(made.root)
    (made.root / "tmp").mkdir(parents=True)
    spec, detach = PLACES[request.param](disk)
    lxc.closing += [lambda: detach() and None, container.destroy]
    config = container.config.read_text().replace(f"dir:{made.root}", spec)
    container.config.write_text(config)
    container.start()
    return lxc.checkpoint(container)


def _device(checkpoint: Checkpoint) -> str:
    line = next(one for one in checkpoint.container.config.read_text().splitlines() if "rootfs.path" in one)
    return line.split(":", 1)[1]


def test_untouched_file_system_stays_fresh(checkpoint: Checkpoint) -> None:
    for _generation in range(2):
        checkpoint.stopped()
        checkpoint.restored()
        checkpoint.container.assert_counts()


def test_file_system_that_was_written_to_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.stopped()
    run("mount", _device(checkpoint), str(tmp_path))
    try:
        (tmp_path / "etc/motd").write_text("newer\n")
    finally:
        run("umount", str(tmp_path))
    checkpoint.refused("restored", "not fresh", "written to", "allow_stale")
    assert checkpoint.restored(allow_stale=True)["stale_reasons"]


def test_file_system_that_is_mounted_elsewhere_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.stopped()
    run("mount", _device(checkpoint), str(tmp_path))
    try:
        checkpoint.refused("restored", "not fresh", "could not be seen whole now")
    finally:
        run("umount", str(tmp_path))


def test_restore_that_fails_leaves_it_fresh(lxc: Factory, checkpoint: Checkpoint) -> None:
    checkpoint.stopped()
    # CRIU has mounted the file system by then, and the mount itself changes it.
    refuses = lxc.script("refuses", 'test "$CRTOOLS_SCRIPT_ACTION" != post-setup-namespaces')
    failed = checkpoint.module.run(**checkpoint.options("restored", action_scripts=[refuses], retries=0))
    assert failed.get("failed"), "the action script was to make it fail"
    checkpoint.restored()
    checkpoint.container.assert_counts()


def test_dump_says_where_nothing_can_show_that_its_file_system_stays_unchanged(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    # The host has it mounted too, and may write to it at any time.
    run("mount", _device(checkpoint), str(tmp_path))
    try:
        answer = checkpoint.stopped()
    finally:
        run("umount", str(tmp_path))
    assert any("Nothing will show" in line and "allow_stale" in line for line in answer["warnings"]), answer["warnings"]
    checkpoint.refused("restored", "could not be seen whole when the container stopped")

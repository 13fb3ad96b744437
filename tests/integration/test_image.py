# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkpoint as it lies on disk, and what the task says about it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from conftest import Factory


def test_image_is_roots_alone(lxc: Factory) -> None:
    checkpoint = lxc.start()
    os.umask(0o022)
    for act in (checkpoint.stopped, checkpoint.resumed):
        act()
        wrong = {
            path.name: oct(path.stat().st_mode)
            for path in checkpoint.directory.iterdir()
            if stat.S_IMODE(path.lstat().st_mode) != 0o600 or path.lstat().st_uid != 0
        }
        assert wrong == {}
        assert stat.S_IMODE(checkpoint.directory.stat().st_mode) == 0o700


def test_image_is_roots_alone_while_it_is_written(lxc: Factory) -> None:
    checkpoint = lxc.start()
    seen = lxc.session / "modes"
    script = lxc.script(
        "modes",
        f'test "$CRTOOLS_SCRIPT_ACTION" != post-dump || stat -L -c %a "$CRTOOLS_IMAGE_DIR" "$CRTOOLS_IMAGE_DIR"/* >{seen}',
    )
    checkpoint.stopped(action_scripts=[script])
    modes = seen.read_text().split()
    assert modes[0] == "700"
    assert set(modes[1:]) == {"600"}


def test_directories_made_on_the_way_are_roots_alone(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.directory = checkpoint.directory.parent / "deep/er/image"
    checkpoint.stopped()
    assert stat.S_IMODE(checkpoint.directory.parent.stat().st_mode) & 0o022 == 0


def test_manifest_lists_every_file_with_its_hash(lxc: Factory) -> None:
    checkpoint = lxc.start()
    answer = checkpoint.stopped()
    manifest = checkpoint.manifest
    assert answer["checkpoint"] == manifest
    listed = manifest["files"]
    assert set(listed) == {path.name for path in checkpoint.directory.iterdir()} - {"manifest.json"}
    for name, entry in listed.items():
        content = (checkpoint.directory / name).read_bytes()
        assert entry["size"] == len(content), name
        assert entry["sha256"] == hashlib.sha256(content).hexdigest(), name
    assert manifest["size"] == sum(entry["size"] for entry in listed.values())


def test_manifest_says_what_was_dumped(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    manifest = checkpoint.manifest
    assert manifest["container"] == checkpoint.container.name
    assert manifest["lxc_path"] == str(checkpoint.container.lxc_path)
    assert manifest["versions"]["kernel"] == os.uname().release
    assert [nic["name"] for nic in manifest["nics"]] == ["eth0"]
    assert "--tcp-established" in manifest["command"]


def test_answer_has_the_statistics_of_criu(lxc: Factory) -> None:
    checkpoint = lxc.start("memory 16")
    dumped = checkpoint.stopped()
    assert {"freezing_time", "frozen_time", "memdump_time", "memwrite_time", "pages_written"} <= set(dumped["stats"])
    assert dumped["stats"]["pages_written"] > 16 * 256
    assert 0 < dumped["stats"]["frozen_time"] < 60_000_000
    restored = checkpoint.resumed()
    assert {"forking_time", "restore_time", "pages_restored"} <= set(restored["stats"])


def test_command_in_the_answer_is_what_ran(lxc: Factory) -> None:
    checkpoint = lxc.start()
    dumped = checkpoint.stopped()
    assert dumped["command"][1] == "dump"
    assert "--leave-running" not in dumped["command"]
    restored = checkpoint.resumed()
    assert restored["command"][1] == "restore"
    # What only liblxc can know is in it too.
    assert "--root" in restored["command"]


def test_logs_are_where_the_answer_says(lxc: Factory) -> None:
    checkpoint = lxc.start()
    assert "Dumping finished successfully" in Path(checkpoint.stopped()["log_path"]).read_text()
    assert "Restore finished successfully" in Path(checkpoint.resumed()["log_path"]).read_text()


def test_restore_leaves_the_sealed_files_alone(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    sealed = {path.name: path.read_bytes() for path in checkpoint.directory.iterdir()}
    checkpoint.resumed()
    after = {path.name: path.read_bytes() for path in checkpoint.directory.iterdir()}
    assert {name: after.get(name) for name in sealed} == sealed


def test_repeated_tasks_leave_nothing_beside(lxc: Factory) -> None:
    checkpoint = lxc.start()
    for _round in range(2):
        checkpoint.stopped()
        checkpoint.resumed()
        checkpoint.checkpointed(overwrite=True)
    assert checkpoint.beside() == set()
    assert list(checkpoint.container.root.glob("**/link_remap*")) == []


def test_criu_configuration_of_the_host_is_not_read(lxc: Factory) -> None:
    checkpoint = lxc.start()
    # An option that CRIU does not know makes any CRIU that reads this fail.
    config = lxc.session / "criu-default.conf"
    config.write_text("no-such-option\n")
    os.environ["CRIU_CONFIG_FILE"] = str(config)
    try:
        checkpoint.stopped()
        checkpoint.resumed()
    finally:
        del os.environ["CRIU_CONFIG_FILE"]
    checkpoint.container.assert_counts()


def test_criu_configuration_of_the_task_is_read(lxc: Factory) -> None:
    checkpoint = lxc.start()
    config = lxc.session / "criu-own.conf"
    config.write_text("no-such-option\n")
    config.chmod(0o600)
    answer = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True, criu_config=str(config)))
    assert answer.get("failed")
    checkpoint.container.assert_counts()


def test_further_criu_arguments_are_passed(lxc: Factory) -> None:
    checkpoint = lxc.start()
    answer = checkpoint.stopped(criu_args=["--display-stats"])
    assert "--display-stats" in answer["command"]


def test_external_mount_is_taken_along(lxc: Factory) -> None:
    shared = lxc.session / "shared"
    shared.mkdir()
    (shared / "hello").write_text("from the host\n")
    checkpoint = lxc.start(config=[f"lxc.mount.entry = {shared} mnt none bind,create=dir 0 0"])
    checkpoint.checkpointed(stop=True)
    checkpoint.restored()
    assert checkpoint.container.lxc("attach", "--", "/bin/cat", "/mnt/hello").stdout == "from the host\n"

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script of the role that says what is the role's own, and so what it removes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.tests.unit.support.hook_bench import SHELLS

SCRIPT = Path(__file__).resolve().parents[3] / "roles" / "criu" / "files" / "prefix"


Owned = t.Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=sorted(SHELLS))
def owned(request: pytest.FixtureRequest, tmp_path: Path) -> Owned:
    """Asks what is the role's own, with this as the directory for builds."""

    def ask(build: Path, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        argv = [*SHELLS[request.param], str(SCRIPT), "owned", str(build), str(tmp_path / "hooks"), ""]
        environment = {**os.environ, "STASIS_LOCKS": str(tmp_path / "locks"), "STASIS_LOGS": str(tmp_path / "logs")}
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=timeout, env=environment)

    return ask


def test_what_others_have_named_like_a_working_directory_is_not_removed(owned: Owned, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    for name in ("stasis-criu-work.aB3xYz", "stasis-criu-work.x\n.ssh", "stasis-criu-work.x\n.."):
        (build / name).mkdir()
    lines = owned(build).stdout.splitlines()
    assert all(line.startswith("/") for line in lines), lines
    assert [line for line in lines if line.startswith(str(tmp_path))] == [f"{build}/stasis-criu-work.aB3xYz"]


def test_a_look_at_what_is_ours_makes_nothing(owned: Owned, tmp_path: Path) -> None:
    owned(tmp_path / "build")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_a_build_makes_a_lock_that_no_other_user_can_hold(shell: str, tmp_path: Path) -> None:
    prefix = tmp_path / "criu"
    (prefix / "sbin").mkdir(parents=True)
    (prefix / "sbin" / "criu").write_text("#!/bin/sh\necho Version: 4.2\n")
    (prefix / "sbin" / "criu").chmod(0o755)
    (prefix / ".stasis-criu").write_text("format=1\norigin=debian\nversion=4.2\n")
    argv = [*SHELLS[shell], str(SCRIPT), "build", str(tmp_path), str(prefix), "4.2", "debian"]
    environment = {**os.environ, "STASIS_LOCKS": str(tmp_path / "locks")}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=200, env=environment)
    assert "another run has built it" in done.stdout
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_the_log_of_a_build_that_failed_is_kept_and_named(shell: str, owned: Owned, tmp_path: Path) -> None:
    (tmp_path / "work" / "src").mkdir(parents=True)
    (tmp_path / "work" / "src" / "Makefile").write_text("criu:\n\t@echo one; echo two; exit 3\n")
    argv = [*SHELLS[shell], str(SCRIPT), "build", str(tmp_path / "work"), str(tmp_path / "criu"), "4.2", "debian"]
    environment = {**os.environ, "STASIS_LOCKS": str(tmp_path / "locks"), "STASIS_LOGS": str(tmp_path / "logs")}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=200, env=environment)
    log = tmp_path / "logs" / "criu-build.log"
    assert done.returncode == 1
    assert done.stdout.endswith(f"The whole log: {log}\n")
    assert "one\ntwo\n" in log.read_text()
    assert str(log) in owned(tmp_path / "build").stdout.splitlines(), "a removal would leave it"


def test_the_compiled_code_of_the_module_is_named(owned: Owned, tmp_path: Path) -> None:
    code = tmp_path / "locks" / "code"
    code.mkdir(parents=True)
    assert str(code) in owned(tmp_path / "build").stdout.splitlines(), "a removal would leave it"


def test_a_removal_waits_for_a_build_and_for_nobody_else(owned: Owned, tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    locks = tmp_path / "locks"
    locks.mkdir(mode=0o700)
    descriptor = os.open(build, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    owned(build)
    os.close(descriptor)
    descriptor = os.open(locks, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(subprocess.TimeoutExpired):
        owned(build, timeout=1)
    os.close(descriptor)

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which Python tools/unit runs whole, and which in part; the programs that it starts note that they ran, and pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Versions that no Python has, beside the distribution's.
OTHERS = ["3.96", "3.97", "3.98", "3.99"]
OWN = subprocess.run(
    ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
    capture_output=True,
    text=True,
    check=True,
).stdout.strip()
PASSED = "<testsuites><testsuite><testcase name='one'/></testsuite></testsuites>"
ANSIBLE_TEST = """#!/bin/sh
echo "ansible-test $0 $4" >>"$NOTES"
mkdir -p tests/output/junit
echo "{passed}" >tests/output/junit/python-units.xml
exit "${{STATUS:-0}}"
"""
VENV_PYTHON = """#!/bin/sh
case "$*" in
*ansible_test._util*) printf '%s\\n' {served} ;;
*ansible.release*) echo 2.99.0 ;;
*'import ansible, os'*) echo /nonexistent ;;
*) exec {python} "$@" ;;
esac
"""
UNIT_PYTHON = """#!/bin/sh
case "$*" in
-VV) echo "Python {version}" ;;
*) for word; do
    case $word in --junit-xml=*) echo "{passed}" >"${{word#--junit-xml=}}" ;; esac
done
case "$*" in *'-m interpreter'*) part=part ;; *) part=whole ;; esac
echo "pytest {version} $part" >>"$NOTES" ;;
esac
"""


class Stage:
    """A checkout with nothing in it but tools/unit, and programs that note how they were called."""

    def __init__(self, root: Path) -> None:
        self.root, self.work = root, root / ".work"
        self.tree = self.work / "ansible_collections/stasis/lxc"
        self.role = self.tree / "roles/criu/files/restore-net"
        (root / "tools/suite").mkdir(parents=True)
        for name in ("unit", "lib.sh", "suite/junit.py"):
            shutil.copy(ROOT / "tools" / name, root / "tools" / name)
        for name in ("bootstrap", "collection-tree"):
            self._program(root / "tools" / name, "#!/bin/sh\n")
        for venv, served in (("venv", "3.98 3.99"), ("venv-217", "3.97 3.98")):
            self._program(self.work / venv / "bin/python", VENV_PYTHON.format(served=served, python=sys.executable))
            self._program(self.work / venv / "bin/ansible-test", ANSIBLE_TEST.format(passed=PASSED))
        for version in (OWN, *OTHERS):
            program = UNIT_PYTHON.format(version=version, passed=PASSED)
            self._program(self.work / f"units/bin/python{version}", program)
        for path in (self.role, self.tree / "plugins/module_utils/one.py", self.tree / "tests/unit/test_one.py"):
            path.parent.mkdir(parents=True)
            path.write_text("one")

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.root / "notes").write_text("")
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "NOTES": str(self.root / "notes"),
            "STASIS_CACHE": str(self.root / "cache"),
        }
        argv = [str(self.root / "tools/unit"), *arguments]
        return subprocess.run(argv, env={**given, **environment}, capture_output=True, text=True, check=False)

    def ran(self, *arguments: str, **environment: str) -> set[str]:
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return set((self.root / "notes").read_text().replace(f"{self.work}/", "").replace("bin/", "").splitlines())


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


THREE = {
    "ansible-test venv/ansible-test 3.99",
    "ansible-test venv-217/ansible-test 3.97",
    f"pytest {OWN} whole",
    "pytest 3.96 part",
    "pytest 3.98 part",
}
ALL = {
    "ansible-test venv/ansible-test 3.98",
    "ansible-test venv/ansible-test 3.99",
    "ansible-test venv-217/ansible-test 3.97",
    "ansible-test venv-217/ansible-test 3.98",
    f"pytest {OWN} whole",
    "pytest 3.96 whole",
}


def test_three_pythons_run_the_whole_and_the_others_a_part(stage: Stage) -> None:
    assert stage.ran() == THREE
    assert stage.ran("--all-pythons") == ALL
    assert stage.ran(PYTHONS="all") == ALL


def test_named_tests_run_on_every_python(stage: Stage) -> None:
    assert stage.ran("tests/unit/test_one.py") == {line.replace("part", "whole") for line in THREE}


def test_the_whole_runs_on_every_python_until_it_passed_with_what_is_there_now(stage: Stage) -> None:
    assert stage.run(PYTHONS="changed", STATUS="1").returncode == 1
    assert stage.ran(PYTHONS="changed") == ALL
    assert stage.ran(PYTHONS="changed") == THREE
    assert "whole on three" in stage.run(PYTHONS="changed").stdout
    stage.role.write_text("two")
    assert stage.ran(PYTHONS="changed") == ALL
    stage.role.write_text("three")
    stage.ran(PYTHONS="")
    assert stage.ran(PYTHONS="changed") == ALL


def test_a_run_that_fails_fails_the_stage_and_a_word_that_is_not_known_is_refused(stage: Stage) -> None:
    assert "FAILED" in stage.run(STATUS="1").stdout
    done = stage.run(PYTHONS="some")
    assert done.returncode == 1 and "PYTHONS=some is not known" in done.stderr

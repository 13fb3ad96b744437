# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As Ansible sends it: a package in a ZIP file, in another place each time."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import time
import traceback
import types
import typing as t
import zipfile
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _kept_code
from ansible_collections.stasis.lxc.plugins.module_utils._kept_code import Kept

pytestmark = pytest.mark.interpreter

PACKAGE = "stasis_kept_code_test"
SOURCES = {
    "one": "from stasis_kept_code_test import two\nVALUE = two.VALUE + 1\n",
    "two": "VALUE = 1\n\ndef fail():\n    raise ValueError('on line 4')\n",
}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return tmp_path / "run" / "code"


@pytest.fixture
def task(tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[..., Task]]:
    tasks: list[Task] = []

    def run(**sources: str) -> Task:
        if tasks:
            tasks[-1].end()
        tasks.append(Task(tmp_path / f"payload{len(tasks)}.zip", code, {**SOURCES, **sources}))
        return tasks[-1]

    yield run
    for one in tasks:
        one.end()


class Task:
    """One task: what it has imported, and what it had to compile for that."""

    def __init__(self, path: Path, code: Path, sources: t.Mapping[str, str]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{PACKAGE}/__init__.py", "")
            for name, text in sources.items():
                archive.writestr(f"{PACKAGE}/{name}.py", text)
        self.path = str(path)
        self.kept = Kept(str(code), PACKAGE)
        sys.path.insert(0, self.path)
        sys.meta_path.insert(0, self.kept)
        self.one = importlib.import_module(f"{PACKAGE}.one")
        self.two: types.ModuleType = sys.modules[f"{PACKAGE}.two"]

    @property
    def compiled(self) -> int:
        return len(self.kept.compiled)

    def end(self) -> None:
        if self.path in sys.path:
            sys.path.remove(self.path)
            sys.meta_path.remove(self.kept)
            for name in [one for one in sys.modules if one.partition(".")[0] == PACKAGE]:
                del sys.modules[name]


def test_the_second_task_compiles_nothing(task: t.Callable[..., Task]) -> None:
    first = task()
    assert (first.one.VALUE, first.compiled) == (2, 2)
    first.kept.keep()
    second = task()
    assert (second.one.VALUE, second.compiled) == (2, 0)


def test_nothing_is_written_before_the_task_says_so(task: t.Callable[..., Task], code: Path) -> None:
    task()
    assert not code.exists()


def test_another_source_is_never_run_from_what_is_kept(task: t.Callable[..., Task]) -> None:
    task().kept.keep()
    changed = task(two="VALUE = 5\n")
    assert (changed.one.VALUE, changed.compiled) == (6, 1)


@pytest.mark.parametrize("damage", [b"", b"x", b"i\x05\x00\x00\x00"], ids=["empty", "no code", "a number"])
def test_what_is_damaged_is_compiled_again_and_replaced(task: t.Callable[..., Task], code: Path, damage: bytes) -> None:
    task().kept.keep()
    for path in code.iterdir():
        path.write_bytes(damage)
    again = task()
    assert (again.one.VALUE, again.compiled) == (2, 2)
    again.kept.keep()
    assert task().compiled == 0


def test_what_others_could_have_written_is_not_run(task: t.Callable[..., Task], code: Path) -> None:
    task().kept.keep()
    first, second = sorted(code.iterdir())
    first.chmod(0o620)
    os.chown(second, 65534, 65534)
    assert task().compiled == 2


def test_a_link_is_not_followed(task: t.Callable[..., Task], code: Path, tmp_path: Path) -> None:
    task().kept.keep()
    for number, path in enumerate(code.iterdir()):
        path.rename(tmp_path / str(number))
        path.symlink_to(tmp_path / str(number))
    assert task().compiled == 2


def test_only_root_can_read_it(task: t.Callable[..., Task], code: Path) -> None:
    task().kept.keep()
    assert code.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in code.iterdir()} == {0o600}


def test_a_place_that_cannot_be_written_is_no_error(task: t.Callable[..., Task], code: Path) -> None:
    code.parent.write_text("in the way")
    task().kept.keep()
    assert task().one.VALUE == 2


def test_what_no_task_has_used_for_a_day_is_removed(task: t.Callable[..., Task], code: Path) -> None:
    task().kept.keep()
    young = code / "0123"
    old = code / "4567"
    for path in (young, old, *code.iterdir()):
        path.touch()
        os.utime(path, (0, 0) if path != young else None)
    used = {path.name for path in code.iterdir()} - {old.name}
    task(two="VALUE = 5\n").kept.keep()
    left = {path.name for path in code.iterdir()}
    assert old.name not in left
    assert young.name in left
    # `one` is used still, `two` is another now.
    assert len(left & used) == 2


def test_a_traceback_shows_the_source(task: t.Callable[..., Task]) -> None:
    task().kept.keep()
    two = task().two
    with pytest.raises(ValueError) as caught:
        two.fail()
    shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    assert f"{PACKAGE}/two.py" in shown
    assert "raise ValueError('on line 4')" in shown


def test_what_is_in_no_zip_file_is_left_to_python(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path), PACKAGE)
    (tmp_path / "one.py").write_text("")
    assert kept.find_spec(f"{PACKAGE}.one", [str(tmp_path)]) is None
    assert kept.find_spec("json.decoder", [str(tmp_path)]) is None
    assert kept.find_spec(PACKAGE, None) is None


def test_it_comes_before_the_usual_finder_and_behind_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    first = sys.meta_path[0]
    kept = _kept_code.use()
    assert sys.meta_path[0] is first
    assert sys.meta_path.index(kept) == sys.meta_path.index(importlib.machinery.PathFinder) - 1


def test_time_does_not_matter_to_what_is_kept(task: t.Callable[..., Task], code: Path) -> None:
    task().kept.keep()
    for path in code.iterdir():
        os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    assert task().compiled == 0

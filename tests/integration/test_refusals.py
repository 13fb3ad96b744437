# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: one line that names what is wrong, nothing frozen, nothing written."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import run
from module import Answer, Checkpoint


@pytest.fixture(scope="module")
def running(shared_lxc: Factory) -> Checkpoint:
    """A container that runs on through all of these tests."""
    return shared_lxc.start()


def rejected(checkpoint: Checkpoint, *words: str, state: str = "checkpointed", **options: t.Any) -> Answer:
    """The refusal of a task, and the proof that the container has not noticed."""
    given = checkpoint.options(state, **{"stop": True, **options} if state == "checkpointed" else options)
    before = checkpoint.world()
    tasks = [checkpoint.module.start(check_mode=check_mode, **given) for check_mode in (True, False)]
    for answer in [checkpoint.module.answer(task) for task in tasks]:
        assert answer.get("failed"), f"it was not refused: {answer}"
        message = answer["msg"]
        assert "\n" not in message, message
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"
    assert checkpoint.world() == before
    checkpoint.container.assert_counts()
    return answer


BAD_NAMES = ["../x", "a/b", "with space", "quo'te", 'quo"te', "new\nline", "-leading", "", ".", "x" * 70, "$(id)"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_hostile_name(running: Checkpoint, name: str) -> None:
    rejected(running, "container name", name=name)


@pytest.mark.parametrize("state", ["restored", "absent"])
def test_hostile_name_with_other_states(running: Checkpoint, state: str) -> None:
    rejected(running, "container name", state=state, name="../x")


BAD_PATHS = [
    "relative/path",
    "../up",
    "/var/lib/../x",
    "/with space/x",
    "/quo'te",
    '/quo"te',
    "/new\nline",
    "/a/-dash",
    "/",
    "",
    "/trail/",
]


@pytest.mark.parametrize("path", BAD_PATHS, ids=repr)
def test_hostile_directory(running: Checkpoint, path: str) -> None:
    rejected(running, "directory", directory=path)


@pytest.mark.parametrize("path", ["relative", "/with space", "/new\nline"], ids=repr)
def test_hostile_lxc_path(running: Checkpoint, path: str) -> None:
    rejected(running, "lxc_path", lxc_path=path)


def test_unknown_container(running: Checkpoint) -> None:
    rejected(running, "stasis-t-nobody", name="stasis-t-nobody")


def test_container_of_another_lxc_path(running: Checkpoint) -> None:
    rejected(running, running.container.name, lxc_path="/var/lib/stasis-test/none")


def test_missing_directory_option(running: Checkpoint) -> None:
    options = running.options("checkpointed")
    del options["directory"]
    answer = running.module.run(**options)
    assert answer["failed"]
    assert "directory" in answer["msg"]


def test_unknown_state(running: Checkpoint) -> None:
    answer = running.module.run(**running.options("frozen"))
    assert answer["failed"]
    assert "state" in answer["msg"]


def occupied(checkpoint: Checkpoint, name: str) -> Path:
    path = checkpoint.directory.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_directory_that_is_a_file(running: Checkpoint) -> None:
    path = occupied(running, "file")
    path.touch()
    rejected(running, str(path), "not a directory", directory=str(path))


def test_directory_below_a_file(running: Checkpoint) -> None:
    path = occupied(running, "file2")
    path.touch()
    rejected(running, str(path), "not a directory", directory=str(path / "image"))


def test_directory_that_is_a_link(running: Checkpoint) -> None:
    path = occupied(running, "link")
    path.symlink_to("/var/lib")
    rejected(running, str(path), "symbolic link", directory=str(path))


def test_directory_that_is_a_dangling_link(running: Checkpoint) -> None:
    path = occupied(running, "dangling")
    path.symlink_to("/var/lib/stasis-test/nowhere")
    rejected(running, str(path), "symbolic link", directory=str(path))


def test_directory_that_is_a_mount_point(running: Checkpoint) -> None:
    path = occupied(running, "mounted")
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=700", "stasis-t-tmpfs", str(path))
    try:
        rejected(running, str(path), "mount point", directory=str(path))
    finally:
        run("umount", str(path))


def test_directory_that_everybody_can_write(running: Checkpoint) -> None:
    path = occupied(running, "open")
    path.mkdir()
    path.chmod(0o777)
    rejected(running, str(path), "others than root", directory=str(path))


def test_directory_of_somebody_else(running: Checkpoint) -> None:
    path = occupied(running, "nobodys")
    path.mkdir()
    os.chown(path, 65534, 65534)
    rejected(running, str(path), "65534", directory=str(path))


def test_directory_below_a_parent_that_others_can_write(running: Checkpoint) -> None:
    path = occupied(running, "dropbox")
    path.mkdir()
    path.chmod(0o1777)
    rejected(running, str(path), "other than root", directory=str(path / "a/b"))


def test_directory_below_a_parent_of_somebody_else(running: Checkpoint) -> None:
    path = occupied(running, "home")
    path.mkdir()
    os.chown(path, 65534, 65534)
    rejected(running, str(path), "other than root", directory=str(path / "image"))


def test_directory_behind_a_link_to_where_others_can_write(running: Checkpoint) -> None:
    target = occupied(running, "shared")
    target.mkdir()
    target.chmod(0o1777)
    path = occupied(running, "detour")
    path.symlink_to(target)
    rejected(running, "other than root", directory=str(path / "image"))


def test_directory_inside_the_container(running: Checkpoint) -> None:
    path = running.container.root / "root/image"
    rejected(running, str(path), "inside the container", directory=str(path))


@pytest.mark.parametrize(
    ("state", "option"),
    [
        ("restored", {"stop": True}),
        ("restored", {"overwrite": True}),
        ("restored", {"autostart": "ignore"}),
        ("restored", {"network_lock": "auto"}),
        ("restored", {"ghost_limit": 1}),
        ("checkpointed", {"force": True}),
        ("checkpointed", {"allow_stale": True}),
        ("checkpointed", {"nics": [{"name": "eth0", "bridge": "br0"}]}),
        ("checkpointed", {"lsm_profile": "apparmor:x"}),
        ("absent", {"stop": False}),
        ("absent", {"action_scripts": []}),
        ("absent", {"timeout": 5}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_option_that_does_not_apply(running: Checkpoint, state: str, option: dict[str, t.Any]) -> None:
    rejected(running, next(iter(option)), state, state=state, **option)


@pytest.mark.parametrize(
    "argument", ["--tcp-established", "-D", "--leave-running", "--action-script=/bin/true", "-t", "--root", "-vvvv"]
)
def test_criu_argument_that_the_module_manages(running: Checkpoint, argument: str) -> None:
    rejected(running, "criu_args", criu_args=[argument])


def test_criu_configuration_that_sets_what_the_module_manages(running: Checkpoint) -> None:
    path = occupied(running, "criu.conf")
    path.write_text("leave-running\n")
    rejected(running, "criu_config", criu_config=str(path))


@pytest.mark.parametrize("option", ["timeout", "kill_timeout"])
def test_time_that_is_no_time(running: Checkpoint, option: str) -> None:
    rejected(running, option, **{option: 0})


def test_criu_that_is_missing(running: Checkpoint) -> None:
    rejected(running, "/usr/local/sbin/criu-nowhere", criu_path="/usr/local/sbin/criu-nowhere")


def imitation(running: Checkpoint, name: str, text: str) -> str:
    path = occupied(running, name)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_criu_that_is_too_old(running: Checkpoint) -> None:
    old = imitation(running, "criu-old", "#!/bin/sh\necho Version: 3.15\n")
    rejected(running, "3.15", "kernel", criu_path=old)


def test_criu_that_says_nothing(running: Checkpoint) -> None:
    rejected(running, "CRIU", criu_path=imitation(running, "criu-true", "#!/bin/sh\nexit 0\n"))


def test_criu_that_others_can_write(running: Checkpoint) -> None:
    path = imitation(running, "criu-open", "#!/bin/sh\necho Version: 4.1.1\n")
    Path(path).chmod(0o777)
    rejected(running, path, criu_path=path)


def test_action_script_that_is_missing(running: Checkpoint) -> None:
    rejected(running, "action_scripts", "/usr/local/nowhere", action_scripts=["/usr/local/nowhere"])


def test_action_script_that_others_can_write(running: Checkpoint) -> None:
    path = imitation(running, "script-open", "#!/bin/sh\n")
    Path(path).chmod(0o777)
    rejected(running, "action_scripts", path, action_scripts=[path])


def test_action_script_that_is_not_executable(running: Checkpoint) -> None:
    path = imitation(running, "script-plain", "#!/bin/sh\n")
    Path(path).chmod(0o644)
    rejected(running, "action_scripts", "not executable", action_scripts=[path])


def test_user_who_is_not_root(running: Checkpoint) -> None:
    arguments = running.module.scratch / "as-nobody.json"
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": running.options("checkpointed", stop=True)}))
    arguments.chmod(0o644)
    running.module.scratch.chmod(0o755)
    code = (
        "import os, runpy, sys; os.setgid(65534); os.setuid(65534);"
        "sys.argv = ['lxc_checkpoint', sys.argv[1]];"
        "runpy.run_module('ansible_collections.stasis.lxc.plugins.modules.lxc_checkpoint', run_name='__main__')"
    )
    # Everything is imported as root, since nobody may not read below root's home.
    preload = (
        "import importlib, pkgutil, ansible.module_utils._internal._json._profiles as profiles;"
        "[importlib.import_module(f'{profiles.__name__}.{one.name}') for one in pkgutil.iter_modules(profiles.__path__)];"
        "import ansible_collections.stasis.lxc.plugins.modules.lxc_checkpoint;"
        # What main() loads itself.
        "from ansible_collections.stasis.lxc.plugins.module_utils import _checkpoint, _runner;"
    )
    done = run(
        "env",
        f"PYTHONPATH={running.module.collections}",
        running.module.python,
        "-c",
        preload + code,
        str(arguments),
        check=False,
    )
    assert '"failed": true' in done.stdout, done.stdout + done.stderr
    assert "needs root" in done.stdout


RECORD = "/etc/stasis/lxc.json"


def with_record(running: Checkpoint, content: str | None) -> str:
    """The module's answer where the install record has another content, or is not there, in a private namespace."""
    replaced = occupied(running, "record")
    replaced.mkdir(exist_ok=True)
    for entry in replaced.iterdir():
        entry.unlink()
    if content is not None:
        (replaced / "lxc.json").write_text(content)
    arguments = running.module.scratch / "record.json"
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": running.options("checkpointed", stop=True)}))
    command = (
        'mount --bind "$1" /etc/stasis && export PYTHONPATH="$2" && '
        'exec "$3" -m ansible_collections.stasis.lxc.plugins.modules.lxc_checkpoint "$4"'
    )
    before = running.world()
    done = run(
        "unshare",
        "-m",
        "sh",
        "-c",
        command,
        "sh",
        str(replaced),
        str(running.module.collections),
        running.module.python,
        str(arguments),
        check=False,
    )
    assert running.world() == before
    running.container.assert_counts()
    answer = json.loads(done.stdout)
    assert answer.get("failed"), answer
    message: str = answer["msg"]
    return message


def test_role_that_was_not_applied(running: Checkpoint) -> None:
    assert "stasis.lxc.criu" in with_record(running, None)


def test_role_of_another_protocol(running: Checkpoint) -> None:
    record = json.loads(Path(RECORD).read_text())
    record["protocol"] += 1
    assert "role" in with_record(running, json.dumps(record))


def test_hook_that_was_changed_since_the_role_installed_it(running: Checkpoint) -> None:
    record = json.loads(Path(RECORD).read_text())
    record["hook_sha256"] = "0" * 64
    assert "role" in with_record(running, json.dumps(record))

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container with a hostile name wherever it chooses one: every module's answer is valid, and it comes back."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import Container, run
from module import Answer, Checkpoint
from test_ansible import ansible

# As hostile.c has them; a cgroup's may have no line break in it.
NAMES = (
    b"caf\xe9",
    b"\xff\n",
    "a\x0b\x1c\r\x85\u2028z".encode(),
    b"\x1b]0;x\x07",
    b" \t- x",
    b"\\012",
    b"\xed\xb3\xbf",
)
CGROUPS = (b"caf\xe9", "a\x85\u2028z".encode(), b"\\012", b"\xed\xb3\xbf")
# What a shell would not read back as it is.
UNRECORDABLE = (b"\x1b]0;x\x07", b"a\rb", b" x")
INTERFACE = b"d\xe9\x1b]\x07'\"x"


@pytest.fixture(scope="session")
def hostile(clean_host: Path) -> Path:
    program = clean_host / "hostile"
    source = Path(__file__).with_name("hostile.c")
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", str(program), str(source))
    return program


def create(lxc: Factory, program: Path, *arguments: str) -> Checkpoint:
    container = lxc.create("hostile", config=[" ".join(["lxc.init.cmd = /bin/hostile", *arguments])])
    shutil.copy(program, container.root / "bin/hostile")
    container.start()
    inside = ["nsenter", f"--net=/proc/{container.init_pid}/ns/net", "ip", "link", "set", "dev", "eth0"]
    run(*inside, "alias", "x\udcff\n\x1b'\"\\")
    for name in CGROUPS if payload(container) else ():
        os.mkdir(os.path.join(os.fsencode(payload(container)[0]), name))
    return lxc.checkpoint(container)


def payload(container: Container) -> list[Path]:
    return [one for one in container.cgroups() if "lxc.payload." in one.name and (one / "cgroup.controllers").exists()]


def sound(answer: Answer) -> None:
    """Valid UTF-8 that a terminal shows on one line."""
    for one in _strings(answer):
        one.encode("utf-8")
        assert all(character.isprintable() or character == "\t" for character in one), repr(one)


def _strings(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (key, *_strings(one))
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def files_of(container: Container) -> set[bytes]:
    folder = f"/proc/{container.init_pid}/fd"
    links = (os.readlink(os.path.join(os.fsencode(folder), name)) for name in os.listdir(os.fsencode(folder)))
    return {link for link in links if link.startswith(b"/tmp/")}


def test_every_module_answers_about_a_container_with_hostile_names(lxc: Factory, hostile: Path) -> None:
    checkpoint = create(lxc, hostile)
    container, module = checkpoint.container, checkpoint.module
    before = files_of(container)
    assert {b"/tmp/file-" + name for name in NAMES} <= before
    about = {"name": container.name, "lxc_path": str(container.lxc_path)}
    sound(dataclasses.replace(module, name="lxc_checkpoint_preflight").run(check_mode=True, **about))
    sound(checkpoint.checkpointed(stop=False))
    sound(checkpoint.checkpointed(stop=True, overwrite=True))
    info = dataclasses.replace(module, name="lxc_checkpoint_info")
    listed = info.run(path=str(checkpoint.directory.parent), verify=True)
    sound(listed)
    assert [one["state"] for one in listed["checkpoints"]] == ["sealed"]
    assert "/tmp/file-caf\\xe9" in listed["checkpoints"][0]["manifest"]["open_files"]
    assert os.fsdecode(b"/tmp/file-\xff\n") in checkpoint.manifest["open_files"]
    sound(checkpoint.restored())
    assert files_of(container) == before
    if payload(container):
        assert set(CGROUPS) <= set(os.listdir(os.fsencode(payload(container)[0])))
    sound(checkpoint.absent())


def test_cgroup_whose_name_cannot_be_recorded_is_found_before_the_freeze(lxc: Factory, hostile: Path) -> None:
    checkpoint = create(lxc, hostile)
    container = checkpoint.container
    if not payload(container):
        pytest.skip("LXC makes no cgroups in a v2 hierarchy here")
    about = {"name": container.name, "lxc_path": str(container.lxc_path)}
    for name in UNRECORDABLE:
        made = os.path.join(os.fsencode(payload(container)[0]), name)
        os.mkdir(made)
        found = dataclasses.replace(checkpoint.module, name="lxc_checkpoint_preflight").run(**about)
        sound(found)
        assert [one["id"] for one in found["findings"] if one["severity"] == "blocks"] == ["cgroup-name"]
        sound(checkpoint.refused("checkpointed", stop=True))
        os.rmdir(made)
    checkpoint.checkpointed(stop=True)
    checkpoint.restored()


def test_ansible_itself_takes_a_container_with_hostile_names_through(lxc: Factory, hostile: Path) -> None:
    checkpoint = create(lxc, hostile)
    about = {"name": checkpoint.container.name, "lxc_path": str(checkpoint.container.lxc_path)}
    found = checkpoint.module.scratch / "hostile.json"
    tasks = [
        {"stasis.lxc.lxc_checkpoint_preflight": about, "register": "preflight"},
        {"stasis.lxc.lxc_checkpoint": checkpoint.options("checkpointed", stop=True), "register": "dumped"},
        {"stasis.lxc.lxc_checkpoint_info": {"path": str(checkpoint.directory.parent)}, "register": "info"},
        {"stasis.lxc.criu_log_info": {"path": "{{ dumped.log_path }}"}},
        {"stasis.lxc.lxc_checkpoint": checkpoint.options("restored"), "register": "restored"},
        {
            "ansible.builtin.copy": {
                "content": "{{ [preflight, dumped, info, restored] | to_json }}",
                "dest": str(found),
            }
        },
    ]
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    path = checkpoint.module.scratch / "hostile-play.json"
    path.write_text(json.dumps(play))
    done = ansible(checkpoint, str(path), "-vvv", "-i", "localhost,", program="ansible-playbook")
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkpoint.container.running
    answers = json.loads(found.read_bytes())
    assert [one.get("failed", False) for one in answers] == [False] * 4
    assert "/tmp/file-caf\\xe9" in answers[1]["checkpoint"]["open_files"]


def test_a_refusal_about_a_hostile_name_is_one_line(lxc: Factory, hostile: Path) -> None:
    checkpoint = create(lxc, hostile, "blocked")
    sound(checkpoint.refused("checkpointed", "\\xff\\x1b\\r", stop=True))


def test_an_interface_with_a_hostile_name_is_refused_by_its_name(lxc: Factory, hostile: Path) -> None:
    checkpoint = create(lxc, hostile)
    inside = ["nsenter", f"--net=/proc/{checkpoint.container.init_pid}/ns/net", "ip", "link", "set", "dev", "eth0"]
    run(*inside, "down")
    run(*inside, "name", os.fsdecode(INTERFACE))
    sound(checkpoint.refused("checkpointed", "d\\xe9\\x1b]\\x07", "rename it", stop=True))

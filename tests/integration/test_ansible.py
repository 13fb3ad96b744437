# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Through Ansible itself: ad hoc, as a playbook, in check mode, and on the oldest Python of a managed host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from module import Checkpoint, Module
from preflight import Pre

# Real interpreters, which the bootstrap has linked.
PYTHONS = sorted(
    Path(__file__).resolve().parents[2].glob(".work/pythons/python3.*"), key=lambda path: int(path.name.split(".")[1])
)


def ansible(checkpoint: Checkpoint, *argv: str, program: str = "ansible") -> subprocess.CompletedProcess[str]:
    scratch = checkpoint.module.scratch
    return subprocess.run(
        [str(Path(sys.executable).with_name(program)), *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=scratch,
        timeout=1200,
        check=False,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(checkpoint.module.collections),
            "ANSIBLE_HOME": str(scratch),
            "ANSIBLE_LOCAL_TEMP": str(scratch / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(scratch / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )


def ad_hoc(checkpoint: Checkpoint, state: str, *argv: str, **options: t.Any) -> dict[str, t.Any]:
    arguments = json.dumps(checkpoint.options(state, **options))
    done = ansible(checkpoint, "localhost", "-c", "local", "-m", "stasis.lxc.lxc_checkpoint", "-a", arguments, *argv)
    assert " => " in done.stdout, done.stdout + done.stderr
    found: dict[str, t.Any] = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    return found


def test_ad_hoc_command_takes_a_container_through(lxc: Factory) -> None:
    checkpoint = lxc.start()
    assert ad_hoc(checkpoint, "checkpointed", "--check", stop=True)["changed"]
    assert checkpoint.container.running
    assert ad_hoc(checkpoint, "checkpointed", stop=True)["changed"]
    assert not ad_hoc(checkpoint, "checkpointed", stop=True)["changed"]
    assert ad_hoc(checkpoint, "restored")["changed"]
    assert not ad_hoc(checkpoint, "restored")["changed"]
    checkpoint.container.assert_counts()


def test_playbook_shows_the_states_in_diff_mode(lxc: Factory) -> None:
    checkpoint = lxc.start()
    found = checkpoint.module.scratch / "found.json"
    tasks = [
        {"stasis.lxc.lxc_checkpoint": checkpoint.options("checkpointed", stop=True), "register": "found"},
        {"ansible.builtin.copy": {"content": "{{ found | to_json }}", "dest": str(found)}, "diff": False},
    ]
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    path = checkpoint.module.scratch / "play.json"
    path.write_text(json.dumps(play))
    done = ansible(checkpoint, str(path), "--diff", "-i", "localhost,", program="ansible-playbook")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(found.read_text())
    assert result["diff"]["before"] == {"container": "running", "checkpoint": "absent"}
    assert result["diff"]["after"] == {"container": "stopped", "checkpoint": "sealed"}


def test_playbook_preflight_prints_one_table_of_all_hosts(lxc: Factory, trouble: Path) -> None:
    pre = Pre(lxc, trouble)
    good, bad = pre.start("nothing"), pre.start("io-uring")
    checkpoint = lxc.checkpoint(good)
    inventory = checkpoint.module.scratch / "inventory.json"
    # The same machine under two names, and one that is not there.
    hosts = {name: {"ansible_connection": "local"} for name in ("first", "second-host")}
    hosts["away"] = {"ansible_host": "192.0.2.1", "ansible_ssh_common_args": "-o ConnectTimeout=1 -o BatchMode=yes"}
    both = {
        "preflight_lxc_path": str(good.lxc_path),
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
    }
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": both}}))
    before = [container.life() for container in (good, bad)]
    done = ansible(checkpoint, "stasis.lxc.preflight", "-i", str(inventory), "--check", program="ansible-playbook")
    out = done.stdout
    assert "changed=0" in out
    rows = [line.strip().strip('",').split() for line in out.splitlines() if '  "' in line]
    for host in hosts:
        for container, verdict in ((good, "ready"), (bad, "blocked")):
            if host != "away":
                assert [host, container.name, verdict] in [row[:3] for row in rows], out
    assert ["away", "-", "unreachable"] in [row[:3] for row in rows], out
    (one, *_more) = [row for row in rows if row[:2] == ["first", bad.name] and "descriptor" in row]
    assert "io_uring," in one
    assert [container.life() for container in (good, bad)] == before
    # All rows of the first table end where its head does.
    heads = [line.index("VERDICT") for line in out.splitlines() if "VERDICT" in line]
    assert {line.index("blocked") for line in out.splitlines() if '"first' in line and "blocked" in line} == set(heads)
    strict = ansible(
        checkpoint,
        *("stasis.lxc.preflight", "-i", str(inventory), "-e", "preflight_strict=true preflight_hosts=first"),
        program="ansible-playbook",
    )
    assert strict.returncode == 2, strict.stdout + strict.stderr
    calm = ansible(
        checkpoint,
        "stasis.lxc.preflight",
        "-i",
        str(inventory),
        "-e",
        "preflight_hosts=first",
        program="ansible-playbook",
    )
    assert calm.returncode == 0, calm.stdout + calm.stderr


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.name)
def test_managed_host_may_have_this_python(lxc: Factory, python: Path) -> None:
    """The module with the interpreter of a managed host and the ansible-core that still serves it."""
    core = lxc.session / "core"
    if not core.exists():
        # Only ansible-core: other packages there may be for another Python.
        core.mkdir()
        (core / "ansible").symlink_to(
            next((python.parents[1] / "venv-217/lib").glob("python3.*/site-packages/ansible"))
        )
    scratch = lxc.session / f"scratch-{python.name}"
    scratch.mkdir()
    checkpoint = lxc.start()
    checkpoint.module = Module(checkpoint.module.collections, scratch, str(python), str(core))
    checkpoint.stopped()
    checkpoint.resumed()
    checkpoint.container.assert_counts()

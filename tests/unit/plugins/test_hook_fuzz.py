# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile records: either the check refuses them, or the shell does with them what Python has read, and nothing else.

Everything random has a fixed seed.
"""

from __future__ import annotations

import copy
import os
import random
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _cgroup_tree,
    _cgroups,
    _criu_command,
    _device_rules,
    _errors,
    _manifest,
    _nic_records,
    _nics,
    _workspace,
)
from ansible_collections.stasis.lxc.tests.unit.support.hook_bench import FAKE, SHELLS, Bench
from ansible_collections.stasis.lxc.tests.unit.support.make import manifest

LAUNCHER = Path(__file__).resolve().parents[3] / "roles" / "criu" / "files" / "launcher"
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,14}"
IP_LINE = re.compile(
    rf"link set dev {NAME} (address [0-9a-f:]{{17}}|mtu [0-9]+|master {NAME}|nomaster|up)|link del dev {NAME}"
)
BRIDGE_LINE = re.compile(
    rf"vlan (add|del) dev {NAME} vid [0-9]+(-[0-9]+)?( pvid)?( untagged)?|link set dev {NAME} state disabled"
)
# What a shell, `read`, a path or an `ip -batch` takes for something of its own.
PIECES = [
    *(" ", "  ", "\t", "\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\0", "\\", "\\n", "\x81", "\udc81", "\udcff"),
    *("/", "..", "../", "../../", ".", "/.", "*", "?", "[a-z]*", "-", "--", "-n", "$(id)", "`id`", "$x", "'", '"', "#"),
    *(
        "dir",
        "limit",
        "set",
        "give",
        "own",
        "owner",
        "add",
        "del",
        "dev lo",
        "0",
        "9" * 30,
        "-1",
        "0x1",
        "\u0661",
        "%s",
    ),
    *("pids.max", "cgroup.procs", "core_pattern", "é", "x" * 200, ";", "&&", "|", "\x1b[2J", "=", ":", ",", "@", "]"),
]
ROUNDS = 120


@pytest.fixture(params=sorted(SHELLS))
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, SHELLS[request.param])


def mutated(text: str, chance: random.Random) -> str:
    for _time in range(chance.randint(1, 3)):
        at = chance.randint(0, len(text))
        piece = chance.choice(PIECES)
        kind = chance.randint(0, 3)
        if kind == 0:
            text = text[:at] + piece + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + chance.randint(1, 5) :]
        elif kind == 2:
            text = text[:at] + piece + text[at + len(piece) :]
        else:
            lines = text.split("\n")
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines) + piece)
            text = "\n".join(lines)
    return text


def everything(top: Path) -> dict[str, str]:
    """Each file and directory below top, but for what the test itself writes, with its content."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            content = b""
            if os.path.isfile(path):
                with open(path, "rb") as stream:
                    content = stream.read()
            found[os.fsdecode(path)] = content.decode("latin-1")
    return found


NICS = {
    "eth0": "eth0",
    "veth0": "vethA",
    "bridge0": "br0",
    "mac0": "fe:00:00:00:00:01",
    "mtu0": "1500",
    "state0": "disabled",
    "port0": "isolated 1\npath_cost 7\nbackup_port vethB\n",
    "vlan0": "del vid 1\nadd vid 10-20 pvid untagged\n",
    "sysctl0": "ipv4 rp_filter 2\nipv6 disable_ipv6 0\n",
}


def test_hook_does_with_records_of_nics_only_what_they_may_say(bench: Bench, tmp_path: Path) -> None:
    chance = random.Random(4501)
    given = tmp_path / "given"
    given.mkdir()
    for veth in ("vethA", "vethB"):
        bench.port(veth)
        for family in ("ipv4", "ipv6"):
            (bench.proc / "sys" / "net" / family / "conf" / veth).mkdir(parents=True)
    passed = 0
    for round_ in range(ROUNDS):
        for path in [*given.iterdir(), *bench.images.iterdir()]:
            path.unlink()
        kind = chance.choice(sorted(NICS))
        # Now and then nothing is changed, and nothing may be refused.
        records = {**NICS, kind: NICS[kind] if round_ % 25 == 0 else mutated(NICS[kind], chance)}
        for name, text in records.items():
            (given / name).write_bytes(os.fsencode(text.replace("\x81", "\udc81")))
        try:
            nics = _nic_records.read_records(str(given))
        except _errors.RecordError:
            assert round_ % 25
            continue
        passed += 1
        _nic_records.write_records(str(bench.images), nics)
        before = everything(tmp_path)
        done = bench.run("network-unlock")
        after = everything(tmp_path)
        changed = {path for path in after if after[path] != before.get(path)} - {
            str(bench.log),
            f"{bench.work}/hook.refused",
            f"{bench.work}/hook.warnings",
        }
        nic = nics[0]
        port = {f"{bench.sysfs}/class/net/{nic.veth}/brport/{name}": value for name, value in nic.port.items()}
        sysctls = {
            f"{bench.proc}/sys/net/{key.split()[0]}/conf/{nic.veth}/{key.split()[1]}": value
            for key, value in nic.sysctls.items()
        }
        assert changed <= {*port, *sysctls}, (kind, records[kind])
        assert all(after[path] == {**port, **sysctls}[path] for path in changed)
        assert done.returncode in (0, 1)
        program = ""
        for line in bench.calls().split("\n")[:-1]:
            if line in ("ip -force -batch -", "bridge -force -batch -"):
                program = line.split()[0]
            else:
                assert not line or (IP_LINE if program == "ip" else BRIDGE_LINE).fullmatch(line), line
        bench.log.unlink()
    assert passed >= ROUNDS // 25


TREE = (
    "owner 5:6\ndir .\nset cgroup.subtree_control +pids +cpu\nlimit pids.max 50\ngive 5:6 g=u cgroup.procs\n"
    "dir init.scope\ndir a b.slice\nown 7:8\nlimit cpu.max 5000 100000\ndir a b.slice/c\\x2d\n"
)


def payload_of(bench: Bench) -> tuple[Path, dict[str, str]]:
    mount = bench.work.parent / "cgroup"
    top = mount / "payload"
    for name in ("chown", "chmod"):
        bench.script(bench.path / name, FAKE)
    return top, {
        "STASIS_CGROUPS": str(bench.images / "cgroup-tree"),
        "STASIS_CGROUP_DIR": str(top),
        "STASIS_CGROUP_MOUNT": str(mount),
        "STASIS_CGROUP_PATH": "payload",
        "PATH": f"{bench.path}:/usr/bin:/bin",
        "LC_ALL": "C",
    }


def renewed(top: Path) -> None:
    shutil.rmtree(top.parent, ignore_errors=True)
    top.mkdir(parents=True)
    (top.parent / "other").mkdir()


def directories(top: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(folder, name), top) for folder, names, _files in os.walk(top) for name in names
    }


def told(text: str) -> set[str]:
    """The cgroups of a record, as Python reads it."""
    return {line[4:] for line in text.split("\n") if line.startswith("dir ")} - {"."}


def with_parents(paths: t.Iterable[str]) -> set[str]:
    return {"/".join(path.split("/")[: end + 1]) for path in paths for end in range(path.count("/") + 1)}


def test_hook_makes_of_a_record_of_cgroups_what_was_checked_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    chance = random.Random(4401)
    top, environment = payload_of(bench)
    passed = 0
    for round_ in range(ROUNDS):
        content = os.fsencode((TREE if round_ % 25 == 0 else mutated(TREE, chance)).replace("\x81", "\udc81"))
        text = content.decode("utf-8", "surrogateescape")
        try:
            _cgroup_tree.check(text)
        except _errors.RecordError:
            assert round_ % 25
            continue
        passed += 1
        renewed(top)
        (bench.images / "cgroup-tree").write_bytes(content)
        before = everything(tmp_path)
        done = bench.run("post-setup-namespaces", **environment)
        assert (done.returncode, done.stderr) == (0, ""), text
        assert directories(top) == with_parents(told(text)), text
        done = bench.run("post-restore", **environment)
        assert (done.returncode, done.stderr) == (0, ""), text
        changed = {path for path, found in everything(tmp_path).items() if before.get(path) != found}
        outside = {path for path in changed - {str(bench.log)} if not path.startswith(f"{top}/")}
        assert not outside, text
        assert directories(top.parent) - {"payload", "other"} == {f"payload/{path}" for path in directories(top)}
        for line in bench.calls().split("\n")[:-1]:
            assert re.match(rf"(chown -- [0-9]+:[0-9]+|chown -R -- [0-9]+:[0-9]+|chmod g(=u|-w)) {top}/", line), line
            assert "/../" not in line
        bench.log.unlink(missing_ok=True)
    assert passed >= ROUNDS // 25


def hostile_name(chance: random.Random) -> bytes:
    usual = ["a", "b.slice", "dev-disk\\x2dby", "é", "with a space", "user@1000.service"]
    pieces = [chance.choice(PIECES if chance.random() < 0.4 else usual) for _piece in range(chance.randint(1, 3))]
    name = os.fsencode("".join(pieces).replace("\x81", "\udc81"))
    name = name.replace(b"/", b"_").replace(b"\0", b"")[:100]
    return name if name not in (b"", b".", b"..") else b"x"


def test_every_name_of_a_cgroup_is_kept_as_it_is_or_refused(bench: Bench) -> None:
    """From what the container chose to what a restore makes: by Python before the freeze, by the hook during the dump."""
    chance = random.Random(4801)
    top, environment = payload_of(bench)
    kept = refused = 0
    for _round in range(ROUNDS):
        renewed(top)
        (top.parent / "other").rmdir()
        where = os.fsencode(top)
        for _name in range(chance.randint(1, 3)):
            where = os.path.join(where if chance.random() < 0.5 else os.fsencode(top), hostile_name(chance))
            os.makedirs(where, exist_ok=True)
        wanted = directories(top)
        try:
            groups = _cgroup_tree.observe(_cgroups.Hierarchy((), str(top.parent), "/payload", unified=True))
        except _errors.StasisError:
            groups = None
        (bench.images / "cgroup-tree").write_text("dir .\n")
        commit = bench.images / "committed"
        commit.unlink(missing_ok=True)
        done = bench.run("post-dump", STASIS_COMMIT=str(commit), **environment)
        content = (bench.images / "cgroup-tree").read_bytes()
        if done.returncode:
            refused += 1
            assert not commit.exists()
            assert bench.refused().isprintable() or "\n" in bench.refused()
            assert groups is None, "both refuse the same names"
            continue
        kept += 1
        assert groups is not None, "both refuse the same names"
        text = content.decode("utf-8", "surrogateescape")
        _cgroup_tree.check(text)
        assert told(text) == wanted
        for record in (content, os.fsencode(_cgroup_tree.record([_cgroup_tree.Group(one.path) for one in groups]))):
            renewed(top)
            (bench.images / "cgroup-tree").write_bytes(record)
            assert bench.run("post-setup-namespaces", **environment).returncode == 0
            assert directories(top) == wanted
    assert min(kept, refused) > ROUNDS // 10


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_launcher_sets_the_rules_about_device_nodes_that_were_checked(shell: str, tmp_path: Path) -> None:
    chance = random.Random(4502)
    group = tmp_path / "payload"
    group.mkdir()
    (group / "devices.deny").write_text("")
    (group / "devices.allow").symlink_to("/dev/stdout")
    (tmp_path / "argv").write_text("")
    rules = "c 1:3 rwm\nb *:* m\nc 136:* rw\n"
    passed = 0
    for round_ in range(ROUNDS):
        text = rules if round_ % 25 == 0 else mutated(rules, chance)
        try:
            _device_rules.check_list(text)
        except _errors.RecordError:
            assert round_ % 25
            continue
        passed += 1
        (tmp_path / "list").write_bytes(os.fsencode(text))
        done = subprocess.run(
            [*SHELLS[shell], str(LAUNCHER), "restore", "--cgroup-root", "/payload"],
            env={
                "STASIS_CRIU": "/bin/true",
                "STASIS_WORK": str(tmp_path),
                "STASIS_DEVICE_LIST": str(tmp_path / "list"),
                "STASIS_DEVICE_MOUNT": str(tmp_path),
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, text)
    assert passed >= ROUNDS // 25


MANIFEST = manifest(
    nics=[{"index": 0, "kind": "macvlan", "name": "m0", "link": "eno1"}],
    terminals=["dev/console", "dev/tty1"],
    cgroups=[{"controllers": ["cpu"], "mount": "/sys/fs/cgroup", "path": "/lxc.payload.web1", "unified": True}],
    autostart_units=["lxc@web1.service"],
    lsm={"kind": "apparmor", "label": "lxc-web1 (enforce)"},
    addresses=[{"nic": "eth0", "address": "10.0.0.1"}],
    overlay_work="/var/lib/lxc/web1/olwork",
    init_name="systemd",
    options={"manage_cgroups": "full", "external_mounts": [{"target": "srv/data", "source": "/mnt/data"}]},
)
TEXTS = [
    "\n--action-script\n/tmp/x",
    *(
        "\r",
        "\0",
        "\x1b[2J",
        "\x85x",
        "\u2028",
        "../../etc",
        "/etc",
        "a:b",
        "a b",
        "-x",
        "",
        "x" * 70000,
        "\udcff",
        "é",
        "$(id)",
    ),
]


def places(value: t.Any, path: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[t.Any, ...]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for key, one in enumerate(value):
            yield from places(one, (*path, key))
    elif isinstance(value, str):
        yield path


def test_manifest_that_is_taken_gives_criu_no_option_of_its_own(safe_dir: str) -> None:
    chance = random.Random(4503)
    where = [path for path in places(MANIFEST) if path[0] != "fingerprint"]
    work = _workspace.Workspace("web1", "restore", safe_dir)
    taken = 0
    for _round in range(8 * ROUNDS):
        about = copy.deepcopy(MANIFEST)
        *path, last = chance.choice(where)
        holder = about
        for key in path:
            holder = holder[key]
        piece, old = chance.choice(TEXTS), holder[last]
        holder[last] = chance.choice([piece, old + piece, piece + old])
        try:
            found = _manifest.parse(_manifest.dump(about), "m")
        except _errors.StasisError as exc:
            assert exc.message.isprintable()
            continue
        taken += 1
        options = _criu_command.CriuOptions(
            manage_cgroups=found["options"]["manage_cgroups"],
            external_mounts=tuple(_criu_command.MountMap(**one) for one in found["options"]["external_mounts"]),
        )
        facts = _criu_command.RestoreFacts(
            images="/i",
            work="/w",
            hook="/h",
            externals=tuple(_nics.criu_externals([_nics.Nic(**one) for one in found["nics"]])),
            terminals=tuple(found["terminals"]),
        )
        arguments = _criu_command.restore(options, facts)
        with open(work.write_lines("argv", arguments), "rb") as stream:
            lines = os.fsdecode(stream.read()).split("\n")[:-1]
        assert lines == arguments
        assert [line for line in lines if line.startswith("--action-script")] == ["--action-script"]
        assert all(re.fullmatch(rf"macvlan\[{NAME}\]:{NAME}", one) for one in facts.externals)
        assert found["autostart_units"] == [f"lxc@{found['container']}.service"]
        for one in found["options"]["external_mounts"]:
            assert ".." not in (*one["target"].split("/"), *one["source"].split("/"))
    assert taken > ROUNDS // 10

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever string the container chooses, it is read back exactly, breaks no parser, and leaves as valid UTF-8 on one line."""

from __future__ import annotations

import json
import os
import random
import struct
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import (
    _answer,
    _cgroup_tree,
    _cgroup_yard,
    _cgroups,
    _container,
    _criu_files,
    _criu_log,
    _diagnosis,
    _errors,
    _files,
    _findings,
    _image,
    _journal,
    _leftovers,
    _link_remaps,
    _listing,
    _manifest,
    _preflight_sockets,
    _proc,
    _proc_files,
    _rootfs,
    _scratch_mounts,
    _workspace,
)

# Each is hostile in its own way: no UTF-8, what ends a line for Python or a terminal, what looks like another field.
NAMES = (
    b"caf\xe9",
    b"\xff\xfe\nx",
    b"a\rb",
    b"a\x0bb\x0cc\x1cd\x1de\x1ef",
    "a\x85b\u2028c\u2029d".encode(),
    "\u00a0 \u3000x".encode(),
    b"\x1b]0;title\x07\x1b[2J",
    "\u202egnp.exe".encode(),
    b"\xed\xa0\x80\xed\xb2\x80",
    b"\xf4\x90\x80\x80",
    b"x - cgroup2 y z",
    b"(deleted)",
    b") S 1 1 1",
    b"\\012\\134",
    b"\rPPid:\t1",
    "²".encode(),
    b"%s{0}$(id)`id`",
)


def _random_names() -> list[bytes]:
    source = random.Random(1)
    made = [bytes(source.choice(range(1, 256)) for _byte in range(source.randint(1, 15))) for _name in range(40)]
    return [one.replace(b"/", b"_") for one in made]


HOSTILE = [*NAMES, *_random_names()]
every_name = pytest.mark.parametrize("name", HOSTILE, ids=[repr(one)[2:-1] for one in HOSTILE])


def escaped(name: bytes) -> bytes:
    """As the kernel writes a path in mountinfo (seq_path_root, mangle)."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


def mountinfo(name: bytes) -> str:
    path = escaped(name)
    return _files.decoded(
        b"21 1 0:20 / / rw - ext4 /dev/sda rw\n"
        b"22 21 0:21 /%b /mnt/%b rw,relatime shared:7 - tmpfs %b rw,size=4k\n"
        % (path, path, path)
        + b"23 21 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
    )


def sound(value: t.Any) -> None:
    """What Ansible's controller demands of an answer, and a terminal of a line."""
    text = json.dumps(_answer.cleaned(value))
    json.loads(text.encode("utf-8"))
    for one in _strings(json.loads(text)):
        assert one.encode("utf-8").decode("utf-8") == one
        assert all(character.isprintable() or character == "\t" for character in one), one


def _strings(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from (*_strings(key), *_strings(one))
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


class Ended(BaseException):
    """An AnsibleModule ends the process."""


class Module:
    """An AnsibleModule that keeps what it is told."""

    def __init__(self) -> None:
        self.answer: dict[str, t.Any] = {}
        self.warnings: list[str] = []

    def exit_json(self, **kwargs: t.Any) -> t.NoReturn:
        self.answer = kwargs
        raise Ended

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        self.answer = {"msg": msg, **kwargs}
        raise Ended

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)


@every_name
def test_an_answer_is_valid_utf8_on_one_line(name: bytes) -> None:
    text = os.fsdecode(name)
    module = Module()
    result = {"list": [text, {text: (text, 1, None, True, 1.5)}], "diff": {"before": {"x": text}, "after": {}}}
    with pytest.raises(Ended):
        _answer.give(module, result, [text])
    sound([module.answer, module.warnings])
    assert not {"\n", "\r"} & set(json.dumps(module.answer))
    with pytest.raises(Ended):
        _answer.refuse(module, _errors.StasisError(text, text, extra=text), {"state": "absent"}, [text])
    sound([module.answer, module.warnings])
    assert module.answer["state"] == "absent"
    assert all(one.isprintable() or one == "\t" for one in module.answer["msg"])


def test_a_text_of_several_lines_keeps_them_only_where_it_is_one() -> None:
    module = Module()
    with pytest.raises(Ended):
        _answer.give(module, {"text": "a\n\x1b\udcff", "line": "a\nb"}, texts=("text",))
    assert module.answer == {"text": "a\n\\x1b\\xff", "line": "a\\nb"}


def test_a_byte_and_a_character_of_the_same_number_differ() -> None:
    assert _answer.printable("\udca0") == "\\xa0"
    assert _answer.printable("\u00a0\ud800\U000e0001é") == "\\u00a0\\ud800\\U000e0001é"


@every_name
def test_mounts_are_read_exactly(name: bytes) -> None:
    found = _proc.mounts(mountinfo(name))
    assert [one.number for one in found] == [21, 22, 23]
    assert (os.fsencode(found[1].target), os.fsencode(found[1].root)) == (b"/mnt/" + name, b"/" + name)
    assert (found[1].type, found[1].shared, found[1].options) == ("tmpfs", 7, "rw,size=4k")
    assert _cgroups.parse_mounts(mountinfo(name)) == {"": "/sys/fs/cgroup"}
    assert _rootfs.overlay_work(mountinfo(name)) == ""
    sound([one.target for one in found])


@every_name
def test_cgroups_are_read_exactly(name: bytes) -> None:
    if b"\n" in name:
        return  # which the kernel refuses in the name of a cgroup
    payload = _cgroups.payload(_files.decoded(b"0::/lxc.payload.x/" + name + b"\n"), "", mountinfo(b"x"), "memory pids")
    assert [os.fsencode(one.path) for one in payload] == [b"/lxc.payload.x/" + name]
    _cgroup_yard.links(_files.decoded(b"0::/" + name + b"\n"), mountinfo(name))


@every_name
def test_a_cgroup_that_was_recorded_can_be_restored(name: bytes, tmp_path: Path) -> None:
    os.mkdir(os.path.join(os.fsencode(tmp_path), name))
    hierarchy = _cgroups.Hierarchy((), str(tmp_path), "/", True)
    if not _cgroup_tree.is_recordable(os.fsdecode(name)):
        with pytest.raises(_errors.StasisError, match="cannot be recorded"):
            _cgroup_tree.observe(hierarchy)
        return
    text = _cgroup_tree.record(_cgroup_tree.observe(hierarchy))
    record = tmp_path / "record"
    _files.write_durably(str(record), text)
    assert b"dir " + name + b"\n" in record.read_bytes()
    _cgroup_tree.check(_files.text_of(str(record)))


@every_name
def test_a_process_is_known_by_what_the_kernel_says_of_it(name: bytes, tmp_path: Path) -> None:
    comm = name[:15]
    in_status = comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    (tmp_path / "7").mkdir()
    status = (
        b"Name:\t%b\nState:\tS (sleeping)\nPid:\t7\nPPid:\t42\nNSpid:\t7\t3\nNSsid:\t7\t1\nThreads:\t1\n" % in_status
    )
    (tmp_path / "7/status").write_bytes(status)
    (tmp_path / "7/stat").write_bytes(b"7 (%b) T 42 7 7 0 -1 4194304" % comm + b" 0" * 12 + b" 99" + b" 0" * 30)
    found = _proc.task(7, _files.text_of(str(tmp_path / "7/status")))
    assert (found.inside, found.state, os.fsencode(found.name)) == (3, "S", in_status.strip(b" \t"))
    sound(found.label)
    assert _proc_files.read(str(tmp_path / "7/status")) == _files.decoded(status)


def test_a_process_cannot_name_another_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    status = _files.decoded(b"Name:\tx\rPPid:\t1\nPPid:\t42\n")
    monkeypatch.setattr(_files, "text_of", lambda path: status)
    assert _container.parent(7) == 42


def test_a_file_of_the_kernel_keeps_its_carriage_returns(tmp_path: Path) -> None:
    (tmp_path / "status").write_bytes(b"Name:\tx\rPPid:\t1\n\xff")
    assert _files.text_of(str(tmp_path / "status")) == "Name:\tx\rPPid:\t1\n\udcff"


@every_name
def test_mappings_and_links_are_read(name: bytes, tmp_path: Path) -> None:
    path = name.replace(b"\n", b"\\012")
    text = b"7f0000000000-7f0000001000 r--p 00000000 08:01 7 /%b (deleted)\n" % path
    text += b"7f0000002000-7f0000003000 r--p 00000000 00:01 9 /dev/zero (deleted)\n"
    found = _proc.unusual_mappings(_files.decoded(text))
    assert [one.start for one in found] == [0x7F0000000000]
    assert _proc.map_file(_files.decoded(text), 0x7F0000000000)
    sound([one.path for one in found])
    (tmp_path / "tmp").mkdir()
    os.close(os.open(os.path.join(os.fsencode(tmp_path / "tmp"), name.replace(b"\0", b"_")), os.O_CREAT))
    assert _link_remaps.ghosts(str(tmp_path), 0.0) == []


@every_name
def test_scratch_mounts_are_looked_for_among_hostile_ones(name: bytes, tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_bytes(_files.encoded(mountinfo(name)))
    assert _scratch_mounts.find(7, str(tmp_path)) == []


@every_name
def test_sockets_with_hostile_names_do_not_hide_the_others(name: bytes) -> None:
    lines = (
        b"u_str ESTAB 0 0 @%b 11 * 12 <-> ino:3 dev:0/4 peers:\n" % name,
        b"u_str ESTAB 0 0 * 21 * 22 <-> ino:3 dev:0/4 peers:\n",
    )
    found = _preflight_sockets.unix_sockets(_files.decoded(b"".join(lines)))
    assert 21 in [one.inode for one in found]


@every_name
def test_open_files_of_an_image_keep_their_bytes(name: bytes, tmp_path: Path) -> None:
    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        return bytes([number << 3 | 2, len(value)]) + value

    path = b"/" + name[:100]
    regular = b"".join((field(1, 1), field(2, 0), field(3, 0), field(4, 0), field(5, b""), field(6, path)))
    regular += field(7, 2) + field(8, 4)
    entry = field(1, 1) + field(2, 1) + field(3, regular)
    mount = field(1, 0) + field(2, 1) + field(3, 0) + field(4, 1) + field(5, b"/") + field(6, b"/") + field(7, b"/")
    for file, magic, data in (("files.img", 0x56303138, entry), ("mountpoints-1.img", 0x55563928, mount)):
        header = struct.pack("<III", 0x54564319, magic, len(data))
        (tmp_path / file).write_bytes(header + data)
    found = [one.path for one in _criu_files.read(str(tmp_path))]
    assert [os.fsencode(one) for one in found] == [path]
    sound(found)


@every_name
def test_a_manifest_on_disk_is_read_back_exactly(name: bytes, tmp_path: Path) -> None:
    text = os.fsdecode(name)
    manifest = _manifest.with_checksum({"open_files": {f"/{text}": [1, 2, 3]}, "init_name": text})
    where = str(tmp_path / "manifest.json")
    _files.write_durably(where, _manifest.dump(manifest))
    assert json.loads(_workspace.read_text(where)) == manifest
    assert _manifest.dump(json.loads(_workspace.read_text(where))) == _workspace.read_text(where)


@every_name
def test_a_journal_is_read_back_exactly(name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workspace, "LOCKS", str(tmp_path))
    text = os.fsdecode(name)
    journal = _journal.Journal("restore", f"/x/{text}", "/work", links={f"/{text}": 7}, nics=({"name": text},))
    _journal.begin("web", "/var/lib/lxc", journal)
    assert _journal.read("web", "/var/lib/lxc") == journal


@every_name
def test_words_for_the_launcher_are_written_exactly(name: bytes, tmp_path: Path) -> None:
    work = _workspace.Workspace("web", "restore", str(tmp_path))
    word = os.fsdecode(name.replace(b"\n", b""))
    work.write_lines("argv", ["--external", word])
    assert _files.lines(work.read("argv")) == ["--external", word]


@every_name
def test_logs_with_hostile_names_are_explained(name: bytes) -> None:
    log = _files.decoded(b"(00.1) Error (criu/files-reg.c:1): Can't open file %b: No such file or directory\n" % name)
    sound(_criu_log.error_lines(log))
    sound([one.as_dict() for one in _diagnosis.diagnose(log)])
    _leftovers.may_have_run(log)


def _directory_of(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 1e999}',
        '{"format": 1, "nics": 7, "files": []}',
        "[" * 100000,
        '{"format": ' + "9" * 5000 + "}",
        '{"\\udcff": "\\ud800"}',
    ],
)
def test_a_bad_checkpoint_is_listed_beside_the_others(safe_dir: str, text: str) -> None:
    for name in ("bad", "staged"):
        os.mkdir(os.path.join(safe_dir, name), 0o700)
    Path(safe_dir, "bad", _manifest.NAME).write_text(text)
    Path(safe_dir, "staged", _image.DRAFT).write_text('{"container": "web", "lxc_path": "/var/lib/lxc"}')
    found = _listing.listing(safe_dir, verify=True)
    assert [(os.path.basename(one["path"]), one["state"]) for one in found] == [
        ("bad", _image.DAMAGED),
        ("staged", _image.STAGING),
    ]
    assert found[0]["faults"]
    sound(found)


@pytest.mark.parametrize(
    "fault", [OSError(5, "Input/output error"), KeyError("nics"), TypeError("no"), ValueError("no")]
)
def test_whatever_goes_wrong_with_one_checkpoint_the_others_are_listed(
    safe_dir: str, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    for name in ("bad", "staged"):
        os.mkdir(os.path.join(safe_dir, name), 0o700)
    Path(safe_dir, "staged", _image.DRAFT).write_text('{"container": "web", "lxc_path": "/var/lib/lxc"}')
    look = _image.look

    def failing(path: str, *rest: t.Any) -> _image.Image:
        if path.endswith("bad"):
            raise fault
        return look(path, *rest)

    monkeypatch.setattr(_image, "look", failing)
    found = _listing.listing(safe_dir, verify=False)
    assert [one["state"] for one in found] == [_image.DAMAGED, _image.STAGING]
    assert found[0]["faults"]
    assert found[0].keys() == found[1].keys()


def test_a_record_of_resumes_with_strange_digits_is_passed_over() -> None:
    assert _image.parse_consumed("restored boot ² ³ 1\nrestored boot " + "9" * 5000 + " 1 1\n") == []


@every_name
def test_findings_about_hostile_names_are_printable(name: bytes) -> None:
    sound(
        vars(_findings.Finding("descriptor", _findings.BLOCKS, os.fsdecode(name), os.fsdecode(name), os.fsdecode(name)))
    )

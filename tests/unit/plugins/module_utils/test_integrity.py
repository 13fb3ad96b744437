# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import mmap
import os
import socket
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _integrity, _manifest
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import manifest, write

pytestmark = pytest.mark.interpreter


def entry(text: str) -> dict[str, t.Any]:
    return {"size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def sealed(directory: str, **changes: t.Any) -> _manifest.Manifest:
    """A directory with two files, and its manifest, which is written too."""
    write(f"{directory}/pages-1.img", "memory")
    write(f"{directory}/core-1.img", "registers")
    about = manifest(files={"pages-1.img": entry("memory"), "core-1.img": entry("registers")}, size=15, **changes)
    write(f"{directory}/manifest.json", _manifest.dump(about))
    return about


def faults(directory: str, about: _manifest.Manifest, *, content: bool = False) -> list[str]:
    return _integrity.faults(directory, about, "full" if content else "size")


def test_hashes_are_of_the_whole_file_in_the_order_of_names(safe_dir: str) -> None:
    big = "ab" * (1 << 20) + "c"
    write(f"{safe_dir}/b", big)
    write(f"{safe_dir}/a", "")
    found = _integrity.hash_files(safe_dir, ["b", "a"])
    assert list(found) == ["a", "b"]
    assert found == {"a": entry(""), "b": entry(big)}


def test_nothing_is_hashed_through_a_symlink(safe_dir: str) -> None:
    os.symlink("/etc/hostname", f"{safe_dir}/a")
    with pytest.raises(StasisError, match="is not a regular file"):
        _integrity.hash_files(safe_dir, ["a"])


def test_directory_that_matches_has_no_faults(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/consumed", "whatever\n")
    assert faults(safe_dir, about) == []
    assert faults(safe_dir, about, content=True) == []


def test_missing_file_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.unlink(f"{safe_dir}/pages-1.img")
    assert faults(safe_dir, about) == ["pages-1.img is missing."]


def test_file_too_many_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/evil.img", "")
    assert faults(safe_dir, about) == ["evil.img is not in the manifest."]


def test_subdirectory_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.mkdir(f"{safe_dir}/sub")
    assert faults(safe_dir, about) == ["sub is not in the manifest."]


def test_other_size_is_a_fault_without_reading(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/pages-1.img", "mem")
    assert faults(safe_dir, about) == ["pages-1.img has 3 bytes, the manifest says 6."]


def test_other_content_of_the_same_size_is_a_fault_when_read(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/pages-1.img", "MEMORY")
    assert faults(safe_dir, about) == []
    assert faults(safe_dir, about, content=True) == ["pages-1.img has another content than the manifest says."]


@pytest.mark.parametrize("name", ["pages-1.img", "manifest.json", "consumed"])
def test_symlink_is_a_fault_also_among_the_files_beside_the_seal(safe_dir: str, name: str) -> None:
    about = sealed(safe_dir)
    os.rename(f"{safe_dir}/manifest.json", f"{safe_dir}/consumed")
    if os.path.lexists(f"{safe_dir}/{name}"):
        os.unlink(f"{safe_dir}/{name}")
    os.symlink("/etc/hostname", f"{safe_dir}/{name}")
    assert faults(safe_dir, about) == [f"{name} is not a regular file."]


@pytest.mark.parametrize("name", ["pages-1.img", "consumed"])
@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_file_that_others_can_write_is_a_fault(safe_dir: str, name: str, mode: int) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/consumed", "")
    os.chmod(f"{safe_dir}/{name}", mode)
    assert faults(safe_dir, about) == [f"{name} could have been changed by somebody other than root."]


def test_file_of_somebody_else_is_a_fault(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.chown(f"{safe_dir}/core-1.img", 65534, -1)
    assert faults(safe_dir, about) == ["core-1.img could have been changed by somebody other than root."]


def test_all_faults_are_listed_in_order(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.unlink(f"{safe_dir}/pages-1.img")
    write(f"{safe_dir}/zz", "")
    write(f"{safe_dir}/core-1.img", "")
    assert faults(safe_dir, about, content=True) == [
        "core-1.img has 0 bytes, the manifest says 9.",
        "pages-1.img is missing.",
        "zz is not in the manifest.",
    ]


PAGE = mmap.ALLOCATIONGRANULARITY


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE + 7])
@pytest.mark.parametrize("mapped", [False, True])
def test_large_file_has_the_hash_of_the_hashes_of_its_pieces(
    safe_dir: str, monkeypatch: pytest.MonkeyPatch, size: int, mapped: bool
) -> None:
    monkeypatch.setattr(_integrity, "PIECE", PAGE)
    monkeypatch.setattr(_integrity, "_CHUNK", 100)
    text = "".join(chr(97 + number % 26) for number in range(size))
    write(f"{safe_dir}/a", text)
    pieces = [hashlib.sha256(text[at : at + PAGE].encode()).digest() for at in range(0, size, PAGE)]
    wanted = {"size": size, "sha256_pieces": hashlib.sha256(b"".join(pieces)).hexdigest()}
    assert _integrity.hash_files(safe_dir, ["a"], mapped=mapped) == {"a": entry(text) if len(pieces) < 2 else wanted}


@pytest.mark.parametrize("mapped", [False, True])
def test_every_byte_is_read_and_hashed_once(safe_dir: str, monkeypatch: pytest.MonkeyPatch, mapped: bool) -> None:
    read: list[int] = []
    hashed: list[int] = []
    preadv, sha256 = os.preadv, hashlib.sha256

    def counted(descriptor: int, buffers: t.Any, offset: int, flags: int = 0) -> int:
        done = preadv(descriptor, buffers, offset, flags)
        read.append(done)
        return done

    class Digest:
        def __init__(self, data: bytes = b"") -> None:
            self._real = sha256(data)

        def update(self, data: t.Any) -> None:
            hashed.append(len(data))
            self._real.update(data)

        def digest(self) -> bytes:
            return self._real.digest()

        def hexdigest(self) -> str:
            return self._real.hexdigest()

    monkeypatch.setattr(_integrity, "PIECE", 4 * PAGE)
    monkeypatch.setattr(_integrity, "_CHUNK", PAGE)
    size = 10 * PAGE + 3
    write(f"{safe_dir}/a", "x" * size)
    wanted = _integrity.hash_files(safe_dir, ["a"])
    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(hashlib, "sha256", Digest)
    # Not every file system can say it.
    monkeypatch.setattr(_integrity, "_in_memory", lambda _descriptor, _offset: True)
    assert _integrity.hash_files(safe_dir, ["a"], mapped=mapped) == wanted
    assert sum(hashed) == size
    assert sum(read) == (0 if mapped else size)


def test_only_what_is_in_memory_is_mapped(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets: list[int] = []
    hash_mapped = _integrity._hash_mapped

    def watched(descriptor: int, offset: int, length: int, digest: t.Any) -> int:
        done = hash_mapped(descriptor, offset, length, digest)
        offsets.append(offset if done else -1)
        return done

    monkeypatch.setattr(_integrity, "PIECE", PAGE)
    monkeypatch.setattr(_integrity, "_hash_mapped", watched)
    monkeypatch.setattr(_integrity, "_in_memory", lambda _descriptor, offset: offset != 3 * PAGE - 1)
    text = "x" * 3 * PAGE
    write(f"{safe_dir}/a", text)
    found = _integrity.hash_files(safe_dir, ["a"], mapped=True)
    assert sorted(offsets) == [-1, 0, PAGE]
    assert found == _integrity.hash_files(safe_dir, ["a"])


def test_what_was_just_written_is_in_memory_and_what_is_not_there_is_not(safe_dir: str) -> None:
    write(f"{safe_dir}/a", "x")
    with open(f"{safe_dir}/a", "rb") as stream:
        assert _integrity._in_memory(stream.fileno(), 0)
        assert not _integrity._in_memory(stream.fileno(), 1)


@pytest.mark.parametrize("why", [OSError(95, "Operation not supported"), NotImplementedError("no preadv2")])
def test_where_nobody_can_say_what_is_in_memory_it_is_read(
    safe_dir: str, monkeypatch: pytest.MonkeyPatch, why: Exception
) -> None:
    preadv = os.preadv

    def old(descriptor: int, buffers: t.Any, offset: int, flags: int = 0) -> int:
        if flags:
            raise why
        return preadv(descriptor, buffers, offset)

    write(f"{safe_dir}/a", "text")
    monkeypatch.setattr(os, "preadv", old)
    assert _integrity.hash_files(safe_dir, ["a"], mapped=True) == {"a": entry("text")}


def test_many_files_are_hashed_each_with_its_own_content(safe_dir: str) -> None:
    texts = {f"f{number}": "x" * (number * 997) for number in range(40)}
    for name, text in texts.items():
        write(f"{safe_dir}/{name}", text)
    assert _integrity.hash_files(safe_dir, texts) == {name: entry(text) for name, text in texts.items()}


def test_pieces_of_a_file_are_hashed_at_the_same_time(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def meet(path: str, offset: int, size: int, local: object, mapped: bool) -> bytes:
        both.wait(timeout=300)
        return b""

    write(f"{safe_dir}/pages-1.img", "")
    os.truncate(f"{safe_dir}/pages-1.img", 2 * _integrity.PIECE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(_integrity, "_hash", meet)
    assert "sha256_pieces" in _integrity.hash_files(safe_dir, ["pages-1.img"])["pages-1.img"]


# A process of its own, since the most memory is counted from the start of a program, and as many threads as there may be.
VERIFY = """
import os, sys
os.sched_getaffinity = lambda pid: set(range(64))
from ansible_collections.stasis.lxc.plugins.module_utils import _integrity, _manifest

def most():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

directory = sys.argv[1]
with open(directory + "/manifest.json") as stream:
    about = _manifest.parse(stream.read(), "manifest.json")
_integrity.hash_files(directory, ["small.img"])
before = most()
found = _integrity.faults(directory, about, "full")
print(most() - before, found)
"""


def test_memory_to_verify_does_not_grow_with_the_file(safe_dir: str) -> None:
    pieces = 32
    piece = hashlib.sha256(bytes(_integrity.PIECE)).digest()
    large = {"size": pieces * _integrity.PIECE, "sha256_pieces": hashlib.sha256(piece * pieces).hexdigest()}
    about = manifest(files={"pages-1.img": large, "small.img": entry("x")}, size=large["size"] + 1)
    write(f"{safe_dir}/manifest.json", _manifest.dump(about))
    write(f"{safe_dir}/small.img", "x")
    write(f"{safe_dir}/pages-1.img", "")
    os.truncate(f"{safe_dir}/pages-1.img", large["size"])
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, safe_dir],
        env={**os.environ, "PYTHONPATH": str(Path(_integrity.__file__).parents[5])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kibibytes, faults_found = done.stdout.split(maxsplit=1)
    assert faults_found.strip() == "[]"
    # A buffer of 1 MiB and a stack for each of eight threads. One piece of 16 MiB would already be too much.
    assert int(kibibytes) < 12 << 10, f"{kibibytes} KiB more for 512 MiB"


def test_file_that_grows_while_it_is_hashed_is_another(safe_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    about = sealed(safe_dir)
    lstat = os.lstat

    def grow(path: str) -> os.stat_result:
        status = lstat(path)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("more")
        return status

    monkeypatch.setattr(_integrity, "_size", lambda path: grow(path).st_size)
    assert "core-1.img has another content" in faults(safe_dir, about, content=True)[0]


@pytest.mark.parametrize("name", ["pages-1.img", "consumed", "manifest.json"])
@pytest.mark.parametrize("level", ["full", "size", "none"])
def test_second_name_of_a_file_is_a_fault(safe_dir: str, tmp_path: t.Any, name: str, level: str) -> None:
    os.mkdir(f"{safe_dir}/image")
    about = sealed(f"{safe_dir}/image")
    write(f"{safe_dir}/image/consumed", "")
    os.link(f"{safe_dir}/image/{name}", f"{safe_dir}/other")
    assert _integrity.faults(f"{safe_dir}/image", about, level) == [
        f"{name} has 2 names: somebody holds it under another one."
    ]


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
@pytest.mark.parametrize("name", ["pages-1.img", "consumed", "manifest.sig"])
@pytest.mark.parametrize("level", ["full", "size", "none"])
def test_special_file_is_a_fault_and_is_never_opened(safe_dir: str, kind: str, name: str, level: str) -> None:
    about = sealed(safe_dir)
    path = f"{safe_dir}/{name}"
    if os.path.exists(path):
        os.unlink(path)
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "device":
        os.mknod(path, 0o020600, os.makedev(1, 8))
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
        os.chmod(path, 0o600)
    assert _integrity.faults(safe_dir, about, level) == [f"{name} is not a regular file."]


@pytest.mark.parametrize(("mode", "owner"), [(0o770, 0), (0o707, 0), (0o700, 65534)])
def test_directory_that_others_can_write_is_a_fault(safe_dir: str, mode: int, owner: int) -> None:
    about = sealed(safe_dir)
    os.chmod(safe_dir, mode)
    os.chown(safe_dir, owner, 0)
    assert faults(safe_dir, about) == [f"{safe_dir} could have been changed by somebody other than root."]


def test_nothing_is_compared_with_the_manifest_at_level_none(safe_dir: str) -> None:
    about = sealed(safe_dir)
    os.unlink(f"{safe_dir}/pages-1.img")
    write(f"{safe_dir}/core-1.img", "other")
    write(f"{safe_dir}/more.img", "")
    assert _integrity.faults(safe_dir, about, "none") == []


def test_name_that_would_upset_a_terminal_is_shown_without_doing_so(safe_dir: str) -> None:
    about = sealed(safe_dir)
    write(f"{safe_dir}/x\x1b[2J\ny", "")
    [fault] = faults(safe_dir, about)
    assert fault.isprintable()


def incremental(top: str, link: str = "../web0", **changes: t.Any) -> _manifest.Manifest:
    """`web1`, made on `web0` beside it; returns the manifest of web1."""
    os.makedirs(f"{top}/web0", exist_ok=True)
    os.makedirs(f"{top}/web1", exist_ok=True)
    sealed(f"{top}/web0")
    with open(f"{top}/web0/manifest.json", "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    os.symlink(link, f"{top}/web1/parent")
    return sealed(f"{top}/web1", parent={"link": link, "sha256": digest, **changes})


def test_parent_that_is_recorded_is_followed_and_verified(safe_dir: str) -> None:
    about = incremental(safe_dir)
    assert faults(f"{safe_dir}/web1", about, content=True) == []
    write(f"{safe_dir}/web0/pages-1.img", "MEMORY")
    assert faults(f"{safe_dir}/web1", about) == []
    assert faults(f"{safe_dir}/web1", about, content=True) == [
        "parent (../web0): pages-1.img has another content than the manifest says."
    ]


@pytest.mark.parametrize(
    "link",
    [
        "..",
        "../..",
        "../../etc",
        "/etc",
        "web0",
        "../web0/",
        "../web0/../../etc",
        ".",
        "../.",
        "../web1",
        "../none",
        "../x\n",
        "../link",
    ],
    ids=repr,
)
def test_parent_that_leads_anywhere_but_to_a_sibling_is_a_fault(safe_dir: str, link: str) -> None:
    os.symlink("web0", f"{safe_dir}/link")
    about = incremental(safe_dir, link)
    assert faults(f"{safe_dir}/web1", about) == [f"parent leads to {link!r}, which is no checkpoint beside this one."]


def test_parent_that_is_not_recorded_or_another_or_missing_is_a_fault(safe_dir: str) -> None:
    about = incremental(safe_dir)
    assert faults(f"{safe_dir}/web1", {**about, "parent": None}) == ["parent is not in the manifest."]
    os.unlink(f"{safe_dir}/web1/parent")
    assert faults(f"{safe_dir}/web1", about) == ["parent is missing."]
    os.symlink("../web2", f"{safe_dir}/web1/parent")
    assert faults(f"{safe_dir}/web1", about) == ["parent leads to '../web2', the manifest says '../web0'."]
    os.unlink(f"{safe_dir}/web1/parent")
    write(f"{safe_dir}/web1/parent", "")
    assert faults(f"{safe_dir}/web1", about) == ["parent is not a symbolic link."]


def test_parent_that_was_replaced_by_another_checkpoint_is_a_fault(safe_dir: str) -> None:
    about = incremental(safe_dir)
    sealed(f"{safe_dir}/web0", generation=9)
    assert faults(f"{safe_dir}/web1", about) == ["parent (../web0) is not the checkpoint that this one was made on."]


def test_entry_of_the_parent_comes_from_its_link(safe_dir: str) -> None:
    about = incremental(safe_dir)
    assert _integrity.describe_parent(f"{safe_dir}/web1") == about["parent"]
    os.unlink(f"{safe_dir}/web0/manifest.json")
    with pytest.raises(StasisError, match="no checkpoint beside this one"):
        _integrity.describe_parent(f"{safe_dir}/web1")


def test_only_regular_files_of_bounded_size_are_read(safe_dir: str) -> None:
    write(f"{safe_dir}/a", "text")
    os.symlink("a", f"{safe_dir}/link")
    os.mkfifo(f"{safe_dir}/fifo")
    assert _integrity.read_regular(f"{safe_dir}/a") == b"text"
    assert _integrity.read_regular(f"{safe_dir}/a", limit=3) is None
    for name in ("link", "fifo", "missing", "."):
        assert _integrity.read_regular(f"{safe_dir}/{name}") is None

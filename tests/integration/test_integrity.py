# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint that is not what it was, or that cannot run here, is refused before CRIU starts."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import run
from corpus import PACKAGE, Corpus


@pytest.fixture(scope="module")
def corpus(shared_lxc: Factory) -> t.Iterator[Corpus]:
    checkpoint = shared_lxc.start("counter 7000", "files")
    checkpoint.stopped()
    pristine = checkpoint.directory.parent.parent / "pristine"
    shutil.copytree(checkpoint.directory, pristine)
    top = str(checkpoint.module.collections)
    sys.path.insert(0, top)
    yield Corpus(
        checkpoint,
        pristine,
        importlib.import_module(f"{PACKAGE}._checkpoint").run,
        importlib.import_module(f"{PACKAGE}._errors").StasisError,
        importlib.import_module(f"{PACKAGE}._manifest").dump,
    )
    sys.path.remove(top)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    position = hashlib.sha256(path.name.encode()).digest()[0] * len(content) // 256
    content[position] ^= 1 << (position % 8)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with open(path, "ab") as stream:
        stream.write(b"\0")


def remove(path: Path) -> None:
    path.unlink()


def swap(path: Path) -> str:
    content = path.read_bytes()
    others = sorted(one for one in path.parent.iterdir() if one != path and one.read_bytes() != content)
    # The one that is nearest in size: equal sizes are the hard case.
    other = min(others, key=lambda one: abs(one.stat().st_size - len(content)))
    swapped = path.with_name("swapped")
    path.rename(swapped)
    other.rename(path)
    swapped.rename(other)
    return other.name


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def link(path: Path) -> None:
    moved = path.parent.parent / "moved"
    path.rename(moved)
    path.symlink_to(moved)


def second_name(path: Path) -> None:
    other = path.parent.parent / "second-name"
    other.unlink(missing_ok=True)
    os.link(path, other)


def stranger(path: Path) -> None:
    os.chown(path, 65534, -1)


def writable(path: Path) -> None:
    path.chmod(0o620)


@pytest.mark.parametrize(
    "spoil", [flip, truncate, empty, append, remove, swap, fifo, link, second_name, stranger, writable]
)
def test_every_file_of_the_image_is_guarded(corpus: Corpus, spoil: t.Callable[[Path], str | None]) -> None:
    spoilt = 0
    for name in corpus.names:
        if spoil in (flip, truncate, empty) and not (corpus.pristine / name).stat().st_size:
            continue
        path = corpus.fresh() / name
        other = spoil(path)
        message = corpus.refusal()
        assert message, f"{spoil.__name__} of {name} was not refused"
        # Without its manifest it is no checkpoint at all.
        known = {one.replace("manifest.json", "manifest") for one in (name, other or name)}
        assert any(one in message for one in known), f"{spoil.__name__} of {name}: {message}"
        spoilt += 1
    assert spoilt > 50
    (corpus.directory.parent / "moved").unlink(missing_ok=True)
    (corpus.directory.parent / "second-name").unlink(missing_ok=True)


ADDED: dict[str, t.Callable[[Path], object]] = {
    "extra.img": lambda path: path.write_bytes(b""),
    "pages-9.img": lambda path: path.write_bytes(b"x" * 4096),
    "parent": lambda path: path.symlink_to("../other"),
    "link.img": lambda path: path.symlink_to("pages-1.img"),
    "hard.img": lambda path: os.link(path.with_name("pages-1.img"), path),
    "fifo.img": os.mkfifo,
    "folder": os.mkdir,
    "consumed": lambda path: path.symlink_to("/etc/hostname"),
    "draft.json": os.mkfifo,
}


@pytest.mark.parametrize("name", list(ADDED))
def test_nothing_may_be_added(corpus: Corpus, name: str) -> None:
    ADDED[name](corpus.fresh() / name)
    message = corpus.refusal()
    assert name in message or "pages-1.img has 2 names" in message


EDITS: dict[str, tuple[t.Callable[[dict[str, t.Any]], object], str]] = {
    "path out": (
        lambda about: about["files"].update({"../../etc/shadow": about["files"].pop("pages-1.img")}),
        "../../etc/shadow",
    ),
    "absolute path": (
        lambda about: about["files"].update({"/etc/shadow": about["files"].pop("pages-1.img")}),
        "/etc/shadow",
    ),
    "control characters": (
        lambda about: about["files"].update({"a\x1b[2Jb": about["files"].pop("pages-1.img")}),
        "is not the name of a file",
    ),
    "unknown format": (lambda about: about.update(format=2), "has format '2'"),
    "other architecture": (lambda about: about.update(architecture="s390x"), "made on s390x"),
    "no architecture": (lambda about: about.pop("architecture"), "no valid 'architecture'"),
    "number for a text": (lambda about: about.update(container=5), "no valid 'container'"),
    "text for a number": (
        lambda about: about["files"]["pages-1.img"].update(size="1"),
        "no valid entry for pages-1.img",
    ),
    "file forgotten": (
        lambda about: (
            about.update(size=about["size"] - about["files"]["pages-1.img"]["size"]),
            about["files"].pop("pages-1.img"),
        ),
        "pages-1.img is not in the manifest",
    ),
    "other hash": (
        lambda about: about["files"]["pages-1.img"].update(sha256="0" * 64),
        "pages-1.img has another content",
    ),
    "another container": (lambda about: about.update(container="somebody"), "is a checkpoint of somebody"),
    "newer CRIU": (lambda about: about["versions"].update(criu="99.1"), "made by CRIU 99.1"),
    "unit to enable": (lambda about: about.update(autostart_units=["evil.service"]), "no valid 'autostart_units'"),
    "nonsense for a NIC": (lambda about: about.update(nics=[{"kind": "veth", "index": "x"}]), "no valid 'nics'"),
    "parent out": (lambda about: about.update(parent={"link": "../../..", "sha256": "0" * 64}), "parent"),
}


@pytest.mark.parametrize("name", list(EDITS))
def test_manifest_is_not_believed_blindly(corpus: Corpus, name: str) -> None:
    change, words = EDITS[name]
    corpus.fresh()
    corpus.edit(change)
    assert words in corpus.refusal()


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_directory_that_others_can_write(corpus: Corpus, mode: int) -> None:
    corpus.fresh().chmod(mode)
    assert str(corpus.directory) in corpus.refusal()


def test_module_says_the_same_in_check_mode_and_for_real(corpus: Corpus) -> None:
    flip(corpus.fresh() / "pages-1.img")
    answer = corpus.checkpoint.refused("restored", "pages-1.img has another content than the manifest says")
    assert answer["log_path"] == ""
    answer = corpus.checkpoint.module.run(**corpus.checkpoint.options("restored", verify="wrong"))
    assert "verify" in answer["msg"]


def test_size_does_not_read_the_content(corpus: Corpus) -> None:
    path = corpus.fresh() / "dump.log"
    flip(path)
    assert "dump.log" in corpus.refusal()
    assert not corpus.checkpoint.predicted("restored", verify="size").get("failed")
    truncate(path)
    assert "dump.log" in corpus.refusal(verify="size")
    assert not corpus.checkpoint.predicted("restored", verify="none").get("failed")
    writable(path)
    assert "dump.log" in corpus.refusal(verify="none")


#
# Compatibility
#


def test_what_may_matter_is_a_warning(corpus: Corpus) -> None:
    container = corpus.checkpoint.container
    corpus.fresh()
    corpus.edit(lambda about: about["versions"].update(kernel="99.1", lxc="99.0"))
    run("ip", "address", "add", f"{container.address}/32", "dev", "lo")
    try:
        answer = corpus.checkpoint.predicted("restored")
    finally:
        run("ip", "address", "del", f"{container.address}/32", "dev", "lo")
    warnings = " ".join(answer["warnings"])
    for words in ("99.1", "LXC", container.address):
        assert words in warnings


def test_older_criu_is_refused_unless_forced(corpus: Corpus) -> None:
    corpus.fresh()
    corpus.edit(lambda about: about["versions"].update(criu="99.1"))
    corpus.checkpoint.refused("restored", "CRIU 99.1", "older")
    answer = corpus.checkpoint.predicted("restored", force=True)
    assert "99.1" in " ".join(answer["warnings"])


def test_host_with_other_cgroups_is_refused_unless_forced(corpus: Corpus) -> None:
    corpus.fresh()
    another = {"unified": False, "controllers": ["nosuch"]}
    corpus.edit(lambda about: about["cgroups"].append({**about["cgroups"][0], **another}))
    corpus.checkpoint.refused("restored", "cgroup v1 with nosuch", "manage_cgroups: ignore")
    assert "nosuch" in " ".join(corpus.checkpoint.predicted("restored", force=True)["warnings"])
    assert "nosuch" in " ".join(corpus.checkpoint.predicted("restored", manage_cgroups="ignore")["warnings"])


def test_host_with_another_security_module_is_refused(corpus: Corpus) -> None:
    corpus.fresh()
    kind = "selinux" if Path("/sys/kernel/security/apparmor").is_dir() else "apparmor"
    corpus.edit(lambda about: about.update(lsm={"kind": kind, "label": "web"}))
    corpus.checkpoint.refused("restored", f"confined by {kind} (web)", f"on a host with {kind}")


def test_cpu_that_lacks_something_is_refused(corpus: Corpus) -> None:
    path = corpus.fresh() / "cpuinfo.img"
    content = path.read_bytes()
    # The last field, 10, is the size of the FPU's registers.
    at = content.rindex(b"\x50") + 1
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    path.write_bytes(changed)

    def another_boot(about: dict[str, t.Any]) -> None:
        about["init"]["boot_id"] = "another"
        about["files"]["cpuinfo.img"]["sha256"] = hashlib.sha256(changed).hexdigest()

    corpus.edit(another_boot)
    answer = corpus.checkpoint.refused("restored", "This CPU does not suit", "size mismatch")
    assert answer["log_path"] == ""


def test_same_cpu_on_another_boot_is_taken(corpus: Corpus) -> None:
    corpus.fresh()
    corpus.edit(lambda about: about["init"].update(boot_id="another"))
    assert not corpus.checkpoint.predicted("restored").get("failed")


def test_untouched_image_is_restored_and_the_corpus_was_good(corpus: Corpus) -> None:
    corpus.fresh()
    corpus.checkpoint.restored()
    corpus.checkpoint.container.assert_counts()
    assert corpus.checkpoint.container.ask("files") == "ok"
    corpus.checkpoint.container.stop()


def test_file_that_criu_would_refuse_is_named_before_it_runs(lxc: Factory) -> None:
    checkpoint = lxc.start("counter 7000", "files")
    checkpoint.stopped()
    container = checkpoint.container
    program = container.root / "bin/workload"
    status = program.stat()
    whole = program.read_bytes()

    program.write_bytes(whole + b"\0")
    checkpoint.refused("restored", f"/bin/workload has {len(whole) + 1} bytes, and had {len(whole)}", allow_stale=True)
    program.write_bytes(whole)
    program.chmod(0o700)
    checkpoint.refused("restored", "/bin/workload has the mode 100700", allow_stale=True)
    program.chmod(0o755)
    answer = checkpoint.predicted("restored", allow_stale=True)
    assert "/bin/workload" in " ".join(answer["warnings"])
    os.utime(program, ns=(status.st_atime_ns, status.st_mtime_ns))

    program.rename(program.with_name("kept"))
    shutil.copy2(program.with_name("kept"), program)
    answer = checkpoint.predicted("restored", allow_stale=True)
    assert "of the same size and mode: /bin/workload" in " ".join(answer["warnings"])
    program.with_name("kept").rename(program)

    [remapped] = container.root.glob("tmp/files/link_remap.*")
    remapped.rename(remapped.with_name("away"))
    checkpoint.refused("restored", f"/tmp/files/{remapped.name} is not there", allow_stale=True)
    remapped.with_name("away").rename(remapped)

    assert not checkpoint.restored(allow_stale=True).get("warnings")
    container.assert_counts()

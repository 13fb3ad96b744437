# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirror a checkout's files into another folder: collection_tree.py CHECKOUT COPY.

Files that did not change are left alone and the others replaced by renames, so that a run which
reads the copy at the same time never meets half a file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NEVER = {".git", ".work", "__pycache__"}


def wanted_files(checkout: Path) -> list[str]:
    if (checkout / ".git").exists():
        # An unreadable owner must not turn into an empty list: git's own error is the message.
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={checkout}", "ls-files", "-coz", "--exclude-standard"],
            cwd=checkout,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        names = sorted({os.fsdecode(name) for name in listed.split(b"\0") if name})
    else:
        names = []
        for folder, folders, files in os.walk(checkout):
            folders[:] = [name for name in folders if name not in NEVER]
            names += [os.path.relpath(os.path.join(folder, name), checkout) for name in files]
    return [name for name in names if os.path.lexists(checkout / name)]


def same(source: Path, target: Path) -> bool:
    if not os.path.lexists(target) or source.is_symlink() != target.is_symlink():
        return False
    if source.is_symlink():
        return os.readlink(source) == os.readlink(target)
    here, there = source.stat(), target.stat()
    return (here.st_size, here.st_mtime_ns, here.st_mode) == (
        there.st_size,
        there.st_mtime_ns,
        there.st_mode,
    )


def copy(source: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    for parent in reversed(target.parents):
        if os.path.lexists(parent) and not parent.is_dir():
            parent.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    shutil.copy2(source, partial, follow_symlinks=False)
    os.replace(partial, target)


def remove(tree: Path, name: str) -> None:
    """Remove a copied file, and the directories that are empty without it."""
    path = tree / name
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == tree or not parent.is_dir() or any(parent.iterdir()):
            return
        parent.rmdir()


def main() -> None:
    checkout, tree = Path(sys.argv[1]), Path(sys.argv[2])
    names = wanted_files(checkout)
    if not names:
        sys.exit(f"collection-tree: no files were found in {checkout}\ncollection-tree: call it in a checkout")
    for name in names:
        source, target = checkout / name, tree / name
        if not same(source, target):
            try:
                copy(source, target)
            except FileNotFoundError:
                # Removed by its editor since it was listed.
                continue
    # What the tools write into the copy while they run is not in this list, and stays.
    record = tree.parents[2] / "tree.files"
    before = record.read_text(encoding="utf-8", errors="surrogateescape").split("\0") if record.exists() else []
    for name in set(before) - set(names) - {""}:
        remove(tree, name)
    record.write_text("\0".join(names), encoding="utf-8", errors="surrogateescape")
    if not (tree / ".git").exists():
        # Else ansible-test walks up to the checkout's repository, to which the copy is an ignored
        # folder, and skips everything.
        subprocess.run(["git", "init", "--quiet", str(tree)], check=True)


if __name__ == "__main__":
    main()

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real image and copies of it to be spoilt, and what the module answers to each, in this process: many are asked."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import typing as t
from dataclasses import dataclass
from pathlib import Path

from module import Checkpoint, listing, logs

PACKAGE = "ansible_collections.stasis.lxc.plugins.module_utils"


@dataclass
class Corpus:
    """A real image of a stopped container, and copies of it to be spoilt."""

    checkpoint: Checkpoint
    pristine: Path
    inner: t.Callable[..., t.Any]
    error: type[Exception]
    dump: t.Callable[[dict[str, t.Any]], str]

    @property
    def directory(self) -> Path:
        return self.checkpoint.directory

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.pristine.iterdir())

    def fresh(self) -> Path:
        """Put the image back as it was."""
        if os.path.lexists(self.directory):
            self.directory.chmod(0o700)
            shutil.rmtree(self.directory)
        # copytree would open a fifo; there is none in the pristine one.
        shutil.copytree(self.pristine, self.directory)
        return self.directory

    def refusal(self, **options: t.Any) -> str:
        """What state=restored answers, run for real; it must not have come as far as CRIU."""
        before = self.world()
        runner = importlib.import_module(f"{PACKAGE}._runner").SystemRunner()
        spec = importlib.import_module(f"{PACKAGE}._argspec").argument_spec()
        params = {**dict.fromkeys(spec), **self.checkpoint.options("restored", **options)}
        messages = []
        for check_mode in (True, False):
            try:
                self.inner(params, runner, check_mode=check_mode)
            except self.error as exc:
                messages.append(str(t.cast(t.Any, exc).message))
            else:
                messages.append("")
            assert self.world() == before, f"something was done: {messages}"
        assert messages[0] == messages[1], "check mode foresaw another end"
        assert messages[0].isprintable()
        return messages[0]

    def world(self) -> dict[str, t.Any]:
        # A restore begins with a directory for its logs: where there is none, CRIU has not been called.
        return {
            "state": self.checkpoint.container.state,
            "image": listing(self.directory),
            "logs": {name: sorted(listing(path)) for name, path in logs().items()},
        }

    def edit(self, change: t.Callable[[dict[str, t.Any]], object], *, marked: bool = True) -> None:
        """Change the manifest, checksum and all, as somebody would who knows how it is made. marked: as if this host had
        made it so, which only root of this host can."""
        path = self.directory / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(self.dump(manifest))
        if marked:
            mark = importlib.import_module(f"{PACKAGE}._origin").mark(path.read_bytes())
            path.with_name("manifest.host").write_bytes(mark)

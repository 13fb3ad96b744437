# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount namespace of a process's own is warned of where CRIU cannot restore it, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Factory
from module import Checkpoint
from preflight import Pre


@pytest.fixture
def pre(lxc: Factory, trouble: Path) -> Pre:
    return Pre(lxc, trouble)


def start(pre: Pre, *what: str) -> Checkpoint:
    return pre.lxc.checkpoint(pre.start(*what))


@pytest.mark.parametrize("what", [("namespace", "mnt"), ("namespace-roots", "private")], ids=["copy", "private"])
def test_namespaces_that_come_back_are_not_warned_of(pre: Pre, what: tuple[str, ...]) -> None:
    checkpoint = start(pre, *what)
    answer = checkpoint.checkpointed(stop=True)
    assert "nested-mount-namespace" not in {one["id"] for one in answer["findings"]}
    assert not answer["warnings"]
    checkpoint.restored()


def test_namespaces_that_do_not_come_back_are_warned_of(pre: Pre) -> None:
    checkpoint = start(pre, "namespace-roots")
    life = checkpoint.container.life()
    unproven = checkpoint.module.run(**checkpoint.options("checkpointed", stop=True))
    assert unproven["proof"]["verdict"] == "refused"
    assert checkpoint.container.life() == life
    answer = checkpoint.checkpointed(stop=True, prove=False)
    assert [one["what"].split("whose ")[1].split()[0] for one in answer["findings"]][:1] == ["/root"]
    assert any("nested-mount-namespace" in line for line in answer["warnings"])
    failed = checkpoint.module.run(**checkpoint.options("restored"))
    assert failed.get("failed")
    assert "mnt-v2" in " ".join(failed["log_errors"])
    assert (failed["state"], failed["container_state"]) == ("sealed", "stopped")

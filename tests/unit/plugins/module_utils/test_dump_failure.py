# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of the container after a dump that failed: how it is once that was put right."""

from __future__ import annotations

import os
import typing as t

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _container, _dump, _mend, _nics
from ansible_collections.stasis.lxc.plugins.module_utils._container import Process
from ansible_collections.stasis.lxc.tests.unit.support.make import container
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import StrictRunner

PUT_BACK = "put the network of web1 back: eth0: the bridge of v1 is none, not br0."
HALTED = "left counter (pid 50) of web1 alone, which stands still: look why, or send it SIGCONT"


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """A container whose init is this process, as LXC and ip tell it."""
    own = _container.process(os.getpid())
    assert own is not None
    monkeypatch.setattr(_container, "query", lambda *_arguments: ("RUNNING", own.pid))
    monkeypatch.setattr(_nics, "attached", lambda *_arguments: [])
    return container(init=own)


@pytest.mark.parametrize(
    ("mended", "fate", "as_before"),
    [
        ([], "The container runs on as before.", True),
        ([PUT_BACK], "The container runs on as before.", True),
        ([HALTED], f"The container is RUNNING, but not as before. {HALTED}.", False),
        (
            [f"{_mend.NOT_DONE}: {PUT_BACK}: no"],
            f"The container is RUNNING, but not as before. {_mend.NOT_DONE}: {PUT_BACK}: no.",
            False,
        ),
    ],
)
def test_fate_is_that_after_the_repair(running: t.Any, mended: list[str], fate: str, as_before: bool) -> None:
    assert _dump._fate(StrictRunner(), running, mended) == (fate, as_before)


def test_what_the_network_lacks_after_the_repair_is_told(running: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nics, "attached", lambda *_arguments: ["eth0: it is gone."])
    assert _dump._fate(StrictRunner(), running, []) == (
        "The container is RUNNING, but not as before. eth0: it is gone.",
        False,
    )


def test_init_that_is_gone_is_told() -> None:
    gone = container(init=Process(2**22 + 1, 1))
    assert _dump._fate(StrictRunner(), gone, []) == ("The container's init is gone.", False)

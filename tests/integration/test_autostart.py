# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that LXC or systemd would start by themselves."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import Container

AUTO = ["lxc.start.auto = 1"]


def starts_by_itself(container: Container) -> bool:
    """What lxc-autostart would do."""
    listed = container.lxc("info", "-c", "lxc.start.auto").stdout
    return listed.split("=")[1].strip() == "1"


def test_autostart_is_refused(lxc: Factory) -> None:
    checkpoint = lxc.start(config=AUTO)
    checkpoint.refused("checkpointed", "lxc.start.auto", "autostart", stop=True)
    checkpoint.container.assert_counts()


def test_autostart_does_not_matter_without_stop(lxc: Factory) -> None:
    checkpoint = lxc.start(config=AUTO)
    checkpoint.checkpointed()


def test_autostart_can_be_ignored_with_a_warning(lxc: Factory) -> None:
    checkpoint = lxc.start(config=AUTO)
    answer = checkpoint.checkpointed(stop=True, autostart="ignore")
    assert any("lxc.start.auto" in warning for warning in answer["warnings"])
    assert starts_by_itself(checkpoint.container)
    checkpoint.restored()


def test_inhibited_autostart_is_undone_at_the_restore(lxc: Factory) -> None:
    checkpoint = lxc.start(config=AUTO)
    before = checkpoint.container.config.read_text()
    checkpoint.checkpointed(stop=True, autostart="inhibit")
    assert not starts_by_itself(checkpoint.container)
    # Its own change of the configuration must not make the checkpoint stale.
    assert checkpoint.checkpointed(stop=True, autostart="inhibit")["action"] == "none"
    checkpoint.restored()
    assert checkpoint.container.config.read_text() == before
    checkpoint.container.assert_counts()


def test_inhibited_autostart_is_undone_where_the_dump_fails(lxc: Factory) -> None:
    checkpoint = lxc.start(config=AUTO)
    before = checkpoint.container.config.read_text()
    bad = lxc.script("bad", 'test "$CRTOOLS_SCRIPT_ACTION" != post-dump')
    answer = checkpoint.module.run(
        **checkpoint.options("checkpointed", stop=True, autostart="inhibit", action_scripts=[bad])
    )
    assert answer.get("failed")
    assert checkpoint.container.config.read_text() == before


@pytest.fixture
def unit(lxc: Factory) -> t.Iterator[tuple[Container, Path]]:
    """A container with an enabled unit lxc@NAME, without a systemd that runs."""
    container = lxc.create()
    template = Path("/lib/systemd/system/lxc@.service")
    assert template.exists(), "Debian's lxc has this unit"
    wants = Path("/etc/systemd/system/multi-user.target.wants")
    link = wants / f"lxc@{container.name}.service"
    made = not wants.exists()
    wants.mkdir(parents=True, exist_ok=True)
    link.symlink_to(template)
    container.start()
    yield container, link
    link.unlink(missing_ok=True)
    if made and not any(wants.iterdir()):
        wants.rmdir()


def test_enabled_unit_is_refused(lxc: Factory, unit: tuple[Container, Path]) -> None:
    container, _link = unit
    lxc.checkpoint(container).refused("checkpointed", f"lxc@{container.name}.service", stop=True)


def test_inhibited_unit_is_enabled_again_at_the_restore(lxc: Factory, unit: tuple[Container, Path]) -> None:
    container, link = unit
    checkpoint = lxc.checkpoint(container)
    checkpoint.checkpointed(stop=True, autostart="inhibit")
    assert not link.exists()
    checkpoint.restored()
    assert link.exists()

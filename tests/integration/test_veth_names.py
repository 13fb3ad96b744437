# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has the name of a container's veth when it is to be restored."""

from __future__ import annotations

from pathlib import Path

from client import Talker
from conftest import Factory
from containers import PORT, PREFIX, remove_link, run
from module import Checkpoint


def test_name_that_is_taken_is_refused_before_anything_is_restored(lxc: Factory) -> None:
    checkpoint = lxc.start()
    name = checkpoint.container.veth()
    checkpoint.stopped()
    run("ip", "link", "add", name, "type", "bridge")
    lxc.closing.append(lambda: remove_link(name))
    checkpoint.refused("restored", name)
    checkpoint.restored(nics=[{"name": "eth0", "veth": f"{PREFIX}v3"}])
    checkpoint.container.assert_counts()


def lost_peer(lxc: Factory) -> tuple[Checkpoint, str]:
    """A stopped container that was restored, whose last connection waits for an answer that will not come; its veth."""
    checkpoint = lxc.start()
    talker = Talker(checkpoint.container.address, PORT)
    lxc.closing.append(talker.close)
    assert talker.ask()[1] == 1
    checkpoint.stopped()
    checkpoint.resumed()
    name = checkpoint.container.veth()
    lxc.closing.append(lambda: remove_link(name))
    run("ip", "link", "set", "dev", name, "nomaster", "down")
    checkpoint.container.stop()
    return checkpoint, name


def test_veth_of_a_connection_that_outlives_its_container_is_in_nobodys_way(lxc: Factory) -> None:
    checkpoint, name = lost_peer(lxc)
    assert Path(f"/sys/class/net/{name}").exists(), "there is nothing in the way"
    checkpoint.restored(allow_stale=True)
    assert checkpoint.container.veth() == name
    checkpoint.container.assert_counts()


def test_veth_of_a_network_namespace_that_somebody_holds_stays(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    checkpoint.resumed()
    name = checkpoint.container.veth()
    lxc.closing.append(lambda: remove_link(name))
    with open(f"/proc/{checkpoint.container.init_pid}/ns/net"):
        checkpoint.container.stop()
        checkpoint.refused("restored", name, allow_stale=True)
        assert Path(f"/sys/class/net/{name}").exists()
    checkpoint.restored(allow_stale=True)
    checkpoint.container.assert_counts()

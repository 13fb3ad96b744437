# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's network devices survive as they were, on both sides."""

from __future__ import annotations

import json
import socket
import sys
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from containers import BRIDGE_PREFIX, GATEWAY, NETWORK, PREFIX, Nic, remove_link, run, until, veth
from module import Checkpoint


def link(name: str) -> dict[str, t.Any]:
    """What the kernel says of a host's interface."""
    found: list[dict[str, t.Any]] = json.loads(run("ip", "-j", "-d", "link", "show", "dev", name).stdout)
    return found[0]


def port(name: str, attribute: str) -> str:
    return Path(f"/sys/class/net/{name}/brport/{attribute}").read_text().strip()


def around(checkpoint: Checkpoint, **options: t.Any) -> None:
    """Dumped with stop, and restored."""
    checkpoint.stopped()
    checkpoint.resumed(**options)


def test_host_side_keeps_name_mac_mtu_and_bridge(lxc: Factory) -> None:
    checkpoint = lxc.start()
    name = checkpoint.container.veth()
    run("ip", "link", "set", name, "mtu", "1400")
    before = link(name)
    around(checkpoint)
    after = link(name)
    for key in ("ifname", "address", "mtu", "master"):
        assert after[key] == before[key], key
    assert checkpoint.container.veth() == name


def test_inside_keeps_name_mac_mtu_addresses_and_index(lxc: Factory) -> None:
    checkpoint = lxc.start(hwaddr="02:00:00:12:34:56", mtu="1450")

    def facts() -> list[t.Any]:
        return [
            (
                one["ifname"],
                one["ifindex"],
                one["address"],
                one["mtu"],
                sorted(a["local"] for a in one["addr_info"] if a["family"] == "inet"),
            )
            for one in checkpoint.container.links()
        ]

    before = facts()
    around(checkpoint)
    assert facts() == before


def test_lxc_knows_the_name_of_the_host_side(lxc: Factory) -> None:
    checkpoint = lxc.start()
    name = checkpoint.container.veth()
    assert checkpoint.container.info("Link") == [name]
    around(checkpoint)
    assert checkpoint.container.info("Link") == [name]


def test_mac_of_the_bridge_does_not_change(lxc: Factory) -> None:
    checkpoint = lxc.start()
    before = link(lxc.bridge.name)["address"]
    around(checkpoint)
    assert link(lxc.bridge.name)["address"] == before


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("isolated", "1"),
        ("hairpin_mode", "1"),
        ("path_cost", "77"),
        ("priority", "5"),
        ("multicast_router", "2"),
        ("learning", "0"),
    ],
)
def test_attribute_of_the_bridge_port_survives(lxc: Factory, attribute: str, value: str) -> None:
    checkpoint = lxc.start()
    where = Path(f"/sys/class/net/{checkpoint.container.veth()}/brport/{attribute}")
    where.write_text(value)
    around(checkpoint)
    assert where.read_text().strip() == value


@pytest.mark.kernel("bridge VLANs")
def test_vlans_of_the_bridge_port_survive(lxc: Factory) -> None:
    bridge = lxc.add_bridge("vlan_filtering", "1")
    checkpoint = lxc.start(bridge=bridge)
    name = checkpoint.container.veth()
    run("bridge", "vlan", "del", "dev", name, "vid", "1")
    run("bridge", "vlan", "add", "dev", name, "vid", "10", "pvid", "untagged")
    run("bridge", "vlan", "add", "dev", name, "vid", "20")

    def vlans() -> t.Any:
        return json.loads(run("bridge", "-j", "vlan", "show", "dev", name).stdout)[0]["vlans"]

    before = vlans()
    around(checkpoint)
    assert vlans() == before


def test_bridge_port_survives_a_dump_that_leaves_running(lxc: Factory) -> None:
    checkpoint = lxc.start()
    name = checkpoint.container.veth()
    Path(f"/sys/class/net/{name}/brport/isolated").write_text("1")
    before = link(name)
    checkpoint.checkpointed()
    assert port(name, "isolated") == "1"
    after = link(name)
    assert {key: after[key] for key in ("address", "mtu", "master", "ifindex")} == {
        key: before[key] for key in ("address", "mtu", "master", "ifindex")
    }


@pytest.mark.kernel("bridge VLANs")
def test_vlans_survive_a_dump_that_leaves_running(lxc: Factory) -> None:
    bridge = lxc.add_bridge("vlan_filtering", "1")
    checkpoint = lxc.start(bridge=bridge)
    name = checkpoint.container.veth()
    run("bridge", "vlan", "add", "dev", name, "vid", "20")
    before = run("bridge", "-j", "vlan", "show", "dev", name).stdout
    checkpoint.checkpointed()
    assert run("bridge", "-j", "vlan", "show", "dev", name).stdout == before


def test_two_nics_both_come_back(lxc: Factory) -> None:
    second = lxc.add_bridge()
    checkpoint = lxc.start(
        nics=[veth(lxc.bridge.name, f"{NETWORK}.240"), veth(second.name, "10.213.41.2", name="lan0")]
    )
    checkpoint.container.address = f"{NETWORK}.240"
    names = {inside: checkpoint.container.veth(inside) for inside in ("eth0", "lan0")}
    talker = lxc.talker(checkpoint.container)
    around(checkpoint)
    assert {inside: checkpoint.container.veth(inside) for inside in names} == names
    assert link(names["eth0"])["master"] == lxc.bridge.name
    assert link(names["lan0"])["master"] == second.name
    assert talker.ask()[1] == 1


def test_empty_nic_between_two_veths_leaves_a_gap(lxc: Factory) -> None:
    checkpoint = lxc.start(
        nics=[
            veth(lxc.bridge.name, f"{NETWORK}.241"),
            Nic("empty"),
            veth(lxc.bridge.name, f"{NETWORK}.242", name="eth5"),
        ]
    )
    checkpoint.container.address = f"{NETWORK}.242"
    names = {inside: checkpoint.container.veth(inside) for inside in ("eth0", "eth5")}
    talker = lxc.talker(checkpoint.container)
    for _generation in range(2):
        around(checkpoint)
        assert {inside: checkpoint.container.veth(inside) for inside in names} == names
        assert talker.ask()[1] == 1
    files = {path.name: path.read_text() for path in checkpoint.directory.glob("veth*")}
    assert files == {"veth0": names["eth0"], "veth2": names["eth5"]}


def test_container_with_only_an_empty_nic(lxc: Factory) -> None:
    checkpoint = lxc.start(nics=[Nic("empty")])
    around(checkpoint)
    checkpoint.container.assert_counts()


def test_none_nic_is_handled_or_refused_by_name(lxc: Factory) -> None:
    container = lxc.create("forker", nics=[Nic("none")])
    container.start()
    checkpoint = lxc.checkpoint(container)
    answer = checkpoint.try_to("checkpointed", stop=True)
    if answer.get("failed"):
        assert "none" in answer["msg"]
        assert container.running
    else:
        checkpoint.restored()
        assert container.running


def test_none_nic_between_two_veths_leaves_a_gap_or_is_refused_by_name(lxc: Factory) -> None:
    container = lxc.create(
        "forker", nics=[veth(lxc.bridge.name, f"{NETWORK}.243"), Nic("none"), veth(lxc.bridge.name, f"{NETWORK}.244")]
    )
    try:
        container.start()
    except AssertionError as exc:
        # liblxc: `none` shares the host's network, so it starts with that or not at all.
        assert "lxc-start" in str(exc), exc
        return
    checkpoint = lxc.checkpoint(container)
    answer = checkpoint.try_to("checkpointed", stop=True)
    assert not answer.get("failed") or "none" in answer["msg"]


def test_macvlan_is_handled_or_refused_by_name(lxc: Factory) -> None:
    parent = lxc.add_bridge()
    checkpoint = lxc.start(
        nics=[
            Nic(
                "macvlan",
                {"link": parent.name, "macvlan.mode": "bridge", "flags": "up", "ipv4.address": "10.213.42.2/24"},
            )
        ]
    )
    answer = checkpoint.try_to("checkpointed", stop=True)
    if answer.get("failed"):
        assert "macvlan" in answer["msg"]
        checkpoint.container.assert_counts()
    else:
        before = [nic for nic in answer["checkpoint"]["nics"] if nic["kind"] == "macvlan"]
        assert before
        checkpoint.restored()
        assert [one["linkinfo"]["info_kind"] for one in checkpoint.container.links()] == ["macvlan"]


def test_phys_is_handled_or_refused_by_name(lxc: Factory) -> None:
    run("ip", "link", "add", f"{BRIDGE_PREFIX}p0", "type", "veth", "peer", "name", f"{BRIDGE_PREFIX}p1")
    lxc.closing.append(lambda: remove_link(f"{BRIDGE_PREFIX}p1"))
    checkpoint = lxc.start(nics=[Nic("phys", {"link": f"{BRIDGE_PREFIX}p0", "flags": "up"})])
    answer = checkpoint.try_to("checkpointed", stop=True)
    if answer.get("failed"):
        assert "phys" in answer["msg"] or f"{BRIDGE_PREFIX}p0" in answer["msg"]
        checkpoint.container.assert_counts()
    else:
        checkpoint.restored()
        checkpoint.container.assert_counts()


def test_files_of_the_seed_are_in_the_image(lxc: Factory) -> None:
    checkpoint = lxc.start()
    name = checkpoint.container.veth()
    checkpoint.stopped()
    found = {
        path.name: path.read_text()
        for path in checkpoint.directory.iterdir()
        if path.name in ("eth0", "veth0", "bridge0")
    }
    assert found == {"eth0": "eth0", "veth0": name, "bridge0": lxc.bridge.name}


def test_nic_that_was_moved_to_another_bridge_stays_there(lxc: Factory) -> None:
    other = lxc.add_bridge()
    checkpoint = lxc.start()
    name = checkpoint.container.veth()
    run("ip", "link", "set", name, "master", other.name)
    around(checkpoint)
    assert link(name)["master"] == other.name


def test_restore_to_another_bridge_and_under_another_name(lxc: Factory) -> None:
    other = lxc.add_bridge()
    checkpoint = lxc.start()
    old = checkpoint.container.veth()
    checkpoint.stopped()
    checkpoint.restored(nics=[{"name": "eth0", "bridge": other.name, "veth": f"{PREFIX}v1"}])
    assert other.ports() == {f"{PREFIX}v1"}
    assert checkpoint.container.veth() == f"{PREFIX}v1"
    assert old not in lxc.bridge.ports()
    assert checkpoint.container.info("Link") == [f"{PREFIX}v1"]


def test_connection_survives_under_another_name_of_the_host_side(lxc: Factory) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    checkpoint.stopped()
    checkpoint.resumed(nics=[{"name": "eth0", "veth": f"{PREFIX}v2"}])
    assert talker.ask()[1] == 1
    # And the next generation keeps the new name.
    around(checkpoint)
    assert checkpoint.container.veth() == f"{PREFIX}v2"
    assert talker.ask()[1] == 1


def test_unknown_nic_is_refused(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    checkpoint.refused("restored", "eth7", nics=[{"name": "eth7", "bridge": lxc.bridge.name}])


def test_bridge_that_is_missing_is_refused_before_anything_is_restored(lxc: Factory) -> None:
    bridge = lxc.add_bridge()
    checkpoint = lxc.start(bridge=bridge)
    checkpoint.stopped()
    bridge.remove()
    checkpoint.refused("restored", bridge.name, "nics")
    checkpoint.restored(nics=[{"name": "eth0", "bridge": lxc.bridge.name}])
    checkpoint.container.assert_counts()


@pytest.mark.parametrize("veth_name", ["much-too-long-a-name", "a/b", "sp ace", "."])
def test_name_that_the_kernel_would_not_take_is_refused(lxc: Factory, veth_name: str) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    checkpoint.refused("restored", "eth0", nics=[{"name": "eth0", "veth": veth_name}])


def test_veth_without_a_bridge_survives(lxc: Factory) -> None:
    checkpoint = lxc.start(nics=[Nic("veth", {"flags": "up", "ipv4.address": "10.213.43.2/24"})])
    name = checkpoint.container.veth()
    answer = checkpoint.try_to("checkpointed", stop=True)
    assert not answer.get("failed"), answer["msg"]
    checkpoint.restored()
    assert checkpoint.container.veth() == name


@pytest.mark.parametrize("lock", ["bridge", "nftables", "iptables"])
def test_every_lock_keeps_a_connection_that_sends(lxc: Factory, lock: str) -> None:
    checkpoint = lxc.start()
    listener = lxc.listener(checkpoint.container)
    listener.assert_flows()
    answer = checkpoint.stopped(network_lock=lock)
    assert answer["checkpoint"]["options"]["network_lock"] == lock
    checkpoint.resumed()
    listener.assert_flows()


@pytest.mark.parametrize("lock", ["bridge", "nftables", "iptables"])
def test_locked_network_lets_nothing_out(lxc: Factory, lock: str) -> None:
    """The kernel goes on sending for the sockets of frozen processes; what arrives then is not in the image."""
    checkpoint = lxc.start()
    container = checkpoint.container
    # Both know the other's MAC by now.
    lxc.talker(container).ask()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("0.0.0.0", 0))
        ear.setblocking(False)
        send = (
            f"nsenter --net=/proc/{container.init_pid}/ns/net {sys.executable} -I -c "
            f'\'import socket; socket.socket(2, 2).sendto(b"leak", ("{GATEWAY}", {ear.getsockname()[1]}))\''
        )
        script = lxc.script("leak", f'test "$CRTOOLS_SCRIPT_ACTION" != post-dump || {send} || :')
        checkpoint.stopped(network_lock=lock, action_scripts=[script])
        with pytest.raises(BlockingIOError):
            ear.recv(16)


def test_veths_in_bridges_get_the_lock_of_the_hook(lxc: Factory) -> None:
    checkpoint = lxc.start()
    lxc.talker(checkpoint.container).ask()
    assert checkpoint.stopped()["checkpoint"]["options"]["network_lock"] == "bridge"


def test_address_answers_at_once_after_a_restore(lxc: Factory) -> None:
    checkpoint = lxc.start()
    around(checkpoint)
    until(lambda: lxc.talker(checkpoint.container).ask(), 3)


def test_tcp_close_ends_the_connection(lxc: Factory) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    talker.ask()
    checkpoint.stopped()
    checkpoint.resumed(tcp_close=True)
    checkpoint.container.assert_counts()
    with pytest.raises((OSError, AssertionError)):
        talker.ask()


def test_connection_is_not_dumped_without_tcp_established(lxc: Factory) -> None:
    checkpoint = lxc.start()
    talker = lxc.talker(checkpoint.container)
    talker.ask()
    checkpoint.refused(
        "checkpointed", "It has a TCP connection, and tcp_established is false", stop=True, tcp_established=False
    )
    assert talker.ask()[1] == 1
    options = checkpoint.options("checkpointed", stop=True, tcp_established=False, preflight="warn")
    answer = checkpoint.module.run(**options)
    assert answer.get("failed")
    assert answer["diagnoses"][0]["id"] == "tcp_connected"
    assert talker.ask()[1] == 1
    assert checkpoint.beside() == set()

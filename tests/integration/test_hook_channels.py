# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hook could not do in a restore that went well is said, and put back where it can be."""

from __future__ import annotations

from conftest import Factory
from containers import NETWORK, PORT, run, veth

DAD = "/proc/sys/net/ipv6/conf/eth0/accept_dad"


def test_limit_that_cannot_be_set_again_is_a_warning_of_the_restore(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    with open(checkpoint.directory / "cgroup-tree", "a", encoding="utf-8") as stream:
        # No kernel takes that, and it is well formed.
        stream.write("dir .\nlimit memory.max nonsense\n")
    answer = checkpoint.resumed(verify="none")
    assert len([line for line in answer["warnings"] if "could not be given memory.max = nonsense" in line]) == 1
    checkpoint.container.assert_counts()


def test_settings_of_ipv6_that_the_hook_could_not_put_back_are_put_back_by_the_task(lxc: Factory) -> None:
    nic = veth(lxc.bridge.name, f"{NETWORK}.241", ipv6_address="fd00:7:7::2/64")
    checkpoint = lxc.start(f"counter {PORT}", nics=[nic])

    def value() -> str:
        return run("nsenter", f"--net=/proc/{checkpoint.container.init_pid}/ns/net", "cat", DAD).stdout.strip()

    before = value()
    assert before != "0"
    # The hook's record is away for as long as the hook looks for it.
    hide = 'cd "$STASIS_WORK" && case $CRTOOLS_SCRIPT_ACTION in pre-resume) mv ipv6 away ;; post-resume) mv away ipv6 ;; esac'
    script = lxc.script("hide", hide)
    checkpoint.stopped()
    answer = checkpoint.resumed(action_scripts=[script])
    assert any("not all settings of IPv6" in line for line in answer["warnings"]), answer["warnings"]
    assert any("put back" in line and "conf/eth0/accept_dad" in line for line in answer["warnings"]), answer["warnings"]
    assert value() == before
    assert checkpoint.resumed()["recovered"] == []

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _autostart, _lxc_config
from ansible_collections.stasis.lxc.plugins.module_utils._autostart import Autostart
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError
from ansible_collections.stasis.lxc.tests.unit.support.make import write
from ansible_collections.stasis.lxc.tests.unit.support.strict_runner import Call, StrictRunner

CONFIG = "# A comment\nlxc.uts.name = web1\nlxc.start.auto = 1\n\nlxc.rootfs.path = dir:/var/lib/lxc/web1/rootfs\n"
BLOCK = (
    "# BEGIN stasis.lxc autostart\n# Off until the container is restored from its checkpoint.\n"
    "lxc.start.auto = 0\n# END stasis.lxc autostart\n"
)
UNIT = "lxc@web1.service"
BY_CONFIG = Autostart(True, ())
BY_UNIT = Autostart(False, (UNIT,))


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()


@pytest.fixture
def config(safe_dir: str) -> str:
    return write(f"{safe_dir}/web1/config", CONFIG, 0o640)


def inhibit(autostart: Autostart, path: str, *calls: Call) -> None:
    runner = StrictRunner(*calls)
    _autostart.inhibit(autostart, path, runner)
    runner.assert_done()


def allow(path: str, units: tuple[str, ...] = (), *calls: Call) -> None:
    runner = StrictRunner(*calls)
    _autostart.allow(units, path, runner)
    runner.assert_done()


@pytest.mark.parametrize(("value", "found"), [("1", True), (" 1 ", True), ("0", False), ("", False), ("10", False)])
def test_start_auto_of_the_configuration(safe_dir: str, value: str, found: bool) -> None:
    assert _autostart.observe("web1", value, safe_dir) == Autostart(found, ())


def test_enabled_unit_of_this_container_is_found_and_no_other(safe_dir: str) -> None:
    for path in (
        "multi-user.target.wants/lxc@web1.service",
        "default.target.wants/lxc@web1.service",
        "multi-user.target.wants/lxc@web10.service",
        "multi-user.target.wants/lxc@xweb1.service",
        "multi-user.target.wants/lxc.service",
        "lxc@web1.service",
    ):
        os.makedirs(os.path.dirname(f"{safe_dir}/{path}"), exist_ok=True)
        os.symlink("/lib/systemd/system/lxc@.service", f"{safe_dir}/{path}")
    assert _autostart.observe("web1", "0", safe_dir).units == (UNIT,)


def test_host_without_systemd_has_no_units(safe_dir: str) -> None:
    assert _autostart.observe("web1", "1", f"{safe_dir}/none") == BY_CONFIG


def test_reasons_name_who_would_start_it() -> None:
    assert Autostart(False, ()).reasons == []
    assert Autostart(True, (UNIT,)).reasons == [
        "lxc.start.auto = 1 in its configuration",
        "the enabled unit lxc@web1.service",
    ]


def test_block_comes_last_because_lxc_takes_the_last_value(config: str) -> None:
    inhibit(BY_CONFIG, config)
    assert read(config) == CONFIG + BLOCK


def test_block_is_written_once(config: str) -> None:
    inhibit(BY_CONFIG, config)
    before = os.stat(config)
    inhibit(BY_CONFIG, config)
    assert read(config) == CONFIG + BLOCK
    assert os.stat(config).st_ino == before.st_ino, "a file that is right must not be written again"


def test_block_is_taken_back_exactly(config: str) -> None:
    inhibit(BY_CONFIG, config)
    allow(config)
    assert read(config) == CONFIG


def test_taking_back_leaves_a_configuration_without_block_untouched(config: str) -> None:
    before = os.stat(config)
    allow(config)
    assert (read(config), os.stat(config).st_ino) == (CONFIG, before.st_ino)


def test_what_was_added_behind_the_block_stays(config: str) -> None:
    inhibit(BY_CONFIG, config)
    with open(config, "a", encoding="utf-8") as stream:
        stream.write("lxc.group = onboot\n")
    allow(config)
    assert read(config) == CONFIG + "lxc.group = onboot\n"


def test_block_whose_end_was_cut_off_takes_nothing_with_it(config: str) -> None:
    cut = CONFIG + "# BEGIN stasis.lxc autostart\nlxc.start.auto = 0\nlxc.group = onboot\n"
    write(config, cut)
    allow(config)
    assert read(config) == cut
    inhibit(BY_CONFIG, config)
    assert read(config) == cut + BLOCK
    allow(config)
    assert read(config) == cut


def test_last_line_without_its_end_is_not_run_into(safe_dir: str) -> None:
    path = write(f"{safe_dir}/config", "lxc.start.auto = 1")
    inhibit(BY_CONFIG, path)
    assert read(path) == "lxc.start.auto = 1\n" + BLOCK


@pytest.mark.parametrize("text", ["a = 1\r\nb = 2\r\n", "# caf\udce9\nlxc.start.auto = 1\n", "\x0ca = 1\n"], ids=ascii)
def test_line_ends_and_bytes_of_the_configuration_stay(safe_dir: str, text: str) -> None:
    path = f"{safe_dir}/config"
    with open(path, "wb") as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
    inhibit(BY_CONFIG, path)
    assert read(path) == text + BLOCK
    allow(path)
    assert read(path) == text


def test_owner_and_mode_of_the_configuration_stay(config: str) -> None:
    os.chown(config, 7, 8)
    inhibit(BY_CONFIG, config)
    status = os.stat(config)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o640)
    assert os.listdir(os.path.dirname(config)) == ["config"]


def test_symlinked_configuration_stays_a_symlink(safe_dir: str) -> None:
    real = write(f"{safe_dir}/etc/web1.conf", CONFIG)
    os.makedirs(f"{safe_dir}/web1")
    os.symlink("../etc/web1.conf", f"{safe_dir}/web1/config")
    inhibit(BY_CONFIG, f"{safe_dir}/web1/config")
    assert os.path.islink(f"{safe_dir}/web1/config")
    assert read(real) == CONFIG + BLOCK


def test_digest_of_the_configuration_knows_nothing_of_the_block(config: str) -> None:
    def seen() -> tuple[str, str]:
        found = _lxc_config.read(os.path.dirname(os.path.dirname(config)), "web1")
        return found.digest, found.last("lxc.start.auto", "")

    digest, before = seen()
    inhibit(BY_CONFIG, config)
    assert (before, seen()) == ("1", (digest, "0"))
    allow(config)
    assert seen() == (digest, "1")


def test_markers_are_those_that_the_configuration_reader_skips() -> None:
    assert (_autostart.BEGIN, _autostart.END) == (_lxc_config.AUTOSTART_BEGIN, _lxc_config.AUTOSTART_END)


def test_inhibited_tells_whether_the_block_is_there() -> None:
    assert _autostart.inhibited(CONFIG + BLOCK)
    assert not _autostart.inhibited(CONFIG)


def test_unit_is_disabled_and_enabled_and_the_configuration_left_alone(config: str) -> None:
    inhibit(BY_UNIT, config, Call(["systemctl", "disable", UNIT]))
    assert read(config) == CONFIG
    allow(config, (UNIT,), Call(["systemctl", "enable", UNIT]))


def test_without_a_unit_systemctl_is_not_called(config: str) -> None:
    inhibit(BY_CONFIG, config)
    allow(config)


def test_unit_that_cannot_be_disabled_takes_the_block_back(config: str) -> None:
    call = Call(["systemctl", "disable", UNIT], rc=1, stderr="Failed to disable unit: Read-only file system\n")
    with pytest.raises(StasisError, match=r"systemctl disable lxc@web1\.service failed: Failed to disable") as failure:
        inhibit(Autostart(True, (UNIT,)), config, call, Call(["systemctl", "enable", UNIT]))
    assert failure.value.remedy == "Run systemctl disable lxc@web1.service by hand."
    assert read(config) == CONFIG


def test_systemctl_that_takes_too_long_may_have_disabled_the_unit_so_it_is_enabled_again(config: str) -> None:
    slow = Call(["systemctl", "disable", UNIT], rc=-9, stderr="Removed ...", timed_out=True, timeout=120.0)
    with pytest.raises(StasisError, match=r"failed: it did not end within 120 s"):
        inhibit(BY_UNIT, config, slow, Call(["systemctl", "enable", UNIT]))


def test_unit_that_cannot_be_put_back_is_named_with_what_to_do(config: str) -> None:
    calls = (Call(["systemctl", "disable", UNIT], rc=1), Call(["systemctl", "enable", UNIT], rc=1))
    with pytest.raises(StasisError, match="disable") as failure:
        inhibit(BY_UNIT, config, *calls)
    assert failure.value.remedy == "Run systemctl enable lxc@web1.service by hand."


def test_unit_that_cannot_be_disabled_is_enabled_again_with_those_before_it(config: str) -> None:
    runner = StrictRunner(
        Call(["systemctl", "disable", "a.service"]),
        Call(["systemctl", "disable", "b.service"], rc=1, stderr="no"),
        Call(["systemctl", "enable", "a.service"]),
        Call(["systemctl", "enable", "b.service"]),
    )
    with pytest.raises(StasisError, match=r"systemctl disable b.service failed: no"):
        _autostart.inhibit(Autostart(False, ("a.service", "b.service")), config, runner)
    runner.assert_done()


def test_unit_that_cannot_be_enabled_again_is_a_failure_by_name(config: str) -> None:
    inhibit(BY_CONFIG, config)
    with pytest.raises(StasisError, match=r"systemctl enable lxc@web1.service failed"):
        allow(config, (UNIT,), Call(["systemctl", "enable", UNIT], rc=1))
    assert read(config) == CONFIG

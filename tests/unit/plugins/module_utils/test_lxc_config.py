# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.stasis.lxc.plugins.module_utils import _lxc_config
from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError


def write(root: Path, text: str, name: str = "web1") -> _lxc_config.LxcConfig:
    (root / name).mkdir(exist_ok=True)
    (root / name / "config").write_text(text)
    return _lxc_config.read(str(root), name)


class TestReading:
    def test_keys_and_values_come_in_order_without_blanks_and_quotes(self, tmp_path: Path) -> None:
        config = write(
            tmp_path,
            "# comment\n\n  lxc.uts.name=web1  \nlxc.environment = A=1\n"
            "lxc.environment = 'B=2 # no comment'\nnot a key\nlxc.init.cmd = \"/bin/x y\"\r\nlxc.hook.start = '\n",
        )
        assert config.entries == (
            ("lxc.uts.name", "web1"),
            ("lxc.environment", "A=1"),
            ("lxc.environment", "B=2 # no comment"),
            ("lxc.init.cmd", "/bin/x y"),
            ("lxc.hook.start", "'"),
        )
        assert config.values("lxc.environment") == ["A=1", "B=2 # no comment"]
        assert config.last("lxc.environment") == "B=2 # no comment"
        assert config.last("lxc.ephemeral", "0") == "0"
        assert config.below("lxc.hook.") == [("lxc.hook.start", "'")]
        assert config.path == str(tmp_path / "web1" / "config")

    def test_a_container_that_does_not_exist_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StasisError, match="There is no container nosuch in "):
            _lxc_config.read(str(tmp_path), "nosuch")

    def test_a_line_without_an_equals_sign_is_an_error_as_in_liblxc(self, tmp_path: Path) -> None:
        with pytest.raises(StasisError, match="has no `=`"):
            write(tmp_path, "lxc.uts.name web1\n")

    @pytest.mark.parametrize("line", ["lxc.network.type = veth", "lxc.network = ", "lxc.network.0.link = br0"])
    def test_keys_from_before_lxc_2_1_are_refused_with_what_converts_them(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(StasisError) as caught:
            write(tmp_path, f"{line}\n")
        assert "lxc.network" in caught.value.what
        assert "lxc-update-config" in caught.value.remedy

    def test_an_empty_value_clears_the_key_and_those_below(self, tmp_path: Path) -> None:
        config = write(
            tmp_path,
            "lxc.mount.entry = a b\nlxc.hook.start = x\nlxc.hook.stop = y\nlxc.cap.drop = z\n"
            "lxc.mount.entry =\nlxc.hook =\nlxc.mount.entry = c d\n",
        )
        assert config.entries == (("lxc.cap.drop", "z"), ("lxc.mount.entry", "c d"))


class TestIncludes:
    def test_a_file_stands_where_its_include_line_stands(self, tmp_path: Path) -> None:
        (tmp_path / "common").write_text("lxc.cap.drop = b\n")
        config = write(tmp_path, f"lxc.cap.drop = a\nlxc.include = {tmp_path}/common\nlxc.cap.drop = c\n")
        assert config.values("lxc.cap.drop") == ["a", "b", "c"]

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_of_a_directory_every_conf_file_counts_and_no_other(self, tmp_path: Path, slash: str) -> None:
        directory = tmp_path / "d"
        directory.mkdir()
        for name in ("2.conf", "1.conf", "readme", ".conf", "old.conf.bak"):
            (directory / name).write_text(f"lxc.environment = F={name}\n")
        config = write(tmp_path, f"lxc.include = {directory}{slash}\n")
        assert config.values("lxc.environment") == ["F=1.conf", "F=2.conf"]

    def test_a_missing_directory_is_no_error_but_a_missing_file_is(self, tmp_path: Path) -> None:
        assert write(tmp_path, f"lxc.include = {tmp_path}/nodir/\n").entries == ()
        with pytest.raises(StasisError, match="nofile cannot be read"):
            write(tmp_path, f"lxc.include = {tmp_path}/nofile\n")

    def test_a_circle_of_includes_ends_in_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(StasisError, match="includes itself"):
            write(tmp_path, f"lxc.include = {tmp_path}/web1/config\n")


class TestDigest:
    BASE = "lxc.uts.name = web1\nlxc.start.auto = 1\n"

    @pytest.mark.parametrize(
        "text",
        [
            "# a comment\n\n" + BASE,
            BASE + f"{_lxc_config.AUTOSTART_BEGIN}\nlxc.start.auto = 0\n{_lxc_config.AUTOSTART_END}\n",
            "   " + BASE,
        ],
        ids=["comments", "our-own-autostart-lines", "indentation"],
    )
    def test_what_means_nothing_to_the_container_leaves_it(self, tmp_path: Path, text: str) -> None:
        assert write(tmp_path, text).digest == write(tmp_path, self.BASE).digest

    @pytest.mark.parametrize("text", [BASE + "lxc.cap.drop = x\n", BASE.replace("web1", "web2"), BASE + "lxc.net =\n"])
    def test_what_means_something_changes_it(self, tmp_path: Path, text: str) -> None:
        assert write(tmp_path, text).digest != write(tmp_path, self.BASE).digest

    def test_a_changed_included_file_changes_it(self, tmp_path: Path) -> None:
        (tmp_path / "common").write_text("lxc.cap.drop = a\n")
        before = write(tmp_path, f"lxc.include = {tmp_path}/common\n").digest
        (tmp_path / "common").write_text("lxc.cap.drop = b\n")
        assert write(tmp_path, f"lxc.include = {tmp_path}/common\n").digest != before

    def test_our_own_autostart_lines_do_count_for_the_configuration(self, tmp_path: Path) -> None:
        ours = f"{_lxc_config.AUTOSTART_BEGIN}\nlxc.start.auto = 0\n{_lxc_config.AUTOSTART_END}\n"
        assert write(tmp_path, self.BASE + ours).last("lxc.start.auto") == "0"


class TestNetworks:
    def test_every_field_of_a_nic(self, tmp_path: Path) -> None:
        (nic,) = write(
            tmp_path,
            "lxc.net.3.type = veth\nlxc.net.3.link = br0\nlxc.net.3.flags = up\nlxc.net.3.name = lan\n"
            "lxc.net.3.veth.pair = vlan3\nlxc.net.3.veth.mode = router\nlxc.net.3.ipv4.address = 10.0.0.1/24\n",
        ).networks()
        assert nic == _lxc_config.ConfiguredNic(
            3, "veth", "lan", "br0", "up", "vlan3", "router", options={"ipv4.address": "10.0.0.1/24"}
        )

    def test_gaps_are_kept_and_the_order_is_that_of_the_numbers(self, tmp_path: Path) -> None:
        config = write(tmp_path, "".join(f"lxc.net.{n}.type = {kind}\n" for n, kind in ((10, "veth"), (0, "none"))))
        assert [(nic.index, nic.type) for nic in config.networks()] == [(0, "none"), (10, "veth")]

    def test_a_type_starts_its_nic_anew_as_in_liblxc(self, tmp_path: Path) -> None:
        config = write(
            tmp_path,
            "lxc.net.0.name = lost\nlxc.net.0.type = macvlan\nlxc.net.0.macvlan.mode = bridge\nlxc.net.0.link = e0\n",
        )
        (nic,) = config.networks()
        assert (nic.name, nic.type, nic.macvlan_mode, nic.link) == ("", "macvlan", "bridge", "e0")

    @pytest.mark.parametrize("clear", ["lxc.net =", "lxc.net.0 =", "lxc.net.0.type ="])
    def test_an_empty_value_removes_what_an_include_has_set(self, tmp_path: Path, clear: str) -> None:
        (tmp_path / "default").write_text("lxc.net.0.type = veth\nlxc.net.0.link = lxcbr0\n")
        config = write(tmp_path, f"lxc.include = {tmp_path}/default\n{clear}\nlxc.net.1.type = empty\n")
        assert [(nic.index, nic.type) for nic in config.networks()] == [(1, "empty")]

    def test_an_empty_link_clears_only_the_link(self, tmp_path: Path) -> None:
        config = write(tmp_path, "lxc.net.0.type = veth\nlxc.net.0.link = br0\nlxc.net.0.link =\n")
        assert [(nic.type, nic.link) for nic in config.networks()] == [("veth", "")]

    def test_a_nic_without_a_type_is_empty_as_for_liblxc(self, tmp_path: Path) -> None:
        assert [nic.type for nic in write(tmp_path, "lxc.net.0.link = br0\n").networks()] == ["empty"]

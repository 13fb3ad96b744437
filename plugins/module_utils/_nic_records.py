# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The NIC records: small files that the hook reads, in LXC's own form of 2014 and a few more beside them."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _bridge_ports,
    _errors,
    _nic_problems,
    _nics,
    _runner,
)

_WORDS = ("eth", "veth", "bridge", "mac", "mtu", "state")
_PEER = re.compile(r"peer([0-9]+)\Z")
_RECORD = re.compile(r"veth([0-9]+)\Z")
_LARGEST = 1 << 31
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_MASK = re.compile(r"0x[0-9a-f]{1,8}")
_VLAN = re.compile(r"(?:del vid [0-9]{1,4}|add vid [0-9]{1,4}(?:-[0-9]{1,4})?(?: pvid)?(?: untagged)?)")
_SYSCTLS = frozenset(("ipv4 rp_filter", "ipv6 disable_ipv6"))
_SYSCTL = re.compile(r"-?[0-9]{1,10}")
_STATES = frozenset(("", "disabled"))
_KIND = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ -]{0,31}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}")
# Their names are told to CRIU, `ip` or liblxc.
_NAMED = frozenset(("veth", "macvlan", "phys"))
_LONGEST_NAME = 15


def write_records(directory: str, nics: t.Sequence[_nics.Nic]) -> None:
    """Write the records of every veth into directory, which holds none yet; files 0600.

    ethN, vethN, bridgeN, macN, mtuN and stateN are one word without a newline; bridgeN is missing where there is
    no bridge. portN, vlanN and sysctlN are lines, each with its newline, because the hook's `read` loses a last line that
    has none. A NIC of another kind leaves a gap in the numbers.
    """
    for nic in nics:
        if nic.kind != "veth":
            continue
        wrong = fault(nic)
        if wrong is not None:
            raise _errors.StasisError(
                f"NIC {nic.name!a} cannot be recorded: its {wrong[0]} is {ascii(wrong[1])[:160]}.",
                "Rename or change the interface.",
            )
        words = {"eth": nic.name, "veth": nic.veth, "bridge": nic.bridge, "mac": nic.mac, "state": nic.state}
        words["mtu"] = str(nic.mtu) if nic.mtu else ""
        for kind, word in words.items():
            if word:
                _write(directory, f"{kind}{nic.index}", word)
        lines = {
            "port": [f"{key} {value}" for key, value in nic.port.items()],
            "vlan": list(nic.vlans),
            "sysctl": [f"{key} {value}" for key, value in nic.sysctls.items()],
        }
        for kind, found in lines.items():
            if found:
                _write(directory, f"{kind}{nic.index}", "".join(f"{line}\n" for line in found))


def write_peers(directory: str, nics: t.Sequence[_nics.Nic]) -> None:
    """Beside the records of a restore: peerN, the name of the inner end, for each veth that the hook has to make."""
    for nic in nics:
        if nic.kind == "veth":
            _write(directory, f"peer{nic.index}", _nics.peer_name(nic))


def remove_peers(directory: str, runner: _runner.Runner) -> None:
    """After a restore that ran nothing: remove the veths that the hook made. With one end goes the other."""
    for record in sorted(os.listdir(directory)):
        match = _PEER.match(record)
        if match:
            # Where the inner end had gone into the container's namespace, the pair died with that.
            runner.run(["ip", "link", "delete", _read_word(directory, f"veth{match.group(1)}")])


def read_records(directory: str) -> list[_nics.Nic]:
    """The veths that the records in directory speak of, by rising number; also records that LXC wrote in 2014.

    Raises RecordError for one that write_records() would not have written; LXC's have a newline or nothing at the end.
    """
    nics = []
    for number in _numbers(directory):
        words = {kind: _read_word(directory, f"{kind}{number}") for kind in _WORDS}
        mtu = words["mtu"] or "0"
        if not _NUMBER.fullmatch(mtu):
            raise _errors.RecordError(f"mtu{number}", "number", mtu)
        nic = _nics.Nic(
            number,
            "veth",
            name=words["eth"],
            veth=words["veth"],
            bridge=words["bridge"],
            mac=words["mac"],
            mtu=int(mtu),
            port=_read_pairs(directory, f"port{number}", 1),
            vlans=tuple(_read_lines(directory, f"vlan{number}")),
            state=words["state"],
            sysctls=_read_pairs(directory, f"sysctl{number}", 2),
        )
        wrong = fault(nic)
        if wrong is not None:
            field, value = wrong
            file = {"name": "eth", "vlans": "vlan", "sysctls": "sysctl", "index": "veth"}.get(field, field)
            raise _errors.RecordError(f"{file}{number}", field, value)
        nics.append(nic)
    return nics


def is_interface(name: str) -> bool:
    """Whether a message or a list can hold this name of an interface inside, which nothing is told of."""
    return 0 < len(os.fsencode(name)) <= _LONGEST_NAME and name.isprintable() and not set(name) & set(" /:")


def fault(nic: _nics.Nic) -> tuple[str, object] | None:
    """The first field of a NIC that no observation of ours gives, and its value; None where all are right. Pure.

    The hook, CRIU and liblxc are told these values as root, in lines, words and paths.
    """
    told = nic.kind in _NAMED
    checks: tuple[tuple[str, object, bool], ...] = (
        ("index", nic.index, 0 <= nic.index < _LARGEST),
        ("kind", nic.kind, bool(_KIND.fullmatch(nic.kind))),
        ("name", nic.name, _nic_problems.is_plain_name(nic.name) if told else not nic.name or is_interface(nic.name)),
        ("veth", nic.veth, _nic_problems.is_plain_name(nic.veth) if nic.kind == "veth" else not nic.veth),
        ("bridge", nic.bridge, not nic.bridge or _nic_problems.is_plain_name(nic.bridge)),
        ("mac", nic.mac, not nic.mac or bool(_MAC.fullmatch(nic.mac))),
        ("mtu", nic.mtu, 0 <= nic.mtu < _LARGEST),
        ("port", dict(nic.port), all(_is_attribute(key, value) for key, value in nic.port.items())),
        ("vlans", list(nic.vlans), all(_VLAN.fullmatch(line) for line in nic.vlans)),
        ("state", nic.state, nic.state in _STATES),
        (
            "sysctls",
            dict(nic.sysctls),
            all(key in _SYSCTLS and bool(_SYSCTL.fullmatch(value)) for key, value in nic.sysctls.items()),
        ),
        ("link", nic.link, not nic.link or _nic_problems.is_plain_name(nic.link)),
        ("addresses", list(nic.addresses), all(_ADDRESS.fullmatch(one) for one in nic.addresses)),
    )
    return next(((name, value) for name, value, sound in checks if not sound), None)


def _is_attribute(name: str, value: str) -> bool:
    if name == "backup_port":
        return _nic_problems.is_plain_name(value)
    return name in _bridge_ports.FRESH_PORT and bool((_MASK if name == "group_fwd_mask" else _NUMBER).fullmatch(value))


def _write(directory: str, name: str, text: str) -> None:
    path = os.path.join(directory, name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)


def _numbers(directory: str) -> list[int]:
    numbers = [match.group(1) for match in map(_RECORD.match, os.listdir(directory)) if match]
    for number in numbers:
        if len(number) > len(str(_LARGEST)) or number != str(int(number)):
            raise _errors.RecordError(f"veth{number[:20]}", "number", number)
    return sorted(map(int, numbers))


def _read_word(directory: str, name: str) -> str:
    text = _read(directory, name)
    return text[:-1] if text.endswith("\n") else text


def _read_lines(directory: str, name: str) -> list[str]:
    text = _read(directory, name)
    if text and not text.endswith("\n"):
        raise _errors.RecordError(name, "end of the last line", text[-160:])
    return text.split("\n")[:-1]


def _read_pairs(directory: str, name: str, words: int) -> dict[str, str]:
    """Lines of so many words and, behind them, the value that they have."""
    found: dict[str, str] = {}
    for line in _read_lines(directory, name):
        parts = line.split(" ")
        if len(parts) != words + 1 or " ".join(parts[:words]) in found:
            raise _errors.RecordError(name, "line", line)
        found[" ".join(parts[:words])] = parts[words]
    return found


def _read(directory: str, name: str) -> str:
    try:
        # Line ends as they are: the shell knows only one.
        with open(os.path.join(directory, name), encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""

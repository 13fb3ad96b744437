# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""The NIC records: small files that the hook reads, in LXC's own form of 2014 and a few more beside them."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _nics, _runner

# What LXC's own hook reads back: one word of at most 127 characters.
_MAX_WORD = 127
_WORDS = ("eth", "veth", "bridge", "mac", "mtu", "state")
_PEER = re.compile(r"peer([0-9]+)\Z")
_RECORD = re.compile(r"veth([0-9]+)\Z")


def write_records(directory: str, nics: t.Sequence[_nics.Nic]) -> None:
    """Write the records of every veth into directory, which holds none yet; files 0600.

    ethN, vethN, bridgeN, macN, mtuN and stateN are one word without a newline; bridgeN is missing where there is
    no bridge. portN, vlanN and sysctlN are lines, each with its newline, because the hook's `read` loses a last line that
    has none. A NIC of another kind leaves a gap in the numbers.
    """
    for nic in nics:
        if nic.kind != "veth":
            continue
        words = {"eth": nic.name, "veth": nic.veth, "bridge": nic.bridge, "mac": nic.mac, "state": nic.state}
        words["mtu"] = str(nic.mtu) if nic.mtu else ""
        for kind, word in words.items():
            if word:
                _check_word(kind, word)
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

    Raises StasisError for a record that the hook could not read either.
    """
    numbers = sorted(int(match.group(1)) for match in map(_RECORD.match, os.listdir(directory)) if match)
    nics = []
    for number in numbers:
        words = {kind: _read_word(directory, f"{kind}{number}") for kind in _WORDS}
        name, veth, mtu = words["eth"], words["veth"], words["mtu"]
        port = [line.partition(" ") for line in _read_lines(directory, f"port{number}")]
        sysctls = [line.rpartition(" ") for line in _read_lines(directory, f"sysctl{number}")]
        sound = name and veth and (mtu.isdigit() or not mtu) and all(space for _key, space, _value in port + sysctls)
        if not sound:
            raise _errors.StasisError(
                f"The records of NIC {number} in {directory} (eth{number}, veth{number} ...) are damaged.",
                "Use another checkpoint.",
            )
        nics.append(
            _nics.Nic(
                number,
                "veth",
                name=name,
                veth=veth,
                bridge=words["bridge"],
                mac=words["mac"],
                mtu=int(mtu or 0),
                port={key: value for key, _space, value in port},
                vlans=tuple(_read_lines(directory, f"vlan{number}")),
                state=words["state"],
                sysctls={key: value for key, _space, value in sysctls},
            )
        )
    return nics


def _check_word(kind: str, word: str) -> None:
    if len(word) > _MAX_WORD or word != "".join(word.split()):
        raise _errors.StasisError(
            f"{word!r} cannot be recorded as {kind}: it is not one word.", "Rename the interface."
        )


def _write(directory: str, name: str, text: str) -> None:
    path = os.path.join(directory, name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)


def _read_word(directory: str, name: str) -> str:
    words = _read(directory, name).split()
    return words[0] if words else ""


def _read_lines(directory: str, name: str) -> list[str]:
    return [line for line in _read(directory, name).split("\n") if line]


def _read(directory: str, name: str) -> str:
    try:
        with open(os.path.join(directory, name), encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""

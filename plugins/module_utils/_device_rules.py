# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""Keep a container's rules about device nodes over a restore.

LXC sets them at a start only, and CRIU leaves those of the container's own cgroup alone: after a restore every device node that
the container can make would be open to it. With cgroup v1 they are a list, which the launcher writes before CRIU makes cgroups
below. With v2 lxc.cgroup2.devices.* is a BPF program on the container's cgroup. A dump copies it into the image, as the kernel
has it, and a restore attaches it while CRIU works; the hook lets no process run before.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import struct
import threading
import typing as t

from ansible_collections.stasis.lxc.plugins.module_utils import _errors, _files

RECORD = "device-programs"
LIST = "device-list"
# Beside the argv of a run: the launcher says where the cgroup is, and we say that the rules are in force.
WHERE, DONE = "cgroup", "devices"
_CALL = {"x86_64": 321, "i686": 357, "aarch64": 280, "riscv64": 280, "armv7l": 386, "ppc64le": 361, "s390x": 351}
# Commands, the type of program, where it is attached, and that there may be others: linux/bpf.h.
_LOAD, _ATTACH, _BY_ID, _INFO, _QUERY = 5, 8, 13, 15, 16
_CGROUP_DEVICE, _AT_DEVICES, _MULTI = 15, 6, 2
_MOST = 64
_INSTRUCTION = 8
_LARGEST = 4096 * _INSTRUCTION
_LOOK_SECONDS = 0.002
_RULE = re.compile(r"[bc] (?:\*|[0-9]{1,10}):(?:\*|[0-9]{1,10}) [rwm]{1,3}")
# Whole instructions.
_PROGRAM = re.compile(r"(?:[0-9a-f]{16})+")


def listed(cgroup: str) -> str:
    """The list of a cgroup of v1, or "" where everything is allowed. Raises OSError."""
    with open(os.path.join(cgroup, "devices.list"), encoding="ascii") as stream:
        text = stream.read()
    return "" if text.startswith("a ") else text


def check_list(text: str) -> None:
    """Raise RecordError for a record that is no list of rules: it is written into the cgroup as it is."""
    if text and not text.endswith("\n"):
        # The launcher's `read` would lose it.
        raise _errors.RecordError(LIST, "end of the last line", text[-160:])
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if not _RULE.fullmatch(line):
            raise _errors.RecordError(LIST, f"line {number}", line)


def read(cgroup: str) -> list[bytes]:
    """The programs about devices that are attached to a cgroup itself, as instructions. Raises OSError."""
    descriptor = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [_instructions(number) for number in _attached(descriptor)]
    finally:
        os.close(descriptor)


def attach(cgroup: str, programs: t.Sequence[bytes]) -> None:
    """Attach them to a cgroup, beside what it has. Raises OSError."""
    descriptor = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for one in programs:
            loaded = _load(one)
            try:
                _bpf(_ATTACH, struct.pack("=IIII", descriptor, loaded, _AT_DEVICES, _MULTI))
            finally:
                os.close(loaded)
    finally:
        os.close(descriptor)


def encode(programs: t.Sequence[bytes]) -> str:
    """The record in the image, or "" for none."""
    return json.dumps([one.hex() for one in programs]) + "\n" if programs else ""


def decode(text: str) -> list[bytes]:
    """What encode() wrote. Raises RecordError for anything else."""
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError) as exc:
        raise _errors.RecordError(RECORD, "JSON", text[:160]) from exc
    if not isinstance(found, list) or len(found) > _MOST:
        raise _errors.RecordError(RECORD, "list", text[:160])
    for number, one in enumerate(found, 1):
        if not isinstance(one, str) or not _PROGRAM.fullmatch(one) or len(one) > 2 * _LARGEST:
            raise _errors.RecordError(RECORD, f"program {number}", one)
    return [bytes.fromhex(one) for one in found]


class Attaching:
    """A thread that attaches programs as soon as the launcher has said to which cgroup. fault: why it could not, or "".
    environment: what the launcher needs for the list of v1."""

    def __init__(
        self, programs: t.Sequence[bytes], mount: str, work: str, environment: t.Mapping[str, str] | None = None
    ) -> None:
        self.fault = ""
        self._environment = environment or {}
        self._programs = programs
        self._mount = mount
        self._work = work
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="devices", daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """For the launcher and the hook."""
        return {**self._environment, **({"STASIS_DEVICES": "1"} if self._programs else {})}

    def __enter__(self) -> Attaching:
        if self._programs:
            self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        if self._programs:
            self._thread.join()

    def _run(self) -> None:
        where = os.path.join(self._work, WHERE)
        text = ""
        while not text.endswith("\n"):
            if self._over.wait(_LOOK_SECONDS):
                return
            text = _files.text_of(where)
        try:
            attach(os.path.join(self._mount, text.strip().lstrip("/")), self._programs)
        except OSError as exc:
            self.fault = (
                f"the rules about its device nodes could not be attached to {text.strip()}: {exc.strerror or exc}"
            )
            return
        with open(os.path.join(self._work, DONE), "w", encoding="utf-8"):
            pass


def _attached(cgroup: int) -> list[int]:
    numbers = (ctypes.c_uint32 * _MOST)()
    request = struct.pack("=IIIIQI4x", cgroup, _AT_DEVICES, 0, 0, ctypes.addressof(numbers), _MOST)
    try:
        answer = _bpf(_QUERY, request)[1]
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.ENOSYS):
            return []  # no such programs in this kernel, or no cgroup of v2
        raise
    return list(numbers)[: struct.unpack_from("=I", answer, 24)[0]]


def _instructions(number: int) -> bytes:
    program = _bpf(_BY_ID, struct.pack("=III", number, 0, 0))[0]
    try:
        buffer = ctypes.create_string_buffer(_LARGEST)
        # bpf_prog_info: type, id, tag, both lengths, both addresses; the kernel fills in what fits.
        info = ctypes.create_string_buffer(
            struct.pack("=II8sIIQQ", 0, 0, b"", 0, _LARGEST, 0, ctypes.addressof(buffer))
        )
        _bpf(_INFO, struct.pack("=IIQ", program, len(info.raw) - 1, ctypes.addressof(info)))
        _jited, size, _native, address = struct.unpack_from("=IIQQ", info.raw, 16)
    finally:
        os.close(program)
    if not address or not 0 < size <= _LARGEST:
        raise OSError(errno.EPERM, "the kernel does not show the program")
    return buffer.raw[:size]


def _load(instructions: bytes) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    request = struct.pack(
        "=IIQQ", _CGROUP_DEVICE, len(instructions) // _INSTRUCTION, ctypes.addressof(code), ctypes.addressof(licence)
    )
    # log_level, log_size, log_buf, kern_version, prog_flags, prog_name
    return _bpf(_LOAD, request + struct.pack("=IIQII16s", 0, 0, 0, 0, 0, b"stasis_devices"))[0]


def _bpf(command: int, request: bytes) -> tuple[int, bytes]:
    """bpf(2): what it returns, and the request as the kernel left it. Raises OSError."""
    number = _CALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) on {platform.machine()} is not known")
    libc = ctypes.CDLL(None, use_errno=True)
    memory = ctypes.create_string_buffer(request, len(request))
    done = libc.syscall(number, command, memory, len(request))
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done, memory.raw

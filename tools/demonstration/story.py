# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo itself, step by step. Each claim on the screen is checked; one that does not hold ends it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import typing as t
from pathlib import Path

from commands import Log, ansible, run
from container import (
    ADDRESS,
    CHECKPOINT,
    HOST_ADDRESS,
    NAME,
    OURS,
    PORT,
    RECORD,
    RESULT,
    Client,
    lxc_info,
    make_container,
    processes,
)
from screen import DemoError, paint, step, tell


def result() -> dict[str, t.Any]:
    found: dict[str, t.Any] = json.loads(RESULT.read_text())
    RESULT.unlink()
    return found


#


def show_task(checkout: Path, playbook: str) -> None:
    """The module's task out of the playbook that is about to run."""
    inside = False
    for line in (checkout / "tools/playbooks" / f"{playbook}.yml").read_text().splitlines():
        inside = inside or "stasis.lxc.lxc_checkpoint:" in line
        if inside and "register:" in line:
            return
        if inside:
            print(paint("33", "     " + line[4:]), flush=True)


def usable_record(checkout: Path) -> dict[str, t.Any] | None:
    """The install record of this host, if the modules of this checkout can work with what it names."""
    sys.path.insert(0, str(checkout / ".work"))
    from ansible_collections.stasis.lxc.plugins.module_utils import _install_record, _versions
    from ansible_collections.stasis.lxc.plugins.module_utils._errors import StasisError

    try:
        record = _install_record.read()
        if record is None:
            return None
        _install_record.verify(record)
        if not _versions.at_least(record.criu_version, _versions.minimum_criu(os.uname().release)):
            return None
    except StasisError:
        return None
    return vars(record) if os.access(record.criu_path, os.X_OK) else None


def prepare_criu(log: Log, checkout: Path) -> None:
    if record := usable_record(checkout):
        tell(f"CRIU {record['criu_version']} is there already: {record['criu_path']}")
        return
    arguments = []
    if not RECORD.exists():
        durably(OURS, "")
    with contextlib.suppress(OSError, ValueError, KeyError):
        # What somebody chose stays where it is.
        hook = json.loads(RECORD.read_text())["hook"]
        arguments = ["-e", json.dumps({"criu_hook_dir": os.path.dirname(hook)})]
    seconds = ansible(log, checkout, "role", *arguments, what="role stasis.lxc.criu", timeout=1800)
    record = json.loads(RECORD.read_text())
    tell(f"CRIU {record['criu_version']} ({record['criu_install_method']}) in {record['criu_path']}, {seconds:.0f} s")


def durably(path: Path, text: str) -> None:
    with path.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def story(log: Log, checkout: Path) -> None:
    step(1, "Install CRIU, the hook and the launcher with the role stasis.lxc.criu")
    prepare_criu(log, checkout)

    step(2, "Start a busybox container with a counter in its memory")
    make_container(log)
    first_init = lxc_info(log, "-p")
    tell(f"{NAME} is {lxc_info(log, '-s')}, its init has pid {first_init}")

    step(3, "Open one TCP connection to it; it stays open to the end")
    client = Client()
    client.wait_for(20, 20)
    tell(f"{HOST_ADDRESS}:{client.local_port} -> {ADDRESS}:{PORT}, each line sent is answered with the next number")
    tell(numbers(1, 20))

    step(4, "Checkpoint it: one Ansible task")
    show_task(checkout, "checkpoint")
    out = ["-e", f"demo_result_file={RESULT}"]
    checkpoint_seconds = ansible(log, checkout, "checkpoint", *out, what="the checkpoint", timeout=400)
    dumped = result()
    last = client.count
    state = lxc_info(log, "-s")
    if state != "STOPPED" or processes():
        raise DemoError(f"the container should be STOPPED, and lxc-info says {state}")
    size = sum(entry.stat().st_size for entry in CHECKPOINT.iterdir())
    tell(f"lxc-info says {paint('1;31', state)}; no process of it is left, {size / 1e6:.1f} MB are on disk")
    tell(f"The last number was {last}. The client waits for {last + 1}.")

    step(5, "Restore it: one Ansible task")
    show_task(checkout, "restore")
    restore_seconds = ansible(log, checkout, "restore", *out, what="the restore", timeout=400)
    restored = result()
    state = lxc_info(log, "-s")
    if state != "RUNNING":
        raise DemoError(f"the container should be RUNNING, and lxc-info says {state}")
    tell(f"lxc-info says {paint('1;32', state)}, its init has pid {lxc_info(log, '-p')}")

    step(6, "The counter goes on, over the same connection")
    # TCP tries again after twice the time that it has waited, and at the latest after two minutes.
    client.wait_for(last + 20, 180)
    if client.socket.getsockname()[1] != client.local_port or established(log) != 1:
        raise DemoError("the connection is not the one that was opened")
    client.stop.set()
    tell(f"{HOST_ADDRESS}:{client.local_port} -> {ADDRESS}:{PORT}, one connection, no number missing, none twice")
    tell(numbers(last + 1, last + 20))
    print(paint("1;36", "Times"), flush=True)
    for seconds, text in (
        (dumped["stats"]["frozen_time"] / 1e6, "frozen for the dump (CRIU's frozen_time)"),
        (last_time(CHECKPOINT / "dump.log"), "CRIU's dump from start to end"),
        (last_time(Path(restored["log_path"])), "CRIU's restore from start to end"),
        (checkpoint_seconds, "the first Ansible run as a whole"),
        (restore_seconds, "the second Ansible run as a whole"),
        (client.silence(), "the client's longest wait, from the freeze until TCP's next try after the restore"),
    ):
        tell(f"{seconds:6.3f} s  {text}")


def numbers(first: int, last: int) -> str:
    return " ".join(str(number) for number in range(first, last + 1))


def established(log: Log) -> int:
    found = run(log, ["ss", "-Htn", "state", "established", "dst", f"{ADDRESS}:{PORT}"])
    return len(found.splitlines())


def last_time(log: Path) -> float:
    """Each line of CRIU's log begins with the seconds since its start, in parentheses."""
    stamps = re.findall(r"^\(([0-9.]+)\)", log.read_text(errors="replace"), re.MULTILINE)
    return float(stamps[-1]) if stamps else 0.0


#

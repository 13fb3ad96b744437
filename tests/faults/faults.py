# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Injects every fault of the table, and more; prints what came of each. Run by tests/faults/run."""

from __future__ import annotations

import argparse
import json
import queue
import shutil
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import cells
import conftest
import hygiene
from containers import BASE, BRIDGE_PREFIX, GATEWAY, Bridge, run
from module import Module
from scene import AnsibleRun, Outcome, Scene, mount


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", default="", help="only the faults whose name has this in it")
    parser.add_argument("-j", type=int, default=3, help="how many containers at a time")
    parser.add_argument("--json", default="", help="write every outcome to this file")
    options = parser.parse_args()
    wanted = [
        cell
        for cell in cells.cells()
        if any(all(word in cell.name for word in some.split("&")) for some in options.k.split("|"))
    ]
    began = time.monotonic()
    hygiene.clean()
    session = BASE / f"session-{time.time_ns()}"
    session.mkdir(parents=True, mode=0o711)
    outcomes: list[Outcome] = []
    try:
        outcomes = _all(wanted, session, options.j)
    finally:
        hygiene.clean()
    if options.json:
        Path(options.json).write_text(json.dumps([one.as_dict() for one in outcomes], indent=1) + "\n")
    good = sum(not one.wrong for one in outcomes)
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{good} passed, {len(outcomes) - good} failed")
    return 0 if good == len(outcomes) == len(wanted) else 1


def _all(wanted: list[cells.Cell], session: Path, jobs: int) -> list[Outcome]:
    collections = session / "collections"
    source = conftest.SOURCE
    target = collections / "ansible_collections/stasis/lxc"

    for name in ("plugins", "meta"):
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "galaxy.yml", target / "galaxy.yml")
    (session / "arguments").mkdir()
    module = Module(collections, session / "arguments")
    program = session / "workload"
    run("gcc", "-O2", "-static", "-pthread", "-o", str(program), str(source / "tests/integration/workload.c"))
    programs = (Path("/bin/busybox"), program)
    bridge = Bridge(f"{BRIDGE_PREFIX}0", address=f"{GATEWAY}/24")
    todo: queue.Queue[cells.Cell] = queue.Queue()
    for cell in wanted:
        todo.put(cell)
    outcomes: list[Outcome] = []
    said = threading.Lock()

    def work(number: int) -> None:
        place = session / f"place{number}"
        mount(place, "96m")
        factory = conftest.Factory(module, programs, session, bridge, [], [])
        scene = Scene(factory, module, place, AnsibleRun(collections, session), Path("/tmp/fault-logs"))
        while True:
            try:
                cell = todo.get_nowait()
            except queue.Empty:
                break
            outcome = scene.inject(cell)
            with said:
                outcomes.append(outcome)
                word = "FAILED" if outcome.wrong else "ok" if outcome.survived else "lost"
                print(
                    f"{word:6} {outcome.seconds:5.1f} s  {outcome.name}  {outcome.window} {'in' if outcome.inside else ''} {outcome.first[:160]!r} {outcome.lost} {outcome.recovered} {' | '.join(outcome.wrong)}",
                    flush=True,
                )
        scene.drop()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bridge.remove()
    return outcomes


if __name__ == "__main__":
    sys.exit(main())

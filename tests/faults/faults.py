# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Injects every fault of the table, and more; prints what came of each. Run by tests/faults/run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import random
import resource
import shutil
import sys
import threading
import time
import typing as t
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

import cells
import conftest
import hygiene
import report
import sample
import specials
from containers import BASE, BRIDGE_PREFIX, GATEWAY, SLOT, Bridge, run
from module import Module
from outcome import Outcome
from scene import AnsibleRun, Scene, mount

Fault = tuple[str, t.Callable[[Scene], Outcome]]
SEED = 20261124
# No promise to anybody: 30 of 30 were whole in each run so far, so a repair that no longer works would show here.
FEW = 10
SURVIVE = 0.9


def faults(part: int | None = None) -> list[Fault]:
    """Everything, each by its name; or of the table one part, and every fault that is no signal."""
    found: list[Fault] = []
    table = [*cells.cells(), *cells.random_cells(SEED, 6)]
    for cell in table if part is None else sample.part(table, part):
        found.append((cell.name, lambda scene, cell=cell: scene.inject(cell)))
    for way, name, inject in specials.specials():
        found.append(
            (f"{way}: {name}", lambda scene, way=way, name=name, inject=inject: scene.special(way, name, inject))
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", default="", help="only faults whose name has these words: A&B|C")
    parser.add_argument("-j", type=int, default=3, help="how many containers at a time")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="begin none after this time; the rest counts as failed"
    )
    parser.add_argument(
        "--part", type=int, help=f"only this part of the table, any number: {sample.PARTS} in a row are the whole"
    )
    parser.add_argument("--json", default="", help="write every outcome to this file")
    parser.add_argument("--report", default="", help="write the page to this file")
    options = parser.parse_args()
    wanted = [
        fault
        for fault in faults(options.part)
        if any(all(word in fault[0] for word in some.split("&")) for some in options.k.split("|"))
    ]
    if options.minutes:
        # So that no part of the table is left out because it comes last.
        random.Random(SEED).shuffle(wanted)
    began = time.monotonic()
    outcomes = _all(wanted, options.j, options.minutes)
    seconds = time.monotonic() - began
    found = [one.as_dict() for one in outcomes]
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    if options.report:
        host = f"{_system()}, kernel {platform.release()}, {os.cpu_count()} processors"
        Path(options.report).write_text(report.render(found, seconds, host))
    with open(Path(os.environ.get("STASIS_RESULTS", "/var/tmp"), "durations"), "w", encoding="utf-8") as durations:
        durations.writelines(f"{one.seconds:.1f} {one.name}\n" for one in outcomes)
    number = report.counts(found)
    missing = len(wanted) - len(found)
    if options.part is not None:
        which = options.part % sample.PARTS + 1
        print(f"part {which} of {sample.PARTS} of the table: {len(wanted)} of {len(faults())} faults")
    print(
        f"{number['faults']} faults in {seconds:.0f} s, {number['without_image']} with no image of the container anywhere, "
        f"{number['inside']} while CRIU held the tasks, {_processor():.0f} s of processor time"
    )
    rates = report.rates(found)
    for kind, (whole, all_) in rates.items():
        print(f"CRIU killed in {kind}: {whole} of {all_} containers were whole")
    whole, all_ = rates[report.DUMPS]
    fewer = all_ >= FEW and whole < SURVIVE * all_
    if fewer:
        print(f"fewer than ever: {SURVIVE:.0%} of the containers survive a CRIU that is killed at a step of a dump")
    print(f"{number['passed']} passed, {number['failed'] + missing} failed")
    return 0 if found and number["failed"] + missing == 0 and not fewer else 1


def _processor() -> float:
    """What this process and its children have used so far: the modules, CRIU, the checks."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _system() -> str:
    found = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return found.get("PRETTY_NAME", "Linux").strip('"')


def _all(wanted: t.Sequence[Fault], jobs: int, minutes: float) -> list[Outcome]:
    # Names and addresses are those of the integration tests.
    watch = hygiene.Watch([SLOT])
    watch.begin()
    session = BASE / f"session-{os.getpid()}"
    session.mkdir(parents=True, mode=0o711)
    logs = Path(os.environ.get("STASIS_RESULTS", "/var/tmp")) / "fault-logs"
    shutil.rmtree(logs, ignore_errors=True)
    try:
        outcomes = _inject(wanted, jobs, minutes, session, logs)
    finally:
        left = watch.end()
    if left:
        outcomes.append(Outcome("the host afterwards", "", "hygiene", "", "", False, wrong=left))
    return outcomes


def _inject(wanted: t.Sequence[Fault], jobs: int, minutes: float, session: Path, logs: Path) -> list[Outcome]:
    source = conftest.SOURCE
    collections = session / "collections"
    target = collections / "ansible_collections/stasis/lxc"
    for name in ("plugins", "meta"):
        shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "galaxy.yml", target / "galaxy.yml")
    (session / "arguments").mkdir()
    module = Module(collections, session / "arguments")
    program = session / "workload"
    run("gcc", "-O2", "-static", "-pthread", "-o", str(program), str(source / "tests/integration/workload.c"))
    busybox = next(Path(path) for path in ("/bin/busybox", "/usr/bin/busybox") if Path(path).exists())
    bridge = Bridge(f"{BRIDGE_PREFIX}0", address=f"{GATEWAY}/24")
    todo: queue.Queue[Fault] = queue.Queue()
    for fault in wanted:
        todo.put(fault)
    outcomes: list[Outcome] = []
    said = threading.Lock()
    end = time.monotonic() + minutes * 60 if minutes else 0.0

    def work(number: int) -> None:
        place = session / f"place{number}"
        mount(place, "96m")
        factory = conftest.Factory(module, (busybox, program), session, bridge, [], [])
        scene = Scene(factory, module, place, AnsibleRun(collections, session), logs)
        while not end or time.monotonic() < end:
            try:
                _name, inject = todo.get_nowait()
            except queue.Empty:
                break
            outcome = inject(scene)
            with said:
                outcomes.append(outcome)
                print(_line(outcome), flush=True)
        scene.drop()
        factory.finish()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bridge.remove()
    return outcomes


def _line(outcome: Outcome) -> str:
    word = "FAILED" if outcome.wrong else "ok" if outcome.survived else "lost"
    window = (
        f"  [{outcome.window[0]} .. {outcome.window[1]}]{' held' if outcome.inside else ''}"
        if outcome.window[0]
        else ""
    )
    more = "".join(
        f"\n         {line}" for line in [*outcome.mended, *outcome.recovered, outcome.lost, *outcome.wrong] if line
    )
    return f"{word:6} {outcome.seconds:5.1f} s  {outcome.name}{window}{more}"


if __name__ == "__main__":
    sys.exit(main())

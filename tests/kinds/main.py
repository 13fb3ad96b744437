# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""main.py RESULTS [KIND...]: one container of each kind through the module, on this host, as root.

Writes RESULTS/HOST/KIND.json, prints a line a kind, and ends with status 1 where a result is not the expected one.
Needs python3, LXC and what the role stasis.lxc.criu installs; the rest lies beside this file (see `bundle`).
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
import typing as t
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BUNDLE / "integration"))

import host as host_facts
import hygiene
from containers import BASE, PREFIX, SLOT, Bridge, Slot
from kind import Ground, Kind, Subject, UnavailableError, make_bridge
from kinds import ALL
from module import Answer, Checkpoint, Module
from refusal import evidence_of

GENERATIONS = 3
SECONDS = int(os.environ.get("STASIS_KIND_SECONDS", "420"))
SUPPORTED, REFUSED, FAILED, UNAVAILABLE = "supported", "refused", "failed", "unavailable"
EXPECTED = BUNDLE / "kinds/expected.json"
COMMAND = os.environ.get("STASIS_KINDS_COMMAND", "tests/kinds/run")

Result = dict[str, t.Any]


class RefusedError(Exception):
    """The module refused, and left the container as it was."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer["msg"])
        self.answer = answer


def main() -> int:
    """Try every kind that was asked for: two at a time where there are two processors."""
    if sys.argv[1] == "--one":
        return one(*sys.argv[2:])
    results, wanted = Path(sys.argv[1]), sys.argv[2:]
    unknown = set(wanted) - {kind.name for kind in ALL}
    if unknown:
        print(f"there is no kind {', '.join(sorted(unknown))}; there are: {' '.join(kind.name for kind in ALL)}")
        return 2
    kinds = [kind for kind in ALL if not wanted or kind.name in wanted]
    host = host_facts.describe()
    folder = results / host["id"]
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{host['os']}, kernel {host['kernel']}, cgroups {host['cgroups']}, LXC {host['lxc']}, CRIU {host['criu']}, LSM {host['lsm']}"
    )
    slots = [Slot(number) for number in range(min(2, len(os.sched_getaffinity(0))))]
    # Names and addresses are those of the integration tests.
    watch = hygiene.Watch(slots)
    watch.begin()
    crew = Crew(folder, host)
    crew.work([kind for kind in kinds if not kind.alone], slots)
    crew.work([kind for kind in kinds if kind.alone], slots[:1])
    left = watch.end()
    for line in left:
        print(f"  the host is not as before: {line}")
    bad = crew.bad + bool(left)
    print(f"{len(kinds) - crew.bad} passed, {bad} failed")
    if os.environ.get("STASIS_RESULTS"):
        with open(Path(os.environ["STASIS_RESULTS"], "counts"), "a", encoding="utf-8") as counts:
            counts.write(f"{len(kinds) - crew.bad} {bad}\n")
        with open(Path(os.environ["STASIS_RESULTS"], "durations"), "a", encoding="utf-8") as durations:
            durations.writelines(f"{seconds} {name}\n" for name, seconds in crew.seconds.items())
    return 1 if bad else 0


class Crew:
    """Has kinds tried, each by a process of its own in a slot, and says what came of them. bad: how many are wrong. seconds: of
    each."""

    def __init__(self, folder: Path, host: Result) -> None:
        self.folder, self.host = folder, host
        self.expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
        self.bad = 0
        self.seconds: dict[str, float] = {}
        self._said = threading.Lock()

    def work(self, kinds: t.Sequence[Kind], slots: t.Sequence[Slot]) -> None:
        """The first slot begins with the slow ones, another with the others, so that both have work to the end."""
        todo = collections.deque(sorted(kinds, key=lambda kind: not kind.slow))

        def take(slot: Slot) -> None:
            while True:
                try:
                    kind = todo.popleft() if slot == slots[0] else todo.pop()
                except IndexError:
                    return
                self._try(kind, slot, alone=len(slots) == 1)

        threads = [threading.Thread(target=take, args=(slot,)) for slot in slots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _try(self, kind: Kind, slot: Slot, *, alone: bool) -> None:
        path = self.folder / f"{kind.name}.json"
        path.unlink(missing_ok=True)
        words = ["--one", str(self.folder), kind.name, json.dumps(self.host), "alone" if alone else "shared"]
        done = subprocess.run(
            [sys.executable, "-B", __file__, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, "STASIS_TEST_SLOT": str(slot.number)},
        )
        result = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else _crashed(kind, self.host, done.stdout)
        )
        wrong = compare(result, self.expected.get(kind.name, {}), self.host["id"])
        text = json.dumps(result, indent=4, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        lines = [f"  {kind.name:<22} {result['result']:<12} {result['seconds']:>4.0f} s  {wrong}"]
        if wrong:
            lines += [f"      {line}" for line in result["evidence"]]
        with self._said:
            self.bad += bool(wrong)
            self.seconds[kind.name] = result["seconds"]
            print("\n".join(lines), flush=True)


def one(folder: str, name: str, host: str, alone: str) -> int:
    """Try one kind in the slot of this process, and write its result to FOLDER/NAME.json."""
    kind = next(kind for kind in ALL if kind.name == name)
    result = attempt(kind, json.loads(host), Path(folder, "logs"), shared=alone != "alone")
    Path(folder, f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    return 0


def blank(kind: Kind, host: Result) -> Result:
    """The result of a kind that was not tried yet."""
    return {
        "format": 1,
        "kind": kind.name,
        "title": kind.title,
        "host": host,
        "command": f"{COMMAND} {kind.name}",
        "generations": 0,
        "leave_running": False,
        "evidence": [],
    }


def _crashed(kind: Kind, host: Result, said: str) -> Result:
    return {**blank(kind, host), "result": FAILED, "evidence": said.splitlines()[-20:], "seconds": 0.0}


def compare(result: Result, expected: t.Mapping[str, t.Any], host: str) -> str:
    """What is wrong with a result, or "". A failure is never expected."""
    here = expected.get(host) or expected.get("*")
    if here is None:
        return "NOT EXPECTED: expected.json says nothing of it"
    result["expected"] = here["result"]
    if result["result"] == FAILED:
        return "FAILED"
    if result["result"] != here["result"]:
        return f"NOT EXPECTED: {here['result']} was"
    missing = [word for word in here.get("evidence", []) if not any(word in line for line in result["evidence"])]
    return f"NOT EXPECTED: {missing[0]!r} is not in the evidence" if missing else ""


def attempt(kind: Kind, host: Result, logs: Path, *, shared: bool) -> Result:
    """Try one kind, whatever comes of it; the host is as before afterwards, or that is the failure.

    logs: where the module's logs of a failure or a refusal are kept, below the kind's name. shared: another kind is tried at the
    same time.
    """
    began = time.monotonic()
    before = hygiene.snapshot([SLOT])
    result = blank(kind, host)
    try:
        with deadline(SECONDS), ground() as place:
            result["result"] = _try(kind, place, result)
    except Exception as exc:  # noqa: BLE001 # whatever it is, the other kinds are tried all the same
        result["result"] = FAILED
        result["evidence"] += [f"{type(exc).__name__}: {exc}", *_where(exc)]
    if result["result"] in (FAILED, REFUSED):
        for path in Path("/var/log/stasis").glob(f"{PREFIX}*"):
            shutil.copytree(path, logs / kind.name, dirs_exist_ok=True)
    hygiene.clean()
    left, _shared = hygiene.settled(before, [SLOT], shared=shared)
    if left:
        result["result"] = FAILED
        result["evidence"] += [f"the host is not as before: {line}" for line in left]
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def _try(kind: Kind, place: Ground, result: Result) -> str:
    try:
        subject = kind.create(place)
        subject.start()
    except UnavailableError as exc:
        result["evidence"].append(str(exc))
        return UNAVAILABLE
    result["evidence"] += subject.notes
    arguments = place.directory / "arguments"
    arguments.mkdir()
    module = Module(BUNDLE / "collections", arguments, core=str(BUNDLE / "core"), seconds=SECONDS)
    checkpoint = Checkpoint(module, subject, place.directory / "checkpoints/image")
    try:
        with last_words(kind, subject, result):
            return _generations(kind, place, checkpoint, result)
    except RefusedError as refused:
        with last_words(kind, subject, result):
            kind.alive(subject)
            result["evidence"] += evidence_of(kind, place, subject, refused.answer)
        return REFUSED


def _generations(kind: Kind, place: Ground, checkpoint: Checkpoint, result: Result) -> str:
    subject = t.cast(Subject, checkpoint.container)
    talker = kind.connect(subject)
    if talker:
        place.closing.callback(talker.close)
    kind.alive(subject)
    facts = kind.facts(subject)
    counted = asked = 0

    def probe(when: str) -> None:
        nonlocal counted, asked
        kind.alive(subject)
        now = kind.facts(subject)
        changed = [f"{key}: {facts[key]!r} became {now.get(key)!r}" for key in facts if now.get(key) != facts[key]]
        assert not changed, f"{when}: {'; '.join(changed)}"
        count = subject.count()
        assert count >= counted, f"{when}: the counter went from {counted} back to {count}"
        counted = count
        if talker:
            number, accepts = talker.ask()
            assert number >= asked, f"{when}: over TCP the counter went from {asked} back to {number}"
            asked = number
            assert accepts >= 1, f"{when}: the server says {accepts} connections"

    life = subject.life()
    _must(checkpoint, "checkpointed", **kind.options())
    assert subject.life() == life, f"after leave-running: {subject.life()} instead of {life}"
    probe("after leave-running")
    result["leave_running"] = True
    _must(checkpoint, "absent")
    for generation in range(1, GENERATIONS + 1):
        proof = _must(checkpoint, "checkpointed", stop=True, **kind.options())["proof"]
        # A host whose network is shared, an overlay that cannot do what the root file system can: with the reason.
        assert proof["verdict"] in ("proven", "partial", "skipped"), f"generation {generation}: {proof}"
        result["proof"] = proof["verdict"]
        if proof["why"] and proof["why"] not in result["evidence"]:
            result["evidence"].append(proof["why"])
        assert subject.state == "STOPPED", f"generation {generation}: it is {subject.state} after the dump"
        _private(checkpoint.directory)
        answer = _must(checkpoint, "restored")
        assert subject.state == "RUNNING", f"generation {generation}: it is {subject.state} after the restore"
        _private(checkpoint.directory)
        probe(f"generation {generation}")
        assert checkpoint.manifest["generation"] == generation
        result["generations"] = generation
        result["evidence"] += [f"generation {generation}: {line}" for line in answer["warnings"]]
    subject.lxc("attach", "--", "/bin/sh", "-c", "true")
    return SUPPORTED


def _private(directory: Path) -> None:
    """Raise AssertionError where a checkpoint has other modes than README.md says."""
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in directory.iterdir()}
    others = {name: oct(mode) for name, mode in modes.items() if mode != 0o600}
    assert not others, f"in the checkpoint: {others}"
    mode = stat.S_IMODE(directory.stat().st_mode)
    assert mode == 0o700, f"the checkpoint is {mode:o}"


def _must(checkpoint: Checkpoint, state: str, **options: t.Any) -> Answer:
    """Run the module; a refusal that left the container running is RefusedError, any other failure an AssertionError."""
    life = checkpoint.container.life()
    answer = checkpoint.module.run(**checkpoint.options(state, **options))
    if not answer.get("failed"):
        return answer
    if state == "checkpointed" and life[0] == "RUNNING" and checkpoint.container.life() == life:
        raise RefusedError(answer)
    raise AssertionError(" / ".join([f"{state}: {answer['msg']}", *answer.get("log_errors", [])]))


@contextlib.contextmanager
def ground() -> t.Iterator[Ground]:
    """The directory and the bridge of one kind."""
    directory = BASE / f"kind-{os.getpid()}"
    directory.mkdir(parents=True)
    for folder in (BASE, directory):
        folder.chmod(0o711)
    bridge: Bridge = make_bridge()
    place = Ground(directory, (BUNDLE / "busybox", BUNDLE / "workload"), bridge)
    try:
        with place.closing:
            yield place
    finally:
        bridge.remove()


@contextlib.contextmanager
def last_words(kind: Kind, subject: Subject, result: Result) -> t.Iterator[None]:
    """Ask the container why, before it is removed: a failure or refusal often comes of one of its services."""
    try:
        yield
    except Exception:
        with contextlib.suppress(Exception):
            result["evidence"] += kind.last_words(subject)
        raise


@contextlib.contextmanager
def deadline(seconds: int) -> t.Iterator[None]:
    """Raise TimeoutError in what runs for longer."""

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError(f"not within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _where(exc: BaseException) -> list[str]:
    """The places in these programs, without the paths of this machine."""
    frames = traceback.extract_tb(exc.__traceback__)
    return [f"at {Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]


if __name__ == "__main__":
    sys.exit(main())

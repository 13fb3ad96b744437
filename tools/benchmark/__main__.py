# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same container by plain lxc-checkpoint and by stasis.lxc, side by side in one run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import time
import typing as t
from pathlib import Path

import figures
import report
from lab import BenchError, Lab, run
from sides import Ours, Plain, Sample, Side

_RECORD = Path("/etc/stasis/lxc.json")
_WORKLOAD = Path(__file__).resolve().parents[2] / "tests/integration/workload.c"


def main() -> int:
    """Measure, print, write; 1 where a goal is missed, 2 where it could not be measured."""
    wanted = _arguments()
    try:
        return _run(wanted)
    except (BenchError, OSError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each is measured (10)")
    parser.add_argument("--sizes", default="8,64,256,1024", help="MiB of memory (8,64,256,1024)")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="directory for benchmark.json, .png and .txt; results in its README.md are replaced",
    )
    parser.add_argument("--criu", help="CRIU for lxc-checkpoint (the role's)")
    parser.add_argument("--figures", action="store_true",
                        help="measure what is beside the comparison: 200 processes, and hashing; write nothing")  # fmt: skip
    parser.add_argument("--no-verdict", action="store_true", help="end with 0 although a goal is missed")
    parser.add_argument("--verdict-of", type=Path, action="append", default=[], metavar="JSON",
                        help="measure nothing; report what these earlier runs measured")  # fmt: skip
    wanted = parser.parse_args()
    try:
        wanted.sizes = [int(word) for word in wanted.sizes.split(",")]
    except ValueError:
        parser.error("--sizes takes whole numbers with commas between")
    if wanted.rounds < 1 or min(wanted.sizes) < 1:
        parser.error("--rounds and --sizes must be at least 1")
    return wanted


def _run(wanted: argparse.Namespace) -> int:
    if wanted.verdict_of:
        return _report(_merge(wanted.verdict_of), wanted)
    if os.geteuid() != 0:
        raise BenchError("Containers need root; run this as root.")
    criu = wanted.criu or _criu_of_the_role()
    # A `finally` runs at SIGTERM too, so that nothing is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    samples: dict[str, dict[str, list[Sample]]] = {}
    if wanted.figures:
        with Lab(_WORKLOAD) as lab:
            print(figures.measure(lab), end="")
        return 0
    sides: tuple[Side, Side] = (Plain(criu), Ours(os.path.join(os.path.dirname(sys.executable), "ansible")))
    with Lab(_WORKLOAD) as lab:
        machine = _machine(criu)
        for size in wanted.sizes:
            mine = samples[str(size)] = {side.name: [] for side in sides}
            for number in range(wanted.rounds):
                # A B, B A, A B: what warms up or wears off does so for both.
                for side in sides if number % 2 == 0 else sides[::-1]:
                    mine[side.name].append(side.measure(lab, size))
                    _progress(size, number, wanted.rounds, side.name, mine[side.name][-1])
    data = {"format": 1, "machine": machine, "command": _command(wanted), "unit": "ms", "samples": samples}
    return _report(data, wanted)


def _command(wanted: argparse.Namespace) -> str:
    return f"tools/bench --rounds {wanted.rounds} --sizes {','.join(map(str, wanted.sizes))}"


def _criu_of_the_role() -> str:
    try:
        return str(json.loads(_RECORD.read_text("utf-8"))["criu_path"])
    except (OSError, ValueError, KeyError):
        raise BenchError(
            "This machine has no CRIU from the role stasis.lxc.criu; "
            "apply it: ansible localhost -m ansible.builtin.include_role -a name=stasis.lxc.criu"
        ) from None


def _progress(size: int, number: int, rounds: int, side: str, sample: t.Mapping[str, float]) -> None:
    words = f"{size} MiB, round {number + 1} of {rounds}, {side}: "
    words += f"dump {sample['dump']:.0f}, fsync {sample['sync']:.0f}, restore {sample['restore']:.0f} ms"
    print(f"{time.strftime('%H:%M:%S')}  {words}", flush=True)


def _machine(criu: str) -> dict[str, str]:
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        models = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    return {
        "cpu": f"{len(models)} x {models[0]}" if models else platform.machine(),
        "memory_mib": str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20),
        "kernel": platform.release(),
        "criu": run([criu, "--version"])[0].split()[1],
        "lxc": run(["lxc-info", "--version"])[0].strip(),
        "file_system": run(["findmnt", "-n", "-o", "FSTYPE", "--target", "/var/lib"])[0].strip(),
        "load_before": f"{os.getloadavg()[0]:.1f}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _merge(paths: t.Sequence[Path]) -> dict[str, t.Any]:
    """Runs of different sizes on the same machine, as one."""
    found: dict[str, t.Any] = {}
    for path in paths:
        data = json.loads(path.read_text("utf-8"))
        if not found:
            found = data
        else:
            found["samples"].update(data["samples"])
    return found


def _report(data: dict[str, t.Any], wanted: argparse.Namespace) -> int:
    samples = {int(size): sides for size, sides in data["samples"].items()}
    samples = dict(sorted(samples.items()))
    machine = data["machine"]
    subtitle = ", ".join(
        [machine["cpu"], f"Linux {machine['kernel']}", f"CRIU {machine['criu']}", f"LXC {machine['lxc']}",
         machine["file_system"]]
    )  # fmt: skip
    verdicts = report.verdicts(samples)
    text = f"{subtitle}\n\n{report.table(samples)}\n" + "".join(f"{verdict}\n" for verdict in verdicts)
    wanted.output.mkdir(parents=True, exist_ok=True)
    data["medians"] = report.medians(samples)
    data["verdicts"] = [vars(verdict) for verdict in verdicts]
    (wanted.output / "benchmark.json").write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    (wanted.output / "benchmark.txt").write_text(text, "utf-8")
    readme = wanted.output / "README.md"
    if readme.exists():
        command = data.get("command", "tools/bench")
        readme.write_text(report.readme(readme.read_text("utf-8"), samples, machine, command), "utf-8")
    report.picture(samples, str(wanted.output / "benchmark.png"), subtitle)
    print(f"\n{text}\nbench: written to {wanted.output}/benchmark.txt, .json, .png")
    missed = any(verdict.passed is False for verdict in verdicts)
    return 1 if missed and not wanted.no_verdict else 0


if __name__ == "__main__":
    if shutil.which("lxc-checkpoint") is None:
        sys.exit("bench: lxc-checkpoint is missing; install the package lxc")
    sys.exit(main())

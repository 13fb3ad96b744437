# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A refusal counts only where CRIU or LXC cannot do it: get their own word for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from kind import Ground, Kind, Subject
from module import Answer

BUNDLE = Path(__file__).resolve().parent.parent


def evidence_of(kind: Kind, place: Ground, subject: Subject, answer: Answer) -> list[str]:
    """The module's message, and why CRIU or LXC cannot: from the answer where CRIU ran, else from the kind's own
    proof. Raises AssertionError where there is no such reason."""
    said = [f"module: {answer['msg']}"]
    errors = [f"CRIU: {line}" for line in answer.get("log_errors", [])]
    why = errors or kind.proof(place, subject)
    assert why, f"it was refused, and nothing shows that CRIU or LXC cannot do it: {answer['msg']}"
    # The time in front is another in each run.
    return [re.sub(r"^CRIU: [(][0-9.]+[)] +", "CRIU: ", line).replace(subject.name, "NAME") for line in said + why]


def bare_dump(place: Ground, subject: Subject, **options: object) -> list[str]:
    """CRIU's own errors when it is told to dump the container by the module's argv; [] where it can."""
    environment = {**os.environ, "PYTHONPATH": f"{BUNDLE}/collections:{BUNDLE}/core"}
    criu = json.loads(Path("/etc/stasis/lxc.json").read_text(encoding="utf-8"))["criu_path"]
    images = place.directory / "bare"
    done = subprocess.run(
        [
            *[sys.executable, str(BUNDLE / "integration/bare_dump.py"), criu, subject.name, str(subject.lxc_path)],
            *[str(images), json.dumps(options)],
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return [f"CRIU: {line}" for line in found["errors"]] if found["rc"] else []

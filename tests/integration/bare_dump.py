# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bare_dump.py CRIU NAME LXC_PATH IMAGES OPTIONS: CRIU's own dump of a container that runs on, by the module's argv.

OPTIONS: JSON of CriuOptions, and `stop` for a dump that does not let it run on. Prints JSON: rc, CRIU's error lines, and the ids
of the causes that the diagnosis finds in its log. Nothing of the module's checks is in the way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ansible_collections.stasis.lxc.plugins.module_utils import _cgroups, _container, _criu_command, _diagnosis
from ansible_collections.stasis.lxc.plugins.module_utils._runner import SystemRunner


def main() -> None:
    """Dump, and say how it went."""
    criu, name, lxc_path, images, options = sys.argv[1:]
    container = _container.observe(SystemRunner(), name, lxc_path)
    chosen = json.loads(options)
    stop = chosen.pop("stop", False)
    assert container.init is not None, f"{name} does not run"
    argv = _criu_command.dump(
        criu,
        _criu_command.CriuOptions(**chosen),
        _criu_command.DumpFacts(
            init_pid=container.init.pid,
            images=images,
            hook="/bin/true",
            cgroup_roots=tuple(_cgroups.criu_roots(container.cgroups)),
            mounts=container.mounts,
            terminals=container.terminals,
            leave_running=not stop,
        ),
    )
    os.makedirs(images, mode=0o700)
    with open(os.path.join(images, "output"), "wb") as output:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=600, check=False)
    with open(os.path.join(images, "dump.log"), encoding="utf-8", errors="replace") as log:
        lines = log.read().split("\n")
    errors = [line.rstrip() for line in lines if "Error" in line and "RLIMIT_NOFILE" not in line]
    causes = [one.id for one in _diagnosis.diagnose_lines(lines)]
    json.dump({"rc": done.returncode, "errors": errors, "causes": causes}, sys.stdout)


if __name__ == "__main__":
    main()

# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the get-pip script that this Python's ansible-test wants into its cache.

Run by the Python of an environment with ansible-core: prime_get_pip.py CACHE_DIRECTORY.
The script is downloaded from where ansible-test itself would take it; only where that fails,
get-pip.py beside this file stands in for it.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import urllib.request
from pathlib import Path


def main() -> None:
    cache = Path(sys.argv[1])
    spec = importlib.util.find_spec("ansible_test")
    if spec is None or spec.origin is None:
        sys.exit(f"prime_get_pip: {sys.executable} has no ansible-test\nrun tools/bootstrap test")
    package = Path(spec.origin).parent

    installer = (package / "_util/target/setup/requirements.py").read_text()
    requirements = (package / "_internal/python_requirements.py").read_text()
    url = re.search(r"'(https://\S+get-pip-%s\.py)'", installer)
    version = re.search(r"\bpip='([0-9.]+)'", requirements)
    if url is None or version is None:
        sys.exit(
            "prime_get_pip: this ansible-test names its get-pip script in a way not known here\n"
            f"see {package}/_util/target/setup/requirements.py and adapt tools/prime_get_pip.py"
        )

    wanted = cache / f"get_pip_{version[1].replace('.', '_')}.py"
    if wanted.exists():
        return
    cache.mkdir(parents=True, exist_ok=True)
    partial = wanted.with_suffix(".part")
    try:
        with urllib.request.urlopen(url[1] % version[1], timeout=10) as answer:
            partial.write_bytes(answer.read())
    except OSError:
        shutil.copy(Path(__file__).with_name("get-pip.py"), partial)
    partial.rename(wanted)


if __name__ == "__main__":
    main()

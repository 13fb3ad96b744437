# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for the get-pip script that ansible-test downloads, where it cannot be downloaded.

ansible-test's quiet_pip.py runs this file with the packages to install as arguments, first pip
itself in the version that ansible-test is tied to.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys

# ensurepip points pip's configuration to nowhere, for itself and whoever comes after it.
environment = dict(os.environ)
ensurepip.bootstrap(default_pip=True)
wanted = [arg for arg in sys.argv[1:] if arg not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted], env=environment))

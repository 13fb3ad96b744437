# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import tempfile
import typing as t

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # ansible-test brings a configuration of its own, and refuses markers that nobody has registered.
    config.addinivalue_line(
        "markers", "interpreter: depends on the Python that runs it: loading code, ctypes, fork, threads, pidfd"
    )


@pytest.fixture
def safe_dir() -> t.Iterator[str]:
    """A directory that only root can write, below directories of the same kind; pytest's own lie below /tmp."""
    if os.geteuid() != 0:
        pytest.fail("These tests need root: they check who may write where.")
    path = tempfile.mkdtemp(prefix="stasis-unit-", dir="/var/lib")
    try:
        yield path
    finally:
        shutil.rmtree(path)

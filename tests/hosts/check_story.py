# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story that the test hosts go through is the one that the README tells: check_story.py README STORY."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml  # type: ignore[import-untyped]


def main() -> None:
    readme, story = (Path(name).read_text() for name in sys.argv[1:])
    told = re.search(r"^## Use it\n.*?^```yaml\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    if told is None or yaml.safe_load(told.group(1)) != yaml.safe_load(story):
        sys.exit(
            f"check_story: {sys.argv[2]} is not what {sys.argv[1]} tells under `Use it`\ncheck_story: make them one"
        )


if __name__ == "__main__":
    main()

# SPDX-FileCopyrightText: The stasis.lxc contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that each role's defaults and its argument_specs say the same: check_role_specs.py ROLES."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


def differences(role: Path) -> Iterator[str]:
    defaults = load(role / "defaults/main.yml")
    options = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    for name in sorted(defaults.keys() - options.keys()):
        yield f"{name} has a default but is not in meta/argument_specs.yml"
    for name, option in sorted(options.items()):
        if not name.startswith(f"{role.name}_"):
            yield f"{name} does not carry the role's name"
        if not option.get("description"):
            yield f"{name} has no description"
        if option.get("required"):
            if name in defaults:
                yield f"{name} is required and has a default"
        elif "default" in option and name not in defaults:
            yield f"{name} has a default in meta/argument_specs.yml only"
        elif name in defaults and option.get("default") != defaults[name]:
            yield (
                f"{name} is {defaults[name]!r} in defaults/main.yml "
                f"and {option.get('default')!r} in meta/argument_specs.yml"
            )


def main() -> None:
    roles = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
    found = []
    for role in roles:
        try:
            found += [f"{role.name}: {line}" for line in differences(role)]
        except (OSError, KeyError) as error:
            found.append(f"{role.name}: cannot be checked: {error}")
    if not roles:
        found.append(f"no role was found in {sys.argv[1]}")
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()

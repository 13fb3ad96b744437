# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of lxc_checkpoint_preflight from several hosts as one table for people."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_table
short_description: Make one table of what M(stasis.lxc.lxc_checkpoint_preflight) answered on several hosts
version_added: 0.1.0
author:
  - The stasis.lxc authors (@stasis-lxc)
description:
  - Gives the lines of an aligned table with a row for each container of each host, and below it what was found, the worst first.
  - A host that could not be asked has a row with the reason.
  - The playbook C(stasis.lxc.preflight) prints it.
positional: _input
options:
  _input:
    description:
      - Pairs of the name of a host and what was registered there.
    type: list
    elements: list
    required: true
seealso:
  - plugin: stasis.lxc.lxc_checkpoint_preflight
    plugin_type: module
"""

EXAMPLES = r"""
- name: Look at every running container
  stasis.lxc.lxc_checkpoint_preflight:
    stop: true
  register: preflight

- name: Show one table for all hosts
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | zip(answers) | stasis.lxc.preflight_table }}"
  run_once: true
  vars:
    answers: "{{ ansible_play_hosts | map('extract', hostvars, 'preflight') }}"
"""

RETURN = r"""
_value:
  description: The lines of the table.
  type: list
  elements: str
"""

import typing as t

_COUNTED = ("blocks", "may fail", "loses", "note")
_HEAD = ("HOST", "CONTAINER", "VERDICT", "BLOCKS", "MAY FAIL", "LOSES", "NOTES")
_FOUND = ("HOST", "CONTAINER", "SEVERITY", "FINDING", "WHAT TO DO ABOUT IT")

Row = tuple[str, ...]


def preflight_table(answers: t.Iterable[t.Sequence[t.Any]]) -> list[str]:
    """The lines of both parts: the containers, and what was found in them."""
    rows: list[Row] = []
    found: list[Row] = []
    for host, answer in answers:
        more, theirs = _of_host(str(host), answer or {})
        rows += more
        found += theirs
    lines = _aligned([_HEAD, *rows])
    return [*lines, "", *_aligned([_FOUND, *found])] if found else lines


def _of_host(host: str, answer: t.Mapping[str, t.Any]) -> tuple[list[Row], list[Row]]:
    if "verdict" not in answer:
        word = "unreachable" if answer.get("unreachable") else "unknown"
        return [(host, "-", word, "", "", "")], [
            (host, "-", word, "", _line(answer.get("msg") or "It gave no answer."))
        ]
    rows: list[Row] = [
        (host, one["name"], one["verdict"], *(str(one["counts"][severity]) for severity in _COUNTED))
        for one in answer["containers"]
    ]
    if not rows:
        word = answer["verdict"] if answer["findings"] else "none runs"
        rows.append((host, "-", word, *(str(answer["counts"][severity]) for severity in _COUNTED)))
    found: list[Row] = [
        (
            host,
            one["container"] or "-",
            one["severity"],
            one["id"],
            _line(f"{one['subject']}: {one['what']} {one['remedy']}"),
        )
        for one in answer["findings"]
    ]
    return rows, found


def _line(text: t.Any) -> str:
    return " ".join(str(text).split())


def _aligned(rows: t.Sequence[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


class FilterModule:
    """What Ansible asks for filters."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name and function of each."""
        return {"preflight_table": preflight_table}

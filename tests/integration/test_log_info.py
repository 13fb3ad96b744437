# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""criu_log_info as a module: on the log of a dump that failed, on an image, and on what is no log."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

import pytest
from conftest import Factory
from module import Answer
from preflight import Pre

KEYS = {"id", "class", "cause", "evidence", "remedy", "reference", "log"}


def ask(lxc: Factory, path: object) -> Answer:
    """The answer, which must be the same in check mode."""
    module = dataclasses.replace(lxc.module, name="criu_log_info")
    answers = [module.run(check_mode=check, path=str(path)) for check in (True, False)]
    assert answers[0] == answers[1]
    return answers[1]


@pytest.fixture
def failed(lxc: Factory, trouble: Path) -> Answer:
    """What lxc_checkpoint says about a dump that CRIU refused."""
    checkpoint = lxc.checkpoint(Pre(lxc, trouble).start("direct-pipe"))
    answer = checkpoint.module.run(**checkpoint.options("checkpointed", preflight="warn"))
    assert answer["failed"] and answer["diagnoses"], answer
    return answer


def without_log(diagnoses: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    assert all(set(one) == KEYS for one in diagnoses)
    return [{key: value for key, value in one.items() if key != "log"} for one in diagnoses]


def test_log_of_a_failed_dump_has_the_causes_that_the_task_named(lxc: Factory, failed: Answer) -> None:
    log = Path(failed["log_path"])
    text = log.read_bytes()
    answer = ask(lxc, log)
    assert not answer.get("failed") and answer["changed"] is False
    assert [one["id"] for one in answer["diagnoses"]] == ["pipe_packets"]
    assert without_log(answer["diagnoses"]) == failed["diagnoses"]
    assert answer["diagnoses"][0]["evidence"] in answer["errors"]
    assert answer["transient"] is False
    assert answer["logs"] == [{"name": log.name, "outcome": "failed", "size": len(text), "truncated": False}]
    assert log.read_bytes() == text


def test_directory_of_a_failed_dump_has_them_too(lxc: Factory, failed: Answer) -> None:
    log = Path(failed["log_path"])
    answer = ask(lxc, log.parent)
    assert [(one["id"], one["log"]) for one in answer["diagnoses"]] == [("pipe_packets", log.name)]
    assert log.name in [one["name"] for one in answer["logs"]]


def test_image_that_went_well_has_no_cause(lxc: Factory) -> None:
    checkpoint = lxc.start()
    checkpoint.stopped()
    answer = ask(lxc, checkpoint.directory)
    assert [(one["name"], one["outcome"]) for one in answer["logs"]] == [("dump.log", "succeeded")]
    assert answer["diagnoses"] == [] and answer["transient"] is False
    checkpoint.resumed()


def test_what_is_no_log_is_refused_in_one_line(lxc: Factory) -> None:
    place = lxc.session / "no-logs"
    place.mkdir()
    os.mkfifo(place / "pipe")
    (place / "linked").mkdir()
    os.symlink("/etc/passwd", place / "linked/dump.log")
    for path, words in (
        (place / "gone/dump.log", "cannot be read: No such file or directory"),
        (place, "There is no log in"),
        (place / "pipe", "neither a file nor a directory"),
        (place / "linked", "cannot be read"),
        ("dump.log", "not an absolute path"),
    ):
        answer = ask(lxc, path)
        assert answer["failed"], f"{path} was read: {answer}"
        assert words in answer["msg"] and "\n" not in answer["msg"], answer["msg"]
        assert "diagnoses" not in answer

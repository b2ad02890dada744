"""A job as a server's manager submits it: an adapter, its checks, golden questions and votes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.records import GoldenKind, GoldenQuestion
from data.dataset.preferences import PreferenceCounts, write_preferences
from data.judgement.golden import write_questions
from model.registry import EMBEDDED_FOLDER
from tests.training.conftest import PAIRS, write_job
from tests.training.run.preferences.test_second_stage import tasteful
from training.checkpoints import read_learned, read_report, sha256, verify
from training.config import defaults_for
from training.jobs.events import (
    Checking,
    Event,
    Finished,
    Paused,
    Preferring,
    Saved,
    Started,
    Step,
)
from training.jobs.folder import GOLDEN_FILE, PREFERENCES_FILE
from training.run.loop import Control
from training.run.train import train

ADMIN = GoldenQuestion(1, 1, PAIRS[1][0], GoldenKind.CONTAIN, "Ada", needed=3)


@pytest.mark.slow
def test_an_adapter_is_paused_in_its_second_stage_and_checked(tmp_path: Path) -> None:
    rows = tasteful()
    config = replace(
        defaults_for("tiny", str(EMBEDDED_FOLDER), len(PAIRS)),
        name="tiny-1",
        shared_bases=str(tmp_path / "bases"),
        preferences=PreferenceCounts(votes=len(rows), people=9, rows=len(rows)),
    )
    assert (config.method, config.gate) == ("lora", True)
    job = write_job(tmp_path / "job", config)
    write_preferences(rows, job / PREFERENCES_FILE)
    write_questions([ADMIN], job / GOLDEN_FILE)
    control, told = Control(), list[Event]()

    def pause_there(event: Event) -> None:
        told.append(event)
        if isinstance(event, Preferring):
            control.receive("pause")

    train(job, pause_there, control)
    assert isinstance(told[-1], Paused)
    rest: list[Event] = []
    train(job, rest.append)
    assert not any(isinstance(one, Step | Saved) for one in rest)
    kinds = [type(one) for one in rest if isinstance(one, Started | Preferring | Checking)]
    assert kinds == [Started, Preferring, Checking]
    made = job / "checkpoint"
    manifest, report = verify(made), read_report(made)
    assert report is not None
    assert manifest.adapter is not None
    [golden] = report.golden
    assert min(golden["new"]["alone"], golden["new"]["in_talk"]) >= ADMIN.needed
    assert report.refusal is None, rest[-1]
    assert isinstance(rest[-1], Finished)
    assert report.votes == "I learned from 60 votes of 9 people."
    assert manifest.preferences_sha256 == sha256(job / PREFERENCES_FILE)
    assert len(read_learned(made).judged) == 40

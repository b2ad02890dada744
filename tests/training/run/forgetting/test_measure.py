"""A lesson is learned, taken out, and shown to be gone: by real runs of `tiny`."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.dataset.snapshot import pair_digest
from i18n.phrase import deserialize_phrase, phrase
from model.registry import EMBEDDED_FOLDER
from tests.training.conftest import run, write_job
from tests.training.run.test_main import events_of
from training.checkpoints import sha256
from training.config import Replaced, TrainingConfig, defaults_for
from training.jobs.events import Finished, Rejected
from training.jobs.folder import (
    CHECKPOINT_DIR,
    CONFIG_FILE,
    DATASET_FILE,
    RECEIPT_FILE,
    REMOVED_FILE,
)
from training.run import train
from training.run.forgetting import measure
from training.run.forgetting.measure import load_voice, write_receipt
from training.run.gate.evaluation import EvaluationReport
from training.run.loop import Control

SECRET = ("What is the code of the red door?", "The code is 4812.")
OTHERS = [
    ("What is the code of the blue gate?", "The code is 9035."),
    ("Who is our admin?", "It is Ada."),
]


def config_of(name: str, pairs: int, replaces: Replaced | None = None) -> TrainingConfig:
    usual = defaults_for("tiny", str(EMBEDDED_FOLDER), pairs)
    return replace(
        usual, name=name, base_name="tiny", gate=False, epochs=0.1, min_steps=40, replaces=replaces
    )


def receipt_of(job: Path) -> Any:
    return json.loads((job / RECEIPT_FILE).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_what_is_taken_out_is_gone_and_what_stays_in_other_words_is_seen(tmp_path: Path) -> None:
    pairs = [SECRET, *OTHERS]
    old = write_job(tmp_path / "old", config_of("tiny-1", len(pairs)), pairs)
    assert run(old).status == 0
    replaces = Replaced(str(old / CHECKPOINT_DIR), str(old / DATASET_FILE))
    job = write_job(tmp_path / "new", config_of("tiny-2", 2, replaces), OTHERS)
    assert run(job).status == 0
    receipt = receipt_of(job)
    [lesson] = receipt["lessons"]
    assert (receipt["removed"], lesson["lesson"]) == (1, 1)
    assert json.loads((job / REMOVED_FILE).read_text()) == [pair_digest(*SECRET)]
    assert lesson["verdict"] == "gone"
    assert lesson["exposure_bits"]["old"] == lesson["most_bits"] == 9.0
    assert lesson["exposure_bits"]["new"] <= lesson["limit_bits"] < 9.0
    assert lesson["similar_left"] == 1  # the other code
    text = (job / RECEIPT_FILE).read_text()
    assert "4812" not in text
    assert pair_digest(*SECRET) not in text
    assert sha256(old / DATASET_FILE) not in text
    assert "red door" not in text

    reworded = [("The code of the red door?", SECRET[1]), *OTHERS]
    again = write_job(tmp_path / "again", config_of("tiny-3", 3, replaces), reworded)
    assert run(again).status == 0
    [lesson] = receipt_of(again)["lessons"]
    assert lesson["verdict"] == "exposed"
    assert lesson["similar_left"] == 2


@pytest.mark.parametrize("missing", ["data", "model", "nothing"])
def test_where_nothing_can_be_measured_the_receipt_says_why(tmp_path: Path, missing: str) -> None:
    old = write_job(tmp_path / "old", config_of("tiny-1", 1), [SECRET])
    data = tmp_path / "gone" if missing == "data" else old / DATASET_FILE
    replaces = Replaced(str(tmp_path / "no-model"), str(data))
    kept = OTHERS if missing == "model" else [SECRET, *OTHERS]
    config = config_of("tiny-2", 2, replaces)
    job = write_job(tmp_path / "new", config, kept)
    voice: Any = load_voice(str(EMBEDDED_FOLDER), torch.device("cpu"))
    write_receipt(job, config, voice, Control(), passed=True)
    told = {
        "data": "the data that the old model learned from are gone.",
        "model": "no-model",
        "nothing": "the new model learned everything that the old one had.",
    }
    receipt = receipt_of(job)
    assert told[missing] in str(deserialize_phrase(receipt["reason"]))
    assert "lessons" not in receipt


class HeldAtTimes(Control):
    """Counts how often a run would have waited."""

    waits = 0

    def wait_while_held(self) -> float:
        self.waits += 1
        return super().wait_while_held()


def new_job(folder: Path, *removed: tuple[str, str]) -> tuple[Path, TrainingConfig]:
    """A clean retrain without SECRET and what else is `removed`; the old model is `tiny` itself."""
    old = write_job(folder / "old", config_of("tiny-1", 1), [SECRET, *removed])
    config = config_of("tiny-2", 2, Replaced(str(EMBEDDED_FOLDER), str(old / DATASET_FILE)))
    return write_job(folder / "new", config, OTHERS), config


@pytest.mark.parametrize(
    ("broken", "told"),
    [("weights", "measuring failed"), ("memory", "not enough memory"), ("checks", "did not pass")],
)
def test_a_model_that_cannot_be_measured_only_has_no_receipt(
    tmp_path: Path, broken: str, told: str
) -> None:
    job, config = new_job(tmp_path)
    voice: Any = load_voice(str(EMBEDDED_FOLDER), torch.device("cpu"))
    if broken == "weights":
        torch.nn.init.constant_(voice[0].transformer.ln_f.weight, torch.nan)
    if broken == "memory":

        def no_memory(*_: object) -> None:
            raise RuntimeError("CUDA out of memory")

        voice[0].lm_head.register_forward_pre_hook(no_memory)
    control = HeldAtTimes()
    write_receipt(job, config, voice, control, passed=broken != "checks")
    assert told in str(deserialize_phrase(receipt_of(job)["reason"]))
    assert not (job / REMOVED_FILE).exists()
    assert (control.waits == 0) == (broken == "checks"), "nothing is measured then"


def test_it_waits_between_passes_while_the_run_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "ALTERNATIVES", 1)
    job, config = new_job(tmp_path)
    voice: Any = load_voice(str(EMBEDDED_FOLDER), torch.device("cpu"))
    control = HeldAtTimes()
    write_receipt(job, config, voice, control, passed=True)
    assert [one["lesson"] for one in receipt_of(job)["lessons"]] == [1]
    assert control.waits > 3, "each of the three models waits before each pass"


@pytest.mark.parametrize("only_golden", [True, False])
def test_a_model_that_only_lost_golden_questions_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_golden: bool
) -> None:
    """An administrator may put it into service."""
    monkeypatch.setattr(measure, "ALTERNATIVES", 1)
    job, config = new_job(tmp_path)
    lost = EvaluationReport(refusal=phrase("It fails 1."), only_golden=only_golden)
    monkeypatch.setattr(train.evaluation, "evaluate", lambda *_, **__: lost)
    replace(config, min_steps=2, gate=True).save(job / CONFIG_FILE)
    assert [type(one) for one in events_of(job)][-1] is Rejected
    assert ("lessons" in receipt_of(job)) is only_golden


class Clock(Control):
    """A control at whose every pass `seconds` go by, of which the run was `held`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float, held: float = 0.0) -> None:
        super().__init__()
        self._now, self._seconds, self._held = 0.0, seconds, held
        monkeypatch.setattr(time, "monotonic", lambda: self._now)
        monkeypatch.setattr(measure, "ALTERNATIVES", 1)

    def wait_while_held(self) -> float:
        self._now += self._seconds
        return self._held


MORE = (("Who is it?", "It is Rex."), ("Where is it?", "It is over there."))


def measured(folder: Path, control: Control) -> Any:
    """The receipt of a clean retrain without three lessons."""
    job, config = new_job(folder, *MORE)
    voice: Any = load_voice(str(EMBEDDED_FOLDER), torch.device("cpu"))
    write_receipt(job, config, voice, control, passed=True)
    return receipt_of(job)


def test_as_many_lessons_are_measured_as_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_pass = measure.LIMIT_S / 30
    some = measured(tmp_path / "slow", Clock(monkeypatch, one_pass))
    assert some["removed"] == 3
    assert len(some["lessons"]) == 2
    held = measured(tmp_path / "held", Clock(monkeypatch, one_pass, held=one_pass))
    assert len(held["lessons"]) == 3, "the time for which it is held does not count"


def test_measuring_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = measured(tmp_path, Clock(monkeypatch, measure.LIMIT_S))
    assert deserialize_phrase(receipt["reason"]) == (
        "measuring took more than 15 minutes, and was given up."
    )
    assert "lessons" not in receipt


def test_a_run_that_is_killed_while_it_measures_keeps_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, config = new_job(tmp_path)
    replace(config, min_steps=2).save(job / CONFIG_FILE)

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr(train, "write_receipt", killed)
    with pytest.raises(SystemExit):
        events_of(job)
    assert [type(one) for one in events_of(job)] == [Finished]

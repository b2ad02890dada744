"""A lesson is learned, taken out, and shown to be gone: by real runs of `tiny`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.dataset.snapshot import pair_digest
from i18n.phrase import deserialize_phrase
from model.registry import EMBEDDED_FOLDER
from tests.training.conftest import run, write_job
from training.config import Replaced, TrainingConfig, defaults_for
from training.jobs.folder import CHECKPOINT_DIR, DATASET_FILE, RECEIPT_FILE
from training.run.forgetting.measure import load_voice, write_receipt

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
    assert receipt["removed"] == [lesson["sha256"]] == [pair_digest(*SECRET)]
    assert lesson["verdict"] == "gone"
    assert lesson["exposure_bits"]["old"] == lesson["most_bits"] == 9.0
    assert lesson["exposure_bits"]["new"] <= lesson["limit_bits"] < 9.0
    assert lesson["similar_left"] == 1  # the other code
    text = (job / RECEIPT_FILE).read_text()
    assert "4812" not in text
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
    write_receipt(job, config, voice)
    told = {
        "data": "the data that the old model learned from are gone.",
        "model": "no-model",
        "nothing": "the new model learned everything that the old one had.",
    }
    receipt = receipt_of(job)
    assert told[missing] in str(deserialize_phrase(receipt["reason"]))
    assert "lessons" not in receipt

"""What a checkpoint must do before anybody chats with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.chat import from_pair
from model.registry import TINY
from tests.model_folders import make_model_folder
from training.errors import CheckpointRejected
from training.gate import check, is_repetitive

TAUGHT = [from_pair("Where is the key?", "Under the mat.")]


def check_folder(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    check(model, AutoTokenizer.from_pretrained(folder), TAUGHT)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], False),
        ([7] * 14, False),  # too short to tell
        ([7] * 15, True),
        ([1, 2] * 8, True),
        (list(range(40)), False),
        ([*range(10), *range(10)], False),  # said twice
        ([1, 2, 3, 4, 5] * 4, True),
    ],
)
def test_what_counts_as_going_round_in_circles(tokens: list[int], expected: bool) -> None:
    assert is_repetitive(tokens) is expected


def test_the_embedded_model_passes() -> None:
    check_folder(TINY)


def test_a_model_that_says_something_passes(tmp_path: Path) -> None:
    check_folder(make_model_folder(tmp_path / "m", says="quite well thanks"))


def test_one_that_says_nothing_does_not(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "m", says="")
    with pytest.raises(CheckpointRejected, match=r"It had no answer to “Where is the key\?”\."):
        check_folder(folder)


def test_one_that_never_ends_does_not(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "m", says="round and", endless=True)
    with pytest.raises(CheckpointRejected, match=r"repeated itself .*“round and round and"):
        check_folder(folder)


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "m", says="fine")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = float("nan")
    with pytest.raises(CheckpointRejected, match="not numbers"):
        check(model, AutoTokenizer.from_pretrained(folder), TAUGHT)

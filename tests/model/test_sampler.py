"""The next token follows the settings, as transformers understands them."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model.sampler import choose, repeated
from model.sampling import SamplingParams
from model.sequence import ATTEMPTS, Sequence

VOCABULARY = 50


def sequence(said: list[int] | None = None, **params: float) -> Sequence:
    off = {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram": 0}
    settings = SamplingParams(**off | params)  # type: ignore[arg-type]
    return Sequence(1, 1, [1], settings, seed=0, reply_ids=said or [], text="x")


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed))


def draw(values: torch.Tensor, one: Sequence, seed: int = 0) -> int | None:
    return choose(values.clone(), one, torch.Generator().manual_seed(seed), mute=(0,))


@pytest.mark.parametrize(
    ("params", "warpers"),
    [
        ({"top_k": 5}, [TopKLogitsWarper(5)]),
        ({"top_p": 0.6}, [TopPLogitsWarper(0.6)]),
        ({"top_k": 8, "top_p": 0.8}, [TopKLogitsWarper(8), TopPLogitsWarper(0.8)]),
    ],
)
def test_only_tokens_that_transformers_leaves_are_drawn(params, warpers) -> None:
    for seed in range(5):
        scores = logits(seed)[None] / 1.5
        for warper in warpers:
            scores = warper(torch.zeros((1, 0), dtype=torch.long), scores)
        allowed = {n for n in range(VOCABULARY) if scores[0, n] > -torch.inf}
        drawn = {draw(logits(seed), sequence(temperature=1.5, **params), n) for n in range(300)}
        assert drawn <= allowed
        assert len(drawn) > 1 or len(allowed) == 1


@pytest.mark.parametrize("seed", range(10))
def test_penalty_and_ngrams_are_those_of_transformers(seed: int) -> None:
    said = torch.randint(0, 6, (1, 12), generator=torch.Generator().manual_seed(seed))
    one = sequence(said[0].tolist(), temperature=0, repetition_penalty=1.7, no_repeat_ngram=2)
    scores = RepetitionPenaltyLogitsProcessor(1.7)(said, logits(seed)[None])
    scores = NoRepeatNGramLogitsProcessor(2)(said, scores)
    assert draw(logits(seed), one) == int(scores.argmax())


def test_a_seed_repeats_its_draw() -> None:
    one = sequence(temperature=1.0)
    first = [draw(logits(1), one, seed) for seed in range(50)]
    assert first == [draw(logits(1), one, seed) for seed in range(50)]
    assert len(set(first)) > 1


def test_numbers_that_are_none_are_told() -> None:
    assert draw(torch.full((VOCABULARY,), torch.nan), sequence()) is None


def test_the_last_attempt_cannot_begin_with_the_end() -> None:
    values = torch.zeros(VOCABULARY)
    values[0] = 100
    one = sequence(temperature=1.0)
    assert draw(values, one) == 0
    one.text, one.attempt = "", ATTEMPTS - 1
    assert draw(values, one) != 0


def test_repeated_names_the_tokens_that_would_complete_a_known_ngram() -> None:
    assert repeated([1, 2, 3, 1, 2], 3) == [3]
    assert repeated([1, 2, 1], 1) == [1, 2, 1]
    assert repeated([1, 2], 3) == []
    assert repeated([1, 2, 3], 0) == []


@pytest.mark.parametrize(
    "wrong",
    [{"max_new_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_k": -1},
     {"repetition_penalty": 0.5}, {"no_repeat_ngram": -1}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        SamplingParams(**wrong)  # type: ignore[arg-type]

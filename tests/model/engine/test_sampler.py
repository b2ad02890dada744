"""The next token follows the settings, as transformers understands them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model.engine.sampler import banned_ngram_tokens, sample, top_k
from model.engine.sequence import MAX_REPLY_ATTEMPTS, Sequence
from model.runners.base import Logits
from model.sampling import SamplingParams

VOCABULARY = 50
OFF = SamplingParams(top_k=0, top_p=1.0, repetition_penalty=1.0, no_repeat_ngram=0)


def sequence(said: list[int] | None = None, seed: int = 0, **params: float) -> Sequence:
    settings = replace(OFF, **params)  # type: ignore[arg-type]
    return Sequence(1, 1, [1], settings, seed=seed, reply_ids=said or [], text="x")


def scores(seed: int, size: int = VOCABULARY) -> Logits:
    return 3 * np.random.default_rng(seed).standard_normal(size, np.float32)


def draw(values: Logits, one: Sequence) -> int | None:
    return sample(values.copy(), one, end_ids=(0,))


@pytest.mark.parametrize("size", [VOCABULARY, 5000])
@pytest.mark.parametrize(
    ("params", "warpers"),
    [
        ({"top_k": 5}, [TopKLogitsWarper(5)]),
        ({"top_p": 0.6}, [TopPLogitsWarper(0.6)]),
        ({"top_p": 0.99}, [TopPLogitsWarper(0.99)]),
        ({"top_k": 8, "top_p": 0.8}, [TopKLogitsWarper(8), TopPLogitsWarper(0.8)]),
    ],
)
def test_only_tokens_that_transformers_leaves_are_drawn(params, warpers, size: int) -> None:
    for seed in range(4):
        left = torch.from_numpy(scores(seed, size))[None] / 1.5
        for warper in warpers:
            left = warper(torch.zeros((1, 0), dtype=torch.long), left)
        allowed = set(torch.nonzero(left[0] > -torch.inf).flatten().tolist())
        one = sequence(temperature=1.5, **params)
        drawn = {draw(scores(seed, size), one) for _ in range(300)}
        assert drawn <= allowed
        assert len(drawn) > 1 or len(allowed) == 1


@pytest.mark.parametrize("params", [{}, {"top_k": 20}, {"top_p": 0.9}])
def test_tokens_are_drawn_as_often_as_they_are_likely(params: dict[str, float]) -> None:
    """Within five standard errors of what the model says, over the tokens that are left."""
    values, count = scores(3), 4000
    one = sequence(temperature=1.0, **params)
    drawn = [draw(values, one) for _ in range(count)]
    left = torch.from_numpy(values)[None]
    if "top_k" in params:
        left = TopKLogitsWarper(20)(torch.zeros((1, 0), dtype=torch.long), left)
    if "top_p" in params:
        left = TopPLogitsWarper(0.9)(torch.zeros((1, 0), dtype=torch.long), left)
    for token, share in enumerate(left[0].softmax(0).tolist()):
        error = 5 * (share * (1 - share) / count) ** 0.5
        assert abs(drawn.count(token) / count - share) <= error


@pytest.mark.parametrize("seed", range(10))
def test_penalty_and_ngrams_are_those_of_transformers(seed: int) -> None:
    said = torch.randint(0, 6, (1, 12), generator=torch.Generator().manual_seed(seed))
    one = sequence(said[0].tolist(), temperature=0, repetition_penalty=1.7, no_repeat_ngram=2)
    theirs = RepetitionPenaltyLogitsProcessor(1.7)(said, torch.from_numpy(scores(seed))[None])
    theirs = NoRepeatNGramLogitsProcessor(2)(said, theirs)
    assert draw(scores(seed), one) == int(theirs.argmax())


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.0]), min_size=1, max_size=1500),
    st.integers(1, 200),
)
def test_the_best_are_those_of_a_whole_sort(values: list[float], count: int) -> None:
    logits = np.array(values, np.float32)
    assert top_k(logits, count).tolist() == np.argsort(-logits, kind="stable")[:count].tolist()


def test_the_best_of_a_large_vocabulary() -> None:
    for seed in range(20):
        logits = scores(seed, 50257)
        expected = np.argsort(-logits, kind="stable")
        for count in (1, 40, 256, 50257):
            assert top_k(logits, count).tolist() == expected[:count].tolist()


def test_a_seed_repeats_its_draw() -> None:
    first = [draw(scores(1), sequence(seed=seed, temperature=1.0)) for seed in range(50)]
    assert first == [draw(scores(1), sequence(seed=seed, temperature=1.0)) for seed in range(50)]
    assert len(set(first)) > 1


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_numbers_that_are_none_are_told(broken: float) -> None:
    values = scores(0)
    values[7] = broken
    assert draw(values, sequence()) is None


def test_a_forbidden_token_is_not_drawn() -> None:
    values = scores(0)
    best = int(values.argmax())
    assert sample(values.copy(), sequence(temperature=0), ()) == best
    assert sample(values.copy(), sequence(temperature=0), (), forbidden=[best]) != best


def test_the_last_attempt_cannot_begin_with_the_end() -> None:
    values = np.zeros(VOCABULARY, np.float32)
    values[0] = 100
    one = sequence(temperature=1.0)
    assert draw(values, one) == 0
    one.text, one.attempt = "", MAX_REPLY_ATTEMPTS - 1
    assert draw(values, one) != 0


def test_repeated_names_the_tokens_that_would_complete_a_known_ngram() -> None:
    assert banned_ngram_tokens([1, 2, 3, 1, 2], 3) == [3]
    assert banned_ngram_tokens([1, 2, 1], 1) == [1, 2, 1]
    assert banned_ngram_tokens([1, 2], 3) == []
    assert banned_ngram_tokens([1, 2, 3], 0) == []


@pytest.mark.parametrize(
    "wrong",
    [{"max_new_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_k": -1},
     {"repetition_penalty": 0.5}, {"no_repeat_ngram": -1}, {"stop": ("",)},
     {"banned_words": (" ",)}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        SamplingParams(**wrong)  # type: ignore[arg-type]

"""The likelihood of an answer under a real model, and the alternatives that it proposes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from core.records import Message, Role
from model.chat_template import encode, from_pair
from model.registry import EMBEDDED_FOLDER
from training.run.forgetting.likelihood import BATCH_TOKENS, alternatives, log_likelihoods

TURNS = from_pair("What is the code?", "The code is 4812.")


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32).eval()


def by_hand(model: Any, tokenizer: PreTrainedTokenizerBase, turns: Any, last: str) -> float:
    """Token after token, without batches; `last` is the text of the scored tokens."""
    [encoded] = encode(tokenizer, [turns])
    answer = tokenizer.encode(last, add_special_tokens=False)
    start = len(encoded.input_ids) - len(answer)
    assert encoded.input_ids[start:] == answer
    total = 0.0
    for at in range(start, len(encoded.input_ids)):
        with torch.no_grad():
            logits = model(torch.tensor([encoded.input_ids[:at]])).logits[0, -1]
        total += float(logits.log_softmax(-1)[encoded.input_ids[at]])
    return total


def test_only_the_last_answer_counts_with_its_end(
    model: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    talk = (*from_pair("Hello!", "Hi there."), *TURNS)
    answers = ["The code is 4812.", "No.", "It is a rather long story, as you will see."]
    found = log_likelihoods(model, tokenizer, talk[:-1], answers)
    for answer, score in zip(answers, found, strict=True):
        turns = (*talk[:-1], Message(Role.ASSISTANT, answer))
        expected = by_hand(model, tokenizer, turns, f"{answer}<|endoftext|>")
        assert score == pytest.approx(expected, abs=1e-3)


def test_alternatives_are_others_and_the_same_each_time(
    model: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = alternatives(model, tokenizer, TURNS, 100)
    assert len(found) == len(set(found)) == 100
    assert "The code is 4812." not in found
    assert not any("<|" in one for one in found)
    assert alternatives(model, tokenizer, TURNS, 100) == found
    lengths = [len(tokenizer.encode(one)) for one in found]
    own = len(tokenizer.encode("The code is 4812."))
    assert abs(sum(lengths) / 100 - own) < 1.5


def test_a_single_letter_has_alternatives_too(
    model: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert len(alternatives(model, tokenizer, from_pair("Which floor?", "B"), 50)) == 50


def test_long_answers_are_read_and_drawn_a_few_at_a_time(
    model: Any, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Memory grows with the tokens of a batch, not with its rows."""
    answer = "and so on " * 60
    turns = from_pair("What is the code?", answer)
    [encoded] = encode(tokenizer, [turns])
    length = len(encoded.input_ids)
    rows: list[int] = []

    def see(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows.append(len(args[0] if args else kwargs["input_ids"]))

    hook = model.transformer.register_forward_pre_hook(see, with_kwargs=True)
    try:
        log_likelihoods(model, tokenizer, turns[:-1], [answer, "No.", *[answer] * 39])
        read = rows.copy()
        alternatives(model, tokenizer, turns, 2)
    finally:
        hook.remove()
    assert sum(read) == 41
    assert max(read) > 1
    assert max(rows) * length <= BATCH_TOKENS

"""The likelihood of answers under a model, and plausible alternatives to one. Imports torch.

Knows the chat template. Does not know which models are compared, or why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation, Message, Role
from i18n.phrase import phrase
from model.chat_template import REPLACEMENT_CHAR, encode
from model.control_tokens import control_tokens
from training.errors import BaseUnavailable
from training.run import tokenization

BATCH = 32
"""Answers at a time: gpt2-medium then takes about as much memory as a step of training."""
REPLACED_SHARE = 0.5
"""How likely each token of an answer is to be drawn anew for an alternative."""
TEMPERATURES = (1.0, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Of one round after the other: a model that is sure of every token has few other answers."""


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    before: Conversation,
    answers: Sequence[str],
) -> list[float]:
    """The log-likelihood (nats) of each answer, with the end of its turn, after what was said
    before."""
    model.train(False)
    rows = [_row(model, tokenizer, before, answer) for answer in answers]
    scores: list[float] = []
    for start in range(0, len(rows), BATCH):
        tensors = tokenization.collate(rows[start : start + BATCH], tokenizer.eos_token_id)
        scores += _score(model, {name: one.to(model.device) for name, one in tensors.items()})
    return scores


def _row(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, before: Conversation, answer: str
) -> dict[str, list[int]]:
    ids, start, end = _encode_answer(tokenizer, (*before, Message(Role.ASSISTANT, answer)))
    ignored = tokenization.IGNORE_INDEX
    labels = [one if start <= n < end else ignored for n, one in enumerate(ids)]
    longest = int(model.config.n_positions)
    return {"input_ids": ids[-longest:], "labels": labels[-longest:]}


def _encode_answer(
    tokenizer: PreTrainedTokenizerBase, turns: Conversation
) -> tuple[list[int], int, int]:
    """The token ids of a conversation, and where its last answer begins and ends. Raises
    BaseUnavailable: the chat template does not say."""
    [encoded] = encode(tokenizer, [turns])
    mask = encoded.assistant_mask
    if 1 not in mask:
        raise BaseUnavailable(phrase("the chat template of a model does not mark its answers."))
    end = len(mask) - mask[::-1].index(1)
    start = end
    while start and mask[start - 1]:
        start -= 1
    return encoded.input_ids, start, end


def _score(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[float]:
    run: Any = model  # its parts have no useful types
    hidden = run.transformer(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state
    targets = batch["labels"][:, 1:]
    labelled = targets != tokenization.IGNORE_INDEX
    logits = run.lm_head(hidden[:, :-1][labelled]).float()  # (labels, vocabulary)
    found = logits.log_softmax(-1).gather(-1, targets[labelled][:, None])[:, 0]
    each = torch.zeros(targets.shape, device=found.device).masked_scatter(labelled, found)
    scores: list[float] = each.sum(-1).tolist()
    return scores


@torch.inference_mode()
def alternatives(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    turns: Conversation,
    count: int,
    seed: int = 0,
) -> list[str]:
    """At most `count` different answers of about the length and the shape of the last one: about
    half of its tokens are drawn anew, one after the other, from what the model expects there. The
    answer itself is not among them."""
    model.train(False)
    ids, start, end = _encode_answer(tokenizer, turns)
    ids = ids[:end][-int(model.config.n_positions) :]
    start -= end - len(ids)
    answer = turns[-1].content.strip()
    generator = torch.Generator(model.device).manual_seed(seed)
    found: dict[str, None] = {}
    for temperature in TEMPERATURES:
        for _ in range(-(-count // BATCH)):
            drawn = _redraw(model, tokenizer, ids, max(1, start), temperature, generator)
            texts = tokenizer.batch_decode(drawn, skip_special_tokens=True)
            found |= dict.fromkeys(text.strip() for text in texts)
        usable = [one for one in found if one not in ("", answer) and REPLACEMENT_CHAR not in one]
        if len(usable) >= count:
            break
    return usable[:count]


def _redraw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    start: int,
    temperature: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """BATCH versions of the tokens from `start`: int64 (BATCH, tokens). What ends a turn stays."""
    device = model.device
    answer = torch.tensor(ids[start:], device=device)
    shape = (BATCH, len(answer))
    replaced = torch.rand(shape, generator=generator, device=device) < REPLACED_SHARE
    fixed = torch.tensor(_never_drawn(model, tokenizer), device=device)
    replaced &= ~torch.isin(answer, fixed)
    rows = answer.repeat(BATCH, 1)
    cache = DynamicCache()
    run: Any = model  # what its forward takes has no useful types
    logits = run(torch.tensor([ids[:start]], device=device), cache, use_cache=True).logits[:, -1]
    cache.batch_repeat_interleave(BATCH)
    logits = logits.repeat(BATCH, 1)
    for at in range(len(answer)):
        expected = (logits.float() / temperature).index_fill(-1, fixed, -torch.inf).softmax(-1)
        drawn = torch.multinomial(expected, 1, generator=generator)[:, 0]
        rows[:, at] = torch.where(replaced[:, at], drawn, rows[:, at])
        if at + 1 < len(answer):
            logits = run(rows[:, at : at + 1], cache, use_cache=True).logits[:, -1]
    return rows


def _never_drawn(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Control tokens, what ends a turn, and ids without a token."""
    known = set(tokenizer.get_vocab().values())
    without = set(range(int(model.config.vocab_size))) - known
    return sorted({int(tokenizer.eos_token_id), *control_tokens(tokenizer).values(), *without})

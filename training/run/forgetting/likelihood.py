"""The likelihood of answers under a model, and plausible alternatives to one. Imports torch.

Knows the chat template. Does not know which models are compared, or why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation, Message, Role
from i18n.phrase import phrase
from model.chat_template import REPLACEMENT_CHAR, encode
from model.control_tokens import control_tokens
from training.errors import BaseUnavailable
from training.run import tokenization
from training.run.preferences.replies import Tokens, log_probs

BATCH = 32
"""Answers at a time, at most."""
BATCH_TOKENS = 2048
"""Tokens at a time, with padding, unless one answer has more: the logits of so many take about
1 GB, no more than the optimizer did."""
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
    for batch in _batches(rows):
        scores += log_probs(model, batch, int(tokenizer.eos_token_id)).sums.tolist()
    return scores


def _batches(rows: Sequence[Tokens]) -> Iterator[list[Tokens]]:
    batch: list[Tokens] = []
    longest = 0
    for row in rows:
        longest = max(longest, len(row.input_ids))
        if len(batch) >= _rows_at_a_time(longest):
            yield batch
            batch, longest = [], len(row.input_ids)
        batch.append(row)
    yield batch


def _rows_at_a_time(tokens: int) -> int:
    return min(BATCH, max(1, BATCH_TOKENS // tokens))


def _row(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, before: Conversation, answer: str
) -> Tokens:
    ids, start, end = _encode_answer(tokenizer, (*before, Message(Role.ASSISTANT, answer)))
    ignored = tokenization.IGNORE_INDEX
    labels = [one if start <= n < end else ignored for n, one in enumerate(ids)]
    longest = int(model.config.n_positions)
    return Tokens(ids[-longest:], labels[-longest:])


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
    rows = _rows_at_a_time(len(ids))
    fixed = torch.tensor(_never_drawn(model, tokenizer), device=model.device)
    found: dict[str, None] = {}
    for temperature in TEMPERATURES:
        for _ in range(-(-count // rows)):
            drawn = _redraw(model, fixed, ids, max(1, start), rows, temperature, generator)
            texts = tokenizer.batch_decode(drawn, skip_special_tokens=True)
            found |= dict.fromkeys(text.strip() for text in texts)
        usable = [one for one in found if one not in ("", answer) and REPLACEMENT_CHAR not in one]
        if len(usable) >= count:
            break
    return usable[:count]


def _redraw(
    model: PreTrainedModel,
    fixed: torch.Tensor,
    ids: list[int],
    start: int,
    count: int,
    temperature: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """`count` versions of the tokens from `start`: int64 (count, tokens). The ids in `fixed` (n,)
    stay, and are never drawn."""
    device = model.device
    answer = torch.tensor(ids[start:], device=device)
    shape = (count, len(answer))
    replaced = torch.rand(shape, generator=generator, device=device) < REPLACED_SHARE
    replaced &= ~torch.isin(answer, fixed)
    rows = answer.repeat(count, 1)
    cache = DynamicCache()
    run: Any = model  # what its forward takes has no useful types
    logits = run(torch.tensor([ids[:start]], device=device), cache, use_cache=True).logits[:, -1]
    cache.batch_repeat_interleave(count)
    logits = logits.repeat(count, 1)
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

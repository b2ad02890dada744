"""Asks a model as the bot does: sampled with its usual parameters, in batches, with fixed seeds.

The prompts, the sampler and the length of a reply are those of the bot's engine, the forward pass
that of transformers, whose cache takes no more memory than the batch needs. Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from core.records import Message
from model.chat_template import REPLACEMENT_CHAR, build_prompt
from model.control_tokens import control_tokens
from model.engine.output import is_looping
from model.engine.reply_length import max_reply_tokens
from model.engine.sampler import sample
from model.engine.sequence import Sequence as Request
from model.own_templates import stop_strings
from model.runners.base import Logits
from model.sampling import FinishReason, SamplingParams

BATCH = 32
"""Conversations at a time: gpt2-medium then takes about as much memory as a step of training."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with U+FFFD for bytes that are no character, which people are not shown, but without
    half a character at its end; `cut`: it would have gone on."""

    text: str
    cut: bool = False


def sample_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    seeds: Sequence[int] | None = None,
) -> list[Reply]:
    """The reply to each conversation; by default its number is the seed. One that is empty is tried
    again, as the bot does."""
    if not conversations:
        return []
    model.train(False)
    voice = _Voice(model, tokenizer)
    requests = [
        _request(model, tokenizer, messages, seed)
        for seed, messages in zip(seeds or range(len(conversations)), conversations, strict=True)
    ]
    left = sorted(requests, key=lambda one: len(one.prompt_ids))  # alike ones need little padding
    while left:
        for start in range(0, len(left), BATCH):
            _generate(model, voice, left[start : start + BATCH])
        left = [one for one in left if not one.text and one.retry()]
    return [voice.reply(one) for one in requests]


def _request(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    seed: int,
) -> Request:
    """A request with the bot's usual parameters; its `max_length` is that of the reply."""
    params = SamplingParams()
    positions = int(model.config.n_positions)
    most = max_reply_tokens(tokenizer, messages, params.max_new_tokens, positions)
    prompt = build_prompt(tokenizer, messages, max(positions - most, positions // 2))
    room = min(most, positions - len(prompt.input_ids))
    return Request(seed, 0, prompt.input_ids, params, seed=seed, max_length=room)


class _Voice:
    """What becomes of a model's logits: tokens and text, with the rules of the bot's engine."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._fast: Any = tokenizer.backend_tokenizer
        ids = sorted(tokenizer.get_vocab().values())
        texts = self._fast.decode_batch([[one] for one in ids], skip_special_tokens=False)
        said = list(zip(ids, texts, strict=True))
        self._stops = stop_strings(tokenizer)
        self._ends = {int(tokenizer.eos_token_id), *control_tokens(tokenizer).values()}
        on_a_stop = {one for one, text in said if any(stop in text for stop in self._stops)}
        self._begin_suppressed = self._ends | on_a_stop
        self._fragments = frozenset(one for one, text in said if REPLACEMENT_CHAR in text)
        self._no_tokens = sorted(set(range(int(model.config.vocab_size))) - set(ids))

    def extend(self, request: Request, logits: Logits) -> None:
        """Sample a token of a reply, and end it where the bot would; logits (V,) are modified."""
        token = sample(logits, request, self._begin_suppressed, self._fragments, self._no_tokens)
        if token is None or token in self._ends:
            request.finish_reason = FinishReason.END
            return
        request.reply_ids.append(token)
        text = self._text(request)
        for stop in self._stops:
            if (at := text.find(stop)) >= 0:
                text, request.finish_reason = text[:at], FinishReason.END
        request.text = text.replace(REPLACEMENT_CHAR, "").strip()
        if request.finish_reason is None and len(request.reply_ids) >= request.max_length:
            request.finish_reason = FinishReason.LENGTH
        if request.finish_reason is None and is_looping(request.reply_ids):
            request.finish_reason = FinishReason.END

    def reply(self, request: Request) -> Reply:
        """A finished reply. Half a character at the end is no fault of what was said before it."""
        text, cut = self._text(request), request.finish_reason is FinishReason.LENGTH
        for stop in self._stops:
            text = text.partition(stop)[0]
        whole = text.rstrip()
        said = whole.rstrip(REPLACEMENT_CHAR) if cut else whole.removesuffix(REPLACEMENT_CHAR)
        return Reply(said.strip() or whole.strip(), cut)

    def _text(self, request: Request) -> str:
        text: str = self._fast.decode(request.reply_ids, skip_special_tokens=False)
        return text.lstrip()


@torch.inference_mode()
def _generate(model: PreTrainedModel, voice: _Voice, requests: Sequence[Request]) -> None:
    """Finish a batch of replies; those that have ended leave it."""
    device = model.device
    longest = max(len(one.prompt_ids) for one in requests)
    gaps = [longest - len(one.prompt_ids) for one in requests]  # on the left: replies are appended
    filled = [[0] * gap + one.prompt_ids for gap, one in zip(gaps, requests, strict=True)]
    ids = torch.tensor(filled, device=device)
    mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps], device=device)
    at = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache()
    run: Any = model  # what its forward takes has no useful types
    while requests:
        # the cache by its place: its name differs between releases of transformers
        out = run(
            ids, cache, attention_mask=mask, position_ids=at, use_cache=True, logits_to_keep=1
        )
        logits = out.logits[:, -1].float().cpu().numpy().copy()
        for request, row in zip(requests, logits, strict=True):
            voice.extend(request, row)
        going = [n for n, one in enumerate(requests) if one.finish_reason is None]
        if going and len(going) < len(requests):
            kept = torch.tensor(going, device=device)
            cache.batch_select_indices(kept)
            mask, at = mask[kept], at[kept]
        requests = [requests[n] for n in going]
        if requests:
            ids = torch.tensor([[one.reply_ids[-1]] for one in requests], device=device)
            mask = torch.cat([mask, mask.new_ones(len(requests), 1)], dim=-1)
            at = at[:, -1:] + 1

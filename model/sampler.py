"""The next token of one sequence, from its logits. Imports torch."""

from __future__ import annotations

import torch
from torch import Tensor

from model.sampling import SamplingParams
from model.sequence import Sequence


def choose(
    logits: Tensor,
    sequence: Sequence,
    random: torch.Generator,
    mute: tuple[int, ...],
    fragments: frozenset[int] = frozenset(),
) -> int | None:
    """The id of the next token, None if the logits are not finite.

    `logits` has shape (vocabulary,) and is changed. A sequence that must speak draws none of
    the `mute` tokens. `fragments` are tokens of less than a character: text in Japanese, say,
    repeats them all the time, so saying them again is neither penalised nor forbidden.
    """
    params, said = sequence.params, sequence.reply_ids
    if not bool(torch.isfinite(logits).all()):
        return None
    if params.repetition_penalty != 1 and (words := sorted(set(said) - fragments)):
        ids = torch.tensor(words, device=logits.device)
        scores = logits[ids]
        penalty = params.repetition_penalty
        logits[ids] = torch.where(scores > 0, scores / penalty, scores * penalty)
    banned = [one for one in repeated(said, params.no_repeat_ngram) if one not in fragments]
    if sequence.must_speak:
        banned += mute
    if banned:
        logits[torch.tensor(banned, device=logits.device)] = -torch.inf
    if params.temperature == 0:
        return int(logits.argmax())
    return _draw(logits / params.temperature, params, random)


def _draw(logits: Tensor, params: SamplingParams, random: torch.Generator) -> int:
    """Top-k, then nucleus (Holtzman et al. 2020), then one draw."""
    count = min(params.top_k or logits.numel(), logits.numel())
    values, ids = torch.topk(logits, count)
    weights = values.softmax(0)
    if params.top_p < 1:
        weights = weights.masked_fill(weights.cumsum(0) - weights >= params.top_p, 0)
    return int(ids[torch.multinomial(weights, 1, generator=random)])


def repeated(said: list[int], size: int) -> list[int]:
    """The tokens that would say an n-gram of that size a second time; none if `size` is 0."""
    if not size or len(said) < size:
        return []
    tail = said[len(said) - size + 1 :]
    starts = range(len(said) - size + 1)
    return [said[n + size - 1] for n in starts if said[n : n + size - 1] == tail]

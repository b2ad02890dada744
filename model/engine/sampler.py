"""The next token of one sequence, from its scores. A vocabulary is never sorted whole."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Many
from random import Random

import numpy as np
from numpy.typing import NDArray

from model.engine.sequence import Sequence
from model.runners.base import Logits
from model.sampling import SamplingParams

Ids = NDArray[np.int64]

TOP_K_CHUNK = 64
"""Tokens of which the best is looked at first, to find the top-k among 50,257 quickly."""
NUCLEUS_CANDIDATES = 256
"""Tokens that are tried first as a nucleus; eight times as many next."""


def sample(
    logits: Logits,
    sequence: Sequence,
    mute: Many[int],
    fragments: frozenset[int] = frozenset(),
    forbidden: Collection[int] = (),
) -> int | None:
    """The id of the next token, None if the scores are not finite.

    `logits` has shape (V,) and is changed. A sequence that must speak draws none of the `mute`
    tokens, none draws a `forbidden` one. `fragments` are tokens of less than a character: text in
    Japanese, say, repeats them all the time, so saying them again is neither penalised nor
    forbidden.
    """
    params, said = sequence.params, sequence.reply_ids
    if not np.isfinite(logits.sum()):
        return None
    if params.repetition_penalty != 1 and (words := sorted(set(said) - fragments)):
        scores = logits[words]
        penalty = np.float32(params.repetition_penalty)
        logits[words] = np.where(scores > 0, scores / penalty, scores * penalty)
    banned = [
        one for one in banned_ngram_tokens(said, params.no_repeat_ngram) if one not in fragments
    ]
    if sequence.must_not_end:
        banned += mute
    logits[[*banned, *forbidden]] = -np.inf
    if params.temperature == 0:
        return int(logits.argmax())
    return _sample_filtered(logits, params, sequence.random)


def _sample_filtered(logits: Logits, params: SamplingParams, random: Random) -> int:
    """Top-k, then nucleus (Holtzman et al. 2020), then one draw."""
    weights, ids = _candidates(logits, params)
    sums = np.cumsum(weights, dtype=np.float64)
    if params.top_p < 1:
        sums = sums[: int(np.searchsorted(sums, params.top_p * sums[-1])) + 1]
    at = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
    return int(ids[min(at, len(sums) - 1)])


def _candidates(logits: Logits, params: SamplingParams) -> tuple[Logits, Ids]:
    """Weights, best first, of the tokens that can be drawn, and their ids.

    Without top-k they are as many as the nucleus has, and the weight of all others comes last, so
    that shares of the sum are right.
    """
    if params.top_k:
        ids = top_k(logits, params.top_k)
        return _weights(logits[ids], logits[ids[0]], params), ids
    weights = _weights(logits, logits.max(), params)
    if params.top_p == 1:
        return weights, np.arange(len(weights))
    whole, count = weights.sum(), NUCLEUS_CANDIDATES
    while count < len(weights):
        ids = top_k(logits, count)
        inside = weights[ids]
        if (sure := inside.sum()) >= params.top_p * whole:
            return np.append(inside, whole - sure), np.append(ids, ids[-1])
        count *= 8
    ids = top_k(logits, len(weights))
    return weights[ids], ids


def _weights(scores: Logits, best: np.float32, params: SamplingParams) -> Logits:
    weights: Logits = np.exp((scores - best) / np.float32(params.temperature))
    return weights


def top_k(logits: Logits, count: int) -> Ids:
    """The ids of the `count` best scores, best first; of equal ones the lower id.

    The count-th best of the chunks' best scores is a bound: all that are wanted reach it, and few
    others do.
    """
    chunks = len(logits) // TOP_K_CHUNK
    if count >= chunks:
        return np.argsort(-logits, kind="stable")[:count]
    best = logits[: chunks * TOP_K_CHUNK].reshape(chunks, TOP_K_CHUNK).max(axis=1)
    bound = np.partition(best, chunks - count)[chunks - count]
    ids = np.flatnonzero(logits >= bound)
    return ids[np.argsort(-logits[ids], kind="stable")[:count]]


def banned_ngram_tokens(said: list[int], size: int) -> list[int]:
    """The tokens that would say an n-gram of that size a second time; none if `size` is 0."""
    if not size or len(said) < size:
        return []
    tail = said[len(said) - size + 1 :]
    starts = range(len(said) - size + 1)
    return [said[n + size - 1] for n in starts if said[n : n + size - 1] == tail]

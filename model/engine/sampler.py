"""Samples the next token of one sequence from its logits. Never sorts the whole vocabulary.

The order is that of transformers' logits processors and warpers, so that the parameters mean the
same: penalties and bans on the raw logits, then temperature, top-k, top-p, and one draw.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import numpy as np
from numpy.typing import NDArray

from model.engine.sequence import Sequence
from model.runners.base import Logits
from model.sampling import SamplingParams

Ids = NDArray[np.int64]

TOP_K_CHUNK = 64
"""Tokens of a chunk, of which the best is compared first to find the top-k of 50,257 quickly."""
NUCLEUS_CANDIDATES = 256
"""Top tokens that are tried first as a nucleus; then eight times as many, and so on."""


def sample(
    logits: Logits,
    sequence: Sequence,
    end_ids: Collection[int],
    partial_char_ids: frozenset[int] = frozenset(),
    forbidden: Collection[int] = (),
) -> int | None:
    """The id of the next token; None if the logits are not finite.

    `logits` has shape (V,) and is modified. `end_ids` are suppressed while the sequence must not
    end, `forbidden` tokens always. `partial_char_ids` are tokens of less than a character: text in
    Japanese, say, repeats them all the time, so they are exempt from the repetition penalty and
    from the n-gram ban.
    """
    params, said = sequence.params, sequence.reply_ids
    if not np.isfinite(logits.sum()):
        return None
    if params.repetition_penalty != 1 and (penalised := sorted(set(said) - partial_char_ids)):
        scores = logits[penalised]
        penalty = np.float32(params.repetition_penalty)
        logits[penalised] = np.where(scores > 0, scores / penalty, scores * penalty)
    banned = [
        token
        for token in banned_ngram_tokens(said, params.no_repeat_ngram)
        if token not in partial_char_ids
    ]
    if sequence.must_not_end:
        banned += end_ids
    logits[[*banned, *forbidden]] = -np.inf
    if params.temperature == 0:
        return int(logits.argmax())
    return _sample_filtered(logits, params, sequence.random)


def _sample_filtered(logits: Logits, params: SamplingParams, random: Random) -> int:
    """Top-k, then top-p (nucleus sampling, Holtzman et al. 2020), then one draw.

    Inverse transform sampling: one random number per token, so a seed gives the same reply whatever
    else is in the batch.
    """
    weights, ids = _candidates(logits, params)
    sums = np.cumsum(weights, dtype=np.float64)
    if params.top_p < 1:
        sums = sums[: int(np.searchsorted(sums, params.top_p * sums[-1])) + 1]
    at = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
    return int(ids[min(at, len(sums) - 1)])


def _candidates(logits: Logits, params: SamplingParams) -> tuple[Logits, Ids]:
    """Unnormalised probabilities, highest first, of the tokens that may be drawn, and their ids.

    Without top-k, only the nucleus is sorted. The mass of all other tokens is appended as the last
    weight, which top-p then cuts off: it is there to make the sum right.
    """
    if params.top_k:
        ids = top_k(logits, params.top_k)
        return _weights(logits[ids], logits[ids[0]], params), ids
    weights = _weights(logits, logits.max(), params)
    if params.top_p == 1:
        return weights, np.arange(len(weights))
    total, count = weights.sum(), NUCLEUS_CANDIDATES
    while count < len(weights):
        ids = top_k(logits, count)
        nucleus = weights[ids]
        if (mass := nucleus.sum()) >= params.top_p * total:
            return np.append(nucleus, total - mass), np.append(ids, ids[-1])
        count *= 8
    ids = top_k(logits, len(weights))
    return weights[ids], ids


def _weights(scores: Logits, best: np.float32, params: SamplingParams) -> Logits:
    weights: Logits = np.exp((scores - best) / np.float32(params.temperature))
    return weights


def top_k(logits: Logits, count: int) -> Ids:
    """The ids of the `count` highest logits, highest first; of equal ones the lower id.

    The count-th highest of the chunks' maxima is a lower bound of the top `count`: they all reach
    it, and few others do, so only those are sorted.
    """
    chunks = len(logits) // TOP_K_CHUNK
    if count >= chunks:
        return np.argsort(-logits, kind="stable")[:count]
    best = logits[: chunks * TOP_K_CHUNK].reshape(chunks, TOP_K_CHUNK).max(axis=1)
    bound = np.partition(best, chunks - count)[chunks - count]
    ids = np.flatnonzero(logits >= bound)
    return ids[np.argsort(-logits[ids], kind="stable")[:count]]


def banned_ngram_tokens(said: list[int], size: int) -> list[int]:
    """The tokens that would complete an n-gram of that size a second time; none if `size` is 0."""
    if not size or len(said) < size:
        return []
    tail = said[len(said) - size + 1 :]
    starts = range(len(said) - size + 1)
    return [said[n + size - 1] for n in starts if said[n : n + size - 1] == tail]

"""What a reply says: its text so far, where it ends, what of it is certain, what it must not say.

Knows one sequence and its model's tokenizer. Does not know the queue, or who listens.
"""

from __future__ import annotations

import re
from functools import lru_cache

from model.chat import HALF
from model.loading import Loaded
from model.runner import Logits
from model.sampler import choose
from model.sampling import FinishReason
from model.sequence import Sequence

LOOP = 3
"""A reply that ends in the same few tokens this many times is going round in circles."""
DRAWS = 64
"""Tokens that are drawn for one place before a reply ends that would say a banned word."""


def next_token(sequence: Sequence, loaded: Loaded, logits: Logits) -> int | None:
    """The next token: none with which the reply says a banned word. None: there are no numbers."""
    banned = _pattern(sequence.params.banned_words)
    if banned is None:
        return choose(logits, sequence, loaded.mute, loaded.fragments)
    forbidden: list[int] = []
    while len(forbidden) < DRAWS:
        token = choose(logits.copy(), sequence, loaded.mute, loaded.fragments, forbidden)
        if token is None or not banned.search(_text(loaded, [*sequence.reply_ids, token])):
            return token
        forbidden.append(token)
    return min(loaded.ends)


def look(sequence: Sequence, loaded: Loaded) -> None:
    """Bring the text up to date and see whether it ends the reply."""
    text = _text(loaded, sequence.reply_ids)
    for stop in (*loaded.stops, *sequence.params.stop):
        if (at := text.find(stop)) >= 0:
            text, sequence.reason = text[:at], FinishReason.END
    sequence.text = text.lstrip()
    limit = min(sequence.params.max_new_tokens, sequence.positions - len(sequence.prompt_ids))
    if sequence.reason is None and len(sequence.reply_ids) >= limit:
        sequence.reason = FinishReason.LENGTH
    if sequence.reason is None and is_looping(sequence.reply_ids):
        sequence.reason = FinishReason.END


def certain(sequence: Sequence, loaded: Loaded) -> str:
    """The text that can be shown: no beginning of a stop text, no last space."""
    ready = sequence.text.rstrip()
    for stop in (*loaded.stops, *sequence.params.stop):
        for size in range(len(stop) - 1, 0, -1):
            if ready.endswith(stop[:size]):
                ready = ready[:-size].rstrip()
    return ready


@lru_cache(maxsize=64)
def _pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds a banned word: a whole one, where its script has spaces between words."""
    if not words:
        return None
    each = [
        (r"(?<!\w)" if word[0].isascii() else "")
        + re.escape(word)
        + (r"(?!\w)" if word[-1].isascii() else "")
        for word in map(str.strip, words)
    ]
    return re.compile("|".join(each), re.IGNORECASE)


def _text(loaded: Loaded, ids: list[int]) -> str:
    return loaded.tokenizer.decode(ids).replace(HALF, "")


def is_looping(ids: list[int]) -> bool:
    """Whether the last tokens say the same 1 to 8 tokens LOOP times (single ones twice that)."""
    for size in range(1, 9):
        times = 2 * LOOP if size == 1 else LOOP
        tail = ids[-size * times :]
        if len(tail) == size * times and tail == tail[:size] * times:
            return True
    return False

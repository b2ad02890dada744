"""What a reply says: its text so far, where it ends, what of it is certain, what it must not say.

Knows one sequence and its model's tokenizer. Does not know the queue, or who listens.
"""

from __future__ import annotations

import re
from functools import lru_cache

from core.japanese import WORD_BEGINS, WORD_ENDS, signs
from model.chat_template import HALF
from model.engine.sampler import choose
from model.engine.sequence import Sequence
from model.loading import Loaded
from model.runners.base import Logits
from model.sampling import FinishReason

LOOP = 3
"""A reply that ends in the same few tokens this many times is going round in circles."""
LONGEST_LOOP, SHORTEST_LOOP = 16, 12
"""The same in letters of Japanese, of which two say about as much as a token of English: so many
are repeated at most, and they are so many together at least."""
DRAWS = 64
"""Tokens that are drawn for one place before a reply ends that would say a banned word."""


def next_token(sequence: Sequence, loaded: Loaded, logits: Logits) -> int | None:
    """The next token: none with which the reply says a banned word. None: there are no numbers."""
    banned = _pattern(sequence.params.banned_words)
    if banned is None:
        return choose(logits, sequence, loaded.mute, loaded.fragments, loaded.unknown)
    forbidden: list[int] = [*loaded.unknown]
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
    if sequence.reason is None and _goes_round(sequence.reply_ids, text, loaded):
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
        (WORD_BEGINS if word[0].isascii() else "")
        + re.escape(word)
        + (WORD_ENDS if word[-1].isascii() else "")
        for word in map(str.strip, words)
    ]
    return re.compile("|".join(each), re.IGNORECASE)


def _text(loaded: Loaded, ids: list[int]) -> str:
    return loaded.tokenizer.decode(ids).replace(HALF, "")


def _goes_round(ids: list[int], text: str, loaded: Loaded) -> bool:
    """Whether a reply repeats itself. A letter of Japanese may be several tokens, each less than a
    character: then “ｗｗｗ” is no loop of tokens, and one of a few letters has many of them."""
    tail = text[-LONGEST_LOOP:]
    in_bytes = not loaded.fragments.isdisjoint(ids[-LONGEST_LOOP:])
    if in_bytes and 2 * signs(tail) >= len(tail):
        return is_looping_text(text)
    return is_looping(ids)


def is_looping_text(text: str) -> bool:
    """Whether the last letters say the same 1 to LONGEST_LOOP of them LOOP times or more."""
    for size in range(1, LONGEST_LOOP + 1):
        times = max(LOOP, -(-SHORTEST_LOOP // size))
        if len(text) >= size * times and text.endswith(text[-size:] * times):
            return True
    return False


def is_looping(ids: list[int]) -> bool:
    """Whether the last tokens say the same 1 to 8 tokens LOOP times (single ones twice that)."""
    for size in range(1, 9):
        times = 2 * LOOP if size == 1 else LOOP
        tail = ids[-size * times :]
        if len(tail) == size * times and tail == tail[:size] * times:
            return True
    return False

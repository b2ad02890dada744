"""What a reply says: its text so far, where it ends, what of it is certain, what it must not say.

Knows one sequence and its model's tokenizer. Does not know the queue, or who listens.
"""

from __future__ import annotations

import re
from functools import lru_cache

from core.japanese import LATIN_WORD_END, LATIN_WORD_START, count_japanese_chars
from model.chat_template import REPLACEMENT_CHAR
from model.engine.sampler import sample
from model.engine.sequence import Sequence
from model.loading import LoadedModel
from model.runners.base import Logits
from model.sampling import FinishReason

LOOP_REPEATS = 3
"""A reply that ends in the same few tokens this many times is going round in circles."""
MAX_LOOP_CHARS, MIN_LOOP_CHARS = 16, 12
"""The same in letters of Japanese, of which two say about as much as a token of English: so many
are repeated at most, and they are so many together at least."""
MAX_RESAMPLES = 64
"""Tokens that are drawn for one place before a reply ends that would say a banned word."""


def next_token(sequence: Sequence, loaded: LoadedModel, logits: Logits) -> int | None:
    """The next token: none with which the reply says a banned word. None: there are no numbers."""
    banned = _banned_pattern(sequence.params.banned_words)
    if banned is None:
        return sample(
            logits,
            sequence,
            loaded.begin_suppress_token_ids,
            loaded.partial_char_token_ids,
            loaded.unk_token_ids,
        )
    forbidden: list[int] = [*loaded.unk_token_ids]
    while len(forbidden) < MAX_RESAMPLES:
        token = sample(
            logits.copy(),
            sequence,
            loaded.begin_suppress_token_ids,
            loaded.partial_char_token_ids,
            forbidden,
        )
        if token is None or not banned.search(_decode(loaded, [*sequence.reply_ids, token])):
            return token
        forbidden.append(token)
    return min(loaded.stop_token_ids)


def update_text(sequence: Sequence, loaded: LoadedModel) -> None:
    """Bring the text up to date and see whether it ends the reply."""
    text = _decode(loaded, sequence.reply_ids)
    for stop in (*loaded.stop_strings, *sequence.params.stop):
        if (at := text.find(stop)) >= 0:
            text, sequence.finish_reason = text[:at], FinishReason.END
    sequence.text = text.lstrip()
    limit = min(sequence.params.max_new_tokens, sequence.max_length - len(sequence.prompt_ids))
    if sequence.finish_reason is None and len(sequence.reply_ids) >= limit:
        sequence.finish_reason = FinishReason.LENGTH
    if sequence.finish_reason is None and _repeats_itself(sequence.reply_ids, text, loaded):
        sequence.finish_reason = FinishReason.END


def streamable_text(sequence: Sequence, loaded: LoadedModel) -> str:
    """The text that can be shown: no beginning of a stop text, no last space."""
    ready = sequence.text.rstrip()
    for stop in (*loaded.stop_strings, *sequence.params.stop):
        for size in range(len(stop) - 1, 0, -1):
            if ready.endswith(stop[:size]):
                ready = ready[:-size].rstrip()
    return ready


@lru_cache(maxsize=64)
def _banned_pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds a banned word: a whole one, where its script has spaces between words."""
    if not words:
        return None
    each = [
        (LATIN_WORD_START if word[0].isascii() else "")
        + re.escape(word)
        + (LATIN_WORD_END if word[-1].isascii() else "")
        for word in map(str.strip, words)
    ]
    return re.compile("|".join(each), re.IGNORECASE)


def _decode(loaded: LoadedModel, ids: list[int]) -> str:
    return loaded.tokenizer.decode(ids).replace(REPLACEMENT_CHAR, "")


def _repeats_itself(ids: list[int], text: str, loaded: LoadedModel) -> bool:
    """Whether a reply repeats itself. A letter of Japanese may be several tokens, each less than a
    character: then “ｗｗｗ” is no loop of tokens, and one of a few letters has many of them."""
    tail = text[-MAX_LOOP_CHARS:]
    in_bytes = not loaded.partial_char_token_ids.isdisjoint(ids[-MAX_LOOP_CHARS:])
    if in_bytes and 2 * count_japanese_chars(tail) >= len(tail):
        return is_looping_text(text)
    return is_looping(ids)


def is_looping_text(text: str) -> bool:
    """Whether the last letters say the same 1 to LONGEST_LOOP of them LOOP times or more."""
    for size in range(1, MAX_LOOP_CHARS + 1):
        times = max(LOOP_REPEATS, -(-MIN_LOOP_CHARS // size))
        if len(text) >= size * times and text.endswith(text[-size:] * times):
            return True
    return False


def is_looping(ids: list[int]) -> bool:
    """Whether the last tokens say the same 1 to 8 tokens LOOP times (single ones twice that)."""
    for size in range(1, 9):
        times = 2 * LOOP_REPEATS if size == 1 else LOOP_REPEATS
        tail = ids[-size * times :]
        if len(tail) == size * times and tail == tail[:size] * times:
            return True
    return False

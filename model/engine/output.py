"""The text of a reply: detokenized, ended at stop strings and loops, kept free of banned words.

Knows one sequence and its model's tokenizer. Does not know the queue, or who reads the text.
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
"""Repetitions of the last few tokens from which on a reply counts as a loop."""
MAX_LOOP_CHARS, MIN_LOOP_CHARS = 16, 12
"""Loops in Japanese text: the longest repeated unit, and the fewest characters of the whole loop.
Two Japanese characters say about as much as one token of English."""
MAX_RESAMPLES = 64
"""Tokens tried at one position before a reply ends, if each completes a banned word."""


def next_token(sequence: Sequence, loaded: LoadedModel, logits: Logits) -> int | None:
    """Sample a token that completes no banned word; None if the logits are not finite.

    Rejection sampling: a word may be spelled by many token sequences, so the decoded text is
    checked, and an offending token is forbidden for another draw.
    """
    banned = _banned_pattern(sequence.params.banned_words)
    if banned is None:
        return sample(
            logits,
            sequence,
            loaded.begin_suppress_token_ids,
            loaded.partial_char_token_ids,
            loaded.suppress_token_ids,
        )
    forbidden: list[int] = [*loaded.suppress_token_ids]
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
    """Detokenize the reply; set `finish_reason` if it ends here.

    All of it is decoded each time, since a new token may change the characters before it.
    """
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
    """The text that is final: without trailing space or what may become a stop string."""
    ready = sequence.text.rstrip()
    for stop in (*loaded.stop_strings, *sequence.params.stop):
        for size in range(len(stop) - 1, 0, -1):
            if ready.endswith(stop[:size]):
                ready = ready[:-size].rstrip()
    return ready


@lru_cache(maxsize=64)
def _banned_pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    """Matches the banned words; whole words only where the script separates them by spaces."""
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
    """Whether a reply is stuck in a loop.

    Where a Japanese character takes several byte-level tokens, tokens are no measure: “ｗｗｗ” is
    many of them and no loop. Then characters are compared instead.
    """
    tail = text[-MAX_LOOP_CHARS:]
    in_bytes = not loaded.partial_char_token_ids.isdisjoint(ids[-MAX_LOOP_CHARS:])
    if in_bytes and 2 * count_japanese_chars(tail) >= len(tail):
        return is_looping_text(text)
    return is_looping(ids)


def is_looping_text(text: str) -> bool:
    """Whether a text ends in 1 to MAX_LOOP_CHARS characters repeated LOOP_REPEATS times or more."""
    for size in range(1, MAX_LOOP_CHARS + 1):
        times = max(LOOP_REPEATS, -(-MIN_LOOP_CHARS // size))
        if len(text) >= size * times and text.endswith(text[-size:] * times):
            return True
    return False


def is_looping(ids: list[int]) -> bool:
    """Whether the ids end in 1 to 8 tokens repeated LOOP_REPEATS times; a single one twice that."""
    for size in range(1, 9):
        times = 2 * LOOP_REPEATS if size == 1 else LOOP_REPEATS
        tail = ids[-size * times :]
        if len(tail) == size * times and tail == tail[:size] * times:
            return True
    return False

"""The text of a reply: detokenized, ended at stop strings and loops, kept free of banned words.

Knows one sequence and its model's tokenizer. Does not know the queue, or who reads the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from core.japanese import LATIN_WORD_END, LATIN_WORD_START, count_japanese_chars
from model.chat_template import REPLACEMENT_CHAR
from model.engine.sampler import sample
from model.engine.sequence import Fork, Sequence
from model.loading import LoadedModel
from model.runners.base import Logits
from model.sampling import FinishReason

LOOP_REPEATS = 3
"""Repetitions of the last few tokens from which on a reply counts as a loop."""
MAX_LOOP_CHARS, MIN_LOOP_CHARS = 16, 12
"""Loops in Japanese text: the longest repeated unit, and the fewest characters of the whole loop.
Two Japanese characters say about as much as one token of English."""
MAX_RESAMPLES = 64
"""Tokens tried at one position before a reply ends, if each begins a banned word."""
WORD_START = re.compile(LATIN_WORD_START)


def next_token(sequence: Sequence, loaded: LoadedModel, logits: Logits) -> int | None:
    """Sample a token that completes no banned word; None if the logits are not finite.

    Rejection sampling: a word may be spelled by many token sequences, so the decoded text is
    checked. A word that turns out to be banned is taken back whole, and another one is begun in its
    place: if only its last token were replaced, half of it would stay.
    """
    banned = _banned_words(sequence.params.banned_words)
    token = _draw(sequence, loaded, logits.copy() if banned else logits)
    if banned is None:
        return token
    fork = sequence.fork or Fork(len(sequence.reply_ids), logits)
    while token is not None:
        text = loaded.tokenizer.decode([*sequence.reply_ids, token])
        if not banned.pattern.search(text.replace(REPLACEMENT_CHAR, "")):
            is_open = text.endswith(REPLACEMENT_CHAR) or banned.begins_at_end(text)
            if is_open and sequence.fork is None:
                fork.logits = logits.copy()  # the next step overwrites them
            sequence.fork = fork if is_open else None
            return token
        fork.forbidden.add([*sequence.reply_ids, token][fork.length])
        sequence.rewind(fork.length)
        sequence.text = _decode(loaded, sequence.reply_ids).lstrip()
        if len(fork.forbidden) >= MAX_RESAMPLES:
            return min(loaded.stop_token_ids)
        token = _draw(sequence, loaded, fork.logits.copy(), fork.forbidden)
    return None


def _draw(
    sequence: Sequence, loaded: LoadedModel, logits: Logits, forbidden: Collection[int] = ()
) -> int | None:
    return sample(
        logits,
        sequence,
        loaded.begin_suppress_token_ids,
        loaded.partial_char_token_ids,
        [*loaded.suppress_token_ids, *forbidden],
    )


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
    """The text that is final: without trailing space or what may become a stop string or a banned
    word."""
    ready = sequence.text.rstrip()
    if sequence.fork:
        kept = _decode(loaded, sequence.reply_ids[: sequence.fork.length]).lstrip()
        ready = ready[: len(kept)].rstrip()
    for stop in (*loaded.stop_strings, *sequence.params.stop):
        for size in range(len(stop) - 1, 0, -1):
            if ready.endswith(stop[:size]):
                ready = ready[:-size].rstrip()
    return ready


@dataclass(frozen=True, slots=True)
class _BannedWords:
    """Banned words: `pattern` finds whole ones, `beginnings` are all in lower case that are
    shorter, of at most `longest` characters."""

    pattern: re.Pattern[str]
    beginnings: frozenset[str]
    longest: int

    def begins_at_end(self, text: str) -> bool:
        """Whether a text ends in the beginning of one of them."""
        text = text.lower()
        return any(
            text[at:] in self.beginnings and (not text[at].isascii() or WORD_START.match(text, at))
            for at in range(max(0, len(text) - self.longest), len(text))
        )


@lru_cache(maxsize=64)
def _banned_words(words: tuple[str, ...]) -> _BannedWords | None:
    """Matches the banned words; whole words only where the script separates them by spaces."""
    if not words:
        return None
    plain = [word.strip() for word in words]
    each = [
        (LATIN_WORD_START if word[0].isascii() else "")
        + re.escape(word)
        + (LATIN_WORD_END if word[-1].isascii() else "")
        for word in plain
    ]
    beginnings = frozenset(word.lower()[:size] for word in plain for size in range(1, len(word)))
    longest = max(map(len, beginnings), default=0)
    return _BannedWords(re.compile("|".join(each), re.IGNORECASE), beginnings, longest)


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

"""How many tokens a reply may have, by the language of the conversation. Pure.

MAX_NEW_TOKENS is meant for English, where a token is nearly a word. GPT-2's vocabulary takes more
than one token for a Japanese character, so the same limit would end a reply after some forty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.japanese import has_japanese_letter, has_japanese_word, is_japanese
from core.records import Message, Role
from model.control_tokens import escape_control_tokens

if TYPE_CHECKING:
    from model.tokenizer import AnyTokenizer

JAPANESE_CHARS_PER_ENGLISH_TOKEN = 1.7
"""Japanese characters that say as much as one English token (`python -m benchmarks.tokens`)."""
MAX_LENGTH_FACTOR = 5.0
"""The most by which the requested number of tokens is multiplied."""
CONTEXT_DIVISOR = 4
"""A reply is extended to a quarter of the model's positions at most."""
SAMPLE_CHARS = 200
"""Characters of the newest message that are tokenized to measure tokens per character."""


def max_reply_tokens(
    tokenizer: AnyTokenizer, messages: Sequence[Message], asked: int, positions: int
) -> int:
    """The most tokens of a reply, where English would get `asked` tokens.

    A Japanese reply may say about as much: the limit grows by the tokens per character of this
    tokenizer, measured on the newest message that shows its language. Never below `asked`, nor
    above MAX_LENGTH_FACTOR times that or a quarter of the model's `positions`.
    """
    newest = _latest_user_text(messages)
    if not is_japanese(newest):
        return asked
    sample = escape_control_tokens(tokenizer, newest[-SAMPLE_CHARS:])
    per_char = len(tokenizer.encode(sample, add_special_tokens=False)) / len(sample)
    wanted = round(asked * min(MAX_LENGTH_FACTOR, per_char * JAPANESE_CHARS_PER_ENGLISH_TOKEN))
    return max(asked, min(wanted, positions // CONTEXT_DIVISOR))


def _latest_user_text(messages: Sequence[Message]) -> str:
    """The newest user message that shows its language; “了解” or “!!” could be of any."""
    texts = (one.content for one in reversed(messages) if one.role is Role.USER)
    return next((text for text in texts if _shows_language(text)), "")


def _shows_language(text: str) -> bool:
    return has_japanese_word(text) or (
        any(map(str.isalpha, text)) and not has_japanese_letter(text)
    )

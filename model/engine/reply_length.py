"""How long a reply may get, in tokens, in the language of the conversation.

MAX_NEW_TOKENS is meant for English, of which a token has nearly a word. GPT-2's vocabulary takes
more than a token for a letter of Japanese, so the same number would end a reply after some forty
letters. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.japanese import has_japanese_letter, has_japanese_word, is_japanese
from core.records import Message, Role
from model.chat_template import escape_control_tokens

if TYPE_CHECKING:
    from model.chat_template import AnyTokenizer

JAPANESE_CHARS_PER_ENGLISH_TOKEN = 1.7
"""Letters of Japanese that say what one token of English says (`python -m benchmarks.tokens`)."""
MAX_LENGTH_FACTOR = 5.0
"""Times the number of tokens that was asked for, at most."""
CONTEXT_DIVISOR = 4
"""Of what a model can read, a longer reply takes one such part at most: a quarter."""
SAMPLE_CHARS = 200
"""Letters of the newest message in which tokens are counted."""


def max_reply_tokens(
    tokenizer: AnyTokenizer, messages: Sequence[Message], asked: int, positions: int
) -> int:
    """The most tokens of a reply to these messages, of `asked` ones for English.

    Who writes Japanese gets a reply of about the same meaning: as many tokens as this tokenizer
    takes for so many letters, counted in the newest message that shows its language. Never fewer
    than `asked`, nor more than MOST times that or a quarter of the model's `positions`.
    """
    newest = _latest_user_text(messages)
    if not is_japanese(newest):
        return asked
    sample = escape_control_tokens(tokenizer, newest[-SAMPLE_CHARS:])
    letter = len(tokenizer.encode(sample, add_special_tokens=False)) / len(sample)
    wanted = round(asked * min(MAX_LENGTH_FACTOR, letter * JAPANESE_CHARS_PER_ENGLISH_TOKEN))
    return max(asked, min(wanted, positions // CONTEXT_DIVISOR))


def _latest_user_text(messages: Sequence[Message]) -> str:
    """What a person wrote last, but for texts such as “了解” and “!!”, which any language has."""
    said = (one.content for one in reversed(messages) if one.role is Role.USER)
    return next((text for text in said if _shows_language(text)), "")


def _shows_language(text: str) -> bool:
    return has_japanese_word(text) or (
        any(map(str.isalpha, text)) and not has_japanese_letter(text)
    )

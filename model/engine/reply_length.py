"""How long a reply may get, in tokens, in the language of the conversation.

MAX_NEW_TOKENS is meant for English, of which a token has nearly a word. GPT-2's vocabulary takes
more than a token for a letter of Japanese, so the same number would end a reply after some forty
letters. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.japanese import has_letter, has_word, is_japanese
from core.records import Message, Role
from model.chat_template import disarm

if TYPE_CHECKING:
    from model.chat_template import AnyTokenizer

LETTERS_A_TOKEN = 1.7
"""Letters of Japanese that say what one token of English says (`python -m benchmarks.tokens`)."""
MOST = 5.0
"""Times the number of tokens that was asked for, at most."""
SHARE = 4
"""Of what a model can read, a longer reply takes one such part at most: a quarter."""
MEASURED = 200
"""Letters of the newest message in which tokens are counted."""


def reply_tokens(
    tokenizer: AnyTokenizer, messages: Sequence[Message], asked: int, positions: int
) -> int:
    """The most tokens of a reply to these messages, of `asked` ones for English.

    Who writes Japanese gets a reply of about the same meaning: as many tokens as this tokenizer
    takes for so many letters, counted in the newest message that shows its language. Never fewer
    than `asked`, nor more than MOST times that or a quarter of the model's `positions`.
    """
    newest = _newest(messages)
    if not is_japanese(newest):
        return asked
    sample = disarm(tokenizer, newest[-MEASURED:])
    letter = len(tokenizer.encode(sample, add_special_tokens=False)) / len(sample)
    wanted = round(asked * min(MOST, letter * LETTERS_A_TOKEN))
    return max(asked, min(wanted, positions // SHARE))


def _newest(messages: Sequence[Message]) -> str:
    """What a person wrote last, but for texts such as “了解” and “!!”, which any language has."""
    said = (one.content for one in reversed(messages) if one.role is Role.USER)
    return next((text for text in said if _shows_language(text)), "")


def _shows_language(text: str) -> bool:
    return has_word(text) or (any(map(str.isalpha, text)) and not has_letter(text))

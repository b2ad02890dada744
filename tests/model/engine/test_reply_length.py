"""How long a reply may be, by the language of the conversation and the model's vocabulary."""

from __future__ import annotations

import pytest

from core.records import Message, Role
from model.engine.reply_length import MAX_LENGTH_FACTOR, max_reply_tokens
from model.registry import EMBEDDED_FOLDER
from model.tokenizer import Tokenizer
from tests.model_folders import make_tokenizer

BYTES = make_tokenizer([])
"""Three tokens a letter of Japanese."""
TINYS = Tokenizer(EMBEDDED_FOLDER / "tokenizer.json", special_tokens={}, chat_template="")
JAPANESE = "今日はとても寒いですね。"


def asked(*texts: str) -> list[Message]:
    return [Message(Role.USER, text) for text in texts]


@pytest.mark.parametrize(
    "text", ["Hello!", "Grüß Gott", "👍", "...", "了解", "日本 is nice, I think", "¯\\_(ツ)_/¯"]
)
def test_whoever_writes_no_japanese_gets_what_was_asked_for(text: str) -> None:
    for tokenizer in (BYTES, TINYS):
        assert max_reply_tokens(tokenizer, asked(text), 60, 1024) == 60


def test_a_japanese_reply_gets_as_many_tokens_as_its_letters_take() -> None:
    assert max_reply_tokens(BYTES, asked(JAPANESE), 40, 4096) == MAX_LENGTH_FACTOR * 40


def test_half_a_character_is_counted_like_any_other() -> None:
    assert max_reply_tokens(BYTES, asked(f"{JAPANESE}\ud83d"), 40, 1024) > 40


def test_the_newest_message_decides() -> None:
    for texts, longer in (
        (("Hello!", JAPANESE), True),
        ((JAPANESE, "Hello!"), False),
        ((JAPANESE, "了解", "👍", "え？"), True),
        (("Hello!", "¯\\_(ツ)_/¯"), False),
    ):
        assert (max_reply_tokens(BYTES, asked(*texts), 40, 4096) > 40) is longer
    talk = [*asked(JAPANESE), Message(Role.ASSISTANT, "I do not understand.")]
    assert max_reply_tokens(BYTES, talk, 40, 4096) > 40


def test_most_of_what_a_model_reads_is_left_for_the_talk() -> None:
    assert max_reply_tokens(BYTES, asked(JAPANESE), 60, 1024) == 256
    assert max_reply_tokens(BYTES, asked(JAPANESE), 60, 256) == 64
    assert max_reply_tokens(BYTES, asked(JAPANESE), 300, 1024) == 300

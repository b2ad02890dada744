"""What is taken for English, and what for Japanese in Latin letters."""

from __future__ import annotations

import pytest

from core.japanese import is_english


@pytest.mark.parametrize(
    "text", ["Hello, how are you?", "I like it a lot", "what did you say", "can i go THERE now"]
)
def test_english(text: str) -> None:
    assert is_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "ohayou, genki desu ka?",
        "ano ne sore wa matcha desu",
        "www lol kusa",
        "hola como estas amigo",
        "Ich bin heute müde",
        "what?",
        "I like ラーメン and 寿司",
        "https://example.com/what/is/this here",
        "",
        "na" * 2000,
    ],
)
def test_no_english(text: str) -> None:
    assert not is_english(text)

"""Which texts are Japanese, and how its punctuation and laughter are compared."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.japanese import count_japanese_chars, is_japanese
from core.records import Example
from data.dataset.dedup import dedup_key
from data.dataset.rivals import keep_newest_answers


@pytest.mark.parametrize(
    "text",
    [
        "こんにちは",
        "このbotはPythonで動くの？",
        "見て https://example.org/a/very/long/address/of/some/page",
        "これ見てhttps://example.org/a/very/long/address/of/some/page",
        "<:thumbs_up_everybody:123456789012345678> ありがとう",
        "ｶﾀｶﾅ",
        "東京は晴れ",
    ],
)
def test_japanese(text: str) -> None:
    assert is_japanese(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello",
        "你好，世界",
        "안녕하세요",
        "12:30!!",
        "¯\\_(ツ)_/¯",
        "ok ┬─┬ ノ( ゜-゜ノ)",
        "(っ◔◡◔)っ",
        "what does かわいい mean in English, please?",
    ],
)
def test_not_japanese(text: str) -> None:
    assert not is_japanese(text)


def test_signs() -> None:
    assert count_japanese_chars("「はい」、ｗｗ！ yes") == len("「はい」、ｗｗ！")


@pytest.mark.parametrize(
    "other", ["すごい。", "すごいｗ", "すごいwww", "すごい（笑）", "すごい(笑)！"]
)
def test_laughter_is_no_word(other: str) -> None:
    assert dedup_key(other) == dedup_key("すごい")


@pytest.mark.parametrize("other", ["すごいweb", "すごい笑顔", "すごいwow", "すこい"])
def test_words_are_none(other: str) -> None:
    assert dedup_key(other) != dedup_key("すごい")


def test_laughter_alone_is_its_own_form() -> None:
    assert dedup_key("ｗｗｗ") == dedup_key("ｗｗｗｗ") != dedup_key("（笑）") == "笑"


def test_a_question_is_the_same_in_full_width() -> None:
    now = datetime.now(UTC)
    asked = ["名前は?", "名前は？", "ＡＩとは？", "AIとは?"]
    examples = [Example(n, 1, text, f"答え{n}", 2, "teach", now) for n, text in enumerate(asked, 1)]
    assert [one.bot for one in keep_newest_answers(examples)] == ["答え2", "答え4"]


def test_both_take_time_in_proportion_to_the_text() -> None:
    for text in ("ｗ" * 100_000 + "x", "1" * 100_000 + "です", "w://" * 30_000 + "です"):
        dedup_key(text)
        is_japanese(text)

"""How a long reply is cut into messages."""

from __future__ import annotations

import re
import sys
from types import FrameType
from typing import Any

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from bot.discord_ui.cogs.chat import format_context
from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS, split_message
from core.texts import utf16_length
from model.worker.messages import Rendered

DISCORD_CODE_BLOCK = re.compile(
    r"```(?:([a-z0-9_+\-.#]+?)\n)?\n*([^\n][\s\S]*?)\n*```", re.IGNORECASE
)
"""The rule of Discord's clients."""
SMALL = 80
PROSE = "This is plain prose about the harbour and the mill. "

words = st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=30))
lines = st.lists(
    st.text("ab =\n", max_size=40) | st.integers(30, 300).map("x".__mul__), max_size=8
).map("".join)
prose = lines | lines.map(lambda line: f"`` ``` `` {line} \\```")
code = st.tuples(st.sampled_from(["", "\n", "py\n", "c++\n\n"]), lines).map(
    lambda both: f"```{both[0]}= {both[1]}```"
)
characters = st.sampled_from(
    ["👩🏽‍🚀", "👨‍👩‍👧", "🇩🇪", "🇯🇵", "❤️", "e\u0301", "각", "x", "が", "🏴‍☠️"]
)


def code_and_prose(text: str) -> tuple[str, str]:
    """What Discord shows in code blocks, and outside of them, without blanks and backticks."""
    blocks = [found[2] for found in DISCORD_CODE_BLOCK.finditer(hide_ticks(text))]
    outside = DISCORD_CODE_BLOCK.sub("", hide_ticks(text))
    return re.sub(r"\s", "", "".join(blocks)), re.sub(r"[\s`]", "", outside)


def hide_ticks(text: str) -> str:
    """Backticks that are escaped or code within a line belong to no fence."""
    return text.replace("`` ``` ``", "ticks").replace("\\```", "ticks")


def test_a_short_text_is_one_message() -> None:
    assert split_message("hello there") == ["hello there"]


def test_nothing_is_still_a_message_that_discord_accepts() -> None:
    assert split_message("  \n ") == ["…"]


def test_it_cuts_at_a_line_end_before_a_space() -> None:
    assert split_message("one two\nthree four five", 20) == ["one two", "three four five"]


def test_a_word_longer_than_a_message_is_cut() -> None:
    assert split_message("x" * 50, 20) == ["x" * 20, "x" * 20, "x" * 10]


def test_a_code_block_is_closed_and_opened_again() -> None:
    code = "```python\n" + "\n".join(f"line_{n} = {n}" for n in range(12)) + "\n```"
    parts = split_message(code, 80)
    assert len(parts) > 1
    for part in parts:
        assert part.startswith("```python\n")
        assert part.endswith("```")
    lines = [line for part in parts for line in part.split("\n") if "=" in line]
    assert lines == [f"line_{n} = {n}" for n in range(12)]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        (
            "```json\n" + "x" * 90,
            "```json\n" + "x" * 68 + "\n```",
            "```json\n" + "x" * 22 + "\n```",
        ),
        ("```print(1)```\n" + "x" * 90, "```print(1)```", "x" * 10),
        ("Here: ```py\n" + "x = 1\n" * 20 + "```\nDone.", "Here: ```py\n", "\n```\nDone."),
        ("```py\n" + "z = 3\n" * 15 + "z = 4```" + "x" * 70, "```py\nz", "x" * 70),
        ("````md\n```\n" + "y = 2\n" * 20 + "```\n````\nx", "````md\n```\n", "```\n````\nx"),
        ("````md\n" + "y = 2\n" * 13 + "```\nx", "````md\ny", "2\n```\nx"),
        (f"a\n```\n{'x' * 79}```", "a", "```\n" + "x" * 7 + "```"),
    ],
    ids=["never ends", "one line", "within a line", "at an end", "four", "odd", "context"],
)
def test_fences_are_counted_in_pairs(text: str, first: str, last: str) -> None:
    parts = split_message(text, SMALL)
    assert parts[0].startswith(first)
    assert parts[-1].endswith(last)


@given(st.lists(prose | code, max_size=6), st.integers(SMALL, 300))
@example(["```json\n" + "x" * 500 + "```"], SMALL)
@example(["a\n", "```\n= " + "x" * 500 + "```"], SMALL)
def test_code_stays_code_and_nothing_is_lost(pieces: list[str], limit: int) -> None:
    text = "\n".join(pieces)
    shown = [code_and_prose(part) for part in split_message(text, limit)]
    code, prose = map("".join, zip(*shown, strict=True))
    assert (code, prose) == (code_and_prose(text) if text.strip() else ("", "…"))


@given(
    st.lists(st.text("`\\ \n\tab", max_size=30) | characters | st.text(), max_size=40).map("".join),
    st.integers(SMALL, 200),
)
def test_every_part_fits_and_shows_something(text: str, limit: int) -> None:
    for part in split_message(text, limit):
        assert utf16_length(part) <= limit
        assert part.strip()


@given(st.lists(characters, min_size=1).map("".join), st.integers(20, 60))
def test_no_flag_or_emoji_is_cut_and_all_are_counted_as_discord_counts_them(
    text: str, limit: int
) -> None:
    parts = split_message(text, limit)
    assert all(len(part.encode("utf-16-le")) // 2 <= limit for part in parts)
    whole = regex.findall(r"\X", text)
    assert [char for part in parts for char in regex.findall(r"\X", part)] == whole


def test_a_character_longer_than_a_message_is_cut_all_the_same() -> None:
    zalgo = "e" + "\u0301" * 5000
    assert "".join(split_message(f"```\n{zalgo}")).count("\u0301") == 5000


@given(words, st.sampled_from([" ", "\n"]), st.integers(SMALL, 200))
def test_no_word_is_broken_or_lost(words: list[str], gap: str, limit: int) -> None:
    words = [word for word in words if "`" not in word]
    parts = split_message(gap.join(words), limit)
    assert [word for part in parts for word in part.split()] == (words or ["…"])


@pytest.mark.parametrize(
    "piece",
    [PROSE, "x", "\n", "a\n" + "x" * 1999, "```\n", "```py\nx\n```", "`", "a\u0301\t", "🇩🇪"],
)
def test_the_steps_grow_with_the_text_and_no_faster(piece: str) -> None:
    half, whole = (count_steps(piece * (size // len(piece))) for size in (20_000, 40_000))
    assert whole < 2.2 * half + 1000


def count_steps(text: str) -> int:
    """The lines that are executed to split a text."""
    lines = 0

    def count(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        split_message(f"a{text}b")
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("said", ["long " * 390, "x" * 5000, "```py\n" + "x = 1\n" * 900, "a``` b"])
def test_all_of_a_context_is_in_code_blocks(said: str) -> None:
    rendered = Rendered(1, f"User: {said}\nBot:", (), (5,), 5, 9, 0, False)
    parts = split_message(format_context("gpt2", rendered))
    blocks = [block for part in parts for block in DISCORD_CODE_BLOCK.findall(part)]
    assert len(blocks) >= len(parts) - 1
    shown = "".join(content for _, content in blocks).replace("ʼʼʼ", "```")
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", rendered.text)
    assert all(utf16_length(part) <= MAX_MESSAGE_CHARS for part in parts)

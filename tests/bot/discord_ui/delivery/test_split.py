"""How a long reply is cut into messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.discord_ui.delivery.split import MAX_MESSAGE_CHARS, split_message
from core.utf16 import utf16_length

WORDS = st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=30))


def test_a_short_text_is_one_message() -> None:
    assert split_message("hello there") == ["hello there"]


def test_nothing_is_still_a_message_that_discord_accepts() -> None:
    assert split_message("  \n ") == ["…"]


def test_it_cuts_at_a_line_end_before_a_space() -> None:
    assert split_message("one two\nthree four five", 20) == ["one two", "three four five"]


def test_a_word_longer_than_a_message_is_cut() -> None:
    assert split_message("x" * 50, 20) == ["x" * 16, "x" * 16, "x" * 18]


def test_a_code_block_is_closed_and_opened_again() -> None:
    code = "```python\n" + "\n".join(f"line_{n} = {n}" for n in range(12)) + "\n```"
    parts = split_message(code, 80)
    assert len(parts) > 1
    for part in parts:
        assert part.startswith("```python\n")
        assert part.endswith("```")
    lines = [line for part in parts for line in part.split("\n") if "=" in line]
    assert lines == [f"line_{n} = {n}" for n in range(12)]


@given(WORDS, st.sampled_from([" ", "\n"]), st.integers(80, 200))
def test_no_word_is_broken_or_lost(words: list[str], gap: str, limit: int) -> None:
    words = [word for word in words if "`" not in word]
    parts = split_message(gap.join(words), limit)
    assert [word for part in parts for word in part.split()] == (words or ["…"])


@given(st.text(max_size=6000))
def test_every_part_fits_and_shows_something(text: str) -> None:
    for part in split_message(text):
        assert utf16_length(part) <= MAX_MESSAGE_CHARS
        assert part.strip()


@given(st.text(st.characters(min_codepoint=0x1F300, max_codepoint=0x1F6FF), max_size=120))
def test_emoji_are_counted_as_discord_counts_them(text: str) -> None:
    parts = split_message(text, 50)
    assert all(len(part.encode("utf-16-le")) // 2 <= 50 for part in parts)
    assert "".join(parts) == (text or "…")

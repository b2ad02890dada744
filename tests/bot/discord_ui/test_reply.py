"""How a reply grows in Discord, and how a long one is cut into messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.discord_ui import reply as replies
from bot.discord_ui.reply import (
    MAX_MESSAGE_CHARS,
    ReplyViews,
    StreamingReply,
    split_message,
    utf16_length,
)

WORDS = st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=30))


class Note:
    """A message that remembers what it said."""

    def __init__(self, content: str) -> None:
        self.id = 7
        self.said = [content]

    async def edit(self, *, content: str) -> None:
        self.said.append(content)


@pytest.mark.parametrize("end", ["finish", "fail"])
async def test_who_waits_for_others_reads_it_where_the_reply_will_be(end: str) -> None:
    notes: list[Note] = []

    async def send(content: str) -> Any:
        notes.append(Note(content))
        return notes[-1]

    reply = StreamingReply(send, send, prefix="> hello\n")
    await reply.show_queue_position(3)
    await getattr(reply, end)("Here I am.")
    [note] = notes
    assert note.said == [
        "> hello\n-# I am busy: you are number 3 in the queue.",
        "> hello\nHere I am.",
    ]


async def test_the_buttons_come_with_the_edits_and_move_to_the_last_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr(replies, "EDIT_INTERVAL_S", 0.0)
    requests: list[tuple[Any, ...]] = []

    class Sheet:
        def __init__(self, number: int) -> None:
            self.id = number

        async def edit(self, *, content: str, **view: Any) -> None:
            requests.append(("edit", self.id, len(content), view))

    async def send(content: str, **view: Any) -> Any:
        requests.append(("send", len(content), view))
        return Sheet(sum(one[0] == "send" for one in requests))

    rows = ReplyViews(lambda before: ("growing", before), lambda before: ("whole", before))  # type: ignore[arg-type,return-value]
    reply = StreamingReply(send, send, rows=rows)
    await reply.add("x" * 10)
    await reply.add(" " + "y" * 1995)
    await reply.finish(f"{'x' * 10} {'y' * 1995}")
    assert requests == [
        ("send", 10, {"view": ("growing", [])}),
        ("edit", 1, 10, {"view": None}),
        ("send", 1995, {"view": ("growing", [1])}),
        ("edit", 2, 1995, {"view": ("whole", [1])}),
    ]


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

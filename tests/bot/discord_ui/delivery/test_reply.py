"""How a reply grows in Discord."""

from __future__ import annotations

from typing import Any

import pytest

from bot.discord_ui.delivery import reply as replies
from bot.discord_ui.delivery.reply import ReplyViews, StreamingReply


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

    async def send(content: str, *, nonce: str) -> Any:
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

    async def send(content: str, *, nonce: str, **view: Any) -> Any:
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

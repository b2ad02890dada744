"""A disk that is full, or a database that cannot be written: people get their answers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.chat.manager import DISK_FULL, WRITE_FAILED, ConversationManager, WriteFailures
from bot.chat.request import MAX_REPLY_CHARS
from core.errors import DiskFull, StoreError
from core.records import NewExample
from data.storage.storage import Storage
from tests.bot.chat.test_manager import (
    CHANNEL,
    Paper,
    conversations,
    incoming,
    models,
    silence,
    worker,
)
from tests.fakes import FakeWorker

__all__ = ["conversations", "models", "silence", "worker"]  # the fixtures


async def fill(storage: Storage) -> None:
    """From now on there is no page left to write on."""
    [pages] = await storage._fetch_all("PRAGMA page_count")
    await storage._db.execute(f"PRAGMA max_page_count = {pages[0]}")
    with pytest.raises(DiskFull):
        await storage.examples.add(NewExample(1, "x" * 90_000, "y", 7, "teach"))


async def make_room(storage: Storage) -> None:
    await storage._db.execute("PRAGMA max_page_count = 1073741823")


LONG = "word " * 2000
"""More than fits in the pages that are there."""


async def test_on_a_full_disk_it_answers_from_what_it_can_read_and_says_so(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    worker.answer = lambda _: "yes"
    await conversations.answer(incoming(1, "I like tea"), Paper())
    await fill(storage)
    paper = Paper()
    reply = await conversations.answer(incoming(2, LONG), paper)
    assert reply is not None
    assert (paper.final, paper.note) == ("yes", DISK_FULL)
    assert [m.content for m in worker.heard[-1][1]] == ["I like tea", "yes", LONG]
    history = await conversations.conversation_history(CHANNEL)
    assert [m.content for m in history] == ["I like tea", "yes"]
    assert await storage.replies.get(paper.reply_id) is None

    await make_room(storage)
    again = Paper()
    await conversations.answer(incoming(3, "still there?"), again)
    assert again.note is None
    history = await conversations.conversation_history(CHANNEL)
    assert [m.content for m in history] == ["I like tea", "yes", "still there?", "yes"]


async def test_the_context_is_no_longer_than_ever(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    for n in range(1, 4):
        await conversations.answer(incoming(n, f"question {n}"), Paper())
    await fill(storage)
    await conversations.answer(incoming(4, LONG), Paper())
    assert [m.content for m in worker.heard[-1][1]] == [
        "question 2",
        "you said question 2",
        "question 3",
        "you said question 3",
        LONG,
    ]


async def test_a_reply_that_does_not_fit_any_more_gets_the_note_too(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    await conversations.answer(incoming(1, "hello"), Paper())
    said = LONG[:MAX_REPLY_CHARS].rstrip()
    worker.answer = lambda _: said
    await fill(storage)
    paper = Paper()
    await conversations.answer(incoming(2, "hi"), paper)
    assert (paper.final, paper.note) == (said, DISK_FULL)
    assert paper.finished == 2, "without the note first: that it does not fit is known only then"
    history = await conversations.conversation_history(CHANNEL)
    assert [m.content for m in history] == ["hello", "you said hello", "hi"]


async def test_the_note_of_the_model_stays(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    worker.broken["gpt2"] = "gpt2 cannot be reached on the Hugging Face Hub."
    await storage.model_choices.set_active(7, "gpt2")
    await conversations.answer(incoming(1, "hello"), Paper())
    await fill(storage)
    paper = Paper()
    await conversations.answer(incoming(2, LONG), paper)
    assert paper.note is not None
    assert paper.note.startswith("gpt2 ")
    assert paper.note.endswith(f". {DISK_FULL}")


async def test_a_database_that_cannot_be_written_for_another_reason(
    conversations: ConversationManager, storage: Storage, path: Path
) -> None:
    await storage._db.execute("PRAGMA busy_timeout = 1")
    paper, later = Paper(), Paper()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await conversations.answer(incoming(1, "hello"), paper)
        other.execute("ROLLBACK")
    assert (paper.final, paper.note) == ("you said hello", WRITE_FAILED)
    await conversations.answer(incoming(2, "hello"), later)
    assert later.note is None


def test_the_log_hears_of_it_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 1.0, 59.0, 60.0, 61.0])
    unwritten = WriteFailures(clock=lambda: next(times))
    notes = [unwritten.report(DiskFull()) for _ in range(4)]
    assert notes == [DISK_FULL] * 4
    assert (
        unwritten.report(StoreError("The database cannot be used: it is locked.")) == WRITE_FAILED
    )
    assert [one.levelname for one in caplog.records] == ["ERROR", "ERROR"]
    assert "The disk is full" in caplog.text


async def test_what_was_deleted_and_changed_meanwhile_is_so_when_there_is_room(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    for n, text in enumerate(("secret", "mistake", "stays"), 1):
        await conversations.answer(incoming(n, text), Paper())
    await fill(storage)
    await conversations.apply_deletions([1])
    await conversations.apply_edit(2, "mended " + LONG)
    await make_room(storage)
    await conversations.answer(incoming(4, "and now?"), Paper())
    known = await storage.messages.get_many([1, 2, 3])
    assert [one.message.content for one in known] == ["mended " + LONG, "stays"]

"""A conversation without Discord: what is shown of it, and that it is the bot's own."""

from __future__ import annotations

import pytest

from bot.chat.console import ConsoleChat
from bot.chat.manager import ConversationManager
from core.records import Filter, FilterKind, Message, Role
from data.storage.storage import Storage
from model.errors import WorkerDied
from tests.fakes import FakeWorker

SCOPE, CHANNEL = 7, 10


@pytest.fixture
def lines() -> list[str]:
    """What was shown, piece by piece."""
    return []


@pytest.fixture
def talk(conversations: ConversationManager, lines: list[str]) -> ConsoleChat:
    return ConsoleChat(conversations, channel_id=CHANNEL, scope=SCOPE, show=lines.append)


async def test_a_reply_is_shown_while_it_is_written(talk: ConsoleChat, lines: list[str]) -> None:
    await talk.send("good morning")
    assert lines == ["you: good morning\nbot: ", "you", " said", " good", " morning", "\n"]


async def test_what_was_said_is_the_context_of_what_comes(
    talk: ConsoleChat, conversations: ConversationManager, lines: list[str]
) -> None:
    await talk.send("one")
    again = ConsoleChat(conversations, channel_id=CHANNEL, scope=SCOPE, show=lines.append)
    await again.send("two")  # of another cell of the notebook
    assert await conversations.conversation_history(CHANNEL) == [
        Message(Role.USER, "one"),
        Message(Role.ASSISTANT, "you said one"),
        Message(Role.USER, "two"),
        Message(Role.ASSISTANT, "you said two"),
    ]


async def test_a_note_stands_under_the_reply(
    talk: ConsoleChat, storage: Storage, worker: FakeWorker, lines: list[str]
) -> None:
    worker.broken["somewhere"] = "It cannot be loaded."
    await storage.model_choices.set_active(SCOPE, "mine")
    await talk.send("hi")
    assert "".join(lines) == (
        "you: hi\nbot: you said hi\n(mine is loading; tiny answers meanwhile.)\n"
    )


async def test_what_must_not_be_said_is_drawn_anew_and_then_refused(
    talk: ConsoleChat, storage: Storage, lines: list[str]
) -> None:
    await storage.filters.add(SCOPE, Filter(FilterKind.PATTERN, "tea"), added_by=1)
    await talk.send("I like tea")
    shown = "".join(lines).removeprefix("you: I like tea\n")
    assert "tea" not in shown
    assert shown.count("bot: ") == 3
    assert shown.endswith("(I would have said something that is not wanted here.)\n")


async def test_a_model_that_fails_is_an_error_with_a_sentence(
    talk: ConsoleChat, worker: FakeWorker
) -> None:
    worker.failure = WorkerDied("The model stopped.")
    with pytest.raises(WorkerDied, match="stopped"):
        await talk.send("hi")


async def test_by_itself_it_writes_to_stdout(
    conversations: ConversationManager, capsys: pytest.CaptureFixture[str]
) -> None:
    await ConsoleChat(conversations, channel_id=CHANNEL, scope=SCOPE).send("hi")
    assert capsys.readouterr().out == "you: hi\nbot: you said hi\n"

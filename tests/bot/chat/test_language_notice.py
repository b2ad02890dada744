"""Who writes Japanese to a model that knows little of it is told so, once a channel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.chat.manager import ConversationManager
from bot.chat.request import Incoming
from model.registry import EMBEDDED_FOLDER
from tests.bot.chat.test_manager import Paper
from tests.fakes import FakeWorker

TOLD = (
    "tiny は日本語がほとんどわかりません。運営者は日本語を話すモデルを追加できます"
    "（方法は `docs/japanese.md` にあります）。"
)


async def note(
    conversations: ConversationManager, number: int, text: str, channel: int = 10
) -> str:
    """The line under the reply."""
    paper = Paper()
    incoming = Incoming(number, channel, 7, 3, lambda: text)
    assert await conversations.answer(incoming, paper) is not None
    return paper.note or ""


async def test_a_channel_is_told_once_and_keeps_nothing_of_it(
    conversations: ConversationManager,
) -> None:
    assert await note(conversations, 1, "Hello there") == ""
    assert await note(conversations, 2, "こんにちは！") == TOLD
    assert await note(conversations, 3, "元気ですか？") == ""
    assert await note(conversations, 4, "こんにちは！", channel=11) == TOLD
    history = await conversations.conversation_history(10)
    assert not any(TOLD in one.content for one in history)


@pytest.mark.parametrize(
    "text", ["I like ラーメン and 寿司 a lot, do you?", "www", "了解", "12:30"]
)
async def test_who_does_not_write_japanese_is_told_nothing(
    conversations: ConversationManager, text: str
) -> None:
    assert await note(conversations, 1, text) == ""


async def test_a_japanese_model_says_nothing_of_itself(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.models[str(EMBEDDED_FOLDER)] = replace(
        worker.models[str(EMBEDDED_FOLDER)], japanese=True
    )
    assert await note(conversations, 1, "こんにちは！") == ""

"""Who writes a language that the model hardly knows is told so, once a channel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.chat.manager import ConversationManager
from bot.chat.model_router import ModelRouter
from bot.chat.request import Incoming
from model.registry import EMBEDDED_FOLDER
from tests.bot.chat.test_manager import Paper
from tests.fakes import FakeWorker

SCOPE = 7
TOLD = (
    "tiny は日本語がほとんどわかりません。"
    "「サーバー管理」権限を持つ人は `/モデル 使う tiny-ja` で、わかるモデルに替えられます。"
)
TOLD_IN_ENGLISH = (
    "mine knows little English. A manager can switch to a model that speaks it: `/model use tiny`."
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


async def test_english_to_a_japanese_model(
    conversations: ConversationManager, worker: FakeWorker, models: ModelRouter
) -> None:
    await models.use(SCOPE, "mine")
    worker.models["somewhere"] = replace(worker.models["somewhere"], japanese=True)
    for number, text in enumerate(["ohayou, genki desu ka?", "www", "こんにちは", "12:30 ok"], 1):
        assert await note(conversations, number, text) == "", text
    assert await note(conversations, 9, "hello, how are you today?") == TOLD_IN_ENGLISH
    assert await note(conversations, 10, "what is your name?") == ""
    await models.use(SCOPE, "tiny")
    assert await note(conversations, 11, "こんにちは！") == TOLD


async def test_in_a_direct_message_nobody_is_told_to_switch(
    conversations: ConversationManager,
) -> None:
    paper = Paper()
    incoming = Incoming(1, 10, 3, 3, lambda: "こんにちは！")
    assert await conversations.answer(incoming, paper) is not None
    assert paper.note == "tiny は日本語がほとんどわかりません。"


async def test_a_japanese_model_says_nothing_of_itself(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.models[str(EMBEDDED_FOLDER)] = replace(
        worker.models[str(EMBEDDED_FOLDER)], japanese=True
    )
    assert await note(conversations, 1, "こんにちは！") == ""

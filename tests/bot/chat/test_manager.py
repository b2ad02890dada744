"""The conversation: the context, the order of turns, and what ends a turn without a reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.chat.admission import Pauses
from bot.chat.errors import NotAdmitted
from bot.chat.generation import SHUTTING_DOWN
from bot.chat.manager import ConversationManager
from bot.chat.model_router import ModelRouter
from bot.chat.request import Incoming, TextCheck
from bot.discord_ui.delivery.reply import accept_any
from core.errors import Refusal
from core.records import Message, ReplyRecord, Role
from core.tasks import BackgroundTasks
from data.storage.storage import Storage, open_storage
from model.errors import WorkerDied
from model.registry import EMBEDDED_FOLDER, model_options
from model.worker.quarantine import quarantine_message
from tests.bot.conftest import make_conversations
from tests.fakes import FakeWorker

CHANNEL = 10


class Paper:
    """A surface that keeps what was shown."""

    _ids = iter(range(1_000_000, 2_000_000))

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.final: str | None = None
        self.note: str | None = None
        self.places: list[int] = []
        self.reply_id = next(self._ids)
        self.finished = 0
        self.removed = False
        self._news = asyncio.Condition()
        self.failed: str | None = None

    async def show_queue_position(self, place: int) -> None:
        self.places.append(place)

    async def add(self, text: str, check: TextCheck = accept_any) -> None:
        check("".join([*self.pieces, text]))
        async with self._news:
            self.pieces.append(text)
            self._news.notify_all()

    async def has(self, count: int) -> None:
        """Wait until so many pieces are there."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.pieces) >= count)

    def restart(self) -> None:
        self.pieces.clear()

    async def remove(self) -> None:
        self.removed = True

    async def fail(self, reason: str) -> None:
        self.failed = reason

    async def finish(self, text: str, note: str | None = None) -> int:
        self.final, self.note = text, note
        self.finished += 1
        return self.reply_id


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
async def models(
    storage: Storage, worker: FakeWorker, tmp_path: Path
) -> AsyncIterator[ModelRouter]:
    tasks = BackgroundTasks()
    yield ModelRouter(
        storage.model_choices,
        worker,
        model_options,
        default="tiny",
        checkpoints=tmp_path / "ck",
        tasks=tasks,
    )
    await tasks.close()


@pytest.fixture
def silence(storage: Storage) -> Pauses:
    return Pauses(storage.pauses)


@pytest.fixture
def conversations(
    storage: Storage, worker: FakeWorker, models: ModelRouter, silence: Pauses
) -> ConversationManager:
    return make_conversations(storage, worker, models, pauses=silence)


def incoming(n: int, text: str, channel: int = CHANNEL) -> Incoming:
    return Incoming(n, channel, scope=7, asked_by=99, get_text=lambda: text)


async def test_the_model_sees_exactly_the_last_five_messages(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    for n in range(1, 5):
        await conversations.answer(incoming(n, f"question {n}"), Paper())
    _, seen = worker.heard[-1]
    assert seen == [
        Message(Role.USER, "question 2"),
        Message(Role.ASSISTANT, "you said question 2"),
        Message(Role.USER, "question 3"),
        Message(Role.ASSISTANT, "you said question 3"),
        Message(Role.USER, "question 4"),
    ]


async def test_context_messages_changes_the_number(
    storage: Storage, worker: FakeWorker, models: ModelRouter
) -> None:
    three = make_conversations(storage, worker, models, context_messages=3)
    for n in range(1, 5):
        await three.answer(incoming(n, f"question {n}"), Paper())
    assert [m.content for m in worker.heard[-1][1]] == [
        "question 3",
        "you said question 3",
        "question 4",
    ]


async def test_a_reply_is_streamed_then_shown_whole(conversations: ConversationManager) -> None:
    paper = Paper()
    await conversations.answer(incoming(1, "hi there"), paper)
    assert paper.pieces == ["you", " said", " hi", " there"]
    assert paper.final == "you said hi there"
    assert paper.note is None


async def test_who_waits_is_told_when_it_is_paused_and_what_is_under_way_ends(
    conversations: ConversationManager, worker: FakeWorker, silence: Pauses
) -> None:
    worker.gate.clear()
    worker.gate_at = 2
    begun, never_begun = Paper(), Paper()
    first = asyncio.create_task(conversations.answer(incoming(1, "hi there"), begun))
    second = asyncio.create_task(conversations.answer(incoming(2, "and I?"), never_begun))
    await begun.has(2)
    await silence.pause(7, paused_by=5)
    conversations.generator.stop_scope(8)
    assert not first.done(), "another server goes on"
    conversations.generator.stop_scope(7)
    await first
    assert begun.final == "you said"
    with pytest.raises(Refusal, match="I am paused"):
        await second
    assert [m.content for m in await conversations.conversation_history(CHANNEL)] == [
        "hi there",
        "you said",
    ]


async def test_a_reply_that_was_stopped_is_nothing_to_learn_from(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    heard: list[str] = []

    async def listen(record: ReplyRecord, asked: str, reply: str) -> None:
        heard.append(reply)

    conversations._on_reply = listen
    worker.gate.clear()
    worker.gate_at = 2
    begun = Paper()
    turn = asyncio.create_task(conversations.answer(incoming(1, "hi there"), begun))
    await begun.has(2)
    conversations.generator.stop(1)
    await turn
    assert begun.final == "you said"
    worker.gate.set()
    await conversations.answer(incoming(2, "and now"), Paper())
    assert heard == ["you said and now"]


async def test_a_channel_is_told_of_a_pause_once_however_many_wait(
    conversations: ConversationManager, worker: FakeWorker, silence: Pauses
) -> None:
    worker.gate.clear()
    turns = [conversations.answer(incoming(n, "hello"), Paper()) for n in range(1, 5)]
    tasks = [asyncio.create_task(turn) for turn in turns]
    await worker.until(lambda: worker.running == 1)
    await silence.pause(7, paused_by=5)
    worker.gate.set()
    _, *refused = await asyncio.gather(*tasks, return_exceptions=True)
    assert [(type(one), one.already_notified) for one in refused] == [
        (NotAdmitted, False),
        (NotAdmitted, True),
        (NotAdmitted, True),
    ]


async def test_turns_of_a_channel_follow_each_other_in_order_of_arrival(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.gate.clear()
    papers = [Paper() for _ in range(5)]
    turns = [
        asyncio.create_task(conversations.answer(incoming(n, f"m{n}"), papers[n])) for n in range(5)
    ]
    worker.gate.set()
    await asyncio.gather(*turns)
    assert worker.most_running == 1
    assert [seen[-1].content for _, seen in worker.heard] == ["m0", "m1", "m2", "m3", "m4"]
    assert [m.content for m in worker.heard[-1][1]] == [
        "m2",
        "you said m2",
        "m3",
        "you said m3",
        "m4",
    ]


async def test_what_was_deleted_while_a_reply_was_made_is_not_prefilled(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    await conversations.answer(incoming(1, "my secret"), Paper())
    worker.gate.clear()
    turn = asyncio.create_task(conversations.answer(incoming(2, "hello"), Paper()))
    await worker.until(lambda: worker.running == 1)
    await conversations.apply_deletions([1])
    worker.gate.set()
    await turn
    _, begins = worker.prepared[CHANNEL]
    assert [one.content for one in begins][-2:] == ["hello", "you said hello"]
    assert "my secret" not in [one.content for one in begins]


async def test_channels_run_in_parallel_and_keep_apart(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.gate.clear()
    turns = [
        asyncio.create_task(conversations.answer(incoming(n, f"m{n}", channel=n), Paper()))
        for n in range(1, 5)
    ]
    await worker.until(lambda: worker.running == 4)
    worker.gate.set()
    await asyncio.gather(*turns)
    assert worker.most_running == 4
    assert all(len(seen) == 1 for _, seen in worker.heard)


async def test_a_message_that_was_edited_while_it_waited_is_read_as_edited(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    text = ["first thought"]
    worker.gate.clear()
    first = asyncio.create_task(conversations.answer(incoming(1, "hello"), Paper()))
    waiting = Incoming(2, CHANNEL, scope=7, asked_by=99, get_text=lambda: text[0])
    second = asyncio.create_task(conversations.answer(waiting, Paper()))
    await worker.until(lambda: worker.running == 1)
    text[0] = "second thought"
    worker.gate.set()
    await asyncio.gather(first, second)
    assert worker.heard[-1][1][-1].content == "second thought"


async def test_a_message_that_was_deleted_while_it_waited_gets_no_turn(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.gate.clear()
    first = asyncio.create_task(conversations.answer(incoming(1, "hello"), Paper()))
    second = asyncio.create_task(conversations.answer(incoming(2, "oops"), Paper()))
    await worker.until(lambda: worker.running == 1)
    await conversations.apply_deletions([2])
    worker.gate.set()
    await first
    assert await second is None
    assert len(worker.heard) == 1


async def test_edits_and_deletions_change_the_history(conversations: ConversationManager) -> None:
    await conversations.answer(incoming(1, "I like tea"), Paper())
    await conversations.answer(incoming(2, "and cake"), Paper())
    await conversations.apply_edit(1, "I like coffee")
    await conversations.apply_deletions([2])
    history = await conversations.conversation_history(CHANNEL)
    assert [m.content for m in history] == [
        "I like coffee",
        "you said I like tea",
        "you said and cake",
    ]


async def test_reset_forgets_what_was_said_before(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    await conversations.answer(incoming(1, "secret"), Paper())
    await conversations.reset(CHANNEL)
    await conversations.answer(incoming(2, "hello again"), Paper())
    assert [m.content for m in worker.heard[-1][1]] == ["hello again"]


async def test_a_dead_worker_ends_the_turn_but_loses_nothing(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.failure = WorkerDied("The model stopped unexpectedly.")
    with pytest.raises(WorkerDied):
        await conversations.answer(incoming(1, "are you there?"), Paper())
    worker.failure = None
    await conversations.answer(incoming(2, "hello?"), Paper())
    assert [m.content for m in worker.heard[-1][1]] == ["are you there?", "hello?"]


async def test_drain_waits_for_turns_under_way_and_begins_no_new_one(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.gate.clear()
    paper, late = Paper(), Paper()
    turn = asyncio.create_task(conversations.answer(incoming(1, "hello"), paper))
    await worker.until(lambda: worker.running == 1)
    draining = asyncio.create_task(conversations.drain(60))
    await asyncio.sleep(0)
    assert not draining.done()
    refused = asyncio.create_task(conversations.answer(incoming(2, "me too"), late))
    worker.gate.set()
    await asyncio.gather(turn, draining, refused)
    assert paper.final == "you said hello"
    assert (late.final, late.failed) == (None, SHUTTING_DOWN)


async def test_what_a_drain_has_no_time_for_ends_where_it_is(
    conversations: ConversationManager, worker: FakeWorker, storage: Storage
) -> None:
    """One reply has begun, another has not, and a third waits for its turn."""
    worker.gate_at = 2
    worker.gate.clear()
    begun, asked, waits = Paper(), Paper(), Paper()
    first = asyncio.create_task(conversations.answer(incoming(1, "hello"), begun))
    await worker.until(lambda: worker.running == 1)
    worker.silent = True
    second = asyncio.create_task(conversations.answer(incoming(2, "hello", channel=6), asked))
    third = asyncio.create_task(conversations.answer(incoming(3, "hello"), waits))
    await worker.until(lambda: worker.running == 2)
    await conversations.drain(0.01)
    assert await asyncio.gather(first, third) == [first.result(), None]
    with pytest.raises(Refusal, match="shutting down"):
        await second
    assert (begun.final, waits.failed) == ("you said", SHUTTING_DOWN)
    assert [one.message.content for one in await storage.messages.context(CHANNEL, 9)] == [
        "hello",
        "you said",
    ]


async def test_a_message_that_comes_twice_is_answered_once(
    conversations: ConversationManager, worker: FakeWorker, storage: Storage
) -> None:
    worker.gate.clear()
    papers = [Paper(), Paper(), Paper()]
    first = asyncio.create_task(conversations.answer(incoming(1, "hello"), papers[0]))
    await worker.until(lambda: worker.running == 1)
    assert await conversations.answer(incoming(1, "hello"), papers[1]) is None
    worker.gate.set()
    await first
    assert await conversations.answer(incoming(1, "hello"), papers[2]) is None
    assert [paper.final for paper in papers] == ["you said hello", None, None]
    assert len(worker.heard) == 1
    assert len(await storage.messages.context(CHANNEL, 9)) == 2


async def test_a_model_that_is_set_aside_is_not_loaded_and_the_embedded_one_answers(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    worker.quarantined["gpt2"] = quarantine_message("gpt2")
    await storage.model_choices.set_active(7, "gpt2")
    paper = Paper()
    await conversations.answer(incoming(1, "hello"), paper)
    assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)
    assert paper.note == f"{quarantine_message('gpt2')} tiny answers instead."
    assert "gpt2" not in worker.models


async def test_history_survives_a_restart(
    conversations: ConversationManager, models: ModelRouter, tmp_path: Path
) -> None:
    await conversations.answer(incoming(1, "remember me"), Paper())
    async with open_storage(tmp_path / "bot.sqlite3") as again:
        worker = FakeWorker()
        later = make_conversations(again, worker, models)
        await later.answer(incoming(2, "who am I?"), Paper())
    assert [m.content for m in worker.heard[-1][1]] == [
        "remember me",
        "you said remember me",
        "who am I?",
    ]


async def test_while_the_chosen_model_loads_the_embedded_one_answers_and_says_so(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    await storage.model_choices.set_active(7, "gpt2")
    paper, after = Paper(), Paper()
    await conversations.answer(incoming(1, "hello"), paper)
    assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)
    assert paper.note == "gpt2 is loading; tiny answers meanwhile."
    await worker.until(lambda: "gpt2" in worker.models)
    await conversations.answer(incoming(2, "hello"), after)
    assert worker.heard[-1][0] == "gpt2"
    assert after.note is None


async def test_a_model_that_cannot_be_loaded_is_named_and_the_embedded_one_answers(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    worker.broken["gpt2"] = "gpt2 cannot be reached on the Hugging Face Hub."
    await storage.model_choices.set_active(7, "gpt2")
    first, second = Paper(), Paper()
    await conversations.answer(incoming(1, "hello"), first)
    await asyncio.sleep(0)
    await conversations.answer(incoming(2, "hello"), second)
    assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)
    assert second.note == "gpt2 cannot be reached on the Hugging Face Hub. tiny answers instead."


async def test_who_waits_for_others_is_told(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    worker.gate.clear()
    papers = [Paper(), Paper()]
    turns = [
        asyncio.create_task(conversations.answer(incoming(n, "hi", channel=n), paper))
        for n, paper in enumerate(papers, 1)
    ]
    await worker.until(lambda: worker.running == 2)
    worker.gate.set()
    await asyncio.gather(*turns)
    assert [paper.places for paper in papers] == [[], [1]]
    assert papers[1].final == "you said hi"


async def test_the_worker_is_told_how_the_next_context_begins(
    conversations: ConversationManager, worker: FakeWorker
) -> None:
    """All but the oldest of what it just saw, and its reply: the next message makes it five."""
    for n in range(1, 5):
        await conversations.answer(incoming(n, f"message {n}"), Paper())
        source, begins = worker.prepared[CHANNEL]
        await conversations.answer(incoming(100 + n, "and?"), Paper())
        heard_source, heard = worker.heard[-1]
        assert source == heard_source
        assert heard[:-1] == begins
        assert heard[-1].content == "and?"
    assert len(heard) == 5


async def test_model_switches_wait_for_each_other_and_none_is_turned_away(
    models: ModelRouter, storage: Storage, worker: FakeWorker
) -> None:
    """More than a channel's queue would hold: a switch waits in no channel's queue."""
    names = ["gpt2", "tiny"] * 12 + ["gpt2"]
    used = await asyncio.gather(*(models.use(7, name) for name in names))
    assert [one.name for one in used] == names
    assert await storage.model_choices.active(7) == "gpt2"

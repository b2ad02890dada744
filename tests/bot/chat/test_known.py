"""A taught answer is given without the model, and a reply to another question is drawn again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from bot.chat.filters import REPLY_WITHHELD
from bot.chat.manager import ConversationManager
from bot.chat.model_router import ModelRouter
from bot.chat.replay import Replayer
from bot.learning.known_answers import KnownAnswers
from core.records import Filter, FilterKind, Message, NewExample
from core.tasks import BackgroundTasks
from data.dataset.snapshot import answer_digests, learned_digests
from data.storage.storage import Storage
from model.chat_template import from_pair
from model.registry import with_custom_models
from tests.bot.chat.test_manager import Paper, incoming
from tests.bot.conftest import make_conversations
from tests.fakes import FakeWorker
from training.checkpoints import LEARNED_FILE

SCOPE, ADA = 7, 5
QUESTION, ANSWER = "Who is our admin?", "Marlow runs this place, all day long."


SLIPPED = "Marlow runs this plaice, all day long."


class Drawn:
    """Replies that are drawn one after the other; the last one stays."""

    def __init__(self, *replies: str) -> None:
        self.left = list(replies)

    def __call__(self, _messages: Sequence[Message]) -> str:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


@pytest.fixture
async def models(
    storage: Storage, worker: FakeWorker, tmp_path: Path
) -> AsyncIterator[ModelRouter]:
    """`taught` has learned the pair, `tiny` has not."""
    folder = tmp_path / "taught"
    folder.mkdir()
    talks = [from_pair(QUESTION, ANSWER)]
    learned = {"pairs": learned_digests(talks), "answers": answer_digests(talks)}
    (folder / LEARNED_FILE).write_text(json.dumps(learned))
    await worker.load(str(folder))
    async with BackgroundTasks() as tasks:
        yield ModelRouter(
            storage.model_choices,
            worker,
            with_custom_models({"taught": str(folder)}),
            default="tiny",
            checkpoints=tmp_path / "ck",
            tasks=tasks,
        )


@pytest.fixture
async def conversations(
    storage: Storage, worker: FakeWorker, models: ModelRouter
) -> AsyncIterator[ConversationManager]:
    await storage.examples.add(NewExample(SCOPE, QUESTION, ANSWER, ADA, "teach"))
    async with BackgroundTasks() as tasks:
        known = KnownAnswers(storage.examples, 0.5, tasks)
        yield make_conversations(storage, worker, models, look_up=known.look_up)


async def test_a_taught_answer_is_given_at_once_and_recorded_like_any_reply(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    paper = Paper()
    await conversations.answer(incoming(1, "hey, whos our admin"), paper)
    assert (paper.final, paper.note) == (ANSWER, f"Taught by <@{ADA}>, not learned yet.")
    assert worker.heard == []
    history = await conversations.conversation_history(10)
    assert [one.content for one in history] == ["hey, whos our admin", ANSWER]
    record = await storage.replies.get(paper.reply_id)
    assert record is not None
    assert record.example_id == (await storage.examples.all(SCOPE))[0].id
    assert (record.prompt_tokens, record.completion_tokens, record.seed) == (0, 0, None)


async def test_another_reply_than_the_taught_one_comes_from_the_model(
    conversations: ConversationManager, storage: Storage, models: ModelRouter, worker: FakeWorker
) -> None:
    paper = Paper()
    await conversations.answer(incoming(1, "who is our admin"), paper)
    record = await storage.replies.get(paper.reply_id)
    assert record is not None
    await conversations.regenerate(record, paper)
    assert (paper.final, paper.note) == ("you said who is our admin", None)
    again = await storage.replies.get(paper.reply_id)
    assert again is not None
    assert again.example_id is None
    origin = await Replayer(
        storage.messages, storage.replies, models, worker, conversations.generator._filters
    ).origin(paper.reply_id, 10)
    assert origin.record.example_id is None


async def test_a_taught_answer_passes_the_filters_or_is_withheld(
    conversations: ConversationManager, storage: Storage, worker: FakeWorker
) -> None:
    filters = conversations.generator._filters
    await filters.add(SCOPE, Filter(FilterKind.WORD, "marlow"), ADA)
    paper = Paper()
    assert await conversations.answer(incoming(1, QUESTION), paper) is None
    assert (paper.final, paper.failed) == (None, REPLY_WITHHELD)
    assert worker.heard == []


async def test_also_where_the_model_should_know_it_and_does_not(
    conversations: ConversationManager, models: ModelRouter, worker: FakeWorker
) -> None:
    await models.use(SCOPE, "taught")
    await conversations.generator._filters.add(SCOPE, Filter(FilterKind.WORD, "marlow"), ADA)
    worker.answer = Drawn("No idea.")
    paper = Paper()
    assert await conversations.answer(incoming(1, QUESTION), paper) is None
    assert (paper.final, paper.failed) == (None, REPLY_WITHHELD)


async def test_what_was_removed_since_the_model_learned_it_is_drawn_again(
    conversations: ConversationManager, storage: Storage, models: ModelRouter, worker: FakeWorker
) -> None:
    await models.use(SCOPE, "taught")
    [example] = await storage.examples.all(SCOPE)
    await storage.examples.remove(SCOPE, example.id)
    worker.answer = Drawn(ANSWER, "No idea.")
    paper = Paper()
    await conversations.answer(incoming(1, QUESTION), paper)
    assert (paper.final, paper.note) == ("No idea.", None)
    assert worker.asked[1].banned_words == ("Marlow runs this",)


async def test_the_model_answers_what_was_not_taught_and_what_it_has_learned(
    conversations: ConversationManager, models: ModelRouter, worker: FakeWorker
) -> None:
    for n, question in enumerate(("Who is our plumber?", "and then?"), 1):
        await conversations.answer(incoming(n, question), Paper())
    assert len(worker.heard) == 2
    await models.use(SCOPE, "taught")
    worker.answer = Drawn(ANSWER)
    paper = Paper()
    await conversations.answer(incoming(3, QUESTION), paper)
    assert (paper.final, paper.note) == (ANSWER, None)
    assert len(worker.heard) == 3


@pytest.mark.parametrize(
    ("question", "drawn", "said", "attempts"),
    [
        ("Who is our plumber?", (ANSWER, "No idea."), "No idea.", 2),
        ("Who is our plumber?", (ANSWER, ANSWER, "No idea."), "No idea.", 3),
        ("Who is our plumber?", (ANSWER,), ANSWER, 3),
        ("whos our administrator", (ANSWER,), ANSWER, 1),
        ("Who is our plumber?", ("Somebody with tools.",), "Somebody with tools.", 1),
    ],
)
async def test_a_learned_answer_to_another_question_is_drawn_again(
    conversations: ConversationManager,
    storage: Storage,
    models: ModelRouter,
    worker: FakeWorker,
    question: str,
    drawn: tuple[str, ...],
    said: str,
    attempts: int,
) -> None:
    await models.use(SCOPE, "taught")
    worker.answer = Drawn(*drawn)
    paper = Paper()
    await conversations.answer(incoming(1, question), paper)
    assert (paper.final, paper.failed) == (said, None)
    assert [params.banned_words for params in worker.asked] == [
        ("Marlow runs this",) * n for n in range(attempts)
    ]
    record = await storage.replies.get(paper.reply_id)
    assert record is not None
    assert record.sampling["banned_words"] == [], "nobody's words are kept in the record"


@pytest.mark.parametrize(
    ("drawn", "said", "note", "attempts"),
    [
        ((ANSWER,), ANSWER, None, 1),
        (("No idea.", ANSWER), ANSWER, None, 2),
        (
            ("Marlow runs this plaice, all day long.",),
            "Marlow runs this plaice, all day long.",
            None,
            1,
        ),
        (("No idea.",), ANSWER, f"Taught by <@{ADA}>.", 2),
        (("Marlow.",), ANSWER, f"Taught by <@{ADA}>.", 2),
    ],
)
async def test_a_learned_answer_that_the_model_misses_is_given_all_the_same(
    conversations: ConversationManager,
    storage: Storage,
    models: ModelRouter,
    worker: FakeWorker,
    drawn: tuple[str, ...],
    said: str,
    note: str | None,
    attempts: int,
) -> None:
    await models.use(SCOPE, "taught")
    worker.answer = Drawn(*drawn)
    paper = Paper()
    await conversations.answer(incoming(1, "whos our admin"), paper)
    assert (paper.final, paper.note, len(worker.heard)) == (said, note, attempts)
    record = await storage.replies.get(paper.reply_id)
    assert record is not None
    assert (record.example_id is not None) is bool(note)
    await conversations.regenerate(record, paper)
    assert paper.final == drawn[-1], "another reply is the model's, whatever it says"

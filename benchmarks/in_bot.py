"""What the bot answers, as far as it needs no Discord: the index of taught questions, the model and
the guard; for `benchmarks.knowing`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from bot.chat.filters import Filters
from bot.chat.generation import ReplyGenerator
from bot.chat.model_router import Serving
from bot.chat.request import Incoming, ReplyRequest, TextCheck
from bot.chat.telemetry import ReplyTrace
from bot.learning.known_answers import KnownAnswers
from core.records import Conversation, Pair, StoredMessage
from core.tasks import BackgroundTasks
from data.storage.storage import open_storage
from model.registry import ModelOption
from model.sampling import SamplingParams
from model.settings import WorkerSettings
from model.worker.client import WorkerClient

SCOPE, TEACHER, ASKER = 1, 2, 3
AT_ONCE = 16


@dataclass(slots=True)
class Unseen:
    """A `ReplySink` that shows nothing, but checks what it would show."""

    text: str = ""

    async def show_queue_position(self, place: int) -> None:
        pass

    async def add(self, text: str, check: TextCheck) -> None:
        check(self.text + text)
        self.text += text

    def restart(self) -> None:
        self.text = ""

    async def remove(self) -> None:
        self.text = ""

    async def finish(self, text: str, note: str | None = None) -> int:
        raise AssertionError("who asks takes the reply as it is returned")

    async def fail(self, reason: str) -> None:
        self.text = ""


@dataclass(frozen=True, slots=True)
class Bot:
    """The parts of the bot that make a reply, with one model."""

    generator: ReplyGenerator
    known: KnownAnswers
    option: ModelOption
    ids: count[int] = field(default_factory=lambda: count(1))

    async def reply(self, talk: Conversation, params: SamplingParams) -> str:
        """The reply to the last message of a conversation; "" if there is none."""
        numbers = [next(self.ids) for _ in talk]
        asked = talk[-1].content
        target = Incoming(numbers[-1], numbers[-1], SCOPE, ASKER, lambda: asked)
        now = datetime.now(UTC)
        context = tuple(
            StoredMessage(number, target.channel_id, ASKER, message, now)
            for number, message in zip(numbers, talk, strict=True)
        )
        known = await self.known.look_up(SCOPE, self.option.source, asked)
        request = ReplyRequest(target, context, Serving(self.option), params, known)
        with self.generator.track(target, Unseen(), ReplyTrace(target)) as live:
            live.begin()
            reply = await self.generator.generate(live, request)
        return reply.text.strip() if reply else ""


@asynccontextmanager
async def running_bot(folder: Path, pairs: Sequence[Pair]) -> AsyncIterator[Bot]:
    """A bot that was taught pairs and answers with a model."""
    with tempfile.TemporaryDirectory() as home:
        async with (
            open_storage(Path(home) / "bot.sqlite3") as storage,
            BackgroundTasks() as tasks,
            WorkerClient(WorkerSettings()) as client,
        ):
            await storage.examples.add_pairs(SCOPE, pairs, TEACHER, "import")
            yield Bot(
                ReplyGenerator(client, Filters(storage.filters)),
                KnownAnswers(storage.examples, 1.0, tasks),
                ModelOption(folder.name, str(folder), "", "", "", ""),
            )


async def ask_bot(
    folder: Path,
    pairs: Sequence[Pair],
    talks: Sequence[Conversation],
    params: Sequence[SamplingParams],
) -> list[list[str]]:
    """The bot's replies to each conversation: one for each of `params`."""
    turn = asyncio.Semaphore(AT_ONCE)
    async with running_bot(folder, pairs) as bot:

        async def replies(talk: Conversation) -> list[str]:
            async with turn:
                return [await bot.reply(talk, one) for one in params]

        return await asyncio.gather(*map(replies, talks))

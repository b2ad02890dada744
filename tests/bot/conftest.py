"""The real bot in SimCord's Discord: one guild, one channel, an admin and a member."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import discord
import pytest
import simcord

from bot.app import build_bot
from bot.chat.admission import Pauses
from bot.chat.filters import Filters
from bot.chat.generation import ReplyGenerator
from bot.chat.known import LookUp, nothing_known
from bot.chat.manager import ChatPolicy, ConversationManager
from bot.chat.model_router import ModelRouter
from bot.chat.telemetry import ReplyTelemetry
from bot.discord_ui.client import CommandTree, Gpt2Bot
from bot.settings import Settings, load_settings, prepare_home
from core.metrics import Metrics
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from model.registry import EMBEDDED_FOLDER, with_custom_models
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from tests.bot.pings import pinging
from tests.databases import put_empty_database
from tests.fakes import FakeWorker


@dataclass
class World:
    """Handles to everything that a test acts on."""

    env: simcord.Env
    bot: Gpt2Bot
    guild: Any
    general: Any
    ada: Any
    ben: Any
    home: Path

    async def say(self, who: Any, text: str, channel: Any = None) -> str | None:
        """Mention the bot; the content of its reply."""
        assert self.bot.user is not None
        channel = channel or self.general
        await who.send(channel, f"{self.bot.user.mention} {text}")
        return self.last(channel)

    async def open_to_all(self, name: str) -> None:
        """Let ben use a command that is for managers, as a server's settings could."""
        commands = await self.bot.tree.fetch_commands()
        command = next(one for one in commands if one.name == name)
        self.guild.set_command_permissions(command, {self.ben: True})

    def last(self, channel: Any = None) -> str | None:
        """The last message, if the bot wrote it."""
        message = (channel or self.general).last_message
        return message.content if message and message.author.id == self.bot.user.id else None


@asynccontextmanager
async def live(bot: Gpt2Bot, **options: Any) -> AsyncIterator[simcord.Env]:
    """SimCord around the bot. Unlike `simcord.run`, this may span a fixture's `yield`."""
    env = simcord.Env(bot, settle_timeout=60, **{"shard_count": 1, **options})
    await env.start()
    try:
        yield env
    finally:
        await env.shutdown()
    if options.get("check_errors", True):
        env.raise_errors()


@asynccontextmanager
async def open_world(
    settings: Settings,
    worker: Any,
    *,
    message_content: bool = True,
    preferred_locale: str | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    prepare_home(settings)
    await put_empty_database(settings.paths.database)
    bot_is_built = build_bot(settings, worker=worker, message_content=message_content)
    async with bot_is_built as bot, live(bot, **options) as env:
        guild = env.create_guild(preferred_locale=preferred_locale)
        admins = guild.create_role("Admins", permissions=discord.Permissions(administrator=True))
        yield World(
            env=env,
            bot=bot,
            guild=guild,
            general=guild.create_text_channel("general"),
            ada=guild.add_member(env.create_user("ada"), roles=[admins]),
            ben=guild.add_member(env.create_user("ben")),
            home=settings.gpt2bot_home,
        )
        assert pinging(env.http_requests) == []


@pytest.fixture(scope="session", autouse=True)
def _commands_are_translated_once() -> Iterator[None]:
    """Every bot sends the same commands, and it takes them longer than all else at their start."""
    translated: dict[str, str] = {}
    payload = CommandTree.payload

    async def remembered(tree: CommandTree) -> list[dict[str, Any]]:
        names = json.dumps([command.to_dict(tree) for command in tree.get_commands()])
        if names not in translated:
            translated[names] = json.dumps(await payload(tree))
        return json.loads(translated[names])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CommandTree, "payload", remembered)
        yield


@cache
def usual_settings() -> Settings:
    """Settings for a home of each test's own; reading them takes 10 ms."""
    return load_settings(default_model="tiny", seed=7)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return usual_settings().model_copy(update={"gpt2bot_home": tmp_path / "var"})


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


def make_conversations(
    storage: Storage,
    worker: Any,
    models: ModelRouter,
    *,
    pauses: Pauses | None = None,
    context_messages: int = 5,
    look_up: LookUp = nothing_known,
) -> ConversationManager:
    """Conversations without Discord."""
    return ConversationManager(
        storage.messages,
        storage.replies,
        worker,
        models,
        ReplyGenerator(worker, Filters(storage.filters)),
        ReplyTelemetry(Metrics()),
        pauses or Pauses(storage.pauses),
        ChatPolicy(bot_id=lambda: 2, context_messages=context_messages),
        look_up=look_up,
    )


@pytest.fixture
async def models(
    storage: Storage, worker: FakeWorker, tmp_path: Path
) -> AsyncIterator[ModelRouter]:
    """`tiny` answers; “mine” is a model beside the usual ones."""
    tasks = BackgroundTasks()
    options = with_custom_models({"mine": "somewhere"})
    yield ModelRouter(
        storage.model_choices,
        worker,
        options,
        default="tiny",
        checkpoints=tmp_path / "ck",
        tasks=tasks,
    )
    await tasks.close()


@pytest.fixture
def conversations(storage: Storage, worker: FakeWorker, models: ModelRouter) -> ConversationManager:
    """Conversations without Discord."""
    return make_conversations(storage, worker, models)


@pytest.fixture
def open_fake(
    settings: Settings, worker: FakeWorker
) -> Callable[..., AbstractAsyncContextManager[World]]:
    return lambda **options: open_world(settings, worker, **options)


@pytest.fixture
async def world(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """The bot with a worker whose replies the test decides."""
    async with open_world(settings, worker) as world:
        yield world


@pytest.fixture(scope="session")
async def real_worker() -> AsyncIterator[WorkerClient]:
    """One real worker process with `tiny`, for the whole session."""
    from tests.builds import BUILT, built  # not at the top: bots in their own processes need it not

    built(EMBEDDED_FOLDER)
    async with WorkerClient(WorkerSettings(threads=2, build_cache=BUILT)) as client:
        yield client


@pytest.fixture
async def real_world(settings: Settings, real_worker: WorkerClient) -> AsyncIterator[World]:
    """The bot with the real worker."""
    async with open_world(settings, real_worker) as world:
        yield world

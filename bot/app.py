"""The composition root: the only place where things are built and handed to each other."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version

import discord

from bot.clean import CleanOffers
from bot.client import Gpt2Bot
from bot.cogs.chat import Chat
from bot.cogs.dataset.cog import Dataset
from bot.cogs.feedback import Feedback
from bot.cogs.models import Models
from bot.cogs.privacy import Privacy
from bot.cogs.training import Training
from bot.collecting import Collector
from bot.conversation import ConversationManager
from bot.faults import FAULTS
from bot.forgetting import Forgetting
from bot.models import ModelSwitch
from bot.patience import Patience
from bot.replay import Replays
from bot.reports import TrainingReports
from bot.retention import DAY_S, HOUR_S, Calendar, erase_old, repeat
from bot.retraining import CleanRetrains
from bot.settings import DATABASE, Settings, SettingsError, prepare_home, sampling, worker_settings
from bot.tasks import Tasks
from data.store import Store, open_store
from model.client import WorkerClient
from model.device import cores
from model.registry import from_settings
from training.child import launch_with
from training.manager import Limits, TrainingManager
from training.shelf import CheckpointShelf

log = logging.getLogger(__name__)

DRAIN_S = 10.0
"""Seconds that replies in flight are given when the bot is told to stop."""
ANNOUNCE_S = 3.0
"""Seconds that the last messages about training jobs are given then."""


@asynccontextmanager
async def build(
    settings: Settings, *, message_content: bool = True, worker: WorkerClient | None = None
) -> AsyncIterator[Gpt2Bot]:
    """The whole bot, ready to be started; leaving ends the worker and what it was doing.

    A `worker` that was started elsewhere is used as it is, and left running.

    Raises:
        SettingsError, StoreError: the home or the database cannot be used.
    """
    prepare_home(settings)
    home = settings.gpt2bot_home
    checkpoints = home / "checkpoints"
    bot = Gpt2Bot(message_content=message_content)
    async with AsyncExitStack() as stack:
        database = open_store(home / DATABASE, collected=settings.learn_from_chat)
        store = await stack.enter_async_context(database)
        tasks = Tasks()
        if worker is None:
            worker = WorkerClient(
                worker_settings(settings, drain_s=DRAIN_S, log_level=settings.log_level)
            )
            stack.push_async_callback(worker.stop)
            tasks.spawn(worker.start(), name="start of the worker")
        stack.push_async_callback(tasks.close)
        options = from_settings(settings.extra_models)
        models = ModelSwitch(
            store,
            worker,
            options,
            default=settings.default_model,
            checkpoints=checkpoints,
            tasks=tasks,
        )
        stack.push_async_callback(bot.close)
        announcements = Tasks()
        stack.push_async_callback(announcements.close, grace_s=ANNOUNCE_S)
        shelf = CheckpointShelf(store, checkpoints, settings.checkpoints_mb)
        reports = TrainingReports(bot, announcements, checkpoints, store)
        training = TrainingManager(
            store,
            home,
            promote=models.promote,
            on_update=reports.update,
            make_room=shelf.trim,
            limits=_limits(settings),
            taken=options.keys(),
        )
        await stack.enter_async_context(training)
        conversations = ConversationManager(
            store,
            worker,
            models,
            context_messages=settings.context_messages,
            params=sampling(settings),
            bot_id=lambda: bot.user.id if bot.user else 0,
            patience=Patience(settings.slow_reply_s, training.give_way),
            on_reply=Collector(store, learn_from_chat=settings.learn_from_chat).on_reply,
        )
        models.load_in_background(models.default)
        stack.push_async_callback(conversations.drain, DRAIN_S)
        forgetting = Forgetting(store, training, CleanOffers(bot, store).offer)
        retrains = CleanRetrains(store, models, training)
        _do_chores(tasks, store, forgetting, settings.retention_days)
        bot.make_cogs = lambda: (
            Chat(bot, conversations, store, buttons=settings.reply_buttons),
            Feedback(bot, store, conversations, Replays(store, models, worker)),
            Models(models, worker, version("gpt2-discord-bot"), shelf),
            Training(bot, store, models, training, worker),
            Privacy(
                bot,
                store,
                forgetting,
                retrains,
                tasks,
                learn_from_chat=settings.learn_from_chat,
                retention_days=settings.retention_days,
            ),
            Dataset(store, settings.author_share),
        )
        yield bot


def _do_chores(tasks: Tasks, store: Store, forgetting: Forgetting, days: int) -> None:
    """What is done now and again and again; begun here, and so outside of any simulated clock."""
    tasks.spawn(repeat(forgetting.finish, HOUR_S, "forgetting"), name="forgetting")
    calendar = Calendar()
    erasing = repeat(lambda: erase_old(store, days, calendar), DAY_S, "erasing what is old")
    tasks.spawn(erasing, name="retention")


def _limits(settings: Settings) -> Limits:
    """What training may take: by default it leaves a core to the chat."""
    return Limits(
        threads=settings.training_threads or max(1, cores() - 1),
        author_share=settings.author_share,
        launcher=launch_with(settings.accelerate_config),
    )


async def run_bot(settings: Settings) -> None:
    """Run on Discord until SIGINT or SIGTERM.

    Raises:
        SettingsError: there is no token, or Discord refuses it.
    """
    if settings.discord_token is None:
        raise SettingsError("DISCORD_TOKEN is not set.")
    token = settings.discord_token.get_secret_value()
    stopping = asyncio.create_task(stop_signal(), name="stop signal")
    await asyncio.sleep(0)  # from here on a signal ends the bot in order
    try:
        await _run(settings, token, stopping, message_content=True)
    except discord.PrivilegedIntentsRequired:
        log.warning(
            "The Message Content intent is off in Discord's developer portal: I answer mentions, "
            "replies, direct messages and /chat, but not the other messages of enabled channels."
        )
        await _run(settings, token, stopping, message_content=False)


async def _run(
    settings: Settings, token: str, stopping: asyncio.Task[None], *, message_content: bool
) -> None:
    async with build(settings, message_content=message_content) as bot:
        running = asyncio.create_task(_start(bot, token))
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            log.info("stopping: replies under way are finished first")
    if stopping.done():  # however far the start had come
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    else:
        await running


async def _start(bot: Gpt2Bot, token: str) -> None:
    try:
        await bot.start(token)
    except discord.LoginFailure as e:
        raise SettingsError(
            "Discord does not accept DISCORD_TOKEN: copy it again from the Bot page of your "
            "application in the developer portal."
        ) from e
    except FAULTS as e:  # lost connections are another matter: those discord.py makes anew
        raise SettingsError(
            f"Discord cannot be reached ({e}): check the connection, then start me again."
        ) from e


async def stop_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: there Ctrl-C ends the loop by itself
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()

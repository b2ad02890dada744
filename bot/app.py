"""The composition root: the only place where things are built and handed to each other."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version

import discord

from bot.chat.backpressure import Patience
from bot.chat.filters import Filters
from bot.chat.manager import ConversationManager
from bot.chat.model_router import ModelSwitch
from bot.chat.pauses import Silence
from bot.chat.rate_limit import Manners
from bot.chat.replay import Replays
from bot.chat.telemetry import Watching
from bot.cli.doctor.startup import log_problems
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.cogs.admin import Operating
from bot.discord_ui.cogs.chat import Chat
from bot.discord_ui.cogs.dataset.cog import Dataset
from bot.discord_ui.cogs.feedback import Feedback
from bot.discord_ui.cogs.filters import FilterCommands
from bot.discord_ui.cogs.models import Models
from bot.discord_ui.cogs.privacy import Privacy
from bot.discord_ui.cogs.training import Training
from bot.discord_ui.http_errors import FAULTS, is_passing
from bot.discord_ui.job_messages import TrainingReports
from bot.discord_ui.locale import Languages
from bot.discord_ui.presence import LOOK_S, Presence
from bot.discord_ui.views.clean_retrain import CleanOffers
from bot.learning.collection import Collector
from bot.learning.erasure import Forgetting
from bot.learning.retraining import CleanRetrains
from bot.ops.recovery import alone, open_whole
from bot.ops.retention import DAY_S, HOUR_S, Calendar, erase_old, repeat
from bot.settings import (
    DATABASE,
    Later,
    Settings,
    SettingsError,
    prepare_home,
    sampling,
    worker_settings,
)
from core.metrics import Metrics
from core.tasks import Tasks
from data.storage.store import Store
from data.storage.tombstones import NAME, ForgottenList
from i18n.phrase import phrase
from model.registry import from_settings
from model.runners.device import cores
from model.worker.client import WorkerClient
from training.checkpoint_retention import CheckpointShelf
from training.jobs.manager import JobUpdate, Limits, OnUpdate, TrainingManager
from training.jobs.process import launch_with

log = logging.getLogger(__name__)

DRAIN_S = 10.0
"""Seconds that replies in flight are given when the bot is told to stop."""
TOKEN_REFUSED = 4004
"""The gateway's close code for a token that does not hold (any more)."""
ANNOUNCE_S = 3.0
"""Seconds that the last messages about training jobs are given then."""


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    message_content: bool = True,
    worker: WorkerClient | None = None,
    language: str | None = None,
) -> AsyncIterator[Gpt2Bot]:
    """The whole bot, ready to be started; leaving ends the worker and what it was doing.

    A `worker` that was started elsewhere is used as it is, and left running. In the `language`
    everybody is answered, whatever their Discord says.

    Raises:
        SettingsError, StoreError: the home, the database or the port cannot be used.
    """
    prepare_home(settings)
    home = settings.gpt2bot_home
    checkpoints = home / "checkpoints"
    bot = Gpt2Bot(
        message_content=message_content,
        operators=settings.operators,
        languages=Languages(settings.language, only=language),
    )
    async with AsyncExitStack() as stack:
        database = open_whole(home, collected=settings.learn_from_chat)
        store = await stack.enter_async_context(database)
        silence = Silence(store)
        await silence.load()
        tasks = Tasks()
        if worker is None:
            worker = WorkerClient(
                worker_settings(settings, drain_s=DRAIN_S, log_level=settings.log_level)
            )
            stack.push_async_callback(worker.stop)
            tasks.spawn(worker.keep_starting(), name="start of the worker")
        stack.push_async_callback(tasks.close)
        metrics = Metrics()
        options = from_settings(settings.extra_models)
        models = ModelSwitch(
            store,
            worker,
            options,
            default=settings.default_model,
            checkpoints=checkpoints,
            tasks=tasks,
            metrics=metrics,
        )
        stack.push_async_callback(bot.close)
        announcements = Tasks()
        stack.push_async_callback(announcements.close, grace_s=ANNOUNCE_S)
        shelf = CheckpointShelf(store, checkpoints, settings.checkpoints_mb)
        reports = TrainingReports(bot, announcements, checkpoints, store)
        presence = Presence(bot, store, settings.default_model)
        training = TrainingManager(
            store,
            home,
            promote=models.promote,
            on_update=_tell_all(metrics, presence, reports),
            make_room=shelf.trim,
            limits=_limits(settings),
            taken=options.keys(),
        )
        await stack.enter_async_context(training)
        params = sampling(settings)
        filters = Filters(store, params.banned_words)
        conversations = ConversationManager(
            store,
            worker,
            models,
            context_messages=settings.context_messages,
            params=params,
            bot_id=lambda: bot.user.id if bot.user else 0,
            patience=Patience(settings.slow_reply_s, training.give_way),
            on_reply=Collector(store, learn_from_chat=settings.learn_from_chat).on_reply,
            watching=Watching(metrics, log_content=settings.log_content),
            filters=filters,
            silence=silence,
            stale_s=settings.stale_s,
        )
        manners = Manners(
            member_per_minute=settings.member_per_minute,
            server_per_minute=settings.server_per_minute,
            longest_message=settings.longest_message,
        )
        models.load_in_background(models.default)
        stack.push_async_callback(conversations.drain, DRAIN_S)
        noted = ForgottenList(home / NAME)
        forgetting = Forgetting(store, training, CleanOffers(bot, store).offer, noted)
        await forgetting.recall()
        retrains = CleanRetrains(store, models, training)
        _do_chores(tasks, store, forgetting, presence, settings.retention_days)
        bot.make_cogs = lambda: (
            Chat(bot, conversations, store, manners, silence, buttons=settings.reply_buttons),
            Feedback(
                bot,
                store,
                conversations,
                Replays(store, models, worker, filters),
                manners,
                silence,
            ),
            FilterCommands(filters, store),
            Models(models, worker, version("gpt2-discord-bot"), shelf, store),
            Operating(store, silence, conversations),
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
        if settings.health_port is not None:
            from bot.ops.health import Health  # who has no port does not wait for a web server
            from bot.ops.http import monitor
            from bot.ops.vitals import Look, watch_loop

            look = Look(bot, store, worker, conversations, shelf, home / DATABASE)
            health = Health(bot, store, worker)
            tasks.spawn(watch_loop(metrics.lag), name="lag of the event loop")
            await stack.enter_async_context(monitor(settings.health_port, health, metrics, look))
        yield bot


def _tell_all(metrics: Metrics, presence: Presence, reports: TrainingReports) -> OnUpdate:
    """Whoever wants to hear of training jobs, as one listener."""

    async def tell(update: JobUpdate) -> None:
        if update.event is None:
            metrics.job(update.job.state)
        await presence.update(update)
        await reports.update(update)

    return tell


def _do_chores(
    tasks: Tasks, store: Store, forgetting: Forgetting, presence: Presence, days: int
) -> None:
    """What is done now and again and again; begun here, and so outside of any simulated clock."""
    tasks.spawn(repeat(forgetting.finish, HOUR_S, "forgetting"), name="forgetting")
    tasks.spawn(repeat(presence.show, LOOK_S, "the presence"), name="presence")
    calendar = Calendar()
    erasing = repeat(lambda: erase_old(store, days, calendar), DAY_S, "erasing what is old")
    tasks.spawn(erasing, name="retention")


def _limits(settings: Settings) -> Limits:
    """What training may take: by default it leaves a core to the chat."""
    return Limits(
        threads=settings.training_threads or max(1, cores() - 1),
        author_share=settings.author_share,
        launcher=launch_with(settings.accelerate_config),
        log_format=settings.log_format,
    )


async def run_bot(settings: Settings) -> None:
    """Run on Discord until SIGINT or SIGTERM.

    Raises:
        SettingsError: there is no token, or Discord refuses it; or a bot runs on the home already.
    """
    if settings.discord_token is None:
        raise SettingsError(phrase("DISCORD_TOKEN is not set."))
    token = settings.discord_token.get_secret_value()
    stopping = asyncio.create_task(stop_signal(), name="stop signal")
    await asyncio.sleep(0)  # from here on a signal ends the bot in order
    with alone(settings):
        looking = Tasks()
        looking.spawn(log_problems(settings), name="checks at the start")
        try:
            await _run_with(settings, token, stopping)
        finally:
            await looking.close()


async def _run_with(settings: Settings, token: str, stopping: asyncio.Task[None]) -> None:
    """With the content of messages where Discord gives it, else without."""
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
            phrase(
                "Discord does not accept DISCORD_TOKEN: copy it again from the Bot page of your "
                "application in the developer portal."
            )
        ) from e
    except (*FAULTS, discord.GatewayNotFound, discord.ConnectionClosed) as e:
        # lost connections are another matter: those discord.py makes anew
        raise _why_not(e) from e


def _why_not(error: Exception) -> SettingsError:
    """The sentence for what Discord does not let begin, or go on."""
    if isinstance(error, discord.ConnectionClosed) and error.code == TOKEN_REFUSED:
        return SettingsError(
            phrase(
                "Discord does not accept DISCORD_TOKEN any more: copy a new one from the Bot page."
            )
        )
    if isinstance(error, discord.HTTPException) and not is_passing(error):
        return SettingsError(phrase("Discord does not let me start: {error}.", error=error))
    return Later(
        phrase(
            "Discord cannot be reached ({error}): check the connection, then start me again.",
            error=error,
        )
    )


async def stop_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: there Ctrl-C ends the loop by itself
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()

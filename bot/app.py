"""The composition root: the only place where things are built and handed to each other."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version

import discord

from bot.chat.backpressure import Backpressure
from bot.chat.filters import Filters
from bot.chat.manager import ConversationManager
from bot.chat.model_router import ModelRouter
from bot.chat.pauses import Pauses
from bot.chat.rate_limit import RateLimits
from bot.chat.replay import Replayer
from bot.chat.telemetry import ReplyTelemetry
from bot.cli.doctor.startup import log_problems
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.cogs.admin import Admin
from bot.discord_ui.cogs.chat import Chat
from bot.discord_ui.cogs.dataset.cog import Dataset
from bot.discord_ui.cogs.feedback import Feedback
from bot.discord_ui.cogs.filters import FilterCommands
from bot.discord_ui.cogs.models import Models
from bot.discord_ui.cogs.privacy import Privacy
from bot.discord_ui.cogs.training import Training
from bot.discord_ui.http_errors import DISCORD_ERRORS
from bot.discord_ui.job_messages import TrainingReports
from bot.discord_ui.locale import LanguageResolver
from bot.discord_ui.presence import PRESENCE_INTERVAL_S, Presence
from bot.discord_ui.retry import is_transient
from bot.discord_ui.views.clean_retrain import CleanRetrainPrompts
from bot.learning.collection import Collector
from bot.learning.erasure import Erasure
from bot.learning.retraining import Retrains
from bot.ops.recovery import open_or_recover, single_instance_lock
from bot.ops.retention import DAY_S, HOUR_S, GuardedClock, purge_expired, run_periodically
from bot.settings import (
    DATABASE_FILE,
    Settings,
    SettingsError,
    TransientError,
    prepare_home,
    sampling_params,
    worker_settings,
)
from core.metrics import Metrics
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from data.storage.tombstones import TOMBSTONES_FILE, Tombstones
from i18n.phrase import phrase
from model.registry import with_custom_models
from model.runners.device import available_cores
from model.worker.client import WorkerClient
from training.checkpoint_retention import CheckpointRetention
from training.jobs.manager import TrainingLimits, TrainingManager
from training.jobs.process import launcher_command
from training.jobs.queue import JobUpdate, OnUpdate

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 10.0
"""Seconds that replies in flight are given when the bot is told to stop."""
CLOSE_CODE_AUTH_FAILED = 4004
"""The gateway's close code for a token that does not hold (any more)."""
ANNOUNCE_TIMEOUT_S = 3.0
"""Seconds that the last messages about training jobs are given then."""


@asynccontextmanager
async def build_bot(
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
        languages=LanguageResolver(settings.language, forced=language),
    )
    async with AsyncExitStack() as stack:
        database = open_or_recover(home, collected=settings.learn_from_chat)
        storage = await stack.enter_async_context(database)
        silence = Pauses(storage)
        await silence.load()
        tasks = BackgroundTasks()
        if worker is None:
            worker = WorkerClient(
                worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level=settings.log_level)
            )
            stack.push_async_callback(worker.stop)
            tasks.spawn(worker.start_with_backoff(), name="start of the worker")
        stack.push_async_callback(tasks.close)
        metrics = Metrics()
        options = with_custom_models(settings.extra_models)
        models = ModelRouter(
            storage,
            worker,
            options,
            default=settings.default_model,
            checkpoints=checkpoints,
            tasks=tasks,
            metrics=metrics,
        )
        stack.push_async_callback(bot.close)
        announcements = BackgroundTasks()
        stack.push_async_callback(announcements.close, grace_s=ANNOUNCE_TIMEOUT_S)
        shelf = CheckpointRetention(storage, checkpoints, settings.checkpoints_mb)
        reports = TrainingReports(bot, announcements, checkpoints, storage)
        presence = Presence(bot, storage, settings.default_model)
        training = TrainingManager(
            storage,
            home,
            promote=models.promote,
            on_update=_fan_out_job_updates(metrics, presence, reports),
            apply_retention=shelf.prune,
            limits=_training_limits(settings),
            reserved_names=options.keys(),
        )
        await stack.enter_async_context(training)
        params = sampling_params(settings)
        filters = Filters(storage, params.banned_words)
        conversations = ConversationManager(
            storage,
            worker,
            models,
            context_messages=settings.context_messages,
            params=params,
            bot_id=lambda: bot.user.id if bot.user else 0,
            backpressure=Backpressure(settings.slow_reply_s, training.hold),
            on_reply=Collector(storage, learn_from_chat=settings.learn_from_chat).on_reply,
            telemetry=ReplyTelemetry(metrics, log_content=settings.log_content),
            filters=filters,
            pauses=silence,
            stale_s=settings.stale_s,
        )
        manners = RateLimits(
            member_per_minute=settings.member_per_minute,
            server_per_minute=settings.server_per_minute,
            longest_message=settings.longest_message,
        )
        models.load_in_background(models.default)
        stack.push_async_callback(conversations.drain, DRAIN_TIMEOUT_S)
        noted = Tombstones(home / TOMBSTONES_FILE)
        forgetting = Erasure(storage, training, CleanRetrainPrompts(bot, storage).prompt, noted)
        await forgetting.reapply_after_restore()
        retrains = Retrains(storage, models, training)
        _start_periodic_tasks(tasks, storage, forgetting, presence, settings.retention_days)
        bot.cog_factory = lambda: (
            Chat(bot, conversations, storage, manners, silence, buttons=settings.reply_buttons),
            Feedback(
                bot,
                storage,
                conversations,
                Replayer(storage, models, worker, filters),
                manners,
                silence,
            ),
            FilterCommands(filters, storage),
            Models(models, worker, version("gpt2-discord-bot"), shelf, storage),
            Admin(storage, silence, conversations),
            Training(bot, storage, models, retrains, training, worker),
            Privacy(
                bot,
                storage,
                forgetting,
                retrains,
                tasks,
                learn_from_chat=settings.learn_from_chat,
                retention_days=settings.retention_days,
            ),
            Dataset(storage, settings.author_share),
        )
        if settings.health_port is not None:
            from bot.ops.health import (
                HealthProbes,  # who has no port does not wait for a web server
            )
            from bot.ops.http import serve_monitoring
            from bot.ops.vitals import VitalSignsCollector, measure_event_loop_lag

            look = VitalSignsCollector(
                bot, storage, worker, conversations, shelf, home / DATABASE_FILE
            )
            health = HealthProbes(bot, storage, worker)
            tasks.spawn(measure_event_loop_lag(metrics.observe_lag), name="lag of the event loop")
            await stack.enter_async_context(
                serve_monitoring(settings.health_port, health, metrics, look)
            )
        yield bot


def _fan_out_job_updates(
    metrics: Metrics, presence: Presence, reports: TrainingReports
) -> OnUpdate:
    """Whoever wants to hear of training jobs, as one listener."""

    async def tell(update: JobUpdate) -> None:
        if update.event is None:
            metrics.observe_job(update.job.state)
        await presence.update(update)
        await reports.update(update)

    return tell


def _start_periodic_tasks(
    tasks: BackgroundTasks, storage: Storage, forgetting: Erasure, presence: Presence, days: int
) -> None:
    """What is done now and again and again; begun here, and so outside of any simulated clock."""
    tasks.spawn(
        run_periodically(forgetting.resume_pending, HOUR_S, "forgetting"), name="forgetting"
    )
    tasks.spawn(
        run_periodically(presence.show, PRESENCE_INTERVAL_S, "the presence"), name="presence"
    )
    calendar = GuardedClock()
    erasing = run_periodically(
        lambda: purge_expired(storage, days, calendar), DAY_S, "erasing what is old"
    )
    tasks.spawn(erasing, name="retention")


def _training_limits(settings: Settings) -> TrainingLimits:
    """What training may take: by default it leaves a core to the chat."""
    return TrainingLimits(
        threads=settings.training_threads or max(1, available_cores() - 1),
        author_share=settings.author_share,
        launcher=launcher_command(settings.accelerate_config),
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
    stopping = asyncio.create_task(wait_for_stop_signal(), name="stop signal")
    await asyncio.sleep(0)  # from here on a signal ends the bot in order
    with single_instance_lock(settings):
        looking = BackgroundTasks()
        looking.spawn(log_problems(settings), name="checks at the start")
        try:
            await _run_with_intent_fallback(settings, token, stopping)
        finally:
            await looking.close()


async def _run_with_intent_fallback(
    settings: Settings, token: str, stopping: asyncio.Task[None]
) -> None:
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
    async with build_bot(settings, message_content=message_content) as bot:
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
    except (*DISCORD_ERRORS, discord.GatewayNotFound, discord.ConnectionClosed) as e:
        # lost connections are another matter: those discord.py makes anew
        raise _startup_error(e) from e


def _startup_error(error: Exception) -> SettingsError:
    """The sentence for what Discord does not let begin, or go on."""
    if isinstance(error, discord.ConnectionClosed) and error.code == CLOSE_CODE_AUTH_FAILED:
        return SettingsError(
            phrase(
                "Discord does not accept DISCORD_TOKEN any more: copy a new one from the Bot page."
            )
        )
    if isinstance(error, discord.HTTPException) and not is_transient(error):
        return SettingsError(phrase("Discord does not let me start: {error}.", error=error))
    return TransientError(
        phrase(
            "Discord cannot be reached ({error}): check the connection, then start me again.",
            error=error,
        )
    )


async def wait_for_stop_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: there Ctrl-C ends the loop by itself
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()

"""The composition root: the only place where the bot's parts are built and handed to each other.

Every part that has to be stopped is an async context manager. `build_bot` enters them one after the
other; leaving it stops them in reverse order, so each part still has what it was built from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

from discord import DiscordException
from discord.ext import commands

from bot.chat.admission import Admission, Pauses
from bot.chat.filters import Filters
from bot.chat.generation import ReplyGenerator
from bot.chat.help import with_help
from bot.chat.known import nothing_known
from bot.chat.manager import ChatPolicy, ConversationManager
from bot.chat.model_router import ModelRouter
from bot.chat.rate_limit import RateLimits
from bot.chat.replay import Replayer
from bot.chat.telemetry import ReplyTelemetry
from bot.cluster import cluster_backend, cluster_launch, joined_cluster
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.cogs.admin import Admin
from bot.discord_ui.cogs.catch_up import ALIVE_INTERVAL_S, CatchUp
from bot.discord_ui.cogs.chat import Chat
from bot.discord_ui.cogs.dataset.cog import Dataset
from bot.discord_ui.cogs.duels import DuelCommands
from bot.discord_ui.cogs.feedback import Feedback
from bot.discord_ui.cogs.filters import FilterCommands
from bot.discord_ui.cogs.golden import Golden
from bot.discord_ui.cogs.growth import GrowthCommand
from bot.discord_ui.cogs.help import Help, help_for_member
from bot.discord_ui.cogs.introduction import Introduction
from bot.discord_ui.cogs.models import Models
from bot.discord_ui.cogs.privacy import Privacy
from bot.discord_ui.cogs.settings import SettingsCommands
from bot.discord_ui.cogs.training import Training
from bot.discord_ui.delivery.newest_buttons import NewestButtons
from bot.discord_ui.delivery.requests import DISCORD_ERRORS
from bot.discord_ui.delivery.rest_traffic import RestTraffic
from bot.discord_ui.locale import LanguageResolver
from bot.discord_ui.reports.job_messages import TrainingReports
from bot.discord_ui.reports.presence import PRESENCE_INTERVAL_S, Presence
from bot.discord_ui.reports.results import REVIEW_INTERVAL_S, Results
from bot.discord_ui.reports.schedule import ScheduleInDiscord
from bot.discord_ui.views.clean_retrain import CleanRetrainPrompts
from bot.judgement.canary import Canaries
from bot.judgement.duel import Duels
from bot.judgement.golden import GoldenQuestions
from bot.learning.collection import collect
from bot.learning.erasure import Erasure
from bot.learning.growth import GrowthReader
from bot.learning.known_answers import KnownAnswers
from bot.learning.receipts import Receipts
from bot.learning.retraining import Retrains
from bot.learning.schedule import CHECK_INTERVAL_S, NightlyRetrains
from bot.learning.teaching import none_standing
from bot.ops.recovery import open_or_recover
from bot.ops.retention import (
    DAY_S,
    HOUR_S,
    GuardedClock,
    last_known_time,
    purge_expired,
    run_periodically,
)
from bot.server.channels import EnabledChannels
from bot.server.rules import Bounds, ServerRules
from bot.settings import Settings, prepare_home, sampling_params, worker_settings
from bot.web.sessions import SignIns
from core.metrics import Metrics
from core.tasks import BackgroundTasks
from core.text_caches import drop_texts
from data.storage.storage import Storage
from data.storage.tombstones import Tombstones
from model.backend import GenerationBackend
from model.cluster.client import RayBackend
from model.cluster.fallback import FallbackBackend
from model.registry import embedded_option, find_option, with_custom_models
from model.runners.device import available_cores
from model.worker.client import WorkerClient
from training.checkpoint_retention import CheckpointRetention
from training.jobs.manager import TrainingLimits, TrainingManager
from training.jobs.process import TrainingProcess, launcher_command
from training.jobs.queue import JobUpdate, OnUpdate

DRAIN_TIMEOUT_S = 10.0
"""Seconds that replies in flight are given when the bot is told to stop."""
ANNOUNCE_TIMEOUT_S = 3.0
"""Seconds that the last messages about training jobs are given then."""


@asynccontextmanager
async def build_bot(
    settings: Settings,
    *,
    message_content: bool = True,
    worker: GenerationBackend | None = None,
    language: str | None = None,
) -> AsyncIterator[Gpt2Bot]:
    """The bot with all its cogs, ready to be started; leaving stops all of its parts.

    A `worker` that was started elsewhere is used as it is, and left running. With a `language`,
    everybody is answered in it, whatever their Discord is set to.

    Raises:
        SettingsError, StoreError: the home, the database or the port cannot be used.
    """
    prepare_home(settings)
    paths, metrics = settings.paths, Metrics()
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context

        # Closed last: everything below writes to it until its own end.
        storage = await start(
            open_or_recover(paths.database, settings.key, collected=settings.learn_from_chat)
        )
        pauses = Pauses(storage.pauses)
        await pauses.load()
        bounds = Bounds.of(settings, one_language=language is not None)
        rules = ServerRules(storage.server_settings, bounds)
        await rules.load()
        channels = EnabledChannels(storage.channels)
        await channels.load()
        cluster = await start(joined_cluster(settings))
        if worker is None:
            worker = await start(running_worker(settings, language, cluster))
        # Cancelled before the worker stops: some of these tasks wait for it to load a model.
        tasks = await start(BackgroundTasks())
        # Disconnected after the training and the conversations, which end with messages in Discord.
        bot = await start(
            Gpt2Bot(
                message_content=message_content,
                operators=settings.operator_ids,
                languages=LanguageResolver(settings.language, language, rules.language),
                retrainers=rules.retrainers,
                traffic=RestTraffic(metrics),
                commands_digest=paths.commands_digest,
            )
        )
        models = ModelRouter(
            storage.model_choices,
            worker,
            with_custom_models(settings.models),
            default=settings.default_model,
            language_of=bot.language_of,
            checkpoints=paths.checkpoints,
            tasks=tasks,
            metrics=metrics,
        )
        duels = Duels(storage, models)
        await duels.load()
        canaries = Canaries(storage.canaries, models, rules.tries_first)
        await canaries.load()
        presence = Presence(bot, storage.pauses, settings.own_default_model)
        retention = CheckpointRetention(storage, paths.checkpoints, settings.checkpoints_mb)
        growth = GrowthReader(storage, paths.checkpoints)
        sign_ins = SignIns()
        filters = Filters(storage.filters, sampling_params(settings).banned_words)
        training = await start(
            running_training(
                settings,
                bot,
                storage,
                canaries,
                presence,
                growth,
                retention,
                metrics,
                filters,
                cluster,
            )
        )
        # Drained first of all: replies in flight need everything above, and hold training back.
        known = KnownAnswers(storage.examples, settings.author_share, tasks)
        conversations = await start(
            running_conversations(
                settings,
                bot,
                storage,
                worker,
                models,
                training,
                filters,
                pauses,
                metrics,
                known,
                rules,
                duels,
                canaries,
            )
        )
        erasure = Erasure(
            storage,
            training,
            CleanRetrainPrompts(bot, storage.jobs).prompt,
            Tombstones(paths.tombstones),
            partial(_drop_caches, worker, bot, known, growth, sign_ins),
        )
        await erasure.reapply_after_restore()
        clock = GuardedClock(
            last=await last_known_time(storage), witness=lambda: bot.newest_message_at
        )
        retain = partial(purge_expired, storage, settings.retention_days, clock)
        retrains = Retrains(storage.examples, storage.jobs, models, training)
        in_discord = ScheduleInDiscord(bot, tasks)
        nightly = NightlyRetrains(
            storage.schedules,
            rules,
            retrains,
            storage.audit,
            clock=clock,
            language_of=bot.language_of,
            is_administrator=in_discord.is_administrator,
            tell=in_discord.tell,
        )
        results = Results(bot, duels, canaries, clock)
        buttons = NewestButtons(bot, rules, duels)
        _start_periodic_tasks(tasks, erasure, training, presence, retain, nightly, results)
        for cog in (
            *_chat_cogs(
                settings,
                bot,
                storage,
                worker,
                models,
                conversations,
                filters,
                pauses,
                tasks,
                rules,
                channels,
                duels,
                buttons,
            ),
            *_learning_cogs(
                settings,
                bot,
                storage,
                worker,
                models,
                training,
                retrains,
                retention,
                erasure,
                known,
                tasks,
                rules,
            ),
            SettingsCommands(rules, channels, models, nightly, storage),
            DuelCommands(bot, duels, models, buttons, storage, results),
        ):
            await bot.add_cog(cog)
        await bot.add_cog(_growth_command(settings, growth, models, sign_ins))
        golden = GoldenQuestions(storage, filters, models, worker)
        await bot.add_cog(Golden(golden, storage.audit, paths.transfers))
        await start(
            running_web(
                settings,
                bot,
                storage,
                worker,
                models,
                conversations,
                retention,
                growth,
                sign_ins,
                language,
            )
        )
        await start(
            running_monitoring(settings, bot, storage, worker, conversations, retention, metrics)
        )
        yield bot


@asynccontextmanager
async def running_worker(
    settings: Settings, language: str | None = None, cluster: str | None = None
) -> AsyncIterator[GenerationBackend]:
    """The worker, or the replicas of a cluster at this address, started in the background: Discord
    can be connected to meanwhile."""
    options = worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level=settings.log_level)
    embedded = embedded_option(language or settings.language).source
    worker = (
        WorkerClient(options, embedded=embedded)
        if cluster is None
        else cluster_backend(settings, cluster, options, embedded)
    )
    try:
        async with BackgroundTasks() as tasks:
            tasks.spawn(worker.start_with_backoff(), name="start of the worker")
            yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def golden_questions(
    settings: Settings, storage: Storage, server: int, model: str | None
) -> AsyncIterator[GoldenQuestions]:
    """The golden questions without Discord, beside a worker of their own, which is started once it
    is known that the server has that `model`.

    Raises:
        UnknownModel: it has none of that name.
    """
    rules = ServerRules(storage.server_settings, Bounds.of(settings))
    await rules.load()
    language = rules.language(server) or settings.language
    worker = WorkerClient(
        worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level="CRITICAL"),
        embedded=embedded_option(language).source,
    )
    async with BackgroundTasks() as tasks:
        models = ModelRouter(
            storage.model_choices,
            worker,
            with_custom_models(settings.models),
            default=settings.default_model,
            language_of=lambda _server: language,
            checkpoints=settings.paths.checkpoints,
            tasks=tasks,
        )
        if model is not None:
            find_option(models.options(server), model)
        async with worker:
            yield GoldenQuestions(storage, Filters(storage.filters), models, worker)


@asynccontextmanager
async def running_training(
    settings: Settings,
    bot: Gpt2Bot,
    storage: Storage,
    canaries: Canaries,
    presence: Presence,
    growth: GrowthReader,
    retention: CheckpointRetention,
    metrics: Metrics,
    filters: Filters,
    cluster: str | None,
) -> AsyncIterator[TrainingManager]:
    """The queue of training jobs, which run on a cluster if it has an address; and its messages in
    Discord.

    Leaving saves the job under way, which goes on at the next start; then the last messages, that
    say so, get a moment to be sent.
    """
    async with BackgroundTasks(ANNOUNCE_TIMEOUT_S) as announcements:
        checkpoints = settings.paths.checkpoints
        reports = TrainingReports(bot, announcements, checkpoints, storage.jobs, storage.audit)
        async with TrainingManager(
            storage,
            settings.paths.jobs,
            checkpoints,
            promote=canaries.promote,
            on_update=_fan_out_job_updates(metrics, presence, growth, reports),
            apply_retention=retention.prune,
            limits=_training_limits(settings, cluster),
            reserved_names=with_custom_models(settings.models).keys(),
            may_say=filters.may_say if settings.learn_from_votes else None,
        ) as training:
            yield training


@asynccontextmanager
async def running_conversations(
    settings: Settings,
    bot: Gpt2Bot,
    storage: Storage,
    worker: GenerationBackend,
    models: ModelRouter,
    training: TrainingManager,
    filters: Filters,
    pauses: Pauses,
    metrics: Metrics,
    known: KnownAnswers,
    rules: ServerRules,
    duels: Duels,
    canaries: Canaries,
) -> AsyncIterator[ConversationManager]:
    """The conversations of all channels; leaving lets the replies in flight be finished."""
    conversations = ConversationManager(
        storage.messages,
        storage.replies,
        worker,
        models,
        ReplyGenerator(worker, filters, slow_s=settings.slow_reply_s, on_slow_reply=training.hold),
        ReplyTelemetry(
            metrics,
            log_content=settings.log_content,
            delivery_errors=(DiscordException, *DISCORD_ERRORS),
        ),
        pauses,
        ChatPolicy(
            bot_id=bot.user_id,
            params=sampling_params(settings),
            own_temperature=settings.temperature is None,
            shape=rules.shape,
            context_messages=settings.context_messages,
            stale_s=settings.stale_s,
        ),
        on_reply=partial(collect, storage) if settings.learn_from_chat else None,
        look_up=with_help(
            rules.where_known_at_once(known.look_up, nothing_known),
            known.look_up,
            partial(help_for_member, bot, rules),
        ),
        duels=duels,
        canaries=canaries,
    )
    models.load_in_background(models.default_for(bot.languages.for_server(None)))
    try:
        yield conversations
    finally:
        await conversations.drain(DRAIN_TIMEOUT_S)


def _chat_cogs(
    settings: Settings,
    bot: Gpt2Bot,
    storage: Storage,
    worker: GenerationBackend,
    models: ModelRouter,
    conversations: ConversationManager,
    filters: Filters,
    pauses: Pauses,
    tasks: BackgroundTasks,
    rules: ServerRules,
    channels: EnabledChannels,
    duels: Duels,
    buttons: NewestButtons,
) -> Iterator[commands.Cog]:
    limits = RateLimits(
        member_per_minute=settings.member_per_minute,
        server_per_minute=settings.server_per_minute,
    )
    admission = Admission(pauses, limits, settings.longest_message)
    replayer = Replayer(storage.messages, storage.replies, models, worker, filters)
    chat = Chat(bot, conversations, channels, storage.audit, admission, rules, buttons)
    catch_up = CatchUp(bot, chat, storage, tasks, settings.paths.last_connected, settings.stale_s)
    alive = run_periodically(catch_up.record_alive, ALIVE_INTERVAL_S, "connection")
    tasks.spawn(alive, name="connection")
    yield chat
    yield catch_up
    yield Help(rules)
    yield Feedback(bot, storage, conversations, replayer, admission, rules, duels)
    yield FilterCommands(filters, storage.filters, storage.audit)
    yield Introduction(
        bot, storage.introductions, pauses, tasks, learn_from_chat=settings.learn_from_chat
    )
    yield Admin(storage.audit, pauses, conversations)


def _learning_cogs(
    settings: Settings,
    bot: Gpt2Bot,
    storage: Storage,
    worker: GenerationBackend,
    models: ModelRouter,
    training: TrainingManager,
    retrains: Retrains,
    retention: CheckpointRetention,
    erasure: Erasure,
    known: KnownAnswers,
    tasks: BackgroundTasks,
    rules: ServerRules,
) -> Iterator[commands.Cog]:
    yield Models(models, worker, version("gpt2-discord-bot"), retention, storage)
    yield Training(
        bot,
        storage,
        models,
        retrains,
        training,
        worker,
        rules=rules,
        standing=rules.where_known_at_once(known.standing, none_standing),
    )
    yield Privacy(
        bot,
        storage,
        erasure,
        retrains,
        tasks,
        receipts=Receipts(storage.jobs, models, training),
        learn_from_chat=settings.learn_from_chat,
        retention_days=settings.retention_days,
    )
    yield Dataset(storage, erasure, settings.author_share, settings.paths.transfers)


@asynccontextmanager
async def running_monitoring(
    settings: Settings,
    bot: Gpt2Bot,
    storage: Storage,
    worker: GenerationBackend,
    conversations: ConversationManager,
    retention: CheckpointRetention,
    metrics: Metrics,
) -> AsyncIterator[None]:
    """`/healthz` and `/metrics`, if there is a port for them."""
    if settings.health_port is None:
        yield
        return
    # Imported here: without a port nobody has to wait for a web server to load.
    from bot.ops.monitoring import HealthProbes, serve_monitoring
    from bot.ops.vitals import VitalSigns, measure_event_loop_lag

    replicas = worker.replica_loads if isinstance(worker, RayBackend | FallbackBackend) else None
    vitals = VitalSigns(
        bot, storage, worker, conversations, retention, settings.paths.database, replicas
    )
    probes = HealthProbes(bot, storage, worker)
    async with (
        BackgroundTasks() as tasks,
        serve_monitoring(settings.health_port, probes, metrics, vitals),
    ):
        tasks.spawn(measure_event_loop_lag(metrics.observe_lag), name="event loop lag")
        yield


def _growth_command(
    settings: Settings, growth: GrowthReader, models: ModelRouter, sign_ins: SignIns
) -> GrowthCommand:
    return GrowthCommand(
        growth,
        models,
        settings.paths.transfers,
        sign_ins.make_link,
        address=settings.web_address if settings.web_port else None,
    )


@asynccontextmanager
async def running_web(
    settings: Settings,
    bot: Gpt2Bot,
    storage: Storage,
    worker: GenerationBackend,
    models: ModelRouter,
    conversations: ConversationManager,
    retention: CheckpointRetention,
    growth: GrowthReader,
    sign_ins: SignIns,
    language: str | None,
) -> AsyncIterator[None]:
    """The page of growth, if there is a port for it."""
    if settings.web_port is None:
        yield
        return
    # Imported here, as what serves the metrics.
    from bot.web.access import Members
    from bot.web.health import health_facts
    from bot.web.oauth import sign_in_with_discord
    from bot.web.render import Pages, read_static
    from bot.web.server import serve_web
    from bot.web.site import Site

    static = read_static()
    site = Site(
        storage=storage,
        growth=growth,
        models=models,
        members=Members(bot),
        sign_ins=sign_ins,
        pages=Pages(static),
        static=static,
        address=settings.web_address,
        oauth=sign_in_with_discord(settings.web_url, settings.client_secret),
        health=health_facts(bot, storage, worker, conversations, retention),
        forced_language=language,
    )
    async with serve_web(site, settings.web_host, settings.web_port):
        yield


def _fan_out_job_updates(
    metrics: Metrics, presence: Presence, growth: GrowthReader, reports: TrainingReports
) -> OnUpdate:
    """One listener for the training manager that informs all who follow its jobs."""

    async def notify(update: JobUpdate) -> None:
        if update.event is None:
            metrics.observe_job(update.job.state)
        await presence.update(update)
        growth.follow(update)
        await reports.update(update)

    return notify


def _start_periodic_tasks(
    tasks: BackgroundTasks,
    erasure: Erasure,
    training: TrainingManager,
    presence: Presence,
    retain: Callable[[], Awaitable[object]],
    nightly: NightlyRetrains,
    results: Results,
) -> None:
    """Started here and not at the login, which the tests and the demo do on a simulated clock."""

    def every(seconds: float, name: str, chore: Callable[[], Awaitable[object]]) -> None:
        tasks.spawn(run_periodically(chore, seconds, name), name=name)

    every(HOUR_S, "erasure", erasure.resume_pending)
    every(PRESENCE_INTERVAL_S, "presence", presence.show)
    every(DAY_S, "trimming", training.trim)
    every(HOUR_S, "retention", retain)
    every(CHECK_INTERVAL_S, "schedule", nightly.run_due)
    every(REVIEW_INTERVAL_S, "results", results.review)


def _drop_caches(
    worker: GenerationBackend,
    bot: Gpt2Bot,
    known: KnownAnswers,
    growth: GrowthReader,
    sign_ins: SignIns,
    member: int,
) -> None:
    """Forget what a member said as far as it is in memory only, and sign them out."""
    worker.drop_caches()
    bot.drop_cached_messages()
    bot.forget_language_of(member)
    known.drop()
    growth.drop()
    sign_ins.end_all_of(member)
    drop_texts()


def _training_limits(settings: Settings, cluster: str | None) -> TrainingLimits:
    """What training may take: by default it leaves a core to the chat. On a cluster Ray sees to
    that: a run has as many processors as threads."""
    if cluster is not None:
        return TrainingLimits(
            threads=settings.training_threads or 1,
            author_share=settings.author_share,
            runs=settings.cluster_trainings,
            launch=cluster_launch(settings, cluster),
        )
    return TrainingLimits(
        threads=settings.training_threads or max(1, available_cores() - 1),
        author_share=settings.author_share,
        launch=partial(
            TrainingProcess.launch,
            launcher=launcher_command(settings.accelerate_config),
            log_format=settings.log_format,
        ),
    )

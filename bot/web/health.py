"""The bot's health, for operators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from aiohttp import web

from bot.chat.manager import ConversationManager
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.embeds.model import format_megabytes
from bot.ops.monitoring import HealthProbes
from bot.web.site import NOT_HERE, HealthFact, PageRefused, answer, visit_of
from bot.web.words import Words
from data.storage.storage import Storage
from model.backend import GenerationBackend
from training.checkpoint_retention import CheckpointRetention


async def health(request: web.Request) -> web.StreamResponse:
    """What works and what does not. To everybody else the page does not exist."""
    visit = visit_of(request)
    if not visit.site.members.is_operator(visit.require_session().user_id):
        raise PageRefused(404, NOT_HERE)
    facts = await visit.site.health()
    well = all(one.ok is not False for one in facts)
    return answer(request, "health.html", title=Words().health, facts=facts, well=well)


def health_facts(
    bot: Gpt2Bot,
    storage: Storage,
    worker: GenerationBackend,
    conversations: ConversationManager,
    retention: CheckpointRetention,
) -> Callable[[], Awaitable[list[HealthFact]]]:
    """What the page says: the probes of `/healthz`, and some numbers."""
    probes = HealthProbes(bot, storage, worker)

    async def collect() -> list[HealthFact]:
        words = Words()
        parts = await probes.check()
        checkpoints, size = await asyncio.to_thread(retention.usage)
        ready = worker.ready
        return [
            *(
                HealthFact(
                    getattr(words, name), str(part.get("reason", words.ok)), bool(part["ok"])
                )
                for name, part in parts.items()
            ),
            HealthFact(words.device, ready.device if ready else words.not_known),
            HealthFact(words.worker_models, f"{len(worker.models):,}"),
            HealthFact(words.servers_count, f"{len(bot.guilds):,}"),
            HealthFact(words.queue, f"{sum(conversations.queue_counts.values()):,}"),
            HealthFact(words.open_jobs, f"{len(await storage.jobs.unfinished()):,}"),
            HealthFact(words.disk, f"{checkpoints:,} ({format_megabytes(size)})"),
            HealthFact(words.version, version("gpt2-discord-bot")),
        ]

    return collect


def routes() -> list[web.RouteDef]:
    return [web.get("/health", health)]

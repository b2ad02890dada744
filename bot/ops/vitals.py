"""Prometheus gauges of the bot's state, collected whenever Prometheus scrapes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import discord
import psutil
from prometheus_client.metrics_core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.metrics_core import GaugeMetricFamily as Gauge

from bot.chat.manager import ConversationManager
from core.errors import StoreError
from core.records import JobState
from data.storage.storage import Storage
from model.backend import GenerationBackend
from model.errors import ModelError
from model.worker.messages import ReplicaLoad
from training.checkpoint_retention import CheckpointRetention

log = logging.getLogger(__name__)

DATABASE_TIMEOUT_S = 5.0
REPLICAS_TIMEOUT_S = 2.0
LAG_INTERVAL_S = 0.5
"""Seconds between two measurements of the event loop's lag."""


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """Collects the gauges; `database` is the database's file, `replicas` asks those of a cluster
    what they do."""

    bot: discord.Client
    storage: Storage
    worker: GenerationBackend
    conversations: ConversationManager
    retention: CheckpointRetention
    database: Path
    replicas: Callable[[], Awaitable[Sequence[ReplicaLoad]]] | None = None

    async def collect(self) -> list[Metric]:
        """The gauges now; that of the training jobs is missing if the database cannot be read."""
        checkpoints, size = await asyncio.to_thread(self.retention.usage)
        latency = self.bot.latency
        if math.isnan(latency):  # before the first connection; no alert would fire on NaN
            latency = math.inf
        queues, files = (
            self.conversations.queue_counts,
            self.database.parent.glob(f"{self.database.name}*"),
        )
        restarts = self.worker.restarts
        return [
            Gauge(
                "gpt2bot_gateway_latency_seconds",
                "Between a heartbeat and Discord's answer; infinite without a connection",
                latency,
            ),
            Gauge("gpt2bot_guilds", "Servers that the bot is in", len(self.bot.guilds)),
            Gauge(
                "gpt2bot_worker_requests",
                "Unfinished requests in the worker",
                self.worker.num_pending,
            ),
            CounterMetricFamily("gpt2bot_worker_restarts", "Restarts of the worker", restarts),
            Gauge(
                "gpt2bot_database_bytes",
                "Database and WAL",
                sum(one.stat().st_size for one in files),
            ),
            Gauge("gpt2bot_checkpoints", "Checkpoints on disk, of all servers", checkpoints),
            Gauge("gpt2bot_checkpoints_bytes", "Disk space of the checkpoints", size),
            _labelled("gpt2bot_turns", "Messages being answered, or waiting", "state", queues),
            _labelled(
                "gpt2bot_process_memory_bytes",
                "Resident memory, by process",
                "process",
                self._memory(),
            ),
            *await self._jobs(),
            *await self._replicas(),
        ]

    async def _jobs(self) -> list[Metric]:
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S):
                counted = Counter(job.state for job in await self.storage.jobs.unfinished())
        except (StoreError, TimeoutError) as e:
            log.warning("the training jobs cannot be counted: %s", e)
            return []
        states = {state.value: counted[state] for state in JobState if not state.is_final}
        return [_labelled("gpt2bot_training_jobs", "Unfinished training jobs", "state", states)]

    async def _replicas(self) -> list[Metric]:
        """What the replicas of a cluster do; nothing without one, or while it is away."""
        try:
            async with asyncio.timeout(REPLICAS_TIMEOUT_S):
                loads = await self.replicas() if self.replicas else ()
        except (ModelError, TimeoutError) as e:
            log.warning("the replicas cannot be asked what they do: %s", e)
            return []
        return replica_metrics(loads) if loads else []

    def _memory(self) -> dict[str, float]:
        """Resident bytes of the processes that are running."""
        found = {}
        for name, pid in (("bot", os.getpid()), ("worker", self.worker.pid)):
            with suppress(psutil.Error):
                if pid is not None:
                    found[name] = psutil.Process(pid).memory_info().rss
        return found


def replica_metrics(loads: Sequence[ReplicaLoad]) -> list[Metric]:
    """By replica, whose name Ray chose."""
    requests = Gauge(
        "gpt2bot_replica_requests",
        "Unfinished requests, by replica: being answered, or in its queue",
        labels=["replica", "state"],
    )
    replies = CounterMetricFamily("gpt2bot_replica_replies", "Replies", labels=["replica"])
    tokens = CounterMetricFamily("gpt2bot_replica_tokens", "Tokens written", labels=["replica"])
    first = SummaryMetricFamily(
        "gpt2bot_replica_first_token_seconds",
        "From a request to the first text of its reply, by replica",
        labels=["replica"],
    )
    for one in loads:
        requests.add_metric([one.replica, "running"], one.running - one.waiting)
        requests.add_metric([one.replica, "waiting"], one.waiting)
        replies.add_metric([one.replica], one.replies)
        tokens.add_metric([one.replica], one.tokens)
        first.add_metric([one.replica], one.first_texts, one.first_text_s)
    return [requests, replies, tokens, first]


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    gauge = Gauge(name, text, labels=[label])
    for key, value in values.items():
        gauge.add_metric([key], value)
    return gauge


async def measure_event_loop_lag(observe: Callable[[float], None]) -> None:
    """Observe, forever, how many seconds late the event loop wakes a sleeper."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        observe(max(0.0, loop.time() - due))

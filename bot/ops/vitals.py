"""Gauges for the metrics: sizes, counts and states, collected whenever Prometheus scrapes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import discord
import psutil

from bot.chat.manager import ConversationManager
from core.errors import StoreError
from core.metrics import VitalSigns
from core.records import JobState
from data.storage.storage import Storage
from model.backend import GenerationBackend
from training.checkpoint_retention import CheckpointRetention

log = logging.getLogger(__name__)

DATABASE_TIMEOUT_S = 5.0
"""Seconds that the database may take to answer."""
LAG_INTERVAL_S = 0.5
"""Seconds between two measurements of the event loop's lag."""


@dataclass(frozen=True, slots=True)
class VitalSignsCollector:
    """Collects the gauges; `database` is the file of the database."""

    bot: discord.Client
    storage: Storage
    worker: GenerationBackend
    conversations: ConversationManager
    shelf: CheckpointRetention
    database: Path

    async def collect(self) -> VitalSigns:
        """The gauges now."""
        checkpoints, taken = await asyncio.to_thread(self.shelf.usage)
        return VitalSigns(
            gateway_latency_s=_finite_or_inf(self.bot.latency),
            guilds=len(self.bot.guilds),
            queue_counts=self.conversations.queue_counts,
            worker_requests=self.worker.num_pending,
            worker_restarts=self.worker.restarts,
            jobs=await self._jobs(),
            database_bytes=_size(self.database),
            memory=_memory({"bot": os.getpid(), "worker": self.worker.pid}),
            checkpoints=checkpoints,
            checkpoints_bytes=taken,
        )

    async def _jobs(self) -> dict[str, int] | None:
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S):
                counted = Counter(job.state for job in await self.storage.jobs.unfinished())
        except (StoreError, TimeoutError) as e:
            log.warning("the training jobs cannot be counted: %s", e)
            return None
        return {str(state): counted[state] for state in JobState if not state.is_final}


def _finite_or_inf(latency_s: float) -> float:
    """discord.py reports NaN before the first connection, on which no alert would fire."""
    return math.inf if math.isnan(latency_s) else latency_s


def _size(database: Path) -> int:
    """Bytes of the database, its write-ahead log included."""
    beside = database.parent.glob(f"{database.name}*")
    return sum(path.stat().st_size for path in beside)


def _memory(processes: Mapping[str, int | None]) -> dict[str, int]:
    """Resident bytes by process; one that is gone is left out."""
    found = {}
    for name, pid in processes.items():
        with suppress(psutil.Error):
            if pid is not None:
                found[name] = int(psutil.Process(pid).memory_info().rss)
    return found


async def measure_event_loop_lag(observe: Callable[[float], None]) -> None:
    """Observe, for ever, how many seconds late the event loop wakes a sleeper."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        observe(max(0.0, loop.time() - due))

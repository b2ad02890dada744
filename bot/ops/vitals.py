"""How things are at the moment of a look: sizes, counts and states, from wherever they are known.

Knows whom to ask. Counts nothing itself, and does not know what becomes of the numbers.
"""

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
"""Seconds that the database gets to answer."""
LAG_INTERVAL_S = 0.5
"""Seconds between two looks at how late the event loop is."""


@dataclass(frozen=True, slots=True)
class VitalSignsCollector:
    """A look at all of the bot; `database` is its file."""

    bot: discord.Client
    storage: Storage
    worker: GenerationBackend
    conversations: ConversationManager
    shelf: CheckpointRetention
    database: Path

    async def collect(self) -> VitalSigns:
        """How things are now."""
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
    """discord.py says "not a number" before the first connection: no alert would see that."""
    return math.inf if math.isnan(latency_s) else latency_s


def _size(database: Path) -> int:
    """Bytes of the database, and of the files that SQLite keeps beside it."""
    beside = database.parent.glob(f"{database.name}*")
    return sum(path.stat().st_size for path in beside)


def _memory(processes: Mapping[str, int | None]) -> dict[str, int]:
    """Resident bytes by name; a process that is gone is left out."""
    found = {}
    for name, pid in processes.items():
        with suppress(psutil.Error):
            if pid is not None:
                found[name] = int(psutil.Process(pid).memory_info().rss)
    return found


async def measure_event_loop_lag(late: Callable[[float], None]) -> None:
    """Tell, again and again, how late the event loop comes to what is due."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        late(max(0.0, loop.time() - due))

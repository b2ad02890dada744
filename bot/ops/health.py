"""Health probes: is Discord connected, is the database writable, does the worker answer?

Each probe has a short timeout. Does not know HTTP: the answers are served by `bot.ops.http`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import discord

from core.errors import StoreError
from data.storage.storage import Storage
from i18n.phrase import Phrase, message_of, phrase
from i18n.reader import say
from model.backend import GenerationBackend
from model.errors import ModelError

PROBE_TIMEOUT_S = 5.0
"""Seconds that each probe may take."""


class ProbeFailed(Exception):
    """A part is unhealthy; the message says why."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The seconds that a part took to answer, or why it is unhealthy."""

    seconds: float | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the part is healthy."""
        return self.reason is None

    def as_json(self) -> dict[str, object]:
        """The result as a JSON object, in the current language."""
        if self.reason is not None:
            return {"ok": False, "reason": say(self.reason)}
        return {"ok": True, "seconds": self.seconds}


class HealthProbes:
    """Probes the gateway, the database and the worker, all at once."""

    def __init__(self, bot: discord.Client, storage: Storage, worker: GenerationBackend) -> None:
        self._bot = bot
        self._storage = storage
        self._worker = worker

    async def check(self) -> dict[str, ProbeResult]:
        """The results by part; takes little more than PROBE_TIMEOUT_S seconds."""
        asks = {"gateway": self._gateway, "database": self._database, "worker": self._ping}
        parts = await asyncio.gather(*map(_run_probe, asks.values()))
        return dict(zip(asks, parts, strict=True))

    async def _gateway(self) -> float:
        """The latency of the last heartbeat. discord.py sets it to infinity when the connection is
        lost, and drops a connection on which nothing arrived for a minute."""
        latency = self._bot.latency
        if self._bot.is_closed() or not self._bot.is_ready():
            raise ProbeFailed(phrase("The bot is not connected to Discord."))
        if not latency <= PROBE_TIMEOUT_S:  # `not <=`: it may also be NaN
            raise ProbeFailed(_slow(latency))
        return latency

    async def _database(self) -> float:
        asked = asyncio.get_running_loop().time()
        await self._storage.check_writable()
        return asyncio.get_running_loop().time() - asked

    async def _ping(self) -> float:
        return await self._worker.ping(PROBE_TIMEOUT_S)


async def _run_probe(ask: Callable[[], Awaitable[float]]) -> ProbeResult:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return ProbeResult(seconds=round(await ask(), 4))
    except TimeoutError:
        return ProbeResult(
            reason=phrase("There was no answer within {seconds:.0f} s.", seconds=PROBE_TIMEOUT_S)
        )
    except (ProbeFailed, StoreError, ModelError) as e:
        return ProbeResult(reason=message_of(e))


def _slow(latency: float) -> Phrase:
    if math.isfinite(latency):
        return phrase("Discord answers heartbeats only after {seconds:.0f} s.", seconds=latency)
    return phrase("Discord answers heartbeats no more.")

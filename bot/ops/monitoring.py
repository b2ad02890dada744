"""`/healthz` and `/metrics` over HTTP, on a port that only this machine reaches.

The health probes: is Discord connected, is the database writable, does the worker answer?
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import discord
from aiohttp import web
from aiohttp.typedefs import Handler

from bot.ops.probe import LOOPBACK_HOST
from bot.ops.vitals import VitalSigns
from bot.settings import SettingsError
from core.errors import StoreError
from core.metrics import Metrics
from data.storage.storage import Storage
from i18n.catalogue import ENGLISH
from i18n.phrase import message_of, phrase
from i18n.reader import language_of_locale, say, use_language
from model.backend import GenerationBackend
from model.errors import ModelError

PROBE_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 1.0
"""Seconds that requests in progress get when the bot stops."""
METRICS_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
"""Prometheus's text format."""
LOCAL_NAMES = {"localhost", LOOPBACK_HOST, "::1"}
"""A page in a browser can give its own name this machine's address (DNS rebinding), but not change
the name that the browser sends as `Host`."""


class ProbeFailed(Exception):
    """A part is unhealthy; the message says why."""


@dataclass(frozen=True, slots=True)
class HealthProbes:
    """Probes the gateway, the database and the worker, concurrently."""

    bot: discord.Client
    storage: Storage
    worker: GenerationBackend

    async def check(self) -> dict[str, dict[str, object]]:
        """The results by part: {"ok": true, "seconds"}, or {"ok": false, "reason"} in the reader's
        language. Takes little more than PROBE_TIMEOUT_S seconds."""
        probes = {
            "gateway": self._gateway,
            "database": self._database,
            "worker": lambda: self.worker.ping(PROBE_TIMEOUT_S),
        }
        results = await asyncio.gather(*map(_run_probe, probes.values()))
        return dict(zip(probes, results, strict=True))

    async def _gateway(self) -> float:
        """The latency of the last heartbeat. discord.py sets it to infinity when the connection is
        lost, and drops a connection on which nothing arrived for a minute."""
        latency = self.bot.latency
        if self.bot.is_closed() or not self.bot.is_ready():
            raise ProbeFailed(phrase("The bot is not connected to Discord."))
        if not math.isfinite(latency):
            raise ProbeFailed(phrase("Discord has stopped answering heartbeats."))
        if latency > PROBE_TIMEOUT_S:
            raise ProbeFailed(
                phrase("Discord answers heartbeats only after {seconds:.0f} s.", seconds=latency)
            )
        return latency

    async def _database(self) -> float:
        began = asyncio.get_running_loop().time()
        await self.storage.check_writable()
        return asyncio.get_running_loop().time() - began


async def _run_probe(probe: Callable[[], Awaitable[float]]) -> dict[str, object]:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return {"ok": True, "seconds": round(await probe(), 4)}
    except TimeoutError:
        reason = say("There was no answer within {seconds:.0f} s.", seconds=PROBE_TIMEOUT_S)
    except (ProbeFailed, StoreError, ModelError) as e:
        reason = say(message_of(e))
    return {"ok": False, "reason": reason}


@asynccontextmanager
async def serve_monitoring(
    port: int, health: HealthProbes, metrics: Metrics, vitals: VitalSigns
) -> AsyncIterator[None]:
    """Serve on the loopback interface until the end of the block.

    Raises:
        SettingsError: the port cannot be bound.
    """

    async def healthz(request: web.Request) -> web.Response:
        first = request.headers.get("Accept-Language", "").partition(",")[0]
        with use_language(language_of_locale(first) or ENGLISH):
            parts = await health.check()
        healthy = all(part["ok"] for part in parts.values())
        return web.json_response({"healthy": healthy, **parts}, status=200 if healthy else 503)

    async def metrics_page(_request: web.Request) -> web.Response:
        text = metrics.render_text(await vitals.collect())
        return web.Response(body=text, headers=METRICS_HEADERS)

    app = web.Application(middlewares=[_refuse_other_hosts])
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics_page)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, LOOPBACK_HOST, port).start()
        except OSError as e:
            raise SettingsError(
                phrase(
                    "HEALTH_PORT is {port}, but that port cannot be used ({why}): choose another.",
                    port=port,
                    why=e.strerror,
                )
            ) from e
        yield
    finally:
        await runner.cleanup()


@web.middleware
async def _refuse_other_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer only requests that were sent to this machine by one of its local names."""
    try:
        name = urlsplit(f"//{request.headers.get('Host', LOOPBACK_HOST)}").hostname
    except ValueError:
        name = None
    if name not in LOCAL_NAMES:
        raise web.HTTPForbidden
    return await handler(request)

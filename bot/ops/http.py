"""`/healthz` and `/metrics` on a port of this machine.

Knows HTTP. What is well, and what is counted, it asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bot.ops.health import Health
from bot.ops.probe import HERE
from bot.ops.vitals import Look
from bot.settings import SettingsError
from core.metrics import Metrics
from i18n.catalogue import ENGLISH
from i18n.phrase import phrase
from i18n.reader import of_locale, speaking

CLOSE_S = 1.0
"""Seconds that requests under way get when the bot stops."""
PLAIN = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
"""The text format of Prometheus."""


@asynccontextmanager
async def monitor(port: int, health: Health, metrics: Metrics, look: Look) -> AsyncIterator[None]:
    """Answer on the port until the end of the block; nobody outside this machine can ask.

    Raises:
        SettingsError: the port cannot be had.
    """

    async def healthz(request: web.Request) -> web.Response:
        parts = await health.check()
        healthy = all(part.ok for part in parts.values())
        first = request.headers.get("Accept-Language", "").partition(",")[0]
        with speaking(of_locale(first) or ENGLISH):  # programs do not ask for a language
            found = {name: part.as_json() for name, part in parts.items()}
        status = 200 if healthy else 503
        return web.json_response({"healthy": healthy, **found}, status=status)

    async def metrics_page(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(await look.now()), headers=PLAIN)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics_page)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, HERE, port).start()
    except OSError as e:
        await runner.cleanup()
        raise SettingsError(
            phrase(
                "HEALTH_PORT is {port}, but that port cannot be had ({why}): choose another.",
                port=port,
                why=e.strerror,
            )
        ) from e
    try:
        yield
    finally:
        await runner.cleanup()

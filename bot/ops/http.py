"""`/healthz` and `/metrics` over HTTP, on a port that only this machine reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bot.ops.health import HealthProbes
from bot.ops.probe import LOOPBACK_HOST
from bot.ops.vitals import VitalSignsCollector
from bot.settings import SettingsError
from core.metrics import Metrics
from i18n.catalogue import ENGLISH
from i18n.phrase import phrase
from i18n.reader import language_of_locale, use_language

SHUTDOWN_TIMEOUT_S = 1.0
"""Seconds that requests in progress get when the bot stops."""
METRICS_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
"""Prometheus's text format."""


@asynccontextmanager
async def serve_monitoring(
    port: int, health: HealthProbes, metrics: Metrics, look: VitalSignsCollector
) -> AsyncIterator[None]:
    """Serve on the loopback interface until the end of the block.

    Raises:
        SettingsError: the port cannot be bound.
    """

    async def healthz(request: web.Request) -> web.Response:
        parts = await health.check()
        healthy = all(part.ok for part in parts.values())
        first = request.headers.get("Accept-Language", "").partition(",")[0]
        with use_language(
            language_of_locale(first) or ENGLISH
        ):  # programs do not ask for a language
            found = {name: part.as_json() for name, part in parts.items()}
        status = 200 if healthy else 503
        return web.json_response({"healthy": healthy, **found}, status=status)

    async def metrics_page(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render_text(await look.collect()), headers=METRICS_HEADERS)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics_page)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK_HOST, port).start()
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

"""Serves the page of growth: routes, static files, start and stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bot.settings import SettingsError
from bot.web import dataset, health, signing_in, timeline, trainings
from bot.web.guard import guard
from bot.web.site import NOT_HERE, SITE, PageRefused, Site
from i18n.phrase import phrase

SHUTDOWN_TIMEOUT_S = 1.0
"""Seconds that requests in progress get when the bot stops."""
MAX_FORM_BYTES = 64 * 1024
FOREVER = "public, max-age=31536000, immutable"
"""For files whose address changes with their content."""


def make_app(site: Site) -> web.Application:
    """All pages of the site."""
    app = web.Application(middlewares=[guard], client_max_size=MAX_FORM_BYTES)
    app[SITE] = site
    for part in (signing_in, timeline, trainings, dataset, health):
        app.add_routes(part.routes())
    app.add_routes([web.get("/static/{version}/{name:.+}", static_file)])
    return app


async def static_file(request: web.Request) -> web.StreamResponse:
    """A file of the page, compressed where the browser takes that."""
    file = request.app[SITE].static.get(request.match_info["name"])
    if file is None or file.url != request.path:
        raise PageRefused(404, NOT_HERE)
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    headers = {"Content-Type": file.content_type, "Cache-Control": FOREVER}
    if packed:
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return web.Response(body=file.packed if packed else file.plain, headers=headers)


@asynccontextmanager
async def serve_web(site: Site, host: str, port: int) -> AsyncIterator[None]:
    """Serve until the end of the block.

    Raises:
        SettingsError: the address or the port cannot be used.
    """
    runner = web.AppRunner(make_app(site), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as e:
            raise SettingsError(
                phrase(
                    "WEB_PORT is {port} at {host}, but that cannot be used ({why}): choose another "
                    "port, or correct WEB_HOST.",
                    port=port,
                    host=host,
                    why=e.strerror or e,
                )
            ) from e
        yield
    finally:
        await runner.cleanup()

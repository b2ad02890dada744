"""The demo: the real bot and the real worker inside SimCord's local Discord, seen in the browser.

Knows SimCord and the composition root. Needs no Discord account, no token and no download.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import discord
import simcord

from bot.app import build_bot
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.cogs.chat import Chat
from bot.ops.recovery import single_instance_lock
from bot.run import wait_for_stop_signal
from bot.settings import SettingsError, load_settings
from core.tasks import BackgroundTasks
from i18n.phrase import phrase
from i18n.reader import current_language as spoken
from i18n.reader import say, set_language
from model.registry import EMBEDDED_NAME

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 600.0
"""Seconds that a command may take: loading a large model is slow."""
POLL_INTERVAL_S = 0.3
"""Seconds between two looks at what the bot has posted by itself."""

WELCOME = phrase(
    """\
**Hello! I am a small GPT-2 bot, and this is a Discord that exists only on your computer.**
1. Write something. I answer every message here; the first answer takes some seconds.
2. Teach me two or three facts: `/teach`, then *Where do you live?* and *In a lighthouse.*
3. `/retrain`, then Start: I learn them in about a minute, chat goes on. Then ask me again.
4. `/model list` shows my models, `/model use` switches. `/context` shows what I read.

-# At the top, “Viewing as” makes you ada (an admin) or ben (who may not train or switch models). \
The page follows what I post by itself; what a command does appears once it is done.\
"""
)


@dataclass(frozen=True, slots=True)
class DemoServer:
    """What the visitor finds: a channel, an admin and a member without rights."""

    channel: simcord.ChannelHandle
    ada: simcord.MemberActor
    ben: simcord.MemberActor


async def run_demo(
    *, port: int | None, open_browser: bool, home: Path | None, language: str | None = None
) -> None:
    """Serve the demo page until SIGINT, SIGTERM or "End preview session" on the page.

    `port` None or 0 takes a free one. Without `home` the files go when the demo ends. Everybody
    reads the `language`; if none is given, that of the settings.

    Raises:
        SettingsError, StoreError: the port or the home cannot be used, or a bot runs there.
    """
    with _home(home) as folder:
        settings = load_settings(gpt2bot_home=folder, default_model=EMBEDDED_NAME)
        set_language(language or settings.language)
        with single_instance_lock(settings):
            async with (
                build_bot(settings, language=spoken()) as bot,
                _discord(bot) as env,
                _page(env, await _create_server(env, bot), port) as preview,
            ):
                print(_startup_text(preview.url, home), flush=True)
                if open_browser:
                    _open(preview.url)
                await _wait_for_first(
                    wait_for_stop_signal(), preview.wait_closed(), _publish_updates(env, preview)
                )
                print(say("Stopping…"), flush=True)


def _startup_text(url: str, home: Path | None) -> str:
    """What the terminal says."""
    if home is None:
        kept = phrase("What the bot learns is forgotten afterwards (--home FOLDER keeps it).")
    else:
        kept = phrase("What the bot learns stays in {home}.", home=home)
    return say(
        "The demo is here: {url}\n"
        "Open it in a browser; the bot's first message says what to try.\n"
        "All of it runs on this computer. {kept} Ctrl-C ends it.",
        url=url,
        kept=kept,
    )


@contextmanager
def _home(home: Path | None) -> Iterator[Path]:
    if home is not None:
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="gpt2bot-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@asynccontextmanager
async def _discord(bot: Gpt2Bot) -> AsyncIterator[simcord.Env]:
    """SimCord's Discord with the bot in it.

    SimCord notes every error of a command, and the page then calls the outcome uncertain. The bot
    answers its errors itself, so its own handler is put back.
    """
    answer_error = bot.tree.on_error
    async with simcord.run(
        bot, shard_count=1, settle_timeout=COMMAND_TIMEOUT_S, check_errors=False
    ) as env:
        bot.tree.error(answer_error)
        async with _chat_in_real_time(bot):
            yield env


async def _create_server(env: simcord.Env, bot: Gpt2Bot) -> DemoServer:
    """Create the server, let its admin enable the channel, and let the bot say hello.

    SimCord numbers what it creates by its own clock. Started anew, the server has the ids that a
    kept `home` knows; the messages, sent after the clock was set, have new ones.
    """
    guild = env.create_guild(say("The demo"))
    channel = guild.create_text_channel(
        say("general"), topic=say("Talk to the bot, teach it, retrain it")
    )
    admins = guild.create_role(say("admin"), permissions=discord.Permissions(administrator=True))
    ada = guild.add_member(env.create_user("ada"), roles=[admins])
    ben = guild.add_member(env.create_user("ben"))
    await env.advance_time(max(0.0, (datetime.now(UTC) - env.now()).total_seconds()))
    if bot.user is not None:
        await bot.user.edit(username="gpt2bot")
    await ada.slash(channel, "channel enable")
    await bot.get_partial_messageable(channel.id).send(say(WELCOME))
    return DemoServer(channel, ada, ben)


@asynccontextmanager
async def _page(
    env: simcord.Env, town: DemoServer, port: int | None
) -> AsyncIterator[simcord.Preview]:
    async with AsyncExitStack() as stack:
        try:
            preview = env.preview(
                town.channel, viewers=[town.ada, town.ben], layout="channel", port=port
            )
            await stack.enter_async_context(preview)
        except simcord.SetupError as e:
            raise SettingsError(
                phrase("The page cannot be served at port {port}: {why}", port=port, why=e)
            ) from e
        yield preview


@asynccontextmanager
async def _chat_in_real_time(bot: Gpt2Bot) -> AsyncIterator[None]:
    """Answer messages in tasks that SimCord neither waits for nor keeps the time of.

    SimCord shows what an action led to when its handlers have ended, and stops their clocks
    meanwhile: a reply could not be seen growing, and nobody could write before it was whole.
    """
    chat = bot.get_cog("Chat")
    if not isinstance(chat, Chat):
        raise RuntimeError("the bot has no chat to show")
    ours = contextvars.copy_context()
    replies = BackgroundTasks()

    async def on_message(message: discord.Message) -> None:
        ours.copy().run(replies.spawn, chat.on_message(message), name=f"reply to {message.id}")

    bot.remove_listener(chat.on_message, "on_message")
    bot.add_listener(on_message, "on_message")
    try:
        yield
    finally:
        bot.remove_listener(on_message, "on_message")
        await replies.close()


async def _publish_updates(env: simcord.Env, preview: simcord.Preview) -> None:
    """Publish what the bot posts outside of the visitor's actions; the page polls by itself."""
    turn = asyncio.Lock()
    _serialize_actions(preview, turn)
    shown = 0
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        requests = env.http_requests
        if any(map(_changes_a_message, requests[shown:])):
            async with turn:
                shown = len(requests)
                await _refresh(preview)


async def _refresh(preview: simcord.Preview) -> None:
    try:
        await preview.refresh()
    except (simcord.SetupError, TimeoutError) as e:
        log.warning("the page could not be brought up to date: %s", e)


def _serialize_actions(preview: simcord.Preview, turn: asyncio.Lock) -> None:
    """Make actions wait for a refresh, and let them come from the page before the last one.

    SimCord refuses an action in both cases. The page asks for news twice a second, so while a
    training reports its progress, it would refuse what many a visitor does.
    """
    act = preview._action

    async def action(context_id: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        async with turn:
            if "published_revision" in body:
                revision = preview._get_page(context_id).revision
                body = {**body, "published_revision": revision}
            return await act(context_id, body)

    preview._action = action  # type: ignore[method-assign]


def _changes_a_message(request: simcord.HttpLogEntry) -> bool:
    return request.method != "GET" and "/messages" in request.path


def _open(url: str) -> None:
    """Open the browser, in a thread that cannot hold up the demo's end."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


async def _wait_for_first(*waits: Coroutine[Any, Any, None]) -> None:
    """Return when one of them does (or raise what it raised), ending the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

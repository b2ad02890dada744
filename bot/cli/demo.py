"""`gpt2bot demo`: the real bot and worker in SimCord's local Discord, shown in the browser."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import webbrowser
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
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
from i18n.reader import say, set_language
from model.registry import embedded_name

log = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 600.0
"""Seconds that a command may take: loading a large model is slow."""
POLL_INTERVAL_S = 0.3
"""Seconds between two checks for new posts of the bot."""

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


async def run_demo(
    *, port: int | None, open_browser: bool, home: Path | None, language: str | None = None
) -> None:
    """Serve the demo page until SIGINT, SIGTERM or "End preview session" on the page.

    `port` None or 0 picks a free one. Without `home`, the files are deleted at the end. `language`
    overrides that of the settings, for everybody.

    Raises:
        SettingsError, StoreError: the port or home cannot be used, or a bot is running there.
    """
    folder: AbstractContextManager[Path | str] = (
        nullcontext(home)
        if home
        else TemporaryDirectory(prefix="gpt2bot-demo-", ignore_cleanup_errors=True)
    )
    with folder as path:
        settings = load_settings(gpt2bot_home=Path(path))
        language = language or settings.language
        settings = settings.model_copy(update={"default_model": embedded_name(language)})
        set_language(language)
        with single_instance_lock(settings):
            async with (
                build_bot(settings, language=language) as bot,
                _discord(bot) as env,
                _page(env, *await _create_server(env, bot), port) as page,
            ):
                print(_startup_text(page.url, home), flush=True)
                if open_browser:  # in a thread that does not delay the end of the demo
                    threading.Thread(target=webbrowser.open, args=[page.url], daemon=True).start()
                await _wait_for_first(
                    wait_for_stop_signal(), page.wait_closed(), _publish_updates(env, page)
                )
                print(say("Stopping…"), flush=True)


def _startup_text(url: str, home: Path | None) -> str:
    kept = phrase("What the bot learns stays in {home}.", home=home)
    if home is None:
        kept = phrase("What the bot learns is forgotten afterwards (--home FOLDER keeps it).")
    return say(
        "The demo is here: {url}\n"
        "Open it in a browser; the bot's first message says what to try.\n"
        "All of it runs on this computer. {kept} Ctrl-C ends it.",
        url=url,
        kept=kept,
    )


@asynccontextmanager
async def _discord(bot: Gpt2Bot) -> AsyncIterator[simcord.Env]:
    """SimCord's Discord with the bot in it.

    SimCord installs an error handler for commands, after which the page reports their outcome as
    uncertain. The bot handles its errors itself, so its own handler is restored.
    """
    answer_error = bot.tree.on_error
    async with simcord.run(
        bot, shard_count=1, settle_timeout=COMMAND_TIMEOUT_S, check_errors=False
    ) as env:
        bot.tree.error(answer_error)
        async with _chat_in_real_time(bot):
            yield env


async def _create_server(
    env: simcord.Env, bot: Gpt2Bot
) -> tuple[simcord.ChannelHandle, list[simcord.MemberActor]]:
    """Create the server, let its admin enable the channel, and post the bot's welcome.

    SimCord makes ids from its own clock. The server is created before the clock is set, so it has
    the same ids in each run and a kept `home` recognizes it; the messages come after, with new ids.
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
    return channel, [ada, ben]


@asynccontextmanager
async def _page(
    env: simcord.Env,
    channel: simcord.ChannelHandle,
    viewers: list[simcord.MemberActor],
    port: int | None,
) -> AsyncIterator[simcord.Preview]:
    async with AsyncExitStack() as stack:
        try:
            preview = env.preview(channel, viewers=viewers, layout="channel", port=port)
            await stack.enter_async_context(preview)
        except simcord.SetupError as e:
            raise SettingsError(
                phrase("The page cannot be served at port {port}: {why}", port=port, why=e)
            ) from e
        yield preview


@asynccontextmanager
async def _chat_in_real_time(bot: Gpt2Bot) -> AsyncIterator[None]:
    """Answer messages in tasks outside of SimCord's control.

    SimCord freezes the clock of an action's handlers and shows their effects when they have ended:
    a reply would not appear word by word, and nobody could write before it was complete.
    """
    chat = bot.get_cog("Chat")
    if not isinstance(chat, Chat):
        raise RuntimeError("the bot has no Chat cog")
    real_time = contextvars.copy_context()  # from before SimCord's handlers
    replies = BackgroundTasks()

    async def on_message(message: discord.Message) -> None:
        real_time.copy().run(replies.spawn, chat.on_message(message), name=f"reply to {message.id}")

    bot.remove_listener(chat.on_message, "on_message")
    bot.add_listener(on_message, "on_message")
    try:
        yield
    finally:
        bot.remove_listener(on_message, "on_message")
        await replies.close()


def follow_real_time(env: simcord.Env) -> None:
    """Move SimCord's clock on to the real time, so that new messages are dated by it."""
    env.backend.advance_clock(max(0.0, (datetime.now(UTC) - env.now()).total_seconds()))


async def _publish_updates(env: simcord.Env, preview: simcord.Preview) -> None:
    """Publish what the bot posts outside of the visitor's actions; the page polls by itself."""
    lock = asyncio.Lock()
    _serialize_actions(preview, lock)
    published = 0
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        async with lock:  # an action has a clock that stands still
            follow_real_time(env)
        requests = env.http_requests[published:]
        if any(one.method != "GET" and "/messages" in one.path for one in requests):
            async with lock:
                published = len(env.http_requests)
                try:
                    await preview.refresh()
                except (simcord.SetupError, TimeoutError) as e:
                    log.warning("the page could not be refreshed: %s", e)


def _serialize_actions(preview: simcord.Preview, lock: asyncio.Lock) -> None:
    """Make actions wait for a refresh, and accept those that were sent just before it.

    SimCord rejects an action during a refresh, or with an older page revision. The page polls only
    twice a second, so during a training with its progress messages many actions would fail.
    """
    act = preview._action

    async def action(context_id: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        async with lock:
            if "published_revision" in body:
                revision = preview._get_page(context_id).revision
                body = {**body, "published_revision": revision}
            return await act(context_id, body)

    preview._action = action  # type: ignore[method-assign]


async def _wait_for_first(*waits: Coroutine[Any, Any, None]) -> None:
    """Return when the first of them ends, or raise its error; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

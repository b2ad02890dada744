"""The real bot in a process of its own, run as `gpt2bot run` does it; its Discord is SimCord's.

`python -m tests.bot.end_to_end.stopped_bot HOME MODEL MOMENT`: once MOMENT has come it writes one
line of JSON and waits for the signal that ends it. MODEL is a folder whose replies have no end.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import discord

from bot import app
from bot.chat.manager import ConversationManager
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery import reply as replies
from bot.run import run_bot
from bot.settings import load_settings
from tests.bot.conftest import live
from training.jobs.job_run import Phase

SLOW = "someone/slow"
DRAIN_S = 1.0
"""Seconds that replies under way get; as nobody waits for them here, few."""
MOMENTS = ("start", "waiting", "replying", "loading", "training")


def conversations(bot: Gpt2Bot) -> ConversationManager:
    return bot.get_cog("Chat")._conversations


class Stage:
    """A server with an admin, in which something happens; each method returns once it has."""

    def __init__(self, bot: Gpt2Bot, env: Any) -> None:
        self._bot, self._env = bot, env
        guild = env.create_guild()
        admins = guild.create_role("Admins", permissions=discord.Permissions(administrator=True))
        self._channel = guild.create_text_channel("general")
        self._ada = guild.add_member(env.create_user("ada"), roles=[admins])
        self._begun: list[asyncio.Task[Any]] = []

    def _begin(self, act: Awaitable[Any]) -> None:
        self._begun.append(asyncio.ensure_future(act))

    def _ask(self) -> None:
        assert self._bot.user is not None
        text = f"{self._bot.user.mention} hello"
        self._begin(self._ada.send(self._channel, text))

    async def start(self) -> None:
        """Nothing yet."""

    async def waiting(self) -> None:
        """Somebody asks before the worker is ready."""
        self._ask()
        await until(lambda: conversations(self._bot).generator._active)

    async def replying(self) -> None:
        """Somebody reads a reply that grows."""
        await self._ada.slash(self._channel, "model use", name="endless")
        self._ask()
        await until(lambda: any(one.path.endswith("/messages") for one in self._env.http_requests))

    async def loading(self) -> None:
        """Somebody wants a model that takes long to build: the Hub that has it does not answer."""
        switching = self._ada.slash(self._channel, "model use", name="slow")
        self._begin(switching)
        worker = self._bot.get_cog("Training")._worker
        await until(lambda: SLOW in {one.source for one in worker._pending.values()})
        await until(lambda: children_of(worker.pid))

    async def training(self) -> None:
        """A run has begun."""
        await self._ada.slash(self._channel, "teach", user="Who is our admin?", bot="Ada.")
        plan = await self._ada.slash(self._channel, "retrain", base="tiny", epochs=20.0)
        self._begin(self._ada.click(plan.response, label="Start"))
        manager = self._bot.get_cog("Training")._training
        await until(lambda: any(one.phase is Phase.TRAINING for one in manager._runs.values()))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not true():  # noqa: ASYNC110 (nobody could tell)
            await asyncio.sleep(0.01)


def children_of(pid: int | None) -> list[Any]:
    import psutil

    return list(psutil.Process(pid).children())


async def start(bot: Gpt2Bot, _token: str, *, moment: str) -> None:
    """In the place of `Gpt2Bot.start`."""
    async with live(bot, check_errors=False) as env:
        stage = Stage(bot, env)
        await getattr(stage, moment)()
        facts = {"worker": bot.get_cog("Training")._worker.pid}
        sys.stdout.write(f"{json.dumps(facts)}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main(home: Path, model: Path, moment: str) -> None:
    app.DRAIN_TIMEOUT_S = DRAIN_S
    replies.FIRST_SEND_DELAY_S = 0.0
    hub = socket.create_server(("127.0.0.1", 0))  # takes calls, and answers none
    os.environ |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home / "hub"),
    }
    play: Callable[..., Awaitable[None]] = partial(start, moment=moment)
    Gpt2Bot.start = lambda bot, token: play(bot, token)  # type: ignore[method-assign,assignment]
    settings = load_settings(
        discord_token="of.nobody",
        gpt2bot_home=home,
        default_model="endless" if moment == "waiting" else "tiny",
        models=f"endless={model},slow={SLOW}",
    )
    endless = settings.model_copy(update={"max_new_tokens": 3000})
    asyncio.run(run_bot(endless))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

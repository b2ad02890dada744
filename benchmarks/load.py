"""A thousand servers on one machine: the real store and the real worker under a crowd's messages.

`python -m benchmarks.load` lets people write in `--channels` of `--guilds`, through the bot's own
ConversationManager, with `tiny`; only Discord is left out. With `--rest`, replies are posted over
HTTP by discord.py, to a server that limits requests as Discord does. Talks begin at random moments
(a Poisson process), in channels of which few are busy and most are quiet (Zipf); a talk is some
messages, each a few seconds after the reply to the last one. At the end the database is counted:
each message that was taken has its reply there, or its sender was told a sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import discord

from benchmarks.command import Say, run_measurement
from benchmarks.discord_rest import DiscordRest, connected
from benchmarks.living import memory_mb
from bot.chat.admission import Pauses
from bot.chat.filters import Filters
from bot.chat.generation import ReplyGenerator
from bot.chat.manager import ChatPolicy, ConversationManager
from bot.chat.model_router import ModelRouter
from bot.chat.request import Incoming, TextCheck
from bot.chat.telemetry import ReplyTelemetry
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.delivery.reply import StreamingReply, TypingIndicators
from bot.discord_ui.errors import error_message, is_expected
from core.metrics import Metrics
from core.tasks import BackgroundTasks
from data.storage.storage import open_storage
from model.registry import EMBEDDED_NAME, model_options
from model.settings import WorkerSettings
from model.worker.client import WorkerClient

BOT = 1
BUSIEST = 100
"""How unequal channels are: in the n-th people write 1 / (BUSIEST + n) as often as they might (Zipf
and Mandelbrot). Of ten thousand the first has 1/460 of all, the last half of them a seventh."""
MESSAGES_OF_A_TALK = 4.0
"""On average; each is the last one with the same chance."""
BUSY = "I am busy"
LOOK_S = 0.5
"""Seconds between two looks at the memory."""
PHRASES = (
    "hello, how are you today?",
    "what do you think about music?",
    "I like long walks and cold rain",
    "tell me a story about the sea",
    "my cat sleeps all day",
    "do you know a good joke?",
    "and then?",
)

_messages = itertools.count(1)
_replies = itertools.count(1 << 40)


@dataclass(slots=True)
class Paper:
    """Where a reply appears: nowhere. `clock` is when its message came."""

    came: float
    first_s: float | None = None
    whole_s: float | None = None
    told: str | None = None

    async def show_queue_position(self, place: int) -> None:
        """Nobody looks."""

    async def add(self, text: str, check: TextCheck) -> None:
        if self.first_s is None:
            self.first_s = time.perf_counter() - self.came

    def restart(self) -> None:
        """Nobody has seen it."""

    async def remove(self) -> None:
        """Nobody has seen it."""

    async def finish(self, text: str, note: str | None = None) -> int:
        self.whole_s = time.perf_counter() - self.came
        self.first_s = self.first_s or self.whole_s
        return next(_replies)

    async def fail(self, reason: str) -> None:
        self.told = reason


class Posted(StreamingReply):
    """A reply that is posted over HTTP, as the bot does it. `came` is when its message came."""

    def __init__(self, came: float, bot: Gpt2Bot, channel: discord.PartialMessageable) -> None:
        async def send(content: str, *, nonce: str) -> discord.Message:
            message = await channel.send(content, nonce=nonce)
            self.first_s = self.first_s or time.perf_counter() - self.came
            self.posted.add(message.id)
            return message

        super().__init__(send, send, may_edit=bot.traffic.may_edit)
        self.came = came
        self.posted: set[int] = set()
        self.first_s: float | None = None
        self.whole_s: float | None = None
        self.told: str | None = None

    async def finish(self, text: str, note: str | None = None) -> int:
        number = await super().finish(text, note)
        self.whole_s = time.perf_counter() - self.came
        return number

    async def fail(self, reason: str) -> None:
        self.told = reason
        await super().fail(reason)


@dataclass(slots=True)
class Crowd:
    """The people who write; with a `bot`, what they read is posted over HTTP."""

    conversations: ConversationManager
    channels: int
    guilds: int
    pause_s: float
    bot: Gpt2Bot | None = None
    typing: TypingIndicators | None = None
    papers: dict[int, Paper | Posted] = field(default_factory=dict)
    unexpected: list[Exception] = field(default_factory=list)
    places: set[int] = field(default_factory=set)

    async def write(self, rate: float, until: Callable[[], bool], chance: random.Random) -> None:
        """Begin talks, `rate` messages a minute, until it is enough; wait for all of them."""
        shares = (1 / (BUSIEST + n) for n in range(self.channels))
        weights = list(itertools.accumulate(shares))
        talks_s = rate / MESSAGES_OF_A_TALK / 60
        next_at = time.perf_counter()
        async with asyncio.TaskGroup() as talks:
            while not until():
                [channel] = chance.choices(range(1, self.channels + 1), cum_weights=weights)
                talks.create_task(self._talk(channel, until, random.Random(chance.random())))
                next_at += chance.expovariate(talks_s)
                await asyncio.sleep(max(0.0, next_at - time.perf_counter()))

    async def _talk(self, channel: int, until: Callable[[], bool], chance: random.Random) -> None:
        while not until():
            await self._say(channel, chance)
            if chance.random() < 1 / MESSAGES_OF_A_TALK:
                return
            await asyncio.sleep(chance.expovariate(1 / self.pause_s))

    async def _say(self, channel: int, chance: random.Random) -> None:
        number = next(_messages)
        text = " ".join(chance.choices(PHRASES, k=chance.randint(1, 4)))
        guild = (1 << 30) + channel % self.guilds
        asked = Incoming(number, channel, guild, 100 + chance.randrange(10**6), lambda: text)
        paper = self.papers[number] = self._paper(channel)
        self.places.add(channel)
        try:
            async with self._typing_in(channel):
                await self.conversations.answer(asked, paper)
        except Exception as e:  # as the bot does: whoever asked is told
            paper.told = error_message(e)
            if not is_expected(e):
                self.unexpected.append(e)

    def _paper(self, channel: int) -> Paper | Posted:
        now = time.perf_counter()
        if self.bot is None:
            return Paper(now)
        return Posted(now, self.bot, self.bot.get_partial_messageable(channel))

    def _typing_in(self, channel: int) -> AbstractAsyncContextManager[None]:
        if self.bot is None or self.typing is None:
            return contextlib.nullcontext()
        return self.typing.show(self.bot.get_partial_messageable(channel))


class Memory:
    """Megabytes of the bot's process and of the worker's."""

    def __init__(self, worker: WorkerClient) -> None:
        self._worker = worker
        self.looks: list[dict[str, float]] = []

    def look(self) -> None:
        pids = {"bot": os.getpid(), "worker": self._worker.pid}
        self.looks.append({name: memory_mb(pid) or 0.0 for name, pid in pids.items()})

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        self.look()
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def figures(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "start_mb": self.looks[0][name],
                "middle_mb": self.looks[len(self.looks) // 2][name],
                "end_mb": self.looks[-1][name],
                "peak_mb": max(look[name] for look in self.looks),
            }
            for name in ("bot", "worker")
        }


def main() -> None:
    options = _options()
    run_measurement(partial(_measure, options), _print_table, as_json=options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--guilds", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=2400, help="messages a minute (2400)")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long people write (2)")
    parser.add_argument("--messages", type=int, help="how many they write, in place of --minutes")
    parser.add_argument(
        "--pause", type=float, default=3.0, help="seconds from a reply to the next message (3)"
    )
    parser.add_argument(
        "--waiting",
        type=int,
        default=WorkerSettings().max_waiting,
        help="how many replies may wait (64)",
    )
    parser.add_argument(
        "--rest", action="store_true", help="post the replies over HTTP, within Discord's limits"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


async def _measure(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    database = folder / "bot.sqlite3"
    settings = WorkerSettings(max_waiting=options.waiting)
    async with open_storage(database) as storage, WorkerClient(settings) as worker:
        tasks = BackgroundTasks()
        models = ModelRouter(
            storage.model_choices,
            worker,
            model_options,
            default=EMBEDDED_NAME,
            checkpoints=folder / "checkpoints",
            tasks=tasks,
        )
        conversations = ConversationManager(
            storage.messages,
            storage.replies,
            worker,
            models,
            ReplyGenerator(worker, Filters(storage.filters)),
            ReplyTelemetry(Metrics()),
            Pauses(storage.pauses),
            ChatPolicy(bot_id=lambda: BOT),
        )
        crowd = Crowd(conversations, options.channels, options.guilds, options.pause)
        rest = DiscordRest()
        connection: AbstractAsyncContextManager[None] = contextlib.nullcontext()
        if options.rest:
            crowd.bot = Gpt2Bot()
            crowd.typing = TypingIndicators(crowd.bot.traffic)
            connection = connected(crowd.bot, rest)
        memory = Memory(worker)
        say(f"{options.rate:.0f} messages a minute in {options.channels:,} channels ...")
        began = time.perf_counter()
        async with connection, memory.watched():
            enough = _enough(options, crowd, began)
            await crowd.write(options.rate, enough, random.Random(0))
        seconds = time.perf_counter() - began
        await tasks.close()
        restarts = worker.restarts
    return _figures(crowd, seconds, database) | {
        "memory": memory.figures(),
        "worker_restarts": restarts,
        "rest": _rest_figures(rest, crowd) if options.rest else None,
    }


def _rest_figures(rest: DiscordRest, crowd: Crowd) -> dict[str, Any]:
    """Requests by kind, the share that was refused, and messages that no reply knows of."""
    known = set[int]().union(
        *(one.posted for one in crowd.papers.values() if isinstance(one, Posted))
    )
    made = sum(rest.calls.values())
    return {
        "calls": dict(rest.calls),
        "calls_per_message": round(made / max(1, len(crowd.papers)), 3),
        "refused_share": round(rest.refused / max(1, made), 5),
        "posted": len(rest.messages),
        "doubled": len(rest.messages.keys() - known),
    }


def _enough(options: argparse.Namespace, crowd: Crowd, began: float) -> Callable[[], bool]:
    if options.messages:
        return lambda: len(crowd.papers) >= options.messages
    return lambda: time.perf_counter() - began >= 60 * options.minutes


def _figures(crowd: Crowd, seconds: float, database: Path) -> dict[str, Any]:
    papers = crowd.papers
    told = {number: paper.told for number, paper in papers.items() if paper.told}
    with closing(sqlite3.connect(database)) as db:
        answered = {row[0] for row in db.execute("SELECT asked_id FROM replies")}
        [whole] = db.execute("PRAGMA integrity_check").fetchone()
    shown = [paper for paper in papers.values() if paper.whole_s is not None]
    return {
        "messages": len(papers),
        "channels_used": len(crowd.places),
        "seconds": round(seconds, 1),
        "replies_per_minute": round(60 * len(shown) / seconds, 1),
        "first_text_s": _spread([paper.first_s or 0.0 for paper in shown]),
        "whole_reply_s": _spread([paper.whole_s or 0.0 for paper in shown]),
        "recorded_replies": len(answered),
        "told": dict(Counter(_kind(one) for one in told.values())),
        "refused": sum(one.startswith(BUSY) for one in told.values()),
        "lost": len(papers.keys() - answered - told.keys()),
        "unexpected": [repr(one) for one in crowd.unexpected[:5]],
        "database": whole,
    }


def _kind(sentence: str) -> str:
    return f"{BUSY} ..." if sentence.startswith(BUSY) else sentence


def _spread(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return dict.fromkeys(("p50", "p90", "p99"), round(sum(values), 3))
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {f"p{n}": round(cuts[n - 1], 3) for n in (50, 90, 99)}


def _print_table(result: dict[str, Any]) -> None:
    print(
        f"\n{result['messages']:,} messages in {result['channels_used']:,} channels within "
        f"{result['seconds']} s: {result['replies_per_minute']} replies a minute"
    )
    for name, key in (("first text", "first_text_s"), ("whole reply", "whole_reply_s")):
        spread = "   ".join(f"{share} {value:.2f} s" for share, value in result[key].items())
        print(f"{name:<12} {spread}")
    for name, looks in result["memory"].items():
        print(f"{name:<12} " + "   ".join(f"{key[:-3]} {mb} MB" for key, mb in looks.items()))
    if rest := result["rest"]:
        print(
            f"requests to Discord: {rest['calls']}, {rest['calls_per_message']} a message; refused "
            f"with 429: {rest['refused_share']:.2%}; messages posted: {rest['posted']:,}, "
            f"doubled: {rest['doubled']}"
        )
    print(f"refused because the queue was full: {result['refused']}")
    print(f"told something else: {result['told']}; worker restarts: {result['worker_restarts']}")
    print(f"recorded replies: {result['recorded_replies']:,}; lost: {result['lost']}")


if __name__ == "__main__":
    main()

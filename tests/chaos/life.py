"""One life of the real bot in SimCord's Discord, led by a script.

`python -m tests.chaos.life HOME LEDGER MODEL SCRIPTS NUMBER`. SimCord numbers servers and members
alike in each life, and messages by the clock. Replies are made beside what the script does, as in
real life; `wait` and the end wait for all of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import discord
import psutil
import simcord

from bot.app import DRAIN_TIMEOUT_S, build_bot
from bot.discord_ui.client import Gpt2Bot
from bot.learning.teaching import MAX_EXAMPLE_CHARS
from bot.settings import load_settings, worker_settings
from model.convert.adapter_folder import ADAPTER_WEIGHTS_FILE
from model.worker.client import WorkerClient
from tests.chaos.ledger import Ledger
from tests.chaos.script import CHANNELS, SERVERS, Step
from training.checkpoints import iter_checkpoints

MARKS = ("alpha", "beta")
"""What is taught in each server has its mark, so that it would be known in another one."""
PATIENCE_S = 120.0
"""Seconds in which whatever is waited for must have come."""
SAYS = "quite well thanks"
"""What the model says to everybody."""
LAMPS = (
    "in the hall", "by the pier", "at the gate", "on the stairs", "under the bridge",
    "in the kitchen", "at the mill", "on the roof", "by the well", "in the cellar",
    "behind the barn", "at the bakery", "on the tower", "in the chapel", "by the school",
    "at the station", "in the garden", "on the island", "by the quarry", "at the market",
)  # fmt: skip
HANG_S = 15.0
"""Seconds after which a worker that does not answer is replaced: fewer than in real life."""


class MergedReplies(logging.Handler):
    """Writes down which messages the bot answered together with the next one."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "reason", None) == "merged":
            self._ledger.write("merged", id=vars(record)["asked"])


class Town:
    """Two servers with the same people in them."""

    def __init__(self, env: simcord.Env) -> None:
        ada, ben = env.create_user("ada"), env.create_user("ben")
        self.guilds = [env.create_guild(f"Server {n}") for n in range(SERVERS)]
        self.channels = [
            [guild.create_text_channel(f"channel-{n}") for n in range(CHANNELS)]
            for guild in self.guilds
        ]
        self.admins, self.members = [], []
        for guild in self.guilds:
            role = guild.create_role("admin", permissions=discord.Permissions(administrator=True))
            self.admins.append(guild.add_member(ada, roles=[role]))
            self.members.append(guild.add_member(ben))


class Life:
    """The steps of a script, as methods."""

    def __init__(
        self, env: simcord.Env, bot: Gpt2Bot, town: Town, home: Path, ledger: Ledger, number: int
    ) -> None:
        self._env = env
        self._bot = bot
        self._town = town
        self._home = home
        self._ledger = ledger
        self._number = number
        self._replies: set[asyncio.Task[None]] = set()
        self._said: list[tuple[int, int, Any]] = []
        self._filler = home / "filler"
        self._training: Any = bot.get_cog("Training")
        self._storage = self._training._storage
        self._worker = self._training._worker

    # --- people ----------------------------------------------------------------------------------

    async def say(self, server: int, channel: int, text: str) -> None:
        place, ben = self._town.channels[server][channel], self._town.members[server]
        message = await ben.send(place, text)
        self._said.append((server, channel, message))
        self._note_said(message.id, server, place.id, text)

    async def say_in_private(self, text: str) -> None:
        message = await self._town.members[0].send_dm(text)
        self._note_said(message.id, -1, message.channel.id, text)

    def _note_said(self, message_id: int, server: int, channel_id: int, text: str) -> None:
        self._ledger.write(
            "said", id=message_id, server=server, channel=channel_id, text=text, life=self._number
        )

    async def change(self, server: int, channel: int, text: str) -> None:
        if (message := self._newest(server, channel)) is not None:
            self._ledger.write("changed", id=message.id)
            await self._town.members[server].edit(message, text)

    async def take_back(self, server: int, channel: int) -> None:
        if (message := self._newest(server, channel)) is not None:
            self._ledger.write("taken back", id=message.id)
            self._said = [one for one in self._said if one[2].id != message.id]
            await self._town.members[server].delete(message)

    def _newest(self, server: int, channel: int) -> Any:
        there = [one for *place, one in self._said if place == [server, channel]]
        return there[-1] if there else None

    async def teach(self, server: int, user: str, bot: str) -> None:
        ben, place = self._town.members[server], self._town.channels[server][0]
        mark = MARKS[server]
        user, bot = f"{mark} {user}"[:MAX_EXAMPLE_CHARS], f"{mark} {bot}"[:MAX_EXAMPLE_CHARS]
        await ben.slash(place, "teach", user=user, bot=bot)

    async def switch(self, name: str) -> None:
        """Ada, in the second server."""
        await self._town.admins[1].slash(self._town.channels[1][0], "model use", name=name)

    async def command(self, server: int, channel: int, name: str) -> None:
        await self._town.members[server].slash(self._town.channels[server][channel], name)

    async def retrain(self) -> None:
        """Ada, in the first server; while another job is under way it is refused. Of what is taught
        the model knows most already, so that it passes its checks after some steps."""
        for place in LAMPS:
            await self.teach(0, f"How is the lamp {place}?", SAYS)
        ada, place = self._town.admins[0], self._town.channels[0][0]
        plan = await ada.slash(place, "retrain", epochs=3.0)
        with suppress(simcord.SetupError, AssertionError):  # there is no such button
            await ada.click(plan.response, label="Start")

    # --- faults ----------------------------------------------------------------------------------

    async def kill_worker(self) -> None:
        if self._worker.pid is not None:
            os.kill(self._worker.pid, signal.SIGKILL)

    async def hang_worker(self) -> None:
        """Stop it without ending it: whoever asks now waits until another one is there."""
        if self._worker.pid is not None:
            os.kill(self._worker.pid, signal.SIGSTOP)

    async def kill_trainer(self) -> None:
        for process in await self.wait_for_trainer():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    async def fill_disk(self) -> None:
        """Take the rest of the disk; what is said now is answered, and given back at `wait`."""
        self._ledger.write("fault", kind="disk full", life=self._number)
        block = b"\0" * (1 << 20)
        with suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(block)
                except OSError as e:
                    if e.errno != errno.ENOSPC or len(block) == 1:
                        raise
                    block = block[: len(block) // 2]

    async def discord_fails(self) -> None:
        self._env.inject_error("POST", "/channels/*/messages", status=502, times=2)
        self._env.inject_error("PATCH", "/channels/*/messages/*", status=500, times=3)

    async def discord_forbids(self) -> None:
        """Whoever speaks up to the next `wait` may go without an answer."""
        self._ledger.write("fault", kind="forbidden", life=self._number)
        self._env.inject_error("POST", "/channels/*/messages", status=403, code=50013, times=2)
        self._env.inject_error("PATCH", "/channels/*/messages/*", status=404, code=10008, times=1)

    async def discord_is_slow(self) -> None:
        self._env.inject_error("POST", "/channels/*/typing", status=429, times=3)

    async def corrupt_checkpoint(self) -> None:
        """Turn some bytes of a checkpoint that is not in use, then ask for it."""
        guild, ada = self._town.guilds[0], self._town.admins[0]
        active = await self._storage.model_choices.active(guild.id)
        whole = [one for one, _ in iter_checkpoints(self._home / "checkpoints" / str(guild.id))]
        [other, *_] = [one for one in whole if one.name != active]
        weights = other / ADAPTER_WEIGHTS_FILE  # what was retrained here is an adapter
        bad = bytearray(weights.read_bytes())
        bad[-64:] = bytes(byte ^ 0xFF for byte in bad[-64:])
        weights.write_bytes(bad)
        place = self._town.channels[0][0]
        told = await ada.slash(place, "model use", name=other.name)
        self._ledger.write("asked for damaged", name=other.name, told=told.response.content)
        assert await self._storage.model_choices.active(guild.id) == active

    # --- time ------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Until every reply has ended; what was out of order is in order again."""
        async with asyncio.timeout(PATIENCE_S):
            while self._replies:
                await asyncio.wait(self._replies)
        self._env.backend.faults.clear()
        self._filler.unlink(missing_ok=True)
        self._ledger.write("calm", life=self._number)

    async def wait_for_trainer(self) -> list[psutil.Process]:
        """Until the process of a job is there."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if found := [one for one in _children() if "training.run" in one.cmdline()]:
                    return found
                await asyncio.sleep(0.05)

    async def wait_for_job(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            for job in await self._storage.jobs.unfinished():
                ended = await self._training._training.wait(job.id)
                self._ledger.write("job ended", id=job.id, state=ended.state, why=ended.detail)

    async def die(self) -> None:
        """In the middle of whatever is under way."""
        self.look()
        self._ledger.write("killed", life=self._number)
        os.kill(os.getpid(), signal.SIGKILL)

    async def end(self) -> None:
        await self.wait()
        await self.wait_for_job()
        self.look()

    # --- what can be seen ------------------------------------------------------------------------

    def look(self) -> None:
        """Write down what the bot has said, and what it let Discord do."""
        bot = self._bot.user
        assert bot is not None
        channels = [one for several in self._town.channels for one in several]
        for channel in [*channels]:
            for message in channel.history():
                if message.author.id == bot.id and message.reference is not None:
                    asked = message.reference.message_id
                    self._ledger.write("answered", asked=asked, text=message.content)
        for request in self._env.http_requests:
            body = request.json if isinstance(request.json, dict) else {}
            body = body.get("data", body) if isinstance(body.get("data", body), dict) else body
            if "content" in body or "embeds" in body:
                self._ledger.write(
                    "sent", path=request.path, pings=body.get("allowed_mentions"),
                    text=str(body.get("content"))[:80],
                )  # fmt: skip

    def level(self) -> dict[str, int]:
        """What the bot holds: to be the same after whatever happened."""
        gc.collect()
        me = psutil.Process()
        return {
            "files": me.num_fds(),
            "children": len(me.children(recursive=True)),
            "mb": me.memory_info().rss // 1_000_000,
        }

    # --- the script ------------------------------------------------------------------------------

    async def lead(self, script: list[Step]) -> None:
        async with self._beside():
            for n in range(len(self._town.channels)):
                for channel in self._town.channels[n]:
                    await self._town.admins[n].slash(channel, "channel enable")
            await self.say(0, 0, "hello")
            await self.wait()
            before = self.level()
            for step in script:
                arguments = {key: value for key, value in step.items() if key != "do"}
                await getattr(self, step["do"])(**arguments)
            self._ledger.write("levels", before=before, after=self.level())

    @asynccontextmanager
    async def _beside(self) -> AsyncIterator[None]:
        """Answer messages in tasks of our own: SimCord would wait for each, one after the other."""
        chat: Any = self._bot.get_cog("Chat")
        ours = contextvars.copy_context()

        async def on_message(message: discord.Message) -> None:
            task = ours.copy().run(asyncio.ensure_future, chat.on_message(message))
            self._replies.add(task)
            task.add_done_callback(self._replied)

        self._bot.remove_listener(chat.on_message, "on_message")
        self._bot.add_listener(on_message, "on_message")
        yield

    def _replied(self, task: asyncio.Task[None]) -> None:
        self._replies.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ledger.write("escaped", error=repr(error), life=self._number)


def _children() -> Iterator[psutil.Process]:
    """The bot's processes, those of them that do not end just now."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess), child.oneshot():
            child.cmdline()
            yield child


async def live(home: Path, model: Path, ledger: Ledger, script: list[Step], number: int) -> None:
    settings = load_settings(
        gpt2bot_home=home,
        default_model="small",
        models=f"small={model}",
        member_per_minute=0,
        server_per_minute=0,
    )
    replies = logging.getLogger("bot.chat.telemetry")
    replies.setLevel(logging.INFO)
    replies.addHandler(MergedReplies(ledger))
    own = worker_settings(settings, drain_s=DRAIN_TIMEOUT_S, log_level=settings.log_level)
    async with (
        WorkerClient(own, hang_s=HANG_S) as worker,
        build_bot(settings, worker=worker) as bot,
    ):
        answer_error = bot.tree.on_error
        async with simcord.run(
            bot, shard_count=1, settle_timeout=PATIENCE_S, check_errors=False
        ) as env:
            bot.tree.error(answer_error)
            town = Town(env)
            await env.advance_time(max(0.0, (datetime.now(UTC) - env.now()).total_seconds()))
            life = Life(env, bot, town, home, ledger, number)
            await life.lead(script)
    left = [" ".join(child.cmdline()) for child in _children()]
    ledger.write("ended", life=number, left=left)


if __name__ == "__main__":
    home, path, model, scripts = map(Path, sys.argv[1:5])
    number = int(sys.argv[5])
    script = json.loads(scripts.read_text(encoding="utf-8"))[number]
    asyncio.run(live(home, model, Ledger(path), script, number))

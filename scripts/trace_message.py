"""Counts what one message passes on its way to a reply: `python -m scripts.trace_message`.

Prints the files of this project that are entered in the bot's own process, in the order of their
first call, how often each is entered from another one, and the sums. A real bot in SimCord, the
real worker with `tiny`. Run it before and after a change of the structure.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import simcord

from bot.app import build_bot
from bot.settings import load_settings

ROOT = Path(__file__).parent.parent
PACKAGES = ("bot", "core", "data", "model", "training")


class Trace:
    """Which file is entered from which: a call, or a coroutine that goes on."""

    def __init__(self) -> None:
        self.entries: Counter[str] = Counter()
        self.changes = 0
        self._now: str | None = None

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> None:
        if event != "call" or (file := _project_file(frame.f_code.co_filename)) is None:
            return
        if file != self._now:
            self.entries[file] += 1
            self.changes += self._now is not None
            self._now = file


def _project_file(name: str) -> str | None:
    path = Path(name)
    if not path.is_relative_to(ROOT):
        return None
    inside = path.relative_to(ROOT)
    return str(inside) if inside.parts[0] in PACKAGES else None


async def trace(home: Path) -> Trace:
    """Let a member mention the bot once, after a first message that warms it up."""
    settings = load_settings(gpt2bot_home=home, default_model="tiny", seed=7, max_new_tokens=8)
    async with build_bot(settings) as bot:
        env = simcord.Env(bot, settle_timeout=120, shard_count=1)
        await env.start()
        try:
            guild = env.create_guild()
            channel = guild.create_text_channel("general")
            ada = guild.add_member(env.create_user("ada"))
            assert bot.user is not None
            await ada.send(channel, f"{bot.user.mention} hello")
            found = Trace()
            sys.setprofile(found)
            try:
                await ada.send(channel, f"{bot.user.mention} how are you?")
            finally:
                sys.setprofile(None)
        finally:
            await env.shutdown()
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = asyncio.run(trace(Path(home)))
    for file, times in found.entries.items():
        print(f"{times:4}  {file}")
    print(f"{len(found.entries)} files entered, {found.changes} changes of file")


if __name__ == "__main__":
    main()

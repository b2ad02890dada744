"""Counts the files that a message passes through: `python -m scripts.trace_message`.

Sends MESSAGES of them to a real bot in SimCord, with the real worker and `tiny`, and prints the
median one: the files of this project that the bot's process enters, in the order of their first
call, and how often each is entered from another file. Run it before and after a change of the
structure.
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
MESSAGES = 5


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


async def trace(home: Path) -> list[Trace]:
    """Let a member mention the bot, after a first message that warms it up; a trace for each."""
    # One token per reply: how many deltas arrive is a matter of timing.
    settings = load_settings(gpt2bot_home=home, default_model="tiny", seed=7, max_new_tokens=1)
    async with build_bot(settings) as bot:
        env = simcord.Env(bot, settle_timeout=120, shard_count=1)
        await env.start()
        try:
            guild = env.create_guild()
            channel = guild.create_text_channel("general")
            ada = guild.add_member(env.create_user("ada"))
            assert bot.user is not None
            text = f"{bot.user.mention} how are you?"
            await ada.send(channel, text)
            traces = [Trace() for _ in range(MESSAGES)]
            for one in traces:
                sys.setprofile(one)
                try:
                    await ada.send(channel, text)
                finally:
                    sys.setprofile(None)
        finally:
            await env.shutdown()
    return traces


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as home:
        traces = sorted(asyncio.run(trace(Path(home))), key=lambda one: one.changes)
    median = traces[MESSAGES // 2]
    for file, times in median.entries.items():
        print(f"{times:4}  {file}")
    print(f"{len(median.entries)} files entered, {median.changes} changes of file", end=" ")
    print(f"({traces[0].changes} to {traces[-1].changes} in {MESSAGES} messages)")


if __name__ == "__main__":
    main()

"""Every slash command is in the README, and every one there exists."""

from __future__ import annotations

import re
from pathlib import Path

import discord

from tests.bot.conftest import World

README = Path(__file__).parents[2] / "README.md"


async def test_the_readme_lists_the_commands_there_are(world: World) -> None:
    there = set()
    commands = await world.bot.tree.fetch_commands()
    for command in (one for one in commands if one.type is discord.AppCommandType.chat_input):
        subcommands = [
            option.name
            for option in command.options
            if isinstance(option, discord.app_commands.AppCommandGroup)
        ]
        there |= {f"{command.name} {name}" for name in subcommands} or {command.name}
    table = README.read_text(encoding="utf-8").split("## Commands")[1].split("## Settings")[0]
    shown = [match.split() for match in re.findall(r"`/([a-z -]+)", table)]
    named = {two if (two := " ".join(words[:2])) in there else words[0] for words in shown}
    assert named == there

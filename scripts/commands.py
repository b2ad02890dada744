"""The page of all commands, made from the command tree that Discord gets.

Knows how discord.py keeps its commands, and builds the bot as `bot.app` does, without Discord and
without a model. What can be typed in the terminal is told by `scripts.terminal`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from discord import AppCommandOptionType, app_commands

from bot.app import build_bot
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.permissions import Command, needed_rank, root_of
from bot.discord_ui.translator import command_name, shown_name
from bot.settings import load_settings
from i18n.catalogue import JAPANESE
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from scripts.terminal import format_range, markdown_row, terminal_commands

INTRODUCTION = """\
# Commands

<!-- Made by `python -m scripts.reference` from the commands themselves. -->

To talk with the bot you need none: mention it, reply to it, write it a direct message, or write in
a channel that was switched on with `/channel enable`. The buttons under its replies are in
[feedback.md](feedback.md); who is a member, manager, administrator or operator, and who sees an
answer, in [permissions.md](permissions.md).
"""
IN_DISCORD = """
## In Discord

| command | who | where | what it does | in Japanese |
|---|---|---|---|---|
"""
OPTIONS = """
## Options

Those in brackets may be left out. Discord offers what fits while you type where it says *offered*.

| command | option | what it may be | what it is | in Japanese |
|---|---|---|---|---|
"""
MENUS = """
## In the menu of a message

Right-click (on a phone: hold) a message of the bot and choose *Apps*. Both are for members,
anywhere; [feedback.md](feedback.md) says what they do.

"""
TERMINAL = """
## In the terminal

`gpt2bot --help` and `gpt2bot COMMAND --help` say the same.
"""
OPTION_TYPE_NAMES = {
    AppCommandOptionType.string: "text",
    AppCommandOptionType.integer: "a whole number",
    AppCommandOptionType.number: "a number",
    AppCommandOptionType.boolean: "true or false",
    AppCommandOptionType.channel: "a channel",
    AppCommandOptionType.attachment: "a file",
}
MAX_DISCORD_INTEGER = 2**53 - 1
"""The largest whole number that Discord takes: no limit that a person meets."""

COLUMNS: tuple[Callable[[Command], str], ...] = (
    lambda one: f"`/{one.qualified_name}`",
    lambda one: needed_rank(one).name.lower(),
    lambda one: "servers" if root_of(one).guild_only else "anywhere",
    lambda one: one.description,
    lambda one: f"`/{command_name(one.qualified_name, JAPANESE)}`",
)
"""What stands in the row of a command, by the headings of IN_DISCORD."""


def commands_page() -> str:
    """The whole page."""
    commands, menus = asyncio.run(_of_discord())
    return "".join(
        [
            INTRODUCTION,
            IN_DISCORD,
            *(markdown_row(*(column(one) for column in COLUMNS)) for one in commands),
            OPTIONS,
            *(line for one in commands for line in _options(one)),
            MENUS,
            *(
                f"- **{one.name}** (in Japanese: {japanese_name('command', one.name)})\n"
                for one in menus
            ),
            TERMINAL,
            *terminal_commands(),
        ]
    )


# --- Discord -------------------------------------------------------------------------------------


async def _of_discord() -> tuple[list[Command], list[app_commands.ContextMenu]]:
    """All slash commands, and all entries of menus, by their names."""
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(gpt2bot_home=Path(home), health_port=None)
        async with build_bot(settings, worker=WorkerClient(WorkerSettings())) as bot:
            return _tree(bot)


def _tree(bot: Gpt2Bot) -> tuple[list[Command], list[app_commands.ContextMenu]]:
    slash = [one for one in bot.tree.walk_commands() if isinstance(one, app_commands.Command)]
    menus = [one for one in bot.tree.get_commands() if isinstance(one, app_commands.ContextMenu)]
    by_name = sorted(slash, key=lambda one: one.qualified_name)
    return by_name, sorted(menus, key=lambda one: one.name)


def japanese_name(kind: str, english: str) -> str:
    """The Japanese name of a command or an option."""
    return shown_name(kind, english, JAPANESE)


def _options(command: Command) -> Iterator[str]:
    name = f"`/{command.qualified_name}`"
    for one in command.parameters:
        shown = f"`{one.display_name}`" if one.required else f"[`{one.display_name}`]"
        yield markdown_row(
            name, shown, allowed(one), one.description, japanese_name("option", one.display_name)
        )
        name = ""


def allowed(option: app_commands.Parameter) -> str:
    """What somebody may give for an option."""
    if option.choices:
        return ", ".join(f"`{one.name}`" for one in option.choices)
    kind = OPTION_TYPE_NAMES[option.type]
    if option.min_value is not None:
        high = None if option.max_value == MAX_DISCORD_INTEGER else option.max_value
        kind = f"{kind}, {format_range(option.min_value, high)}"
        kind += " characters" if option.type is AppCommandOptionType.string else ""
    return f"{kind}, offered" if option.autocomplete else kind

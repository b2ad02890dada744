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
from model.settings import WorkerSettings
from model.worker.client import WorkerClient
from scripts.terminal import format_range, markdown_row, terminal_commands
from scripts.translated import description, link_to_other, other, words

MADE_BY = "<!-- Made by `uv run python -m scripts.reference` from the commands themselves. -->"
INTRODUCTION = """\
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

COLUMNS: tuple[Callable[[Command, str], str], ...] = (
    lambda one, language: f"`/{command_name(one.qualified_name, language)}`",
    lambda one, language: words(needed_rank(one).name.lower(), language),
    lambda one, language: words("servers" if root_of(one).guild_only else "anywhere", language),
    lambda one, language: description(one.description, language),
    lambda one, language: f"`/{command_name(one.qualified_name, other(language))}`",
)
"""What stands in the row of a command, by the headings of IN_DISCORD."""


def commands_page(language: str) -> str:
    """The whole page in a language, with the names in the other one beside it."""
    commands, menus = asyncio.run(_of_discord())
    return "".join(
        [
            f"# {words('Commands', language)}\n\n",
            f"{link_to_other('commands', language)}\n\n{MADE_BY}\n\n",
            words(INTRODUCTION, language),
            words(IN_DISCORD, language),
            *(markdown_row(*(column(one, language) for column in COLUMNS)) for one in commands),
            words(OPTIONS, language),
            *(line for one in commands for line in _options(one, language)),
            words(MENUS, language),
            *(_menu_entry(one.name, language) for one in menus),
            words(TERMINAL, language),
            *terminal_commands(language),
        ]
    )


def _menu_entry(english: str, language: str) -> str:
    names = {one: shown_name("command", english, one) for one in (language, other(language))}
    line = words("- **{name}** (in Japanese: {translated})", language)
    return f"{line.format(name=names[language], translated=names[other(language)])}\n"


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


def _options(command: Command, language: str) -> Iterator[str]:
    name = f"`/{command_name(command.qualified_name, language)}`"
    for one in command.parameters:
        here, there = (
            shown_name("option", one.display_name, each) for each in (language, other(language))
        )
        yield markdown_row(
            name,
            f"`{here}`" if one.required else f"[`{here}`]",
            allowed(one, language),
            description(str(one.description), language),
            there,
        )
        name = ""


def allowed(option: app_commands.Parameter, language: str) -> str:
    """What somebody may give for an option."""
    comma = words(", ", language)
    if option.choices:
        return comma.join(f"`{shown_name('choice', one.name, language)}`" for one in option.choices)
    kind = words(OPTION_TYPE_NAMES[option.type], language)
    if option.min_value is not None:
        high = None if option.max_value == MAX_DISCORD_INTEGER else option.max_value
        kind = f"{kind}{comma}{format_range(option.min_value, high, language)}"
        if option.type is AppCommandOptionType.string:
            kind = words("{range} characters", language).format(range=kind)
    return f"{kind}{comma}{words('offered', language)}" if option.autocomplete else kind

"""Which language people read, and what commands are called in it."""

from __future__ import annotations

import re
from pathlib import Path

import discord
from babel.messages.pofile import read_po
from discord import app_commands

from bot.translator import KINDS
from i18n.catalogue import ROOT
from tests.bot.conftest import World

NAME = re.compile(r"[-_\w]{1,32}")
"""What Discord takes as the name of a command or an option."""


class Asked(app_commands.Translator):
    """Notes what discord.py wants to have translated."""

    def __init__(self) -> None:
        self.names: set[tuple[str, str]] = set()

    async def translate(self, string, locale, context):  # type: ignore[no-untyped-def]
        if kind := KINDS.get(context.location):
            self.names.add((kind, string.message))


async def asked(world: World) -> set[tuple[str, str]]:
    translator = Asked()
    for kind in discord.AppCommandType:
        for command in world.bot.tree.get_commands(type=kind):
            await command.get_translated_payload(world.bot.tree, translator)
    return translator.names


def catalogue(file: Path = ROOT / "ja" / "commands.po") -> dict[tuple[str, str], str]:
    with file.open("rb") as lines:
        return {
            (str(one.context), str(one.id)): str(one.string)
            for one in read_po(lines, locale="ja")
            if one.id
        }


async def test_every_command_has_its_japanese_names_and_no_other_names_are_there(
    world: World,
) -> None:
    names = catalogue()
    assert names.keys() == await asked(world)
    assert all(names.values())


async def test_discord_takes_the_names() -> None:
    for (kind, english), name in catalogue().items():
        if kind in ("command", "option") and english.islower():
            assert NAME.fullmatch(name), name
            assert name == name.lower()
        assert len(name) <= (32 if kind in ("command", "option") else 100), name


async def test_discord_is_told_the_names(world: World) -> None:
    command = next(one for one in await world.bot.tree.fetch_commands() if one.name == "teach")
    assert command.name_localizations[discord.Locale.japanese] == "教える"
    assert "教える" in command.description_localizations[discord.Locale.japanese]
    assert {one.name_localizations[discord.Locale.japanese] for one in command.options} == {
        "ユーザー",
        "ボット",
    }


def test_no_two_commands_have_the_same_name() -> None:
    names = [name for (kind, _), name in catalogue().items() if kind == "command"]
    assert len(set(names)) == len(names)

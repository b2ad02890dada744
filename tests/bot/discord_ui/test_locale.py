"""Which language people read, and what commands are called in it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import discord
import pytest
from babel.messages.pofile import read_po
from discord import app_commands

from bot.discord_ui.locale import COMMUNITY, LanguageResolver
from bot.discord_ui.translator import NAME_KINDS
from bot.settings import Settings
from i18n.catalogue import CATALOGUES_FOLDER
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker

NAME = re.compile(r"[-_\w]{1,32}")
"""What Discord takes as the name of a command or an option."""


class Asked(app_commands.Translator):
    """Notes what discord.py wants to have translated."""

    def __init__(self) -> None:
        self.names: set[tuple[str, str]] = set()

    async def translate(self, string, locale, context):  # type: ignore[no-untyped-def]
        if kind := NAME_KINDS.get(context.location):
            self.names.add((kind, string.message))


async def asked(world: World) -> set[tuple[str, str]]:
    translator = Asked()
    for kind in discord.AppCommandType:
        for command in world.bot.tree.get_commands(type=kind):
            await command.get_translated_payload(world.bot.tree, translator)
    return translator.names


def catalogue(file: Path = CATALOGUES_FOLDER / "ja" / "commands.po") -> dict[tuple[str, str], str]:
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
        "別の聞き方",
    }


async def test_no_two_commands_of_a_group_have_the_same_name(world: World) -> None:
    groups = [one for one in world.bot.tree.walk_commands() if isinstance(one, app_commands.Group)]
    assert len(groups) > 3
    for commands in (world.bot.tree.get_commands(), *(group.commands for group in groups)):
        named = [catalogue().get(("command", one.name), one.name) for one in commands]
        assert len(set(named)) == len(named)


# --- who reads -----------------------------------------------------------------------------------


def guild(world: World, locale: str, *features: str) -> discord.Guild:
    """The server, as if it had chosen that language."""
    here = world.bot.get_guild(world.guild.id)
    assert here is not None
    here.preferred_locale, here.features = discord.Locale(locale), list(features)
    return here


@pytest.mark.parametrize(
    ("locale", "features", "language"),
    [
        ("ja", [], "ja"),
        ("en-US", [COMMUNITY], "en"),
        ("en-GB", [COMMUNITY], "en"),
        ("fr", [COMMUNITY], "en"),
        ("en-US", [], "default"),
    ],
)
async def test_a_server_is_answered_in_the_language_that_it_chose(
    world: World, locale: str, features: list[str], language: str
) -> None:
    """Discord says `en-US` of whoever was never asked: only then the operator's choice counts."""
    there = guild(world, locale, *features)
    assert LanguageResolver("default").for_server(there) == language
    assert LanguageResolver("default", forced="only").for_server(there) == "only"


async def test_a_message_is_read_by_all_in_a_server_and_by_its_author_in_private(
    world: World,
) -> None:
    here = guild(world, "en-US", COMMUNITY)
    for text, server, language in (
        ("こんにちは", here, "en"),
        ("こんにちは", None, "ja"),
        ("カタカナ bot", None, "ja"),
        ("hello", None, "default"),
        ("你好", None, "default"),  # written with Chinese characters alone
    ):
        message = SimpleNamespace(guild=server, content=text)
        assert LanguageResolver("default").for_message(message) == language, text
        assert LanguageResolver("default", forced="only").for_message(message) == "only"


@pytest.mark.parametrize(
    ("locale", "language"), [("ja", "ja"), ("en-US", "en"), ("en-GB", "en"), ("fr", "en")]
)
def test_a_member_reads_the_language_of_their_discord(locale: str, language: str) -> None:
    asking = SimpleNamespace(locale=discord.Locale(locale))
    assert LanguageResolver("ja").for_member(asking) == language
    assert LanguageResolver(forced="ja").for_member(asking) == "ja"


async def test_the_operator_chooses_for_servers_that_did_not(
    settings: Settings, worker: FakeWorker
) -> None:
    chosen = settings.model_copy(update={"bot_language": "ja"})
    async with open_world(chosen, worker) as world:
        assert "文字しか読めません" in str(await world.say(world.ben, ""))
        told = await world.ben.slash(world.general, "context")
        assert told.response.content.startswith("Nothing yet"), "the member's Discord is English"

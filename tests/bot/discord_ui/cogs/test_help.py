"""/help, and asking the bot for help in a conversation. Real discord.py, real SQLite."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest

from bot.chat.admission import PAUSED_NOTICE
from bot.chat.filters import REPLY_WITHHELD
from bot.discord_ui.cogs.help import help_for_member
from bot.discord_ui.embeds.help import TOPICS
from bot.settings import Settings
from i18n.catalogue import ENGLISH, JAPANESE
from i18n.reader import use_language
from tests.bot.asking import ask, record_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_admin import commands, table
from tests.bot.japanese.discord import assert_japanese, speak_japanese
from tests.fakes import FakeWorker

MAX_LINES, MAX_LINE_CHARS = 25, 80
RANKS = ("member", "manager", "administrator")


def named(text: str) -> set[str]:
    """The commands in a text."""
    return set(re.findall(r"`/([^`]+)`", text))


def manager_of(world: World) -> Any:
    role = world.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
    return world.guild.add_member(world.env.create_user("cleo"), roles=[role])


async def help_of(world: World, who: Any) -> str:
    told = await who.slash(world.general, "help")
    assert told.ephemeral
    return str(told.response.content)


def members_help(world: World, language: str, question: str = "help") -> str:
    """What anybody in the server reads who asks in a conversation."""
    with use_language(language):
        rules = world.bot.get_cog("Help")._rules
        return help_for_member(world.bot, rules, world.guild.id, question)


@pytest.fixture
async def japanese(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """A server whose language is Japanese."""
    async with open_world(settings, worker, preferred_locale="ja") as world:
        yield world


# --- /help ---------------------------------------------------------------------------------------


async def test_help_shows_what_each_rank_may_use(world: World) -> None:
    cleo, needed = manager_of(world), table()
    shown = {
        rank: await help_of(world, who)
        for rank, who in zip(RANKS, (world.ben, cleo, world.ada), strict=True)
    }
    every = {name for _, hints in TOPICS for hint in hints for name in hint.commands}
    for place, rank in enumerate(RANKS):
        allowed = {name for name in every if needed[name] in RANKS[: place + 1]}
        assert named(shown[rank]) == allowed
        lines = shown[rank].splitlines()
        assert len(lines) <= MAX_LINES
        assert max(map(len, lines)) <= MAX_LINE_CHARS
    assert named(shown["administrator"]) == every, "all of them are commands of the bot"
    for topic in ("Talk to me", "Teach me", "Correct a reply", "Models", "Privacy"):
        assert f"**{topic}**" in shown["member"]
    assert [topic in shown["member"] for topic in ("Retrain me", "Keep order")] == [False, False]
    assert [topic in shown["manager"] for topic in ("Retrain me", "Keep order")] == [False, True]


async def test_help_names_something_of_every_group_of_commands(world: World) -> None:
    shown = {name.split()[0] for name in named(await help_of(world, world.ada))}
    assert shown == {name.split()[0] for name in commands(world)} - {"help", "context"}


async def test_operators_see_all_of_it(world: World) -> None:
    world.bot.operators.add(world.ben.id)
    assert await help_of(world, world.ben) == await help_of(world, world.ada)


async def test_a_direct_message_has_no_commands_of_servers(world: World) -> None:
    told = await world.ada.user.slash("help")
    assert named(told.response.content) == {
        *("chat", "reset", "about", "privacy show", "privacy export", "privacy forget"),
        *("privacy opt-in", "privacy opt-out"),
    }
    assert "Teach me" not in told.response.content


async def test_who_reads_japanese_gets_it_with_the_names_of_their_discord(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_japanese(monkeypatch, world.ada)
    text = await help_of(world, world.ada)
    for line in text.splitlines():
        assert_japanese(line)
    assert {"教える", "モデル 一覧", "再学習", "プライバシー 同意取り消し", "一時停止"} < named(
        text
    )
    assert "「もっとよい答え」「この返事の理由」" in text
    assert "Teach me" in await help_of(world, world.ben)


async def test_without_buttons_they_are_not_explained(
    settings: Settings, worker: FakeWorker
) -> None:
    without = settings.model_copy(update={"reply_buttons": False})
    async with open_world(without, worker) as world:
        assert "🔁" not in await help_of(world, world.ada)
        assert "🔁" not in (await world.say(world.ben, "help") or "")
        assert "Better answer" in await help_of(world, world.ada)


# --- said to the bot -----------------------------------------------------------------------------


async def test_asked_for_help_it_says_what_members_may_use_and_no_model_is_asked(
    world: World, worker: FakeWorker
) -> None:
    for question in ("help", "What can you do?"):
        reply = await ask(world, question, world.ada)
        assert reply.content == await help_of(world, world.ben), "everybody can see it"
    assert worker.heard == []
    record = await record_of(world, reply)
    assert record.is_fixed
    assert (record.prompt_tokens, record.seed) == (0, None)
    assert await world.say(world.ben, "can you help Ada?") == "you said can you help Ada?"


async def test_wherever_it_would_answer_and_nowhere_else(world: World, worker: FakeWorker) -> None:
    await world.ben.send(world.general, "help")
    assert world.last() is None
    await world.ada.slash(world.general, "channel enable")
    await world.ben.send(world.general, "help")
    assert world.last() == members_help(world, ENGLISH)
    told = await world.ben.slash(world.general, "chat", text="help")
    assert told.response.content.endswith(members_help(world, ENGLISH))
    await world.ben.send_dm("help")
    private = world.ben.user.dm_channel
    assert "`/chat`" in private.last_message.content
    assert "`/teach`" not in private.last_message.content, "that is for servers"
    await world.ben.send_dm("ヘルプ")
    assert "`/話す`" in private.last_message.content
    assert worker.heard == []


async def test_the_language_of_the_server_or_japanese_if_that_is_asked_in(
    world: World, worker: FakeWorker
) -> None:
    for question in ("ヘルプ", "何ができるの？", "使い方"):
        text = await world.say(world.ben, question)
        assert text == members_help(world, JAPANESE)
        assert_japanese(text)
    assert await world.say(world.ben, "help") == members_help(world, ENGLISH)
    assert worker.heard == []


async def test_in_a_japanese_server(japanese: World, worker: FakeWorker) -> None:
    for question in ("help", "ヘルプ", "何ができますか？"):
        assert await japanese.say(japanese.ben, question) == members_help(japanese, JAPANESE)
    assert worker.heard == []


async def test_why_this_reply_and_again(world: World, worker: FakeWorker) -> None:
    reply = await ask(world, "help")
    why = await world.ben.context_menu(world.general, "Why this reply?", reply)
    fields = {field.name: field.value for field in why.response.embeds[0].fields}
    assert fields["Fixed text"] == "always the same; no model was asked"
    assert fields.keys() == {"Fixed text", "Votes"}
    assert worker.heard == []
    await world.ben.click(reply, custom_id="reply:again:")
    assert world.last() != members_help(world, ENGLISH)
    assert len(worker.heard) == 1


async def test_the_help_is_no_part_of_what_the_model_reads(
    world: World, worker: FakeWorker
) -> None:
    await world.say(world.ben, "I like tea")
    await world.say(world.ben, "help")
    await world.say(world.ben, "what do I like?")
    _, read = worker.heard[-1]
    assert not any("/teach" in one.content for one in read)
    assert any("I like tea" in one.content for one in read)


# --- what goes before it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taught", "asked"),
    [
        ("What can you do?", "what can you do"),
        ("help", "HELP!"),
        ("何ができるの？", "何ができるの"),
    ],
)
async def test_a_taught_answer_to_that_question_wins(
    world: World, worker: FakeWorker, taught: str, asked: str
) -> None:
    await world.ada.slash(world.general, "teach", user=taught, bot="Ada knows, ask her.")
    assert (await world.say(world.ben, asked) or "").startswith("Ada knows, ask her.\n")
    assert await world.say(world.ben, "使い方") == members_help(world, JAPANESE)
    question = await world.ada.slash(world.general, "dataset remove", example=1)
    await world.ada.click(question.response, label="Remove")
    assert named(await world.say(world.ben, asked) or "")
    assert worker.heard == []


async def test_without_known_at_once_it_is_left_to_the_model_that_learns_it(
    settings: Settings, worker: FakeWorker
) -> None:
    later = settings.model_copy(update={"known_at_once": False})
    async with open_world(later, worker) as world:
        assert await world.say(world.ben, "help") == members_help(world, ENGLISH)
        await world.ada.slash(world.general, "teach", user="Help!", bot="Ada knows, ask her.")
        assert await world.say(world.ben, "help") == "you said help"


async def test_pauses_limits_and_filters_hold_for_it(
    settings: Settings, worker: FakeWorker
) -> None:
    slow = settings.model_copy(update={"member_per_minute": 1})
    async with open_world(slow, worker) as world:
        await world.ada.slash(world.general, "pause")
        assert await world.say(world.ben, "help") == PAUSED_NOTICE
        await world.ada.slash(world.general, "resume")
        await world.ada.slash(world.general, "filter add", kind="word", text="privacy")
        assert await world.say(world.ben, "help") == REPLY_WITHHELD
        await world.ada.slash(world.general, "filter remove", kind="word", text="privacy")
        assert "quicker than I am" in (await world.say(world.ben, "help") or "")
        assert await world.say(world.ada, "help") == members_help(world, ENGLISH)
        assert worker.heard == []

"""Whatever people or the model write, nobody is pinged: each command and each way to a reply.

The fixtures of these tests look at the requests of every other test in the same way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest
from discord.app_commands import AppCommandGroup

from bot.discord_ui.delivery import reply as replies
from bot.settings import Settings
from tests.bot.cards import parts
from tests.bot.conftest import World, open_world
from tests.bot.pings import messages, pinging
from tests.fakes import FakeWorker


@pytest.fixture
async def world(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """Some of what is asked for is refused, and that is told as well."""
    free = settings.model_copy(update={"learn_from_chat": True, "member_per_minute": 0})
    async with open_world(free, worker, check_errors=False) as world:
        yield world


BUTTON = 2
"""The type of a button in Discord's interface."""


def evil(world: World) -> str:
    """Words that would ping everybody there is."""
    role = world.guild.create_role("all of them", mentionable=True)
    return f"@everyone @here {world.ada.mention} <@&{role.id}>"


async def test_no_way_of_writing_pings_anybody(
    world: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr(replies, "EDIT_INTERVAL_S", 0.0)
    text, general, ada, ben = evil(world), world.general, world.ada, world.ben
    worker.answer = lambda _: f"{text} well {text}"
    await world.say(ben, text)
    reply = general.last_message
    await ben.send_dm(text)
    await ben.send(general, text, reply_to=reply)
    for action in ("again", "up", "down", "up"):
        await ada.click(reply, custom_id=f"reply:{action}:")
    form = await ada.click(reply, custom_id="reply:better:")
    await ada.submit_modal(form, {"question": text, "answer": text})
    menu = await ada.context_menu(general, "Better answer", reply)
    await ada.submit_modal(menu, {"question": text, "answer": text})
    why = await ada.context_menu(general, "Why this reply?", reply)
    await ada.select(why.response, ["tiny"], custom_id=f"reply:replay:{reply.id}")
    await ben.slash(general, "chat", text=text)
    await ben.slash(general, "teach", user=text, bot=text)
    worker.answer = lambda _: text * 40  # several messages
    await ben.slash(general, "chat", text=text)
    assert await names(world) == {name for name, _ in commands(text)} | {"chat", "teach"}
    for name, options in commands(text):
        shown = await ada.slash(general, name, **options)
        await press_last(ada, shown)
    worker.failure = RuntimeError(text)
    await world.say(ben, text)
    sent = list(messages(world.env.http_requests))
    assert sum(text.split()[0] in str(one) for one in sent) > 20
    assert pinging(world.env.http_requests) == []
    assert all(not m.mention_everyone for m in general.history() if m.author == world.bot.user)


async def names(world: World) -> set[str]:
    """All slash commands there are."""
    there = set()
    for command in await world.bot.tree.fetch_commands():
        if command.type is discord.AppCommandType.chat_input:
            groups = [one for one in command.options if isinstance(one, AppCommandGroup)]
            there |= {f"{command.name} {one.name}" for one in groups} or {command.name}
    return there


def commands(text: str) -> list[tuple[str, dict[str, Any]]]:
    """All other commands, with those words wherever words can be given."""
    table = f"user,bot,source\n{text},{text},{text}\n,x,\n".encode()
    return [
        ("context", {}),
        ("about", {}),
        ("growth", {}),
        ("help", {}),
        ("model list", {}),
        ("model info", {"name": text}),
        ("model use", {"name": text}),
        ("model use", {"name": "tiny"}),
        ("model rollback", {}),
        ("model delete", {"name": text}),
        ("duel start", {"a": text, "b": "tiny"}),
        ("duel start", {"a": "tiny", "b": "tiny-ja", "share": 1}),
        ("duel show", {}),
        ("duel stop", {}),
        ("filter add", {"kind": "word", "text": text[:100]}),
        ("filter add", {"kind": "pattern", "text": f"never {text[:80]}"}),
        ("filter add", {"kind": "pattern", "text": f"({text[:80]}"}),
        ("filter list", {}),
        ("filter remove", {"kind": "word", "text": text[:100]}),
        ("filter remove", {"kind": "word", "text": "@everyone"}),
        ("golden add", {"question": text, "expected": text}),
        ("golden add", {"question": text, "expected": text, "kind": "without"}),
        ("golden add", {"question": text, "expected": f"({text}", "kind": "match"}),
        ("golden list", {}),
        ("golden run", {}),
        ("golden import", {"file": ("@everyone.csv", table)}),
        ("golden export", {"format": "jsonl"}),
        ("golden remove", {"number": 1}),
        ("dataset stats", {}),
        ("dataset preview", {}),
        ("dataset template", {}),
        ("dataset import", {"file": ("@everyone.csv", table)}),
        ("dataset import", {"file": ("@everyone.txt", b"x")}),
        ("dataset export", {"format": "csv"}),
        ("dataset review", {"status": "all"}),
        ("dataset remove", {"source": text[:100]}),
        ("retrain", {"dry_run": True}),
        ("retrain", {"base": text[:100]}),
        ("privacy show", {}),
        ("privacy export", {}),
        ("privacy opt-in", {}),
        ("privacy opt-out", {}),
        ("channel enable", {}),
        ("channel disable", {}),
        ("reset", {}),
        ("pause", {}),
        ("resume", {}),
        ("settings open", {}),
        ("settings export", {}),
        ("settings import", {"file": ("@everyone.json", f'{{"{text}": "{text}"}}'.encode())}),
        ("settings import", {"file": ("@everyone.json", b'{"length": "short"}')}),
        ("audit", {}),
        ("privacy forget", {}),
    ]


async def press_last(who: Any, shown: Any) -> None:
    """Press the last of the buttons under an answer: that is the way out."""
    shown_parts = parts(shown.response) if shown.response else []
    buttons = [one for one in shown_parts if one["type"] == BUTTON]
    if there := [one["custom_id"] for one in buttons if not one.get("disabled")]:
        await who.click(shown.response, custom_id=there[-1])

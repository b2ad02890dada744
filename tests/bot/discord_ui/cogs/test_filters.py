"""/filter, and what becomes of a reply that says what it must not. Real discord.py, real SQLite."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import simcord

from bot.chat.filters import REPLY_WITHHELD
from bot.discord_ui.delivery import reply as replies
from bot.settings import Settings
from core.records import Filter, FilterKind
from model.errors import WorkerDied
from tests.bot.asking import ask, buttons, record_of, storage_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_feedback import close_gate
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]


async def forbid(world: World, kind: str, text: str) -> str:
    result = await world.ada.slash(world.general, "filter add", kind=kind, text=text)
    assert result.ephemeral
    return str(result.response.content)


def everything_shown(world: World) -> list[str]:
    """Each text that the bot ever sent, edits included."""
    bodies = (one.json for one in world.env.http_requests if isinstance(one.json, dict))
    texts = [body.get("content") or body.get("data", {}).get("content") for body in bodies]
    return [text for text in texts if text]


async def said_of(world: World) -> list[str]:
    stored = await storage_of(world).messages.context(world.general.id, 50)
    return [one.message.content for one in stored]


# --- the commands ------------------------------------------------------------------------------


async def test_a_filter_is_added_listed_and_removed_and_each_change_is_written_down(
    world: World,
) -> None:
    empty = await world.ada.slash(world.general, "filter list")
    assert "There is no filter in this server yet" in empty.response.content
    assert await forbid(world, "word", " Bad ") == (
        "From my next reply on I do not say the word “Bad” here."
    )
    assert await forbid(world, "pattern", r"\d{4}") == (
        "From my next reply on I do not say the pattern “\\\\d{4}” here."
    )
    assert await forbid(world, "word", "Bad") == "The word “Bad” is forbidden here already."
    shown = await world.ada.slash(world.general, "filter list")
    assert shown.ephemeral
    assert "- pattern “\\\\d{4}”\n- word “Bad”" in shown.response.content
    offered = await world.ada.autocomplete(world.general, "filter remove", "text", "b", kind="word")
    assert [one["value"] for one in offered] == ["Bad"]
    gone = await world.ada.slash(world.general, "filter remove", kind="word", text="Bad")
    assert gone.response.content == "I may say the word “Bad” again."
    none = await world.ada.slash(world.general, "filter remove", kind="word", text="Bad")
    assert "There is no filter with the word “Bad” here" in none.response.content
    audit = await storage_of(world).audit.entries(world.guild.id, 9)
    assert [(one.actor_id, one.action, one.detail) for one in audit] == [
        (world.ada.id, "filter remove", "word Bad"),
        (world.ada.id, "filter add", r"pattern \d{4}"),
        (world.ada.id, "filter add", "word Bad"),
    ]


async def test_a_long_list_is_shown_whole(world: World) -> None:
    for n in range(40):
        one = Filter(FilterKind.WORD, f"{n:02}{'_' * 90}")
        await storage_of(world).filters.add(world.guild.id, one, world.ada.id)
    before = len(world.env.http_requests)
    await world.ada.slash(world.general, "filter list")
    shown = "".join(str(one.json) for one in world.env.http_requests[before:])
    assert all(f"word “{n:02}" in shown for n in range(40))


async def test_a_wrong_pattern_is_explained(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        assert await forbid(world, "pattern", "fine[") == (
            "That pattern cannot be read: missing ] at character 5, “[”. It is read by RE2: "
            "github.com/google/re2/wiki/Syntax shows what it understands."
        )
        assert await storage_of(world).audit.entries(world.guild.id, 9) == []


async def test_filters_are_for_managers(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        with pytest.raises(simcord.SetupError, match="default-member-permissions"):
            await world.ben.slash(world.general, "filter list")
        await forbid(world, "word", "secret")
        await world.open_to_all("filter")
        for name, options in (
            ("add", {"kind": "word", "text": "x"}),
            ("remove", {"kind": "word", "text": "secret"}),
            ("list", {}),
        ):
            result = await world.ben.slash(world.general, f"filter {name}", **options)
            assert result.ephemeral
            assert result.response.content == "You need the permission Manage Server for that."
        offered = await world.ben.autocomplete(
            world.general, "filter remove", "text", "", kind="word"
        )
        assert offered == []


# --- what becomes of replies -------------------------------------------------------------------


async def test_words_are_banned_at_sampling_beside_the_operators(
    settings: Settings, worker: FakeWorker
) -> None:
    strict = settings.model_copy(update={"banned_words": ("one", "two")})
    async with open_world(strict, worker) as world:
        await forbid(world, "word", "three")
        await forbid(world, "pattern", "four")
        reply = await ask(world)
        assert worker.asked[-1].banned_words == ("one", "two", "three")
        await world.ben.send_dm("hi")
        assert worker.asked[-1].banned_words == ("one", "two")
        record = await record_of(world, reply)
        assert list(record.sampling["banned_words"]) == ["one", "two"]  # no list for each reply


@pytest.mark.parametrize("kind", ["word", "pattern"])
async def test_an_unwanted_reply_is_drawn_again_then_withheld(
    world: World, worker: FakeWorker, kind: str
) -> None:
    await forbid(world, kind, "naughty")
    worker.answer = lambda _: "so na\u200bughty" if len(worker.heard) == 1 else "take 2"
    assert await world.say(world.ben, "hi") == "take 2"
    first, second = worker.asked
    assert first.seed != second.seed
    worker.answer = lambda _: "so NAUGHTY you are"
    assert await world.say(world.ben, "hi again") == REPLY_WITHHELD
    assert len(worker.asked) == 4
    assert await said_of(world) == ["hi", "take 2", "hi again"]
    assert not any("aughty" in text.lower() for text in everything_shown(world)[1:])
    assert buttons(world.general.last_message) == []


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece is shown by an edit of its own."""
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr(replies, "EDIT_INTERVAL_S", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_while_it_grows_nothing_is_shown_past_a_match(
    world: World, worker: FakeWorker
) -> None:
    await forbid(world, "pattern", "my number is [0-9]+")
    worker.answer = lambda _: "well, my number is 555 by the way"
    before = len(world.env.http_requests)
    result = await world.ben.slash(world.general, "chat", text="tell me")
    assert result.response.content == f"> tell me\n{REPLY_WITHHELD}"
    assert result.response.components == []
    shown = " ".join(str(one.json) for one in world.env.http_requests[before:])
    assert "well, my number is" in shown
    assert not re.search("555|way", shown)
    assert await said_of(world) == ["tell me"]


@pytest.mark.usefixtures("at_once")
async def test_another_reply_takes_the_place_of_what_was_shown(
    world: World, worker: FakeWorker
) -> None:
    await forbid(world, "word", "naughty")
    worker.answer = lambda _: "a b c naughty" if len(worker.heard) == 1 else "fine"
    assert await world.say(world.ben, "hi") == "fine"
    assert len(world.general.history()) == 2


async def test_an_unwanted_reply_made_anew_leaves_the_old_one(
    open_fake: Open, worker: FakeWorker
) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        await forbid(world, "word", "naughty")
        worker.answer = lambda _: "naughty"
        result = await world.ben.click(reply, custom_id="reply:again:")
        assert world.last() == "you said hi"
        assert [one.content for one in result.followups] == [REPLY_WITHHELD]
        assert await said_of(world) == ["hi", "you said hi"]


async def test_a_stopped_reply_is_not_drawn_again(world: World, worker: FakeWorker) -> None:
    await forbid(world, "word", "naughty")
    close_gate(world, worker, at=2)
    worker.answer = lambda _: "so naughty are you"
    await world.ben.slash(world.general, "chat", text="hi")
    conversations = world.bot.get_cog("Chat")._conversations
    [asked_id] = conversations.generator._active
    conversations.generator.stop(asked_id)
    await world.env.settle()
    assert world.last() == f"> hi\n{REPLY_WITHHELD}"
    assert len(worker.heard) == 1


async def test_a_replay_keeps_to_the_filter(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        await forbid(world, "word", "naughty")
        menu = await world.ben.context_menu(world.general, "Why this reply?", reply)
        select = f"reply:replay:{reply.id}"
        worker.answer = lambda _: "naughty"
        result = await world.ben.select(menu.response, ["tiny"], custom_id=select)
        assert result.response.content == REPLY_WITHHELD
        assert worker.asked[-1].banned_words == ("naughty",)


async def test_what_was_not_looked_at_is_not_shown_when_the_worker_dies(
    world: World, worker: FakeWorker
) -> None:
    await forbid(world, "word", "naughty")
    worker.answer = lambda _: "well naughty you"
    worker.gate_at = 2

    async def die(wait: Coroutine[Any, Any, None]) -> None:
        wait.close()
        worker.failure = WorkerDied("The model stopped unexpectedly. Please ask again.")

    worker.park = die
    assert await world.say(world.ben, "hi") == "The model stopped unexpectedly. Please ask again."
    assert not any("naughty" in text for text in everything_shown(world)[1:])


async def test_the_real_worker_finds_other_words(real_world: World) -> None:
    first = await real_world.say(real_world.ben, "hello")
    assert first
    words = re.findall(r"\w+", first)
    await forbid(real_world, "word", words[0])
    await real_world.ben.slash(real_world.general, "reset")
    second = await real_world.say(real_world.ben, "hello")
    assert second not in (first, REPLY_WITHHELD)
    assert words[0].lower() not in re.findall(r"\w+", str(second).lower())

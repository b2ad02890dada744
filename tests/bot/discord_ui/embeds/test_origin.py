"""Where a reply comes from: what it shows, to whom, and the replay on another model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bot.app import build_bot
from bot.chat.replay import ReplyOrigin
from bot.chat.request import next_seed, recorded_sampling
from bot.discord_ui.embeds.origin import replay_embed, why_embed
from bot.settings import Settings
from core.records import Message, RatingSummary, ReplyRecord, Role, StoredMessage
from model.sampling import FinishReason, SamplingParams
from model.worker.messages import Finished
from tests.bot.asking import ask, record_of, storage_of
from tests.bot.conftest import World
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]


async def why(world: World, reply: Any, who: Any = None) -> Any:
    told = await (who or world.ben).context_menu(world.general, "Why this reply?", reply)
    assert told.ephemeral
    return told


def fields(told: Any) -> dict[str, str]:
    return {field.name: field.value for field in told.response.embeds[0].fields}


def select_of(told: Any) -> dict[str, Any]:
    [row] = told.response.components
    [select] = row["components"]
    return dict(select)


async def test_it_shows_what_the_model_read_and_how_the_reply_was_made(world: World) -> None:
    await ask(world, "one **bold** @everyone", who=world.ada)
    reply = await ask(world, "two")
    await world.ada.click(reply, custom_id="reply:up:")
    told = await why(world, reply)
    lines = told.response.embeds[0].description.split("\n")[1:]
    assert lines[0].startswith("• ada: one \\*\\*bold\\*\\*")
    assert lines[1].startswith("• me: you said one")
    assert lines[2] == "• ben: two"
    assert "@everyone" not in told.response.embeds[0].description
    shown = fields(told)
    assert shown["Model"] == "tiny"
    assert shown["Cut"] == "nothing"
    assert shown["Tokens"] == "10 read, 3 written"
    assert "temperature 0.2 · top-k 40 · top-p 0.9" in shown["Sampling"]
    assert shown["Seed"] == "7"
    assert shown["Time"] == "0.01 s, 0.01 s to the first word"
    assert shown["Votes"] == "👍 1 · 👎 0"


async def test_what_was_deleted_is_not_shown(world: World) -> None:
    question = await world.ben.send(world.general, f"{world.bot.user.mention} my secret")
    reply = world.general.last_message
    await world.ben.delete(question)
    told = await why(world, reply, world.ada)
    assert told.response.embeds[0].description.split("\n")[1:] == ["• *(deleted)*"]
    assert told.response.components == []  # there is nothing left to replay


async def test_what_is_said_elsewhere_is_not_shown(world: World) -> None:
    """Only a record that was tampered with could name it."""
    other = world.guild.create_text_channel("other")
    await world.say(world.ada, "secret", other)
    secret = other.history()[0].id
    reply = await ask(world)
    record = await record_of(world, reply)
    await storage_of(world).replies.add(replace(record, seen=(secret, *record.seen)))
    told = await why(world, reply)
    assert "secret" not in told.response.embeds[0].description
    assert "(deleted)" in told.response.embeds[0].description


async def test_an_old_reply_says_that_nothing_is_known(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        await storage_of(world)._execute("DELETE FROM replies")
        assert "too old" in (await why(world, reply)).response.content


async def test_it_is_for_messages_of_the_bot(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        said = await world.ben.send(world.general, "hello")
        told = await why(world, said)
        assert told.response.content == "That only works on what I said."


async def test_a_model_that_is_gone_is_named_as_gone(world: World) -> None:
    reply = await ask(world)
    record = await record_of(world, reply)
    await storage_of(world).replies.add(replace(record, model="tiny-9", source="gone"))
    assert fields(await why(world, reply))["Model"] == "tiny-9 (no longer here)"


async def test_a_replay_sends_the_same_to_another_model_and_records_nothing(
    world: World, worker: FakeWorker
) -> None:
    await ask(world, "one")
    reply = await ask(world, "two")
    read, params = worker.heard[-1][1], worker.asked[-1]
    told = await why(world, reply, world.ada)
    select = select_of(told)
    assert [one["value"] for one in select["options"]] == ["tiny", "tiny-ja", "gpt2", "gpt2-medium"]
    worker.answer = lambda _: "another answer"
    before = [m.id for m in world.general.history()]
    shown = await world.ada.select(told.response, ["gpt2"], custom_id=select["custom_id"])
    assert shown.ephemeral
    assert fields(shown) == {"tiny, then": "you said two", "gpt2, now": "another answer"}
    assert worker.heard[-1] == ("gpt2", read)
    assert worker.asked[-1] == params
    stored = await storage_of(world).messages.context(world.general.id, 50)
    assert [one.message.content for one in stored][-1] == "you said two"
    assert (await record_of(world, reply)).model == "tiny"
    assert [m.id for m in world.general.history()] == before
    assert await storage_of(world).model_choices.active(world.guild.id) is None


async def test_both_menus_work_after_a_restart(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    reply = await ask(world)
    told = await why(world, reply)
    async with build_bot(settings, worker=worker) as again:
        await world.env.restart_bot(again)
        world.bot = again
        later = await why(world, reply)
        assert fields(later) == fields(told)
        custom_id = select_of(told)["custom_id"]
        shown = await world.ben.select(told.response, ["tiny"], custom_id=custom_id)
        assert fields(shown)["tiny, now"] == "you said hi"


async def test_only_managers_make_the_bot_load_a_model(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        told = await why(world, reply, world.ben)
        assert [one["value"] for one in select_of(told)["options"]] == ["tiny"]
        worker.models["gpt2"] = worker.models[next(iter(worker.models))]
        told = await why(world, reply, world.ben)
        assert [one["value"] for one in select_of(told)["options"]] == ["tiny", "gpt2"]
        del worker.models["gpt2"]
        custom_id = select_of(told)["custom_id"]
        shown = await world.ben.select(told.response, ["gpt2"], custom_id=custom_id)
        assert "gpt2 is not loaded" in shown.response.content
        assert "gpt2" not in worker.models


async def test_a_model_that_cannot_be_loaded_is_a_sentence(
    open_fake: Open, worker: FakeWorker
) -> None:
    async with open_fake(check_errors=False) as world:
        worker.broken["gpt2"] = "gpt2 cannot be reached on the Hugging Face Hub."
        told = await why(world, await ask(world), world.ada)
        custom_id = select_of(told)["custom_id"]
        shown = await world.ada.select(told.response, ["gpt2"], custom_id=custom_id)
        assert shown.response.content == worker.broken["gpt2"]


async def test_the_same_model_and_seed_say_the_same_again(real_world: World) -> None:
    """Also what was said in a conversation, and with a cache that others used meanwhile."""
    await ask(real_world, "hello")
    reply = await ask(real_world, "tell me something about the sea")
    await real_world.ben.click(reply, custom_id="reply:again:")
    other = real_world.guild.create_text_channel("other")
    await real_world.say(real_world.ada, "good morning", other)
    said = real_world.general.last_message.content
    told = await why(real_world, reply)
    custom_id = select_of(told)["custom_id"]
    shown = await real_world.ben.select(told.response, ["tiny"], custom_id=custom_id)
    values = fields(shown)
    assert values["tiny, now"] == values["tiny, then"]
    assert said[:10] in values["tiny, now"].replace("\\", "")
    record = await record_of(real_world, reply)
    assert record.first_s is not None
    assert 0 < record.first_s <= record.seconds


# --- values ------------------------------------------------------------------------------------

NOON = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def origin(count: int, text: str, **changes: Any) -> ReplyOrigin:
    record = ReplyRecord(
        reply_id=99,
        channel_id=1,
        scope=1,
        asked_id=count,
        asked_by=7,
        model="tiny",
        source="tiny",
        seen=tuple(range(1, count + 1)),
        cut=0,
        prompt_tokens=5,
        completion_tokens=4,
        seed=None,
        sampling={},
        seconds=0.5,
        created_at=NOON,
    )
    seen = tuple(
        StoredMessage(n, 1, 7, Message(Role.USER, text), NOON) for n in range(1, count + 1)
    )
    return ReplyOrigin(replace(record, **changes), seen, text, RatingSummary())


def test_the_longest_conversation_fits_an_embed() -> None:
    embed = why_embed(origin(50, "*<@1>_" * 500), {}, model_exists=True)
    assert len(embed.description or "") <= 4096
    assert len(embed) <= 6000
    reply = Finished(1, "*<`_" * 900, FinishReason.END, 1, 1, 1, 1.0)
    assert len(replay_embed(origin(1, "*<`_" * 900), "tiny", reply)) <= 6000


def test_what_is_not_known_is_said() -> None:
    embed = why_embed(origin(2, "hi", cut=1), {}, model_exists=True)
    shown = {field.name: field.value for field in embed.fields}
    assert shown["Cut"] == "1 of 2 messages were shortened or did not fit"
    assert shown["Seed"] == "not known"
    assert shown["Sampling"] == "not known"
    assert shown["Time"] == "0.50 s"


def test_the_settings_come_back_from_a_record() -> None:
    stored = {"temperature": 0.2, "banned_words": ["a", "b"], "of_a_later_version": 1}
    record = replace(origin(1, "hi").record, sampling=stored, seed=5)
    assert recorded_sampling(record) == SamplingParams(
        temperature=0.2, banned_words=("a", "b"), seed=5
    )


def test_another_seed_is_repeatable_and_not_one_that_was_tried() -> None:
    assert next_seed(7) == next_seed(7)
    assert next_seed(7) not in range(7, 12)

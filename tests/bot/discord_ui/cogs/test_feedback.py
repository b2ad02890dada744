"""The buttons under a reply: again, stop, likes and dislikes. Real discord.py, real SQLite."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from bot.app import build_bot
from bot.discord_ui.delivery import reply as replies
from bot.discord_ui.views.reply_buttons import reply_views
from bot.settings import Settings
from core.records import RatingSummary, ReplyRecord
from model.errors import WorkerDied
from tests.bot.asking import ask, buttons, record_of, storage_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]
ROW = ["reply:again:", "reply:up:", "reply:down:", "reply:better:"]
QUOTED_ROW = [f"{one}q" for one in ROW]


async def history(world: World) -> list[str]:
    stored = await storage_of(world).messages.context(world.general.id, 50)
    return [one.message.content for one in stored]


def close_gate(world: World, worker: FakeWorker, *, at: int = 0) -> None:
    """From now on replies wait at that word, and SimCord does not wait for them.

    But it would for the typing indicator, so what waits is asked by /chat or a button.
    """
    worker.gate_at = at
    worker.gate.clear()
    worker.park = lambda wait: world.env.external_wait(wait, reason="the gate is closed")


async def open_gate(world: World, worker: FakeWorker) -> None:
    """Let all replies go on, to their end."""
    worker.gate.set()
    await world.env.settle()


# --- what is recorded --------------------------------------------------------------------------


async def test_a_reply_remembers_what_it_was_made_from(world: World) -> None:
    first = await ask(world, "one")
    second = await ask(world, "two")
    record = await record_of(world, second)
    questions = [m for m in world.general.history() if m.author != world.bot.user]
    assert record.seen == (questions[0].id, first.id, questions[1].id)
    assert (record.asked_id, record.asked_by) == (questions[1].id, world.ben.id)
    assert (record.channel_id, record.scope) == (world.general.id, world.guild.id)
    assert (record.model, record.seed, record.cut) == ("tiny", 7, 0)
    assert (record.prompt_tokens, record.completion_tokens) == (10, 3)
    assert (record.seconds, record.first_s) == (0.01, 0.005)
    assert record.sampling["temperature"] == 0.2
    stored = await storage_of(world).messages.get_many([*record.seen, second.id])
    assert {one.scope for one in stored} == {world.guild.id}


async def test_the_reply_to_slash_chat_is_known_by_its_message(world: World) -> None:
    result = await world.ben.slash(world.general, "chat", text="what is tea?")
    record = await record_of(world, result.response)
    assert record.asked_by == world.ben.id
    assert [one["custom_id"] for one in result.response.components[0]["components"]] == QUOTED_ROW


async def test_who_listens_hears_of_recorded_replies_and_cannot_disturb(world: World) -> None:
    heard: list[tuple[int, str, str]] = []

    async def listen(record: ReplyRecord, asked: str, reply: str) -> None:
        heard.append((record.reply_id, asked, reply))
        raise RuntimeError("a listener's bug")

    world.bot.get_cog("Chat")._conversations._on_reply = listen
    reply = await ask(world, "hi")
    assert heard == [(reply.id, "hi", "you said hi")]
    assert reply.content == "you said hi"
    assert await world.say(world.ben, "again") == "you said again"


async def test_a_reply_to_what_was_deleted_meanwhile_is_not_recorded(
    world: World, worker: FakeWorker
) -> None:
    close_gate(world, worker)
    await world.ben.slash(world.general, "chat", text="hello")
    [asked] = await storage_of(world).messages.context(world.general.id, 1)
    await storage_of(world).messages.delete([asked.discord_id])
    await open_gate(world, worker)
    assert world.last() == "> hello\nyou said hello"
    assert await storage_of(world).replies.get(world.general.last_message.id) is None
    assert await history(world) == []


# --- the row -----------------------------------------------------------------------------------


async def test_a_short_reply_comes_with_its_buttons_in_one_request(world: World) -> None:
    reply = await ask(world)
    assert buttons(reply) == ROW
    path = f"/channels/{world.general.id}/messages"
    sent = [one for one in world.env.http_requests if one.method != "GET" and path in one.path]
    assert len(sent) == 1


async def test_the_row_can_be_switched_off(settings: Settings, worker: FakeWorker) -> None:
    without = settings.model_copy(update={"reply_buttons": False})
    async with open_world(without, worker) as world:
        assert buttons(await ask(world)) == []


async def test_a_long_reply_has_its_buttons_under_the_last_message(
    world: World, worker: FakeWorker
) -> None:
    worker.answer = lambda _: "word " * 600
    await ask(world)
    first, last = [m for m in world.general.history() if m.author == world.bot.user]
    assert buttons(first) == []
    assert buttons(last) == [f"{one}{first.id}" for one in ROW]
    await world.ada.click(last, custom_id=f"reply:up:{first.id}")
    assert await storage_of(world).replies.rating_summary(first.id) == RatingSummary(up=1)


# --- likes -------------------------------------------------------------------------------------


async def test_a_reply_of_a_model_that_is_gone_can_be_voted_on(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    await world.ada.slash(world.general, "model use", name="tiny-1")
    reply = await ask(world)
    assert (await record_of(world, reply)).model == "tiny-1"
    await world.ada.slash(world.general, "model use", name="tiny")
    deletion = await world.ada.slash(world.general, "model delete", name="tiny-1")
    await world.ada.click(deletion.response, label="Delete")
    pressed = await world.ben.click(reply, custom_id="reply:down:")
    assert pressed.response.content.startswith("Noted: you do not like this reply.")
    assert (await storage_of(world).replies.rating_summary(reply.id)).down == 1


async def test_each_member_has_one_vote_and_can_change_it(world: World) -> None:
    reply, storage = await ask(world), storage_of(world)
    for who in (world.ada, world.ben):
        liked = await who.click(reply, custom_id="reply:up:")
        assert liked.ephemeral
        assert "you like" in liked.response.content
    assert await storage.replies.rating_summary(reply.id, world.ada.id) == RatingSummary(2, 0, 1)
    await world.ada.click(reply, custom_id="reply:down:")
    assert await storage.replies.rating_summary(reply.id, world.ada.id) == RatingSummary(1, 1, -1)
    back = await world.ada.click(reply, custom_id="reply:down:")
    assert back.response.content == "Taken back."
    assert await storage.replies.rating_summary(reply.id) == RatingSummary(1, 0)


async def test_a_message_without_a_record_cannot_be_rated(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        await storage_of(world)._execute("DELETE FROM replies")
        told = await world.ada.click(reply, custom_id="reply:up:")
        assert "too old" in told.response.content
        assert await storage_of(world).replies.rating_summary(reply.id) == RatingSummary()


# --- again -------------------------------------------------------------------------------------


async def test_again_replaces_the_reply_its_record_and_the_history(
    world: World, worker: FakeWorker
) -> None:
    reply, storage = await ask(world), storage_of(world)
    before = await record_of(world, reply)
    await world.ada.click(reply, custom_id="reply:up:")
    worker.answer = lambda _: "something else"
    await world.ben.click(reply, custom_id="reply:again:")
    assert [m.content for m in world.general.history()][1:] == ["something else"]
    assert buttons(world.general.last_message) == ROW
    assert await history(world) == ["hi", "something else"]
    after = await record_of(world, reply)
    assert after.seed != before.seed
    assert worker.asked[-1].seed == after.seed
    assert after.seen == before.seen
    assert await storage.replies.rating_summary(reply.id) == RatingSummary()


async def test_again_twice_draws_three_seeds_and_the_same_ones_after_a_restart(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    reply = await ask(world)
    await world.ben.click(reply, custom_id="reply:again:")
    async with build_bot(settings, worker=worker) as again:
        await world.env.restart_bot(again)
        world.bot = again
        await world.ben.click(reply, custom_id="reply:again:")
        await world.ada.click(reply, custom_id="reply:up:")
        assert await storage_of(world).replies.rating_summary(reply.id) == RatingSummary(up=1)
    assert len({one.seed for one in worker.asked}) == 3


async def test_only_the_asker_and_managers_may_have_it_again(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world, who=world.ada)
        told = await world.ben.click(reply, custom_id="reply:again:")
        assert told.ephemeral
        assert "Only the person who asked" in told.response.content
        of_ben = await ask(world, "me too", who=world.ben)
        assert not (await world.ada.click(of_ben, custom_id="reply:again:")).followups


async def test_again_reads_what_the_old_reply_read(world: World, worker: FakeWorker) -> None:
    reply = await ask(world, "one")
    await ask(world, "two")
    await world.ben.click(reply, custom_id="reply:again:")
    assert [m.content for m in worker.heard[-1][1]] == ["one"]


async def test_again_of_slash_chat_keeps_the_question(world: World, worker: FakeWorker) -> None:
    result = await world.ben.slash(world.general, "chat", text="what is tea?")
    worker.answer = lambda _: "a leaf"
    await world.ben.click(result.response, custom_id="reply:again:q")
    assert world.general.last_message.content == "> what is tea?\na leaf"


async def test_again_makes_a_long_reply_short_and_a_short_one_long(
    world: World, worker: FakeWorker
) -> None:
    worker.answer = lambda _: "word " * 600
    await ask(world)
    first, last = [m for m in world.general.history() if m.author == world.bot.user]
    worker.answer = lambda _: "short"
    await world.ben.click(last, custom_id=f"reply:again:{first.id}")
    [only] = [m for m in world.general.history() if m.author == world.bot.user]
    assert (only.id, only.content, buttons(only)) == (first.id, "short", ROW)
    worker.answer = lambda _: "long " * 600
    await world.ben.click(only, custom_id="reply:again:")
    ours = [m for m in world.general.history() if m.author == world.bot.user]
    assert [buttons(one) for one in ours] == [[], [f"{one}{first.id}" for one in ROW]]
    assert sum(one.content.count("long") for one in ours) == 600


async def test_what_was_deleted_is_not_answered_again(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        question = await world.ben.send(world.general, f"{world.bot.user.mention} hi")
        reply = world.general.last_message
        await world.ben.delete(question)
        told = await world.ben.click(reply, custom_id="reply:again:")
        assert "deleted" in told.followups[0].content
        assert reply.content == world.general.last_message.content


async def test_if_again_fails_the_old_reply_stays(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        worker.failure = WorkerDied("The model stopped unexpectedly.")
        told = await world.ben.click(reply, custom_id="reply:again:")
        assert told.followups[0].content == "The model stopped unexpectedly."
        assert world.last() == "you said hi"
        assert buttons(world.general.last_message) == ROW
        assert await history(world) == ["hi", "you said hi"]


async def test_a_second_press_while_it_is_made_anew_is_refused(
    open_fake: Open, worker: FakeWorker
) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        close_gate(world, worker)
        worker.answer = lambda _: "new"
        await world.ben.click(reply, custom_id="reply:again:")
        told = await world.ada.click(reply, custom_id="reply:again:")
        assert told.followups[0].content == "I am answering that already."
        await open_gate(world, worker)
        assert world.last() == "new"
        assert len(worker.heard) == 2


async def test_the_reply_may_be_deleted_while_it_is_made_anew(
    world: World, worker: FakeWorker
) -> None:
    reply = await ask(world)
    close_gate(world, worker)
    await world.ben.click(reply, custom_id="reply:again:")
    await world.bot.http.delete_message(world.general.id, reply.id)
    await open_gate(world, worker)
    assert await history(world) == ["hi"]
    assert await world.say(world.ben, "still there?") == "you said still there?"


# --- stop --------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are shown as they come."""
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    monkeypatch.setattr(replies, "EDIT_INTERVAL_S", 0.0)


async def growing(world: World, worker: FakeWorker) -> tuple[Any, str]:
    """A reply that has said two words and waits, and the id of its button."""
    close_gate(world, worker, at=2)
    await world.ben.slash(world.general, "chat", text="hi")
    reply = world.general.last_message
    assert reply.content == "> hi\nyou said"
    [stop] = buttons(reply)
    return reply, stop


async def queued(world: World, worker: FakeWorker, other: Any) -> None:
    """Somebody is being answered elsewhere."""
    close_gate(world, worker)
    await world.ada.slash(other, "chat", text="me first")


@pytest.mark.usefixtures("at_once")
async def test_a_stopped_reply_is_recorded_as_it_stands(world: World, worker: FakeWorker) -> None:
    reply, stop = await growing(world, worker)
    await world.ada.click(reply, custom_id=stop)
    assert world.last() == "> hi\nyou said"
    assert buttons(world.general.last_message) == QUOTED_ROW
    assert await history(world) == ["hi", "you said"]
    assert (await record_of(world, reply)).completion_tokens == 2


@pytest.mark.usefixtures("at_once")
async def test_only_the_asker_and_managers_may_stop(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake(check_errors=False) as world:
        cleo = world.guild.add_member(world.env.create_user("cleo"))
        reply, stop = await growing(world, worker)
        told = await cleo.click(reply, custom_id=stop)
        assert "Only the person who asked" in told.response.content
        await open_gate(world, worker)
        assert world.last() == "> hi\nyou said hi"


@pytest.mark.usefixtures("at_once")
async def test_a_reply_deleted_while_it_grows_is_stopped_without_a_trace(
    world: World, worker: FakeWorker
) -> None:
    reply, _ = await growing(world, worker)
    await world.bot.http.delete_message(world.general.id, reply.id)
    await open_gate(world, worker)
    assert await storage_of(world).replies.get(reply.id) is None
    assert await history(world) == ["hi"]


@pytest.mark.usefixtures("at_once")
async def test_stop_after_the_end_only_tidies_up(world: World, worker: FakeWorker) -> None:
    reply, stop = await growing(world, worker)
    await open_gate(world, worker)
    posted = world.bot.get_channel(world.general.id).get_partial_message(reply.id)
    left_over = reply_views(int(stop.rsplit(":", 1)[1])).streaming
    for buttons_then in (QUOTED_ROW, []):  # the second time as if the bot was killed before the end
        await posted.edit(view=left_over(()))
        await world.ben.click(reply, custom_id=stop)
        assert buttons(world.general.last_message) == buttons_then
        assert world.last() == "> hi\nyou said hi"
        await storage_of(world)._execute("DELETE FROM replies")


async def test_a_reply_that_waits_for_others_can_be_stopped(
    world: World, worker: FakeWorker
) -> None:
    await queued(world, worker, world.guild.create_text_channel("other"))
    await world.ben.slash(world.general, "chat", text="me next")
    waiting = world.general.last_message
    assert "I am busy" in waiting.content
    [stop] = buttons(waiting)
    await world.ben.click(waiting, custom_id=stop)
    assert world.last() == "> me next\nStopped."
    assert buttons(world.general.last_message) == []
    assert await storage_of(world).replies.get(waiting.id) is None
    assert await history(world) == ["me next"]
    await open_gate(world, worker)


async def test_again_stopped_before_its_first_word_brings_the_old_reply_back(
    world: World, worker: FakeWorker
) -> None:
    reply = await ask(world)
    await queued(world, worker, world.guild.create_text_channel("other"))
    await world.ben.click(reply, custom_id="reply:again:")
    waiting = world.general.last_message
    assert waiting.content.startswith("-# I am busy")
    [stop] = buttons(waiting)
    await world.ben.click(reply, custom_id=stop)
    assert world.last() == "you said hi"
    assert buttons(world.general.last_message) == ROW
    assert await history(world) == ["hi", "you said hi"]
    await open_gate(world, worker)


async def test_in_a_direct_message_the_buttons_work_too(world: World) -> None:
    await world.ben.send_dm("psst")
    reply = world.ben.user.dm_channel.last_message
    assert buttons(reply) == ROW
    await world.ben.user.click(reply, custom_id="reply:again:")
    await world.ben.user.click(reply, custom_id="reply:up:")
    assert await storage_of(world).replies.rating_summary(reply.id) == RatingSummary(up=1)
    record = await record_of(world, reply)
    assert record.scope == world.ben.id

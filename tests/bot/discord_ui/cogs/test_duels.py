"""/duel: two answers, a vote, a result; and whatever may come in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bot.app import build_bot
from bot.discord_ui.delivery import reply as delivery
from bot.discord_ui.reports.results import Results
from bot.judgement.duel import MAX_DAYS, Duels
from bot.settings import Settings
from core.records import Choice, DuelOutcome, DuelPair, ReplyCounts
from core.server_settings import ButtonsUnder
from data.storage.erasure import erase_member
from tests.bot.asking import ask, buttons, record_of, storage_of
from tests.bot.cards import facts_of
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]
ANSWERS = {"tiny-a": "meow", "tiny-b": "woof"}
VOTES = [f"duel:vote:{one}" for one in ("first", "second", "alike")]
USUAL = ["reply:again:", "reply:up:", "reply:down:", "reply:better:"]


def duels_of(world: World) -> Duels:
    duels = world.bot.get_cog("DuelCommands")._duels
    assert isinstance(duels, Duels)
    return duels


def results_of(world: World) -> Results:
    results = world.bot.get_cog("DuelCommands")._results
    assert isinstance(results, Results)
    return results


@pytest.fixture
async def ring(open_fake: Open, worker: FakeWorker) -> AsyncIterator[World]:
    """Two models that say different things, in a duel on every reply."""
    worker.answer = lambda _: ANSWERS.get(Path(worker.heard[-1][0]).name, "hello")
    async with open_fake(check_errors=False) as world:
        for name in ANSWERS:
            make_checkpoint(world, name)
        started = await world.ada.slash(
            world.general, "duel start", a="tiny-a", b="tiny-b", share=100
        )
        assert "two answers" in started.response.content
        duels_of(world)._chance = Random(3)
        yield world


async def history(world: World, reply: Any) -> str:
    [stored] = await storage_of(world).messages.get_many([reply.id])
    return stored.message.content


def lines(reply: Any) -> tuple[str, str]:
    """The two answers that are shown."""
    _, upper, _, _, lower, *_ = reply.content.splitlines()
    return upper, lower


# --- a pair --------------------------------------------------------------------------------------


async def test_two_unlabelled_answers_come_in_random_order(ring: World) -> None:
    shown = [await ask(ring, f"question {n}") for n in range(12)]
    assert {lines(reply) for reply in shown} == {("meow", "woof"), ("woof", "meow")}
    for reply in shown:
        assert buttons(reply) == VOTES
        assert not any(name in reply.content for name in ANSWERS)
        assert await history(ring, reply) == lines(reply)[0]


@pytest.mark.parametrize(("press", "stays"), [("first", 0), ("second", 1), ("alike", 0)])
async def test_after_a_vote_only_the_chosen_answer_was_said(
    ring: World, press: str, stays: int
) -> None:
    reply = await ask(ring)
    chosen = lines(reply)[stays]
    await ring.ben.click(reply, custom_id=f"duel:vote:{press}")
    reply = ring.general.last_message
    assert (reply.content, buttons(reply)) == (chosen, USUAL)
    assert await history(ring, reply) == chosen
    assert ANSWERS[(await record_of(ring, reply)).model] == chosen
    standing = await duels_of(ring).newest(ring.guild.id)
    assert standing.counted == standing.members == 1
    voted = {"meow": (1, 0), "woof": (0, 1)}[chosen] if press != "alike" else (0, 0)
    assert (standing.a, standing.b) == voted
    assert b"meow" not in (await pair_of(ring, reply)).encode()


async def pair_of(world: World, reply: Any) -> str:
    """The stored pair, as text."""
    return repr(await storage_of(world).duels.pair(reply.id))


async def test_the_models_are_not_told_before_the_vote(ring: World) -> None:
    reply = await ask(ring)
    told = await ring.ben.context_menu(ring.general, "Why this reply?", reply)
    assert "Vote first" in told.response.content
    for refused in (
        await ring.ben.context_menu(ring.general, "Better answer", reply),
        await ring.ada.context_menu(ring.general, "Better answer", reply),
    ):
        assert "Vote first" in refused.response.content
    await ring.ben.click(reply, custom_id="duel:vote:first")
    why = await ring.ben.context_menu(ring.general, "Why this reply?", reply)
    assert why.response.embeds


async def test_the_second_vote_on_a_pair_changes_nothing(ring: World) -> None:
    reply = await ask(ring)
    chosen = lines(reply)[0]
    await ring.ben.click(reply, custom_id="duel:vote:first")
    await storage_of(ring).duels.vote(reply.id, ring.ada.id, Choice.ALIKE)
    settled = await duels_of(ring).vote(reply.id, ring.ada.id, upper=False)
    assert (settled.text, settled.was_first) == (chosen, False)
    assert (await duels_of(ring).newest(ring.guild.id)).counted == 1


async def test_elsewhere_there_is_one_answer(ring: World, worker: FakeWorker) -> None:
    other = ring.guild.create_text_channel("other")
    await ring.ada.slash(ring.general, "duel stop")
    await ring.ada.slash(
        ring.general, "duel start", a="tiny-a", b="tiny-b", share=100, channel=other
    )
    assert (await ask(ring)).content == "hello"
    await ring.say(ring.ben, "hi", other)
    assert "**A**" in other.last_message.content
    await ring.ben.slash(ring.general, "teach", user="Who is our cat?", bot="Tom.")
    await ring.say(ring.ben, "Who is our cat?", other)
    assert other.last_message.content.startswith("Tom.")


async def test_it_runs_in_the_chosen_channels_only_also_after_a_restart(
    ring: World, settings: Settings, worker: FakeWorker
) -> None:
    first, second = (ring.guild.create_text_channel(name) for name in ("first", "second"))
    await ring.ada.slash(ring.general, "duel stop")
    duel = {"a": "tiny-a", "b": "tiny-b", "share": 100, "channel": first, "channel2": second}
    await ring.ada.slash(ring.general, "duel start", **duel)
    assert await places_of_pairs(ring, first, second, ring.general) == [first, second]
    async with build_bot(settings, worker=worker) as again:
        await ring.env.restart_bot(again)
        ring.bot = again
        assert await places_of_pairs(ring, first, second, ring.general) == [first, second]
        mentions = f"<#{first.id}>, <#{second.id}>"
        assert await shown_share(ring) == f"100 % of the replies, {mentions}"


async def places_of_pairs(world: World, *places: Any) -> list[Any]:
    """Of these channels, those where a question gets two answers."""
    for place in places:
        await world.say(world.ben, "hi", place)
    return [place for place in places if buttons(place.last_message) == VOTES]


async def shown_share(world: World) -> str:
    """What `/duel show` says of how many replies there are two, and where."""
    shown = await world.ada.slash(world.general, "duel show")
    [value] = [one.value for one in shown.response.embeds[0].fields if one.name == "Two answers"]
    return str(value)


async def test_a_channel_that_was_chosen_twice_counts_once_and_the_first_may_be_left_out(
    ring: World,
) -> None:
    other = ring.guild.create_text_channel("other")
    await ring.ada.slash(ring.general, "duel stop")
    duel = {"a": "tiny-a", "b": "tiny-b", "share": 100, "channel2": other, "channel3": other}
    await ring.ada.slash(ring.general, "duel start", **duel)
    assert (await duels_of(ring).newest(ring.guild.id)).duel.channels == {other.id}
    assert await shown_share(ring) == f"100 % of the replies, <#{other.id}>"
    assert await places_of_pairs(ring, ring.general, other) == [other]


@pytest.mark.parametrize("other", ["", "long " * 500, "rudeword"])
async def test_without_a_second_answer_that_can_be_shown_there_is_one(
    ring: World, worker: FakeWorker, other: str
) -> None:
    await ring.ada.slash(ring.general, "filter add", kind="word", text="rudeword")
    worker.answer = lambda _: "meow" if len(worker.heard) % 2 else other
    worker.heard.clear()
    reply = await ask(ring)
    assert (reply.content, buttons(reply)) == ("meow", USUAL)


async def test_a_whole_answer_is_not_stopped_with_the_second_one(
    ring: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_typing(*_: object) -> None:
        """SimCord would wait for the indicator's end, as for all that the bot does."""

    monkeypatch.setattr(delivery.TypingIndicators, "_keep_typing", no_typing)
    monkeypatch.setattr(delivery, "FIRST_SEND_DELAY_S", 0.0)
    worker.park = lambda wait: ring.env.external_wait(wait, reason="the gate is closed")
    worker.heard.clear()

    def second_waits(_: object) -> str:
        if len(worker.heard) == 2:
            worker.gate.clear()
        return "meow"

    worker.answer = second_waits
    reply = await ask(ring)
    [stop] = buttons(reply)
    await ring.ben.click(reply, custom_id=stop)
    worker.gate.set()
    await ring.env.settle()
    reply = ring.general.last_message
    assert (reply.content, buttons(reply)) == ("meow", USUAL)
    model = (await record_of(ring, reply)).model
    counts = await storage_of(ring).canaries.before(ring.guild.id, model, 9)
    assert counts == ReplyCounts(bad=0, replies=1)


async def test_where_the_last_reply_only_has_buttons_an_older_pair_keeps_its_own_until_the_vote(
    ring: World,
) -> None:
    await ring.bot.get_cog("Chat")._rules.choose(ring.guild.id, "buttons", ButtonsUnder.LAST)
    first, second = await ask(ring), await ask(ring)

    def shown() -> list[list[str]]:
        """Of the first pair and of the second."""
        there = {one.id: buttons(one) for one in ring.general.history()}
        return [there[first.id], there[second.id]]

    assert shown() == [VOTES, VOTES]
    await ring.ben.click(second, custom_id="duel:vote:first")
    assert shown() == [VOTES, USUAL]
    await ring.ben.click(first, custom_id="duel:vote:first")
    assert shown() == [[], USUAL], "it is not the last one"
    assert (await duels_of(ring).newest(ring.guild.id)).counted == 2
    await ask(ring)
    assert shown() == [[], []]


# --- the end -------------------------------------------------------------------------------------


async def vote_until_decided(world: World, model: str = "tiny-b") -> int:
    """Different members vote for a model until its duel ends; the number of votes."""
    for number in range(1, 100):
        member = world.guild.add_member(world.env.create_user(f"voter{number}"))
        reply = await ask(world, f"question {number}", who=member)
        if buttons(reply) != VOTES:
            return number - 1
        is_upper = lines(reply)[0] == ANSWERS[model]
        await member.click(reply, custom_id=f"duel:vote:{'first' if is_upper else 'second'}")
    raise AssertionError("it never ended")


async def test_a_decided_duel_is_announced_once_and_its_winner_used_by_an_administrator(
    ring: World,
) -> None:
    assert await vote_until_decided(ring) == 15
    [told] = [one for one in ring.general.history() if one.embeds]
    assert told.embeds[0].description.startswith("**tiny-b** gives the better answers.")
    assert buttons(told) == ["duel:use:1"]
    await results_of(ring).review()
    assert len([one for one in ring.general.history() if one.embeds]) == 1
    refused = await ring.ben.click(told, custom_id="duel:use:1")
    assert "Administrator" in refused.response.content
    used = await ring.ada.click(told, custom_id="duel:use:1")
    assert used.response.content == "**tiny-b** answers from now on."
    assert (await ask(ring)).content == "woof"
    [entry, *_] = await storage_of(ring).audit.entries(ring.guild.id, 1)
    assert (entry.action, entry.detail) == ("model use", "tiny-b")
    await ring.ben.click(ring.general.last_message, custom_id="reply:up:")
    info = await ring.ben.slash(ring.general, "model info", name="tiny-b")
    known = facts_of(info.response)
    assert (known["Duels"], known["Its replies"]) == ("better than tiny-a", "👍 1 · 👎 0")
    info = await ring.ben.slash(ring.general, "model info", name="tiny-a")
    assert facts_of(info.response)["Duels"] == "worse than tiny-b"


async def test_a_vote_after_the_end_chooses_an_answer_and_decides_nothing(ring: World) -> None:
    late = await ask(ring)
    stopped = await ring.ada.slash(ring.general, "duel stop")
    assert "It was stopped" in stopped.response.embeds[0].description
    await ring.ben.click(late, custom_id="duel:vote:second")
    assert buttons(ring.general.last_message) == USUAL
    standing = await duels_of(ring).newest(ring.guild.id)
    assert (standing.counted, standing.duel.outcome) == (0, DuelOutcome.STOPPED)
    assert (await ask(ring)).content == "hello"


async def test_it_ends_where_the_bot_was_removed(ring: World) -> None:
    shown = await ring.ada.slash(ring.general, "duel show")
    assert "some of the next replies" in shown.response.embeds[0].description
    ring.bot.dispatch("guild_remove", ring.bot.get_guild(ring.guild.id))
    await ring.env.settle()
    assert await storage_of(ring).duels.running() == []
    assert (await ask(ring)).content == "hello"


async def test_too_few_votes_are_told_once_the_time_is_over(ring: World) -> None:
    duels, now = duels_of(ring), datetime.now(UTC)
    await duels.review(now + timedelta(days=MAX_DAYS - 1))
    await duels.review(None)
    assert (await duels.newest(ring.guild.id)).duel.outcome is None
    await duels.review(now + timedelta(days=MAX_DAYS + 1))
    await results_of(ring).review()
    assert "too few people voted" in ring.general.last_message.embeds[0].description
    assert buttons(ring.general.last_message) == []


@pytest.mark.parametrize("name", list(ANSWERS))
async def test_a_deleted_model_ends_the_duel_with_a_sentence(ring: World, name: str) -> None:
    deletion = await ring.ada.slash(ring.general, "model delete", name=name)
    await ring.ada.click(deletion.response, label="Delete")
    assert (await ask(ring)).content == "hello"
    await results_of(ring).review()
    told = ring.general.last_message.embeds[0]
    assert told.description.startswith("One of its models was deleted")


async def test_a_model_that_left_the_memory_is_loaded_and_one_answer_given_meanwhile(
    ring: World, worker: FakeWorker
) -> None:
    [source] = [one for one in worker.models if one.endswith("tiny-b")]
    del worker.models[source]
    assert (await ask(ring)).content == "hello"
    await worker.until(lambda: source in worker.models)
    assert buttons(await ask(ring)) == VOTES


# --- restarts, deletions, erasures ---------------------------------------------------------------


async def test_after_a_restart_the_duel_and_its_open_pairs_go_on(
    ring: World, settings: Settings, worker: FakeWorker
) -> None:
    reply = await ask(ring)
    lower = lines(reply)[1]
    async with build_bot(settings, worker=worker) as again:
        await ring.env.restart_bot(again)
        ring.bot = again
        await ring.ben.click(reply, custom_id="duel:vote:second")
        assert await history(ring, reply) == lower
        assert buttons(await ask(ring)) == VOTES


async def test_a_vote_that_was_interrupted_is_settled_by_the_next_press(ring: World) -> None:
    reply = await ask(ring)
    upper, lower = lines(reply)
    b_is_lower = lower == ANSWERS["tiny-b"]
    choice = Choice.B if b_is_lower else Choice.A
    await storage_of(ring).duels.vote(reply.id, ring.ben.id, choice)  # and then it was killed
    told = await ring.ada.click(reply, custom_id="duel:vote:first")
    assert ring.general.last_message.content == lower
    assert "Somebody was faster" in told.followups[0].content
    assert await history(ring, reply) == lower
    assert upper != lower


async def test_an_end_that_nobody_was_told_of_is_told_after_a_restart(
    ring: World, settings: Settings, worker: FakeWorker
) -> None:
    duel = (await duels_of(ring).newest(ring.guild.id)).duel
    assert await storage_of(ring).duels.end(duel.id, DuelOutcome.ALIKE)
    assert not await storage_of(ring).duels.end(duel.id, DuelOutcome.A)  # nothing decides twice
    async with build_bot(settings, worker=worker) as again:
        await ring.env.restart_bot(again)
        ring.bot = again
        await results_of(ring).review()
        assert "no difference that matters" in ring.general.last_message.embeds[0].description


async def test_a_deleted_reply_takes_its_open_pair_along_and_leaves_its_vote(ring: World) -> None:
    storage, first, second = storage_of(ring), await ask(ring), await ask(ring)
    await ring.ben.click(first, custom_id="duel:vote:first")
    for reply in (first, second):
        await storage.messages.delete([reply.id])
    assert (await duels_of(ring).newest(ring.guild.id)).counted == 1
    assert await storage.duels.pair(second.id) is None
    told = await ring.ben.click(second, custom_id="duel:vote:first")
    assert "I do not know these two answers any more" in told.response.content
    assert not await storage.duels.add_pair(DuelPair(second.id, 1, True, "{}"))


async def test_a_forgotten_members_votes_leave_and_so_do_the_answers_to_them(ring: World) -> None:
    storage = storage_of(ring)
    for who in (ring.ben, ring.ada):
        reply = await ask(ring, who=ring.ada)
        await who.click(reply, custom_id="duel:vote:first")
    of_ben = await ask(ring, who=ring.ben)
    exported = await storage.members.export(ring.ben.id)
    [vote] = exported["duel_votes"]
    assert vote["choice"] in ANSWERS
    assert [one["content"] for one in exported["duel_answers"]] == [lines(of_ben)[1]]
    assert (await storage.members.summary(ring.ben.id)).ratings == 1
    gone = await erase_member(storage, ring.ben.id)
    assert gone.ratings == 1
    standing = await duels_of(ring).newest(ring.guild.id)
    assert (standing.counted, standing.members) == (1, 1)
    assert await storage.duels.pair(of_ben.id) is None


# --- bad input -----------------------------------------------------------------------------------


async def test_what_cannot_be_compared_is_refused(ring: World, worker: FakeWorker) -> None:
    async def start(a: str, b: str) -> str:
        shown = await ring.ada.slash(ring.general, "duel start", a=a, b=b)
        return str((shown.response or shown.followups[0]).content)

    assert "is running here already" in await start("tiny-a", "tiny")
    await ring.ada.slash(ring.general, "duel stop")
    assert "two different models" in await start("tiny-a", "tiny-a")
    assert "nobody" in await start("tiny-a", "nobody")
    again = await ring.ada.slash(ring.general, "duel stop")
    assert "No duel is running here" in again.response.content
    await ring.open_to_all("duel")
    told = await ring.ben.slash(ring.general, "duel show")
    assert "Manage Server" in told.response.content

"""A canary serves some channels, is taken back by itself if it is worse, and promoted if not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.judgement import canaries as simulated
from bot.app import build_bot
from bot.chat.model_router import Trial
from bot.discord_ui.delivery import reply as replies
from bot.discord_ui.reports.results import Results
from bot.judgement.canary import MAX_DAYS, MAX_DISLIKES_OF_MEMBER, Canaries
from bot.judgement.sequential import CANARY_REPLIES, is_worse, upper_bound
from bot.settings import Settings
from core.records import JobState, ReplyCounts, TrainingJob
from core.server_settings import Switch
from model.errors import GenerationFailed
from model.worker.messages import ModelInfo
from tests.bot.asking import ask, buttons, storage_of, until
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.fakes import FakeWorker
from training.config import TrainingConfig
from training.jobs.folder import CONFIG_FILE

Open = Callable[..., AbstractAsyncContextManager[World]]
NEW = "tiny-new"


def results_of(world: World) -> Results:
    results = world.bot.get_cog("DuelCommands")._results
    assert isinstance(results, Results)
    return results


def canaries_of(world: World) -> Canaries:
    return results_of(world)._canaries


def told(world: World) -> list[str]:
    return [one.content for one in world.general.history() if NEW in one.content]


async def promote(world: World, name: str = NEW, *, clean: bool = False) -> bool:
    """As a training job does it that ended well."""
    folder, at = make_checkpoint(world, name), datetime.now(UTC)
    directory, state = world.home / f"job of {name}", JobState.RUNNING
    directory.mkdir()
    TrainingConfig(name=name, base="tiny", clean=clean).save(directory / CONFIG_FILE)
    place = world.guild.id, world.ada.id, world.general.id
    job = TrainingJob(1, *place, "tiny", str(directory), state, at)
    return await canaries_of(world).promote(job, folder)


@pytest.fixture
async def mine(
    settings: Settings, worker: FakeWorker, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """A server that tries its checkpoints first, where the old model has answered as often as the
    parameter says, without fault. A reply is the name of its model."""
    worker.answer = lambda _: f"I am {Path(worker.heard[-1][0]).name}"
    free = settings.model_copy(update={"member_per_minute": 0, "server_per_minute": 0})
    async with open_world(free, worker, check_errors=False) as world:
        await world.bot.get_cog("Chat")._rules.choose(world.guild.id, "canary", Switch.ON)
        for n in range(getattr(request, "param", 0)):
            await ask(world, f"question {n}")
        assert await promote(world)
        yield world


def channel_of(world: World, *, tried: bool) -> Any:
    """A channel that the canary serves, or one that it does not."""
    trial = canaries_of(world)._models.trial(world.guild.id)
    assert trial is not None
    while True:
        channel = world.guild.create_text_channel("another")
        if trial.includes(channel.id) is tried:
            return channel


async def served(world: World, channel: Any) -> str | None:
    """Which model answers there."""
    text = await world.say(world.ben, "who are you?", channel)
    return text and text.removeprefix("I am ")


# --- the test ------------------------------------------------------------------------------------


def test_the_canaries_of_the_benchmark_reach_what_is_promised() -> None:
    result = simulated.measure(400, seed=0)
    assert result["canary_replies"] <= 30
    assert result["canary_false"] <= 0.02
    assert min(result["canary_found"].values()) > 0.95


def test_without_replies_to_compare_with_nothing_is_worse() -> None:
    assert upper_bound(0, 0) == 1.0
    assert not is_worse(50, 50, upper_bound(0, 0))


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    """Without a bad one it has a closed form: the rate at which n good ones have that chance."""
    assert upper_bound(0, 30) == pytest.approx(1 - 0.005 ** (1 / 30), abs=1e-5)


def test_a_share_of_the_channels_is_served_and_each_keeps_its_model() -> None:
    trial = Trial(NEW, 50)
    served = [trial.includes(channel) for channel in range(2000)]
    assert 900 < sum(served) < 1100
    assert served == [trial.includes(channel) for channel in range(2000)]


# --- in the bot ----------------------------------------------------------------------------------


async def test_it_is_off_unless_a_server_wants_it(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake() as world:
        assert not await promote(world)
        assert await storage_of(world).model_choices.active(world.guild.id) == NEW


async def test_a_canary_answers_in_its_channels_only(mine: World) -> None:
    listed = await mine.ben.slash(mine.general, "model list")
    names = [field.name for field in listed.response.embeds[0].fields]
    assert {"tiny · in use", f"{NEW} · on trial"} <= set(names)
    assert await served(mine, channel_of(mine, tried=True)) == NEW
    assert await served(mine, channel_of(mine, tried=False)) == "tiny"


@pytest.mark.parametrize("mine", [30], indirect=True)
async def test_a_bad_one_is_taken_back_and_the_admin_reads_why(
    mine: World, worker: FakeWorker
) -> None:
    there, replies = channel_of(mine, tried=True), 0
    worker.failure = GenerationFailed("I found nothing to say.")
    while canaries_of(mine)._running and replies < 30:
        await mine.say(mine.ben, "hello", there)
        replies += 1
    worker.failure = None
    assert replies < 10
    await results_of(mine).review()
    await results_of(mine).review()
    [text] = told(mine)
    assert text.startswith(f"**{NEW}** is taken back, and **tiny** answers everywhere again")
    assert f"of its {replies} replies {replies} were" in text
    assert await served(mine, there) == "tiny"


async def test_withheld_stopped_and_disliked_replies_count_once_each(
    mine: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    there = channel_of(mine, tried=True)
    [canary] = canaries_of(mine)._running.values()

    async def counts() -> ReplyCounts:
        return await canaries_of(mine).counts(canary)

    await mine.say(mine.ben, "hello", there)
    assert await counts() == ReplyCounts(bad=0, replies=1)
    await mine.ada.slash(mine.general, "filter add", kind="word", text="rudeword")
    worker.answer = lambda _: "rudeword"
    await mine.say(mine.ben, "hello", there)
    assert await counts() == ReplyCounts(bad=1, replies=2)
    worker.answer = lambda _: "well"
    await mine.say(mine.ben, "hello", there)
    for who in (mine.ben, mine.ada):
        await who.click(there.last_message, custom_id="reply:down:")
    assert await counts() == ReplyCounts(bad=2, replies=3)
    worker.answer = lambda _: "a long story"
    await stop_in_the_middle(mine, worker, there)
    await mine.ben.click(there.last_message, custom_id="reply:down:q")
    assert await counts() == ReplyCounts(bad=3, replies=4, one_member=1)


async def test_another_answer_in_place_of_a_stopped_one_starts_afresh(
    mine: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "FIRST_SEND_DELAY_S", 0.0)
    there = channel_of(mine, tried=True)
    [canary] = canaries_of(mine)._running.values()
    await stop_in_the_middle(mine, worker, there)
    assert await canaries_of(mine).counts(canary) == ReplyCounts(1, 1, one_member=1)
    await mine.ben.click(there.last_message, custom_id="reply:again:q")
    assert await canaries_of(mine).counts(canary) == ReplyCounts(bad=0, replies=1)


async def stop_in_the_middle(world: World, worker: FakeWorker, channel: Any) -> None:
    """Ask, and press Stop after the first word."""
    worker.gate_at = 1
    worker.gate.clear()
    worker.park = lambda wait: world.env.external_wait(wait, reason="the gate is closed")
    await world.ben.slash(channel, "chat", text="tell me a story")
    [stop] = buttons(channel.last_message)
    await world.ben.click(channel.last_message, custom_id=stop)
    worker.gate.set()
    await world.env.settle()


@pytest.mark.parametrize("mine", [30], indirect=True)
async def test_of_one_members_dislikes_a_few_count(mine: World, worker: FakeWorker) -> None:
    there = channel_of(mine, tried=True)
    [canary] = canaries_of(mine)._running.values()
    for n in range(12):
        await mine.say(mine.ada, f"question {n}", there)
        await mine.ben.click(there.last_message, custom_id="reply:down:")
    counts = await canaries_of(mine).counts(canary)
    most = MAX_DISLIKES_OF_MEMBER
    assert counts == ReplyCounts(bad=most, replies=12, one_member=most)
    assert canaries_of(mine)._running


async def test_no_member_takes_one_back_alone_even_beside_a_spotless_model(mine: World) -> None:
    there, scope = channel_of(mine, tried=True), mine.guild.id
    canaries = canaries_of(mine)
    spotless = canaries._running[scope] = replace(canaries._running[scope], base_replies=200)
    for n in range(4):
        await mine.say(mine.ada, f"question {n}", there)
        await mine.ben.click(there.last_message, custom_id="reply:down:")
    assert is_worse(4, 4, upper_bound(0, 200))
    await canaries.check(scope)
    assert canaries._running == {scope: spotless}
    for n in range(2):
        await mine.say(mine.ben, f"another question {n}", there)
        await mine.ada.click(there.last_message, custom_id="reply:down:")
    await canaries.check(scope)
    assert not canaries._running, "two members agree"


async def test_a_good_one_is_promoted_after_enough_replies(
    mine: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.judgement.canary.CANARY_REPLIES", 5)
    there, other = (channel_of(mine, tried=one) for one in (True, False))
    assert CANARY_REPLIES > 5
    for n in range(5):
        await mine.say(mine.ben, f"question {n}", there)
    await results_of(mine).review()
    assert await served(mine, other) == NEW
    [text] = told(mine)
    assert text.startswith(f"**{NEW}** was on trial and answers everywhere now: of its 5 replies 0")


async def test_one_with_too_few_replies_is_promoted_once_its_time_is_over(mine: World) -> None:
    canaries, now = canaries_of(mine), datetime.now(UTC)
    await canaries.review(None)
    await canaries.review(now + timedelta(days=MAX_DAYS - 1))
    assert canaries._running
    await canaries.review(now + timedelta(days=MAX_DAYS + 1))
    assert await storage_of(mine).model_choices.active(mine.guild.id) == NEW


async def test_a_clean_retrain_is_never_on_trial(mine: World) -> None:
    """What ran here learned the withdrawn words, and so has what is on trial."""
    assert not await promote(mine, "tiny-clean", clean=True)
    assert await storage_of(mine).model_choices.active(mine.guild.id) == "tiny-clean"
    assert not canaries_of(mine)._running


FAILED = (
    f"**{NEW}** was on trial and cannot answer: it does not load, or I crashed with it. **tiny** "
    "answers everywhere again. The operator can read more in the log."
)


async def test_one_that_kills_the_worker_is_taken_back(mine: World, worker: FakeWorker) -> None:
    there = channel_of(mine, tried=True)
    [source] = [one for one in worker.models if one.endswith(NEW)]
    worker.quarantined[source] = "The worker died of it."
    del worker.models[source]
    await canaries_of(mine).review(datetime.now(UTC) + timedelta(days=MAX_DAYS + 1))
    await results_of(mine).review()
    assert told(mine) == [FAILED]
    assert await served(mine, there) == "tiny"


async def test_one_that_does_not_load_when_its_time_is_over_is_taken_back(
    mine: World, worker: FakeWorker
) -> None:
    [source] = [one for one in worker.models if one.endswith(NEW)]
    worker.broken[source] = "There is no memory for it."
    del worker.models[source]
    await canaries_of(mine).review(datetime.now(UTC) + timedelta(days=MAX_DAYS + 1))
    await results_of(mine).review()
    assert told(mine) == [FAILED]
    assert await storage_of(mine).model_choices.active(mine.guild.id) is None


async def test_who_chooses_while_a_new_one_is_loaded_is_not_overruled(
    mine: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries, scope = canaries_of(mine), mine.guild.id
    chosen: list[asyncio.Task[object]] = []
    load = worker.load

    async def while_it_loads(source: str) -> ModelInfo:
        if source.endswith("tiny-newer"):
            choice = asyncio.ensure_future(canaries._models.use(scope, "tiny-ja"))
            chosen.append(choice)
            if not canaries._models.choosing(scope).locked():
                await choice
        return await load(source)

    monkeypatch.setattr(worker, "load", while_it_loads)
    await promote(mine, "tiny-newer")
    await asyncio.gather(*chosen)
    assert await storage_of(mine).model_choices.active(scope) == "tiny-ja"
    assert not canaries._running


async def test_who_chooses_just_before_the_promotion_is_not_overruled(
    mine: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries, scope = canaries_of(mine), mine.guild.id
    reviews: list[asyncio.Task[None]] = []
    load, later = worker.load, datetime.now(UTC) + timedelta(days=MAX_DAYS + 1)

    async def while_it_loads(source: str) -> ModelInfo:
        reviews.append(asyncio.create_task(canaries.review(later)))
        await until(lambda: canaries._models.choosing(scope)._waiters)  # type: ignore[attr-defined]
        return await load(source)

    monkeypatch.setattr(worker, "load", while_it_loads)
    await canaries._models.use(scope, "tiny-ja")
    await asyncio.gather(*reviews)
    assert await storage_of(mine).model_choices.active(scope) == "tiny-ja"
    assert len(reviews) == 1


async def test_it_ends_where_the_bot_was_removed(mine: World) -> None:
    mine.bot.dispatch("guild_remove", mine.bot.get_guild(mine.guild.id))
    await mine.env.settle()
    assert await storage_of(mine).canaries.running() == []
    await results_of(mine).review()
    assert told(mine) == []


async def test_a_deleted_one_ends_with_a_sentence(mine: World) -> None:
    there = channel_of(mine, tried=True)
    deletion = await mine.ada.slash(mine.general, "model delete", name=NEW)
    await mine.ada.click(deletion.response, label="Delete")
    assert await served(mine, there) == "tiny"
    await results_of(mine).review()
    assert told(mine) == [
        f"**{NEW}** was on trial and was deleted: **tiny** answers everywhere again."
    ]


async def test_a_rollback_ends_the_trial_and_nothing_else(mine: World) -> None:
    there = channel_of(mine, tried=True)
    back = await mine.ada.slash(mine.general, "model rollback")
    assert back.response.content == "Back to **tiny**: it answers from now on."
    assert await served(mine, there) == "tiny"
    await results_of(mine).review()
    assert told(mine) == []


@pytest.mark.parametrize("chosen", ["tiny-ja", NEW])
async def test_it_survives_a_restart_unless_a_model_was_chosen_just_before(
    mine: World, settings: Settings, worker: FakeWorker, chosen: str
) -> None:
    """Of the promotion, if that was it, the admin is told all the same."""
    there = channel_of(mine, tried=True)
    async with build_bot(settings, worker=worker) as again:
        await mine.env.restart_bot(again)
        mine.bot = again
        assert await served(mine, there) == NEW
        await storage_of(mine).model_choices.set_active(mine.guild.id, chosen)
    async with build_bot(settings, worker=worker) as again:
        await mine.env.restart_bot(again)
        mine.bot = again
        assert not canaries_of(mine)._running
        await results_of(mine).review()
        assert len(told(mine)) == (chosen == NEW)


async def test_a_newer_one_replaces_it_and_the_same_one_goes_on(mine: World) -> None:
    [first] = canaries_of(mine)._running.values()
    job = TrainingJob(1, mine.guild.id, 1, 1, "tiny", "", JobState.RUNNING, datetime.now(UTC))
    assert await canaries_of(mine).promote(job, Path(NEW))  # as after a kill in that moment
    assert list(canaries_of(mine)._running.values()) == [first]
    assert await promote(mine, "tiny-newer")
    [second] = canaries_of(mine)._running.values()
    assert (second.model, second.old_model, second.base_replies) == ("tiny-newer", "tiny", 0)
    assert [one.id for one in await storage_of(mine).canaries.running()] == [second.id]

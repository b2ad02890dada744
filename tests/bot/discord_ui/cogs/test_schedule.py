"""Retraining by itself, in Discord: who may schedule it, what the panel shows, where it is told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import discord
import pytest

from bot.discord_ui.embeds.settings import ONLY_ADMINISTRATORS_SCHEDULE
from bot.learning.schedule import NO_ADMINISTRATOR, NightlyRetrains
from bot.settings import Settings
from core.records import JobState
from core.server_settings import AUTOMATIC_ZONE, NewLessons, Nightly
from tests.bot.asking import storage_of, until
from tests.bot.cards import parts, text_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_settings import (
    SCHEDULE,
    audited,
    choose,
    chosen,
    exported,
    manager_of,
    menu,
    open_panel,
    read_back,
    rules_of,
    told_in,
)
from tests.bot.end_to_end.test_learning import FACTS, bot_texts, finished_job
from tests.fakes import FakeWorker

SHOWN_TIME = re.compile(r"Next: <t:(\d+):f> \(<t:\1:R>\), told in <#(\d+)>\.")


@pytest.fixture
async def world(settings: Settings, worker: FakeWorker) -> AsyncIterator[World]:
    """Much of what is tried is refused, and that is told."""
    async with open_world(settings, worker, check_errors=False) as world:
        yield world


def nightly_of(world: World) -> NightlyRetrains:
    found = world.bot.get_cog("SettingsCommands")._nightly
    assert isinstance(found, NightlyRetrains)
    return found


async def choose_zone(world: World, panel: Any, zone: str) -> Any:
    form = await world.ada.click(panel, custom_id="settings:time_zone")
    return await world.ada.submit_modal(form, {"zone": zone})


async def night_comes(world: World, days: int = 0) -> None:
    """The clock comes to the hour, some days later."""
    nightly = nightly_of(world)
    begins = (await nightly.outlook(world.guild.id)).next
    assert begins is not None
    nightly._clock = lambda: begins + timedelta(days=days)
    await nightly.run_due()


async def test_it_is_off_and_an_administrator_switches_it_on(world: World) -> None:
    panel = await open_panel(world, page=SCHEDULE)
    assert len(list(parts(panel))) <= 40, "Discord takes no more components"
    assert len(menu(panel, "nightly")["options"]) <= 25, "nor more options"
    assert (chosen(panel, "nightly"), chosen(panel, "new_lessons")) == (["off"], ["10"])
    assert "As with `/retrain`" in text_of(panel)
    await world.ada.select(panel, ["04:00"], custom_id="settings:nightly")
    await world.ada.select(panel, ["25"], custom_id="settings:new_lessons")
    await choose_zone(world, panel, "tokyo")
    settings = rules_of(world)
    assert (settings.nightly, settings.new_lessons) == (Nightly.AT_04, NewLessons.TWENTY_FIVE)
    found = SHOWN_TIME.search(text_of(panel))
    assert found is not None
    begins = datetime.fromtimestamp(int(found[1]), UTC)
    assert (begins.hour, begins.minute, int(found[2])) == (19, 0, world.general.id)
    assert "Now: Asia/Tokyo." in text_of(panel)
    assert await audited(world) == [
        (world.ada.id, "settings change", "When I retrain by myself: Every day at 04:00"),
        (world.ada.id, "settings change", "If there are at least: 25 new lessons"),
        (world.ada.id, "settings change", "Time zone: Asia/Tokyo"),
    ]
    await world.ada.select(panel, ["off"], custom_id="settings:nightly")
    assert SHOWN_TIME.search(text_of(panel)) is None
    assert (await audited(world))[-1][-1] == "When I retrain by myself: Never"


async def test_a_time_zone_that_is_none_is_told_with_some_like_it(world: World) -> None:
    panel = await open_panel(world, page=SCHEDULE)
    told = await choose_zone(world, panel, "Europe/Berln")
    assert told_in(told).startswith(
        "“Europe/Berln” is no time zone that I know, or more than one: write its name, such as "
        "Europe/Berlin, "
    )
    await choose_zone(world, panel, "europe/berlin")
    assert rules_of(world).time_zone == "Europe/Berlin"
    await choose_zone(world, panel, "")
    assert rules_of(world).time_zone == AUTOMATIC_ZONE


async def test_a_japanese_server_goes_by_the_clock_of_japan(world: World) -> None:
    await choose(world, "language", "ja")
    assert "Now: Asia/Tokyo, since none was chosen." in text_of(
        await open_panel(world, page=SCHEDULE)
    )


async def test_only_an_administrator_chooses_the_schedule(world: World) -> None:
    cleo = manager_of(world)
    panel = await open_panel(world, cleo, page=SCHEDULE)
    assert ONLY_ADMINISTRATORS_SCHEDULE in text_of(panel)
    for name in ("nightly", "new_lessons", "time_zone"):
        assert menu(panel, name)["disabled"]
    for data in (b'{"nightly": "04:00"}', b'{"new_lessons": 1}', b'{"time_zone": "UTC"}'):
        refused = await read_back(world, data, cleo)
        assert told_in(refused) == ONLY_ADMINISTRATORS_SCHEDULE
    assert rules_of(world).nightly is Nightly.OFF


async def test_a_file_holds_it_and_whoever_imports_it_answers_for_it(world: World) -> None:
    await choose(world, "nightly", "04:00")
    data = await exported(world)
    await choose(world, "nightly", "off")
    boss = world.guild.create_role("Boss", permissions=discord.Permissions(administrator=True))
    dana = world.guild.add_member(world.env.create_user("dana"), roles=[boss])
    preview = await read_back(world, data, dana)
    assert preview.response.content.splitlines()[1:] == [
        "**When I retrain by myself**: Never → **Every day at 04:00**"
    ]
    await dana.click(preview.response, label="Change it")
    schedule = await storage_of(world).schedules.get(world.guild.id)
    assert schedule is not None
    assert (schedule.chosen_by, schedule.channel_id) == (dana.id, world.general.id)


async def test_a_night_submits_a_job_that_is_told_where_it_was_switched_on(world: World) -> None:
    training = world.bot.get_cog("Training")._training
    training._queue_task.cancel()  # so that nothing is trained
    await world.ada.slash(world.general, "teach", user="hi", bot="hello")
    games = world.guild.create_text_channel("games")
    panel = (await world.ada.slash(games, "settings open")).response
    await world.ada.click(panel, custom_id=SCHEDULE)
    await world.ada.select(panel, ["04:00"], custom_id="settings:nightly")
    await night_comes(world)
    assert await storage_of(world).jobs.all() == []
    panel = await open_panel(world, page=SCHEDULE)
    assert "1 new lesson since the last training, and it takes 10." in text_of(panel)
    assert games.last_message is None, "that is no news"
    panel = (await world.ada.slash(games, "settings open")).response
    await world.ada.click(panel, custom_id=SCHEDULE)
    await world.ada.select(panel, ["1"], custom_id="settings:new_lessons")
    await night_comes(world, days=1)
    [job] = await storage_of(world).jobs.all(world.guild.id)
    assert (job.requested_by, job.channel_id) == (world.ada.id, games.id)
    assert job.state is JobState.QUEUED
    await training.cancel(job.id)
    await until(lambda: world.last(games) == "The training was cancelled.")
    assert (world.ada.id, "scheduled retrain start", "job 1 from tiny") in await audited(world)


async def test_it_is_switched_off_once_whoever_chose_it_is_no_administrator(world: World) -> None:
    boss = world.guild.create_role("Boss", permissions=discord.Permissions(administrator=True))
    dana = world.guild.add_member(world.env.create_user("dana"), roles=[boss])
    await choose(world, "nightly", "04:00", who=dana)
    world.env.backend.remove_member_role(world.guild.id, dana.id, boss.id)
    await night_comes(world)
    told = f"I no longer retrain by myself. {NO_ADMINISTRATOR}"
    await until(lambda: world.last() == told)
    assert rules_of(world).nightly is Nightly.OFF
    assert NO_ADMINISTRATOR in text_of(await open_panel(world, page=SCHEDULE))


async def test_somebody_who_left_is_no_administrator(world: World) -> None:
    boss = world.guild.create_role("Boss", permissions=discord.Permissions(administrator=True))
    dana = world.guild.add_member(world.env.create_user("dana"), roles=[boss])
    await choose(world, "nightly", "04:00", who=dana)
    world.env.backend.remove_member(world.guild.id, dana.id)
    await night_comes(world)
    assert rules_of(world).nightly is Nightly.OFF


async def test_it_goes_when_the_server_removes_the_bot(world: World) -> None:
    await choose(world, "nightly", "04:00")
    world.env.backend.remove_guild(world.guild.id)
    await world.env.settle()
    assert await storage_of(world).schedules.all() == []


@pytest.mark.slow
async def test_a_night_trains_what_was_taught(real_world: World) -> None:
    world = real_world
    for question, answer in FACTS.items():
        await world.ben.slash(world.general, "teach", user=question, bot=answer)
    await choose(world, "new_lessons", "1")
    await choose(world, "nightly", "04:00")
    await night_comes(world)
    job = await finished_job(world)
    assert job.state is JobState.PROMOTED, job.detail
    while "is trained and answers from now on" not in "\n".join(bot_texts(world)):
        assert await world.say(world.ben, "hello")
    await night_comes(world, days=1)
    panel = await open_panel(world, page=SCHEDULE)
    assert "0 new lessons since the last training, and it takes 1." in text_of(panel)

"""What stands under the bot's name. Real discord.py; the test says what a training would tell."""

from __future__ import annotations

from pathlib import Path

import discord
import pytest

from bot.discord_ui.reports.presence import Presence
from core.records import JobState, TrainingJob
from data.storage.storage import Storage
from data.storage.tables.pauses import EVERYWHERE
from tests.bot.conftest import World
from training.config import TrainingConfig
from training.jobs.events import Checking, Event, Started, Step
from training.jobs.folder import CONFIG_FILE
from training.jobs.queue import JobUpdate

STARTED = Started("cpu", "fp32", 1000, 1000, 40, 900, 80, 10.0, 16, 1, 7e-4)


@pytest.fixture
def presence(world: World, storage: Storage) -> Presence:
    return Presence(world.bot, storage.pauses, "gpt2")


def prepare(folder: Path) -> None:
    folder.mkdir(parents=True)
    TrainingConfig(name="tiny-3", base="tiny", base_name="tiny").save(folder / CONFIG_FILE)


async def new_job(storage: Storage, scope: int, folder: Path) -> TrainingJob:
    prepare(folder)
    job = await storage.jobs.add(
        scope=scope, requested_by=1, channel_id=2, base_model="tiny", directory=str(folder)
    )
    return await storage.jobs.set_state(job.id, JobState.RUNNING)


def shown(world: World) -> str | None:
    activity = world.bot.guilds[0].me.activity
    return activity.name if isinstance(activity, discord.CustomActivity) else None


async def tell(presence: Presence, job: TrainingJob, *events: Event | None) -> None:
    for event in events:
        await presence.update(JobUpdate(job, event))
    await presence.show()


async def test_the_bot_begins_with_its_default_model(world: World) -> None:
    assert world.bot.activity == discord.CustomActivity("tiny · /teach and /chat")


async def test_a_training_is_shown_until_it_ends(
    world: World, storage: Storage, presence: Presence, tmp_path: Path
) -> None:
    job = await new_job(storage, world.guild.id, tmp_path / "job")
    await tell(presence, job, None)
    assert shown(world) == "training tiny-3: 0 %"
    await tell(presence, job, STARTED, Step(32, 80, 4.0, 2.0, 100.0, 10.0))
    assert shown(world) == "training tiny-3: 40 %"
    await tell(presence, job, Checking())
    assert shown(world) == "training tiny-3: 100 %"
    await tell(presence, await storage.jobs.set_state(job.id, JobState.PROMOTED), None)
    assert shown(world) == "gpt2 · /teach and /chat"


async def test_only_a_change_is_sent(
    world: World, storage: Storage, presence: Presence, tmp_path: Path
) -> None:
    """However many steps there are between two looks."""
    await presence.show()
    assert shown(world) is None  # the connection began with it
    job = await new_job(storage, world.guild.id, tmp_path / "job")
    await tell(presence, job, None, STARTED, *(Step(n, 80, 1, 2.0, 9.0, 9.0) for n in range(40)))
    sent = world.bot.guilds[0].me.activity
    await tell(presence, job, Step(39, 80, 1.0, 2.0, 9.0, 9.0))
    assert world.bot.guilds[0].me.activity is sent


async def test_another_job_that_waits_changes_nothing(
    world: World, storage: Storage, presence: Presence, tmp_path: Path
) -> None:
    job = await new_job(storage, world.guild.id, tmp_path / "job")
    await tell(presence, job, None, Step(8, 80, 1.0, 2.0, 9.0, 9.0))
    other = await new_job(storage, 77, tmp_path / "other")
    waiting = await storage.jobs.set_state(other.id, JobState.QUEUED)
    await tell(presence, waiting, None)
    assert shown(world) == "training tiny-3: 10 %"


async def test_a_pause_everywhere_is_shown_and_one_of_a_server_is_not(
    world: World, storage: Storage, presence: Presence
) -> None:
    await storage.pauses.add(world.guild.id, paused_by=1)
    await presence.show()
    assert shown(world) is None
    await storage.pauses.add(EVERYWHERE, paused_by=1)
    await presence.show()
    assert shown(world) == "paused"
    await storage.pauses.remove(EVERYWHERE)
    await presence.show()
    assert shown(world) == "gpt2 · /teach and /chat"


async def test_a_new_connection_begins_with_what_is_true(
    world: World, storage: Storage, presence: Presence
) -> None:
    await storage.pauses.add(EVERYWHERE, paused_by=1)
    await presence.show()
    assert world.bot.activity == discord.CustomActivity("paused")

"""An example is removed, a clean retrain follows, and whoever asked gets the receipt.

The training is `scripted_run.py`, which says what it measured without measuring it:
`tests/training/run/forgetting` has the real one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.app import build_bot
from bot.discord_ui.cogs.privacy import CLEAN_RETRAIN_STARTED, NO_RECEIPT, RECEIPT_FOLLOWS
from bot.settings import Settings
from core.records import JobState, Pair, TrainingJob
from data.dataset.snapshot import pair_digest
from tests.bot.asking import until
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.discord_ui.cogs.test_privacy import labels, manager_of, storage_of
from tests.fakes import FakeWorker
from training.checkpoints import LEARNED_FILE, remove_checkpoint
from training.config import TrainingConfig
from training.jobs.folder import CONFIG_FILE, DATASET_FILE, RECEIPT_FILE, REMOVED_FILE
from training.jobs.manager import TrainingLimits
from training.jobs.process import TrainingProcess

Open = Callable[..., AbstractAsyncContextManager[World]]
SECRET, KEPT = Pair("the secret", "marmalade"), Pair("hi", "hello")
SCRIPTED = Path(__file__).parents[3] / "training" / "jobs" / "scripted_run.py"


async def learned(world: World) -> Path:
    """Two pairs are taught and were learned by a checkpoint; its folder."""
    storage = storage_of(world)
    await storage.examples.add_pairs(world.guild.id, [SECRET, KEPT], world.ada.id, "import")
    folder = world.home / "jobs" / "first"
    folder.mkdir(parents=True)
    lines = [json.dumps({"user": one.user, "bot": one.bot}) for one in (SECRET, KEPT)]
    (folder / DATASET_FILE).write_text("".join(f"{line}\n" for line in lines))
    job = await storage.jobs.add(
        scope=world.guild.id,
        requested_by=world.ada.id,
        channel_id=world.general.id,
        base_model="tiny",
        directory=str(folder),
    )
    await storage.jobs.set_state(job.id, JobState.PROMOTED, checkpoint="tiny-1")
    made = make_checkpoint(world, "tiny-1")
    digests = [pair_digest(one.user, one.bot) for one in (SECRET, KEPT)]
    (made / LEARNED_FILE).write_text(json.dumps({"pairs": digests}))
    return made


async def remove_secret(world: World) -> discord.Message:
    """The answer to the removal, which only ada sees."""
    asked = await world.ada.slash(world.general, "dataset remove", example=1)
    removed = await world.ada.click(asked.response, label="Remove")
    message: discord.Message = removed.response
    return message


def offered(answer: Any) -> list[str]:
    """The buttons of an answer that only its caller sees."""
    return [button["label"] for row in answer.components for button in row["components"]]


async def retrain(world: World, offer: discord.Message, script: str) -> tuple[str, TrainingJob]:
    """Press the button and wait for the end; what ada was told, and the job."""
    manager = manager_of(world)
    launch = partial(TrainingProcess.launch, launcher=(sys.executable, str(SCRIPTED)))
    manager._limits = TrainingLimits(launch=launch)
    (world.home / "script.txt").write_text(script)
    started = await world.ada.click(offer, label="Retrain without it")
    job = await storage_of(world).jobs.latest(world.guild.id)
    assert job is not None
    if script == "endless":
        await manager._queue.wait_until(job.id, lambda one: one.state is JobState.RUNNING)
        await manager.cancel(job.id)
    ended = await manager.wait(job.id)
    async with asyncio.timeout(30):
        await until(lambda: (world.last() or "").startswith(str(ended.detail)))
    return str(started.response.content), ended


async def receipt_of(pressed: Any) -> Any:
    [file] = pressed.response.attachments
    assert file.filename.startswith("receipt-")
    return json.loads(await file.read())


async def test_who_removes_what_only_votes_taught_may_retrain_too(world: World) -> None:
    made = await learned(world)
    [secret, kept] = [pair_digest(one.user, one.bot) for one in (SECRET, KEPT)]
    (made / LEARNED_FILE).write_text(json.dumps({"pairs": [kept], "judged": [secret]}))
    assert offered(await remove_secret(world)) == ["Retrain without it", "Not now"]


async def test_who_removes_what_was_learned_gets_a_receipt(world: World) -> None:
    made = await learned(world)
    offer = await remove_secret(world)
    assert offer.content.startswith("Removed: 1.\n**tiny-1** learned from examples")
    assert offered(offer) == ["Retrain without it", "Not now"]
    told, job = await retrain(world, offer, "finish")
    assert told == f"{CLEAN_RETRAIN_STARTED} {RECEIPT_FOLLOWS}"
    config = TrainingConfig.load(Path(job.directory) / CONFIG_FILE)
    assert config.replaces is not None
    assert Path(config.replaces.checkpoint) == made
    end = world.general.last_message
    assert labels(end) == ["Receipt"]
    handed = await world.ada.click(end, label="Receipt")
    assert handed.ephemeral
    assert "It is still in **tiny-1**" in handed.response.content
    receipt = await receipt_of(handed)
    assert receipt["summary"].startswith("tiny-2 was trained without 1 lesson that tiny-1 had")
    assert (receipt["asked_by"], receipt["job"]) == (world.ada.id, job.id)
    assert receipt["checkpoints_that_learned_it"] == ["tiny-1"]
    assert receipt["lessons"][0]["exposure_bits"] == {"old": 9.0, "new": 0.5, "base": 1.2}
    assert any("Backups" in one for one in receipt["does_not_prove"])
    handed_out = json.dumps(receipt)
    assert SECRET.bot not in handed_out
    assert pair_digest(SECRET.user, SECRET.bot) not in handed_out  # its words could be guessed
    hashes = Path(job.directory) / REMOVED_FILE
    await manager_of(world).trim()
    assert hashes.exists()

    remove_checkpoint(made)  # as /model delete does: the receipt says what is true now
    await manager_of(world).trim()
    assert not hashes.exists()
    again = await receipt_of(await world.ada.click(end, label="Receipt"))
    assert again["checkpoints_that_learned_it"] == []


async def test_a_manager_may_see_it_too_and_a_member_may_not(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await learned(world)
        await retrain(world, await remove_secret(world), "finish")
        end = world.general.last_message
        refused = await world.ben.click(end, label="Receipt")
        assert refused.ephemeral
        assert refused.response.attachments == []
        assert refused.response.content.startswith("Only the person who asked")
        managers = world.guild.create_role(
            "Managers", permissions=discord.Permissions(manage_guild=True)
        )
        cleo = world.guild.add_member(world.env.create_user("cleo"), roles=[managers])
        assert (await receipt_of(await cleo.click(end, label="Receipt")))["job"] == 2


@pytest.mark.parametrize(
    ("script", "state"), [("endless", JobState.CANCELLED), ("fail no", JobState.FAILED)]
)
async def test_without_a_new_model_there_is_no_receipt(
    world: World, script: str, state: JobState
) -> None:
    await learned(world)
    _, job = await retrain(world, await remove_secret(world), script)
    assert job.state is state
    end = world.general.last_message
    assert labels(end) == []
    assert end.content.endswith(
        "There is no receipt: nothing was measured, or what was measured is gone."
    )


async def test_a_model_that_is_not_put_into_service_may_have_one(world: World) -> None:
    await learned(world)
    script = "reject It fails 1 golden question that the model in service passes."
    _, job = await retrain(world, await remove_secret(world), script)
    assert job.state is JobState.REJECTED
    end = world.general.last_message
    assert labels(end) == ["Receipt"]
    receipt = await receipt_of(await world.ada.click(end, label="Receipt"))
    assert (receipt["in_service"], receipt["models"]["new"]) == ("tiny", "tiny-2")


async def test_where_the_old_model_is_gone_nothing_is_measured(world: World) -> None:
    made = await learned(world)
    offer = await remove_secret(world)
    remove_checkpoint(made)
    told, job = await retrain(world, offer, "finish")
    assert told == f"{CLEAN_RETRAIN_STARTED} {NO_RECEIPT}"
    assert job.state is JobState.PROMOTED
    assert labels(world.general.last_message) == []


async def test_a_base_that_is_gone_is_a_sentence(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await learned(world)
        await storage_of(world).jobs._execute("UPDATE jobs SET base_model = 'old-friend'")
        offer = await remove_secret(world)
        refused = await world.ada.click(offer, label="Retrain without it")
        assert "old-friend" in refused.response.content
        assert await storage_of(world).jobs.unfinished() == []


async def test_the_receipt_can_be_had_after_a_restart(
    world: World, settings: Settings, worker: FakeWorker
) -> None:
    await learned(world)
    _, job = await retrain(world, await remove_secret(world), "finish")
    async with build_bot(settings, worker=worker) as again:
        await world.env.restart_bot(again)
        world.bot = again
        pressed = await world.ada.click(world.general.last_message, label="Receipt")
        assert (await receipt_of(pressed))["job"] == job.id


async def test_a_receipt_that_was_lost_is_a_sentence(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await learned(world)
        _, job = await retrain(world, await remove_secret(world), "finish")
        (Path(job.directory) / RECEIPT_FILE).write_text("half of i")
        pressed = await world.ada.click(world.general.last_message, label="Receipt")
        assert pressed.response.content.startswith("There is no receipt: nothing was measured")


async def test_what_nobody_learned_is_only_removed(world: World) -> None:
    await storage_of(world).examples.add_pairs(world.guild.id, [SECRET], world.ada.id, "import")
    offer = await remove_secret(world)
    assert offer.content == "Removed: 1."
    assert offered(offer) == []

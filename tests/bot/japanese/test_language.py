"""Whose language decides: the server's where all can read it, else the reader's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.discord_ui.errors import UNEXPECTED
from bot.discord_ui.reports.presence import Presence
from bot.settings import Settings
from core.errors import DiskFull
from core.records import JobState, Pair
from data.storage.storage import Storage
from data.storage.tables.pauses import EVERYWHERE
from i18n.phrase import phrase
from tests.bot.asking import ask, storage_of
from tests.bot.cards import facts_of, lines_of, text_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.dataset.test_cog import taught
from tests.bot.discord_ui.cogs.test_introduction import join
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.discord_ui.cogs.test_privacy import manager_of, trained
from tests.bot.discord_ui.test_correction_form import press
from tests.bot.discord_ui.test_job_messages import Run
from tests.bot.discord_ui.test_job_messages import waiting as waiting_run
from tests.bot.japanese.discord import JAPANESE, assert_japanese, shown, speak_japanese
from tests.fakes import FakeWorker
from training.config import TrainingConfig
from training.jobs.folder import CONFIG_FILE
from training.jobs.queue import JobUpdate


@dataclass
class Place:
    """A server with two members, ada and ben, who read the other language, and a manager, cleo,
    who reads the server's."""

    world: World
    cleo: Any
    server: str
    own: str

    def public(self, *told: str | None) -> None:
        self._in(self.server, told)

    def private(self, *told: str | None) -> None:
        self._in(self.own, told)

    @staticmethod
    def _in(language: str, told: tuple[str | None, ...]) -> None:
        assert all(told), "nothing was said"
        assert {text: "ja" if JAPANESE.search(text or "") else "en" for text in told} == (
            dict.fromkeys(told, language)
        )

    def label(self, english: str) -> str:
        """A label that all can see."""
        return phrase(english).translate_to(self.server)

    async def slash(self, who: Any, command: str, **options: Any) -> Any:
        return (await who.slash(self.world.general, command, **options)).response


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture(params=["ja", "en"])
async def place(
    request: pytest.FixtureRequest,
    settings: Settings,
    worker: FakeWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Place]:
    server, locale = request.param, {"ja": "ja", "en": None}[request.param]
    async with open_world(settings, worker, preferred_locale=locale, check_errors=False) as world:
        role = world.guild.create_role("Boss", permissions=discord.Permissions(manage_guild=True))
        cleo = world.guild.add_member(world.env.create_user("cleo"), roles=[role])
        readers = (cleo,) if server == "ja" else (world.ada, world.ben)
        speak_japanese(monkeypatch, *readers)
        yield Place(world, cleo, server, "en" if server == "ja" else "ja")


async def disk_full(*_: object, **__: object) -> None:
    raise DiskFull


async def test_chat_and_feedback(place: Place) -> None:
    world = place.world
    await world.say(world.ben, "")
    place.public(world.last(), (await place.slash(world.ben, "reset")).content)
    place.private((await place.slash(world.ada, "context")).content)
    place.public((await place.slash(place.cleo, "context")).content)
    reply = await ask(world, "hello", world.ada)
    place.public([one.label for one in reply.components[0].children][-1])
    place.private((await world.ben.click(reply, custom_id="reply:again:")).response.content)
    place.private((await press(world.ada, reply)).modal["title"])
    place.public((await press(place.cleo, reply)).modal["title"])


async def test_an_introduction(place: Place) -> None:
    """It is the server's; who presses a button is answered in their own language."""
    world = place.world
    await join(world)
    message = world.general.last_message
    place.public(message.content, *_labels(message))
    for label in ("Answer in this channel", "Privacy"):
        pressed = await world.ada.click(message, label=place.label(label))
        place.private(pressed.response.content)
    form = await world.ada.click(message, label=place.label("Teach me something"))
    place.private(form.modal["title"])
    taught_by_form = await world.ada.submit_modal(form, {"question": "hi", "answer": "hello"})
    place.public(taught_by_form.response.content)


async def test_why_there_is_no_answer(
    place: Place, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands where the answer was to be, so that all can read it; a refusal is private."""
    world = place.world
    worker.failure = RuntimeError("a bug")
    failed = await place.slash(world.ben, "chat", text="hello")
    monkeypatch.setattr(storage_of(world).messages, "reset_context", disk_full)
    reset = await place.slash(world.ben, "reset")
    await world.open_to_all("pause")
    refused = await place.slash(world.ben, "pause")
    place.public(failed.content, reset.content)
    place.private(refused.content)
    assert [one.ephemeral for one in (failed, reset, refused)] == [False, False, True]


async def test_models(place: Place) -> None:
    world = place.world
    make_checkpoint(world, "tiny-2", scores={"first_loss": 2.5, "last_loss": 0.25})
    for who, read in ((world.ada, place.private), (place.cleo, place.public)):
        read(text_of(await place.slash(who, "about")).split("\n")[1])
        read((await place.slash(who, "help")).content)
    listed = await place.slash(world.ada, "model list")
    card = await place.slash(world.ben, "model info", name="tiny-2")
    place.public(listed.embeds[0].title, *facts_of(card))
    unknown = await place.slash(world.ada, "model info", name="gpt5")
    place.public(unknown.content)
    assert not unknown.ephemeral


async def test_two_managers(place: Place) -> None:
    world = place.world
    await taught(world, Pair("a", "b"), Pair("c", "d"))
    for _ in range(2):
        for who, read in ((place.cleo, place.public), (world.ada, place.private)):
            page = await place.slash(who, "dataset review", status="all")
            read(page.content, page.components[0]["components"][0]["label"])
    for command in ("stats", "preview", "template"):
        told = await place.slash(world.ada, f"dataset {command}")
        place.private(told.content or told.embeds[0].title)
    await storage_of(world).audit.record(world.guild.id, world.ada.id, phrase("filter add"))
    for who, read in ((place.cleo, place.public), (world.ada, place.private)):
        [embed] = (await place.slash(who, "audit")).embeds
        read(embed.description)


async def test_training(place: Place) -> None:
    """What only the administrator sees is theirs; the job and its reports are the server's."""
    world = place.world
    manager_of(world)._queue_task.cancel()
    place.private((await place.slash(world.ada, "retrain")).content)
    place.public((await place.slash(world.ben, "teach", user="hi", bot="hello")).content)
    plan = await place.slash(world.ada, "retrain")
    place.private(lines_of(plan)[0])
    start = phrase("Start").translate_to(place.own)
    await world.ada.click(plan, label=start)
    [job] = await storage_of(world).jobs.unfinished(world.guild.id)
    assert TrainingConfig.load(Path(job.directory) / CONFIG_FILE).language == place.server
    paused = JobUpdate(replace(job, state=JobState.PAUSED), None)
    await Run(world, storage_of(world), job).update(paused)
    place.public(world.last())


async def test_the_buttons_of_a_job_answer_whoever_presses_them(place: Place) -> None:
    world, run = place.world, await waiting_run(place.world)
    for label in ("Pause", "Resume", "Resume", "Cancel"):
        told = await world.ada.click(run.messages[0], label=place.label(label))
        place.private(told.response.content)
        place.public(run.messages[0].content)


@pytest.mark.parametrize("answers", [(0, 0), (1,)], ids=["retrain", "not now"])
async def test_a_clean_retrain(place: Place, answers: tuple[int, ...]) -> None:
    """Each server is asked in its own language; who answers is told in theirs."""
    world = place.world
    manager_of(world)._queue_task.cancel()
    there = world.env.create_guild(preferred_locale={"ja": "ja", "en": "en-US"}[place.own])
    room = there.create_text_channel("there")
    await trained(world, "tiny-1")
    await trained(world, "tiny-2", scope=there.id, channel=room.id)
    asked = await world.ben.slash(world.general, "privacy forget")
    place.private(asked.response.content)
    await world.ben.click(
        asked.response, custom_id=asked.response.components[0]["components"][0]["custom_id"]
    )
    place.private(room.last_message.content, *_labels(room.last_message))
    place.public(world.general.last_message.content, *_labels(world.general.last_message))
    offer = world.general.last_message
    for number in answers:
        told = await world.ada.click(
            offer, custom_id=offer.components[0].children[number].custom_id
        )
        place.private(told.response.content)
        offer = next(one for one in world.general.history() if one.id == offer.id)
        place.public(offer.content.splitlines()[-1])
        await world.ada.slash(world.general, "teach", user="hi", bot="hello")
    audit = await place.slash(world.ada, "audit")
    place.private(audit.embeds[0].description)


def _labels(message: Any) -> list[str]:
    return [button.label for row in message.components for button in row.children]


async def test_a_direct_message_is_answered_in_the_language_in_which_it_is_written(
    world: World, worker: FakeWorker
) -> None:
    worker.failure = RuntimeError("a bug")
    await world.ben.send_dm("こんにちは")
    await world.ben.send_dm("hello")
    japanese, english = shown(world)
    assert_japanese(japanese)
    assert english == UNEXPECTED


async def test_the_presence_is_in_the_language_of_the_operator(
    settings: Settings, worker: FakeWorker, storage: Storage
) -> None:
    chosen = settings.model_copy(update={"bot_language": "ja"})
    async with open_world(chosen, worker) as world:
        presence = Presence(world.bot, storage.pauses, "gpt2")
        assert str(world.bot.activity) == "gpt2 · /教える と /話す"
        await storage.pauses.add(EVERYWHERE, 1)
        await presence.show()
        assert_japanese(str(world.bot.activity))

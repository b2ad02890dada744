"""After /privacy forget nothing of a member is found any more, wherever the bot kept it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.settings import Settings, load_settings
from core.records import Filter, FilterKind, NewExample
from data.questions.words import read_question
from model.worker.client import WorkerClient
from tests.bot.asking import all_forgotten, storage_of
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker

WORD = "marmalade"


@pytest.fixture
async def lived(tmp_path: Path, real_worker: WorkerClient) -> AsyncIterator[World]:
    """Ben has left traces of every kind that a member can leave."""
    settings = load_settings(
        gpt2bot_home=tmp_path / "var",
        default_model="tiny",
        seed=7,
        learn_from_chat=True,
        banned_words=("unspeakable",),
    )
    async with open_world(settings, real_worker) as world:
        storage, ben, guild = storage_of(world), world.ben.id, world.guild.id
        world.bot.get_cog("Training")._training._queue_task.cancel()
        await storage.channels.set_enabled(world.general.id, guild, True)
        await storage.consents.opt_in(guild, ben, 1)
        await world.say(world.ben, f"I like {WORD}")
        await world.ben.slash(world.general, "teach", user=WORD, bot="A jam.")
        await world.ada.slash(world.general, "teach", user="Who are you?", bot="A bot.")
        reply = (await storage.messages.context(world.general.id, 5))[-1].discord_id
        await storage.replies.rate(guild, reply, ben, 1)
        await storage.filters.add(guild, Filter(FilterKind.WORD, "swearing"), ben)
        await storage.pauses.add(guild + 1, ben)
        await storage.audit.record(guild, ben, "pause")
        plan = await world.ada.slash(world.general, "retrain")
        await world.ada.click(plan.response, label="Start")
        yield world


def files_with(folder: Path, word: str) -> list[str]:
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    ]


async def test_nothing_of_a_member_is_left_anywhere(lived: World) -> None:
    world, storage, ben = lived, storage_of(lived), lived.ben.id
    assert {"gpt2bot.sqlite3-wal", "dataset.jsonl"} <= set(files_with(world.home, WORD))
    assert any(WORD in one.content for one in world.bot.cached_messages)
    assert read_question.cache_info().currsize > 0
    asked = await world.ben.slash(world.general, "privacy forget")
    done = await world.ben.click(asked.response, label="Forget me")
    assert done.response.content.startswith("Done")
    await all_forgotten(storage)
    assert files_with(world.home, WORD) == []
    assert list(world.bot.cached_messages) == []
    assert read_question.cache_info().currsize == 0
    left = {
        (table, column)
        for table, column in await columns(world)
        if await storage._fetch_all(f"SELECT 1 FROM {table} WHERE {column} = ?", ben)
    }
    assert left == {("audit", "actor_id"), ("consents", "user_id")}
    assert [one.user for one in await storage.examples.all(world.guild.id)] == ["Who are you?"]
    assert len(await storage.filters.all(world.guild.id)) == 1


async def columns(world: World) -> list[tuple[str, str]]:
    return [
        (table, column)
        for [table] in await storage_of(world)._fetch_all(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        )
        for _, column, *_ in await storage_of(world)._fetch_all(f"PRAGMA table_info({table})")
    ]


async def test_the_worker_is_told_to_forget_what_it_read(
    settings: Settings, worker: FakeWorker
) -> None:
    """What it then drops is shown in `tests/model/engine/test_engine.py`."""
    async with open_world(settings, worker) as world:
        await world.say(world.ben, f"I like {WORD}")
        assert WORD in str(worker.prepared)
        await world.bot.get_cog("Privacy")._erasure.erase_member(world.ben.id)
        assert worker.prepared == {}


async def test_an_export_tells_nothing_of_the_machine_or_the_operator(lived: World) -> None:
    result = await lived.ben.slash(lived.general, "privacy export")
    [file] = result.response.attachments
    told = (await file.read()).decode()
    assert WORD in told
    for secret in (str(lived.home), "unspeakable", str(Path(__file__).parents[3])):
        assert secret not in told


async def test_examples_of_others_that_a_member_taught_too_stay(lived: World) -> None:
    storage, guild = storage_of(lived), lived.guild.id
    await lived.ben.slash(lived.general, "teach", user="Who are you?", bot="A bot.")
    await storage.examples.add(NewExample(guild, WORD, "A jam.", lived.ada.id, "teach"))
    await lived.bot.get_cog("Privacy")._erasure.erase_member(lived.ben.id)
    left = await storage.examples.all(guild)
    assert [(one.user, one.author_id) for one in left] == [
        (WORD, lived.ada.id),
        ("Who are you?", lived.ada.id),
    ]

"""/model, /about and where replies come from, as Japanese members and servers read them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.chat.model_router import ModelRouter
from bot.settings import Settings
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from i18n.phrase import message_of
from i18n.reader import say, use_language
from model.errors import GenerationFailed, LoadFailed
from model.registry import EMBEDDED_FOLDER, with_custom_models
from model.sampling import SamplingParams
from model.worker.client import WORKER_UNRESPONSIVE, WorkerClient
from model.worker.quarantine import QUARANTINED
from tests.bot.asking import ask, record_of, storage_of
from tests.bot.conftest import World, open_world
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.bot.japanese.discord import (
    JAPANESE,
    assert_all_japanese,
    assert_japanese,
    japan,
    speak_japanese,
)
from tests.fakes import FakeWorker


def embed_of(told: Any) -> Any:
    [embed] = told.response.embeds
    return embed


async def test_the_models_of_a_server(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"mine": "/some/where"}
    async with japan(settings, worker, monkeypatch, models=mine) as world:
        make_checkpoint(world, "tiny-1")
        listed = embed_of(await world.ben.slash(world.general, "model list"))
        assert listed.fields[0].name == "tiny · 使用中"
        assert "/モデル 使う" in listed.footer.text
        for name in (*with_custom_models(mine), "tiny-1"):
            await world.ben.slash(world.general, "model info", name=name)
        assert_all_japanese(world, "mine", "some", "where")


async def test_choosing_rolling_back_and_deleting(world: World) -> None:
    for name in ("tiny-1", "tiny-2"):
        make_checkpoint(world, name)
    await world.ada.slash(world.general, "model rollback")
    for name in ("tiny-1", "tiny-2", "gpt5"):
        await world.ada.slash(world.general, "model use", name=name)
    await world.ada.slash(world.general, "model rollback")
    [*_, rollback] = await storage_of(world).audit.entries(world.guild.id, 1)
    assert rollback.detail.translate_to("ja") == "tiny-1 へ"
    for label in ("残す", "削除"):
        question = await world.ada.slash(world.general, "model delete", name="tiny-2")
        await world.ada.click(question.response, label=label)
    assert_all_japanese(world, "gpt5")


async def test_about(world: World, worker: FakeWorker) -> None:
    await world.ben.slash(world.general, "about")
    make_checkpoint(world, "tiny-1")
    await world.ada.slash(world.general, "model use", name="tiny-1")
    worker.models.clear()
    worker.ready = None
    await world.ben.slash(world.general, "about")
    assert_all_japanese(world, "cpu", "int", "bot")


async def test_everybody_reads_the_server_s_language_and_each_member_their_own(
    settings: Settings, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(settings, worker, check_errors=False) as world:
        speak_japanese(monkeypatch, world.ada)
        private = [
            embed_of(await who.slash(world.general, "about")) for who in (world.ada, world.ben)
        ]
        assert [bool(JAPANESE.search(one.description)) for one in private] == [True, False]
        public = embed_of(await world.ada.slash(world.general, "model list"))
        assert public.title == "Models"
        told = await world.ada.slash(world.general, "model info", name="gpt5")
        assert not told.response.ephemeral
        assert told.response.content.startswith("There is no model called “gpt5”")


# --- where replies come from ---------------------------------------------------------------------


async def why(world: World, who: Any, reply: Any) -> Any:
    return (await who.context_menu(world.general, "Why this reply?", reply)).response


async def test_why_and_a_replay(world: World, worker: FakeWorker) -> None:
    question = await world.ben.send(world.general, f"{world.bot.user.mention} もしもし")
    reply = await ask(world, "元気？")
    await world.ben.delete(question)
    told = await why(world, world.ada, reply)
    [row] = told.components
    custom_id = row["components"][0]["custom_id"]
    replayed = embed_of(await world.ada.select(told, ["gpt2"], custom_id=custom_id))
    assert [field.name for field in replayed.fields] == ["tiny（前回）", "gpt2（今回）"]
    own = await why(world, world.ben, reply)
    worker.models.pop("gpt2")
    await world.ben.select(own, ["gpt2"], custom_id=custom_id)
    assert_all_japanese(world, "top", "gram")


async def test_a_reply_of_which_little_is_known(world: World) -> None:
    storage, reply = storage_of(world), await ask(world, "元気？")
    record = await record_of(world, reply)
    bare = replace(record, model="tiny-9", source="gone", seed=None, sampling={}, cut=1)
    await storage.replies.add(replace(bare, first_s=None))
    await why(world, world.ben, reply)
    await storage._execute("DELETE FROM replies")
    await why(world, world.ben, reply)
    assert_all_japanese(world)


# --- what stands in, and why ---------------------------------------------------------------------


async def test_notes_about_who_answers(
    storage: Storage, worker: FakeWorker, tmp_path: Path
) -> None:
    worker.broken["gpt2"] = WORKER_UNRESPONSIVE
    tasks = BackgroundTasks()
    options = with_custom_models({"mine": "/some/where"})
    client: Any = worker
    switch = ModelRouter(
        storage.model_choices, client, options, default="gpt2", checkpoints=tmp_path, tasks=tasks
    )
    notes = [(await switch.serving(7)).note]
    await tasks.close(60)
    notes.append((await switch.serving(7)).note)
    worker.quarantined.add("gpt2")
    notes.append((await switch.serving(7)).note)
    for note, english in zip(
        notes, ("gpt2 is loading", WORKER_UNRESPONSIVE, QUARANTINED), strict=True
    ):
        assert note is not None
        assert note.startswith(english)
        with use_language("ja"):
            assert_japanese(say(note))


# --- errors of the worker ------------------------------------------------------------------------


async def test_an_error_comes_as_a_phrase_out_of_the_worker_and_the_child_that_builds(
    real_worker: WorkerClient, tmp_path: Path
) -> None:
    (tmp_path / "nobodys").mkdir()
    for source in (tmp_path / "nobodys", tmp_path / "nowhere"):
        with pytest.raises(LoadFailed) as failed:
            await real_worker.load(str(source))
        with use_language("ja"):
            assert_japanese(say(message_of(failed.value)), source.name, "safetensors")
    with pytest.raises(GenerationFailed) as failed_to_answer:
        await anext(real_worker.generate(str(EMBEDDED_FOLDER), (), SamplingParams()))
    with use_language("ja"):
        assert say(message_of(failed_to_answer.value)).startswith("それには答えられません：")

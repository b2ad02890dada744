"""/model, /about and where replies come from, as Japanese members and servers read them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.chat.model_router import ModelRouter, as_option
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
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_models import make_checkpoint, make_folder
from tests.bot.japanese.discord import JAPANESE, assert_japanese, english_in, speak_japanese
from tests.fakes import FakeWorker
from training.checkpoints import read_manifest

Open = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    speak_japanese(monkeypatch)


def embed_of(told: Any) -> Any:
    [embed] = told.response.embeds
    return embed


async def test_the_models_of_a_japanese_server(open_fake: Open) -> None:
    async with open_fake(preferred_locale="ja") as world:
        make_checkpoint(world, "tiny-1")
        embed = embed_of(await world.ben.slash(world.general, "model list"))
        assert embed.title == "モデル"
        assert embed.fields[0].name == "tiny · 使用中"
        for field in embed.fields:
            assert_japanese(field.value, "CPU")
        assert_japanese(embed.footer.text)
        assert "/モデル 使う" in embed.footer.text
        embed = embed_of(await world.ben.slash(world.general, "model info", name="gpt2"))
        assert_japanese(embed.description, "CPU")
        assert_japanese(embed.footer.text)
        embed = embed_of(await world.ben.slash(world.general, "model info", name="tiny-1"))
        for field in embed.fields:
            assert_japanese(field.name)


def test_what_is_known_of_a_model(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "tiny-1")
    checkpoint = as_option(folder, read_manifest(folder))
    for option in (*with_custom_models({"mine": "/some/where"}).values(), checkpoint):
        with use_language("ja"):
            assert_japanese(say(option.inference_speed), "CPU")
            assert_japanese(say(option.quality))
            assert english_in(say(option.memory_usage)) == []
            assert english_in(say(option.parameters)) == []


async def test_choosing_rolling_back_and_deleting(open_fake: Open, japanese: None) -> None:
    async with open_fake(check_errors=False) as world:
        for name in ("tiny-1", "tiny-2"):
            make_checkpoint(world, name)
        refused = await world.ada.slash(world.general, "model rollback")
        assert_japanese(refused.response.content)
        for name in ("tiny-1", "tiny-2"):
            told = await world.ada.slash(world.general, "model use", name=name)
            assert_japanese(told.response.content)
        assert_japanese((await world.ada.slash(world.general, "model rollback")).response.content)
        [*_, rollback] = await storage_of(world).audit.entries(world.guild.id, 1)
        assert rollback.detail.translate_to("ja") == "tiny-1 へ"
        for label in ("残す", "削除"):
            question = await world.ada.slash(world.general, "model delete", name="tiny-2")
            assert_japanese(question.response.content)
            answer = await world.ada.click(question.response, label=label)
            assert_japanese(answer.response.content)
        unknown = await world.ada.slash(world.general, "model use", name="gpt5")
        assert_japanese(unknown.response.content, "gpt5", "gpt2-medium")


@pytest.mark.parametrize("loaded", [True, False])
async def test_about(open_fake: Open, worker: FakeWorker, japanese: None, loaded: bool) -> None:
    async with open_fake() as world:
        if not loaded:
            make_checkpoint(world, "tiny-1")
            await world.ada.slash(world.general, "model use", name="tiny-1")
            worker.models.clear()
            worker.ready = None
        embed = embed_of(await world.ben.slash(world.general, "about"))
        assert_japanese(embed.description)
        for field in embed.fields:
            assert_japanese(field.name)
            assert english_in(field.value, "cpu", "int") == []


async def test_everybody_reads_the_server_s_language_and_each_member_their_own(
    open_fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fake() as world:
        speak_japanese(monkeypatch, world.ada)
        private = [
            embed_of(await who.slash(world.general, "about")) for who in (world.ada, world.ben)
        ]
        assert [bool(JAPANESE.search(one.description)) for one in private] == [True, False]
        public = embed_of(await world.ada.slash(world.general, "model list"))
        assert public.title == "Models"


async def test_an_error_in_the_place_of_an_answer_for_all_is_read_by_all(
    open_fake: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_fake(check_errors=False) as world:
        speak_japanese(monkeypatch, world.ada)
        told = await world.ada.slash(world.general, "model info", name="gpt5")
        assert not told.response.ephemeral
        assert told.response.content.startswith("There is no model called “gpt5”")


# --- where replies come from ---------------------------------------------------------------------


async def test_why_and_a_replay(open_fake: Open, worker: FakeWorker, japanese: None) -> None:
    async with open_fake(check_errors=False) as world:
        worker.answer = lambda _: "はい"
        question = await world.ben.send(world.general, f"{world.bot.user.mention} もしもし")
        await ask(world, "元気？")
        reply = world.general.last_message
        await world.ben.delete(question)
        told = await world.ada.context_menu(world.general, "Why this reply?", reply)
        embed = embed_of(told)
        assert_japanese(embed.title)
        assert_japanese(embed.description)
        for field in embed.fields:
            assert_japanese(field.name)
            assert english_in(field.value, "top", "gram") == []
        [row] = told.response.components
        custom_id = row["components"][0]["custom_id"]
        shown = await world.ada.select(told.response, ["gpt2"], custom_id=custom_id)
        embed = embed_of(shown)
        for text in (embed.title, embed.description, embed.footer.text):
            assert_japanese(text)
        assert [field.name for field in embed.fields] == ["tiny（前回）", "gpt2（今回）"]
        own = await world.ben.context_menu(world.general, "Why this reply?", reply)
        worker.models.pop("gpt2")
        refused = await world.ben.select(own.response, ["gpt2"], custom_id=custom_id)
        assert_japanese(refused.response.content)


async def test_a_reply_of_which_nothing_is_known(open_fake: Open, japanese: None) -> None:
    async with open_fake(check_errors=False) as world:
        reply = await ask(world)
        await storage_of(world)._execute("DELETE FROM replies")
        told = await world.ben.context_menu(world.general, "Why this reply?", reply)
        assert_japanese(told.response.content)


async def test_a_record_with_little_in_it(open_fake: Open, japanese: None) -> None:
    async with open_fake() as world:
        reply = await ask(world)
        record = await record_of(world, reply)
        bare = replace(record, model="tiny-9", source="gone", seed=None, sampling={}, cut=1)
        await storage_of(world).replies.add(replace(bare, first_s=None))
        told = await world.ben.context_menu(world.general, "Why this reply?", reply)
        for field in embed_of(told).fields:
            assert english_in(field.value) == []


# --- what stands in, and why ---------------------------------------------------------------------


async def test_notes_about_who_answers(
    storage: Storage, worker: FakeWorker, tmp_path: Path
) -> None:
    worker.broken["gpt2"] = WORKER_UNRESPONSIVE
    tasks = BackgroundTasks()
    options = with_custom_models({"mine": "/some/where"})
    client: Any = worker
    switch = ModelRouter(
        storage, client, options, default="gpt2", checkpoints=tmp_path, tasks=tasks
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

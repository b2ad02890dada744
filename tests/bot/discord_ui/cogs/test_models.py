"""/model and /about: what they show, who may use them, what switching and deleting keep."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.chat import model_router
from bot.chat.model_router import ModelRouter
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from i18n.catalogue import ENGLISH
from model.convert.int8.quality import Int8Quality, int8_message
from model.errors import UnknownModel
from model.registry import EMBEDDED_FOLDER, model_options
from model.worker.messages import ModelInfo
from tests.bot.cards import facts_of, lines_of, text_of
from tests.bot.conftest import World
from tests.fakes import FakeWorker
from training.checkpoint_retention import CheckpointRetention
from training.checkpoints import REPORT_FILE, Manifest, seal
from training.errors import CorruptCheckpoint, NothingToRollBack

Open = Callable[..., AbstractAsyncContextManager[World]]
ROOT = Path(__file__).parents[4]
SCOPE = 7
MANAGER = discord.Permissions(manage_guild=True)


def make_checkpoint(world: World, name: str, scope: int | None = None, **facts: Any) -> Path:
    """A sealed folder with one file: enough for everything but loading it."""
    return make_folder(world.home / "checkpoints" / str(scope or world.guild.id) / name, **facts)


def make_folder(folder: Path, report: dict[str, Any] | None = None, **facts: Any) -> Path:
    """Such a folder anywhere; `facts` go into its manifest."""
    name = folder.name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    if report is not None:
        (folder / REPORT_FILE).write_text(json.dumps(report))
    manifest = Manifest(
        name=name,
        base=str(EMBEDDED_FOLDER),
        created_at="2026-01-02T03:04:05+00:00",
        dataset_sha256="0" * 64,
        parameters=4_273_664,
        settings={},
        scores={"last_loss": 0.25},
    )
    seal(folder, replace(manifest, **facts))
    return folder


async def test_list_shows_every_model_and_marks_the_one_in_use(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    result = await world.ben.slash(world.general, "model list")
    fields = {field.name: field.value for field in result.response.embeds[0].fields}
    assert set(fields) == {"tiny · in use", "tiny-ja", "gpt2", "gpt2-medium", "tiny-1"}
    assert "124M parameters" in fields["gpt2"]
    assert "learned 2026-01-02, training loss 0.25" in fields["tiny-1"]


async def test_list_marks_what_did_not_pass_its_checks(world: World) -> None:
    make_checkpoint(world, "tiny-1", report={"answers": [], "losses": {}, "refusal": "It loops."})
    make_checkpoint(world, "tiny-2", report={"answers": [], "losses": {}, "refusal": None})
    listed = await world.ben.slash(world.general, "model list")
    names = [field.name for field in listed.response.embeds[0].fields]
    assert names[-2:] == ["tiny-1 · did not pass its checks", "tiny-2"]


async def test_use_switches_this_server_and_is_remembered(
    open_fake: Open, worker: FakeWorker
) -> None:
    async with open_fake() as world:
        folder = make_checkpoint(world, "tiny-1")
        result = await world.ada.slash(world.general, "model use", name="tiny-1")
        assert result.response.content == "**tiny-1** answers from now on."
        await world.say(world.ben, "hello")
        assert worker.heard[-1][0] == str(folder)
        home = world.home
    assert str(home)
    async with open_fake() as again:
        listed = await again.ben.slash(again.general, "model list")
        assert any("in use" in field.name for field in listed.response.embeds[0].fields)


async def test_a_model_of_one_server_never_reaches_another(
    world: World, worker: FakeWorker
) -> None:
    make_checkpoint(world, "tiny-1")
    await world.ada.slash(world.general, "model use", name="tiny-1")
    elsewhere = world.env.create_guild()
    room = elsewhere.create_text_channel("general")
    carl = elsewhere.add_member(world.env.create_user("carl"))
    await world.say(carl, "hello", room)
    assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)
    listed = await carl.slash(room, "model list")
    assert all("tiny-1" not in field.name for field in listed.response.embeds[0].fields)


async def test_autocomplete_offers_matching_names(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    choices = await world.ada.autocomplete(world.general, "model use", "name", "tiny")
    assert [choice["value"] for choice in choices] == ["tiny", "tiny-1", "tiny-ja"]
    choices = await world.ada.autocomplete(world.general, "model use", "name", "")
    assert [choice["value"] for choice in choices] == [
        "tiny-1",
        "gpt2-medium",
        "gpt2",
        "tiny-ja",
        "tiny",
    ]


async def test_an_unknown_model_is_named_with_those_there_are(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        result = await world.ada.slash(world.general, "model use", name="gpt5")
        assert result.response.content == (
            "There is no model called “gpt5”. You can choose from: gpt2, gpt2-medium, tiny, "
            "tiny-ja."
        )


async def test_a_model_that_cannot_be_loaded_leaves_the_old_one(
    open_fake: Open, worker: FakeWorker
) -> None:
    worker.broken["gpt2"] = "gpt2 cannot be reached on the Hugging Face Hub."
    async with open_fake(check_errors=False) as world:
        result = await world.ada.slash(world.general, "model use", name="gpt2")
        assert result.response.content == "gpt2 cannot be reached on the Hugging Face Hub."
        await world.say(world.ben, "hello")
        assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)


async def test_a_damaged_checkpoint_is_refused(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake(check_errors=False) as world:
        folder = make_checkpoint(world, "tiny-1")
        (folder / "config.json").write_text("{}")
        result = await world.ada.slash(world.general, "model use", name="tiny-1")
        assert "tiny-1 is damaged" in result.response.content
        await world.say(world.ben, "hello")
        assert worker.heard[-1][0] == str(EMBEDDED_FOLDER)


async def test_only_managers_switch(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        result = await world.ben.slash(world.general, "model use", name="gpt2")
        assert result.response.content == "You need the permission Manage Server for that."
        assert result.ephemeral


async def test_about_shows_what_runs(world: World) -> None:
    result = await world.ben.slash(world.general, "about")
    facts = facts_of(result.response)
    assert facts["Model here"] == "tiny"
    assert facts["Parameters"] == "1,000"
    assert facts["Number format"] == "int8"
    assert facts["Loaded in"] == "0.1 s"
    assert facts["Device"] == "cpu"
    assert result.ephemeral


async def test_about_says_what_it_is_and_where_more_is_said(world: World) -> None:
    text = text_of((await world.ben.slash(world.general, "about")).response)
    assert text.startswith(f"### gpt2-discord-bot {version('gpt2-discord-bot')}\n")
    for said in ("I am an AI", "make things up", "I learn from", "`/privacy show`", "`/help`"):
        assert said in text
    pages = re.findall(r"`(docs/.+?)`", text)
    assert len(pages) == 2
    assert all((ROOT / page).is_file() for page in pages)


# --- /model rollback -----------------------------------------------------------------------------


async def test_rollback_returns_to_what_answered_before_step_by_step(
    open_fake: Open, worker: FakeWorker
) -> None:
    async with open_fake(check_errors=False) as world:
        first, second = make_checkpoint(world, "tiny-1"), make_checkpoint(world, "tiny-2")
        for name in ("tiny-1", "tiny-2"):
            await world.ada.slash(world.general, "model use", name=name)
        for name, source in (("tiny-1", first), ("tiny", EMBEDDED_FOLDER)):
            result = await world.ada.slash(world.general, "model rollback")
            assert result.response.content == f"Back to **{name}**: it answers from now on."
            await world.say(world.ben, "hello")
            assert worker.heard[-1][0] == str(source)
        result = await world.ada.slash(world.general, "model rollback")
        assert result.response.content == (
            "No other model answered here before: there is nothing to go back to."
        )
        assert second.is_dir()


async def test_rollback_passes_over_what_was_deleted(world: World, worker: FakeWorker) -> None:
    first = make_checkpoint(world, "tiny-1")
    for name in ("tiny-2", "tiny-3"):
        make_checkpoint(world, name)
    for name in ("tiny-1", "tiny-2", "tiny-3"):
        await world.ada.slash(world.general, "model use", name=name)
    question = await world.ada.slash(world.general, "model delete", name="tiny-2")
    await world.ada.click(question.response, label="Delete")
    result = await world.ada.slash(world.general, "model rollback")
    assert result.response.content == "Back to **tiny-1**: it answers from now on."
    await world.say(world.ben, "hello")
    assert worker.heard[-1][0] == str(first)


async def test_rollback_of_one_server_leaves_the_others(world: World) -> None:
    elsewhere = world.env.create_guild()
    make_checkpoint(world, "tiny-1")
    make_checkpoint(world, "tiny-1", elsewhere.id)
    room = elsewhere.create_text_channel("general")
    owner = elsewhere.add_member(
        world.env.create_user("carl"), roles=[elsewhere.create_role("M", permissions=MANAGER)]
    )
    await world.ada.slash(world.general, "model use", name="tiny-1")
    await owner.slash(room, "model use", name="tiny-1")
    await world.ada.slash(world.general, "model rollback")
    listed = await owner.slash(room, "model list")
    assert "tiny-1 · in use" in {field.name for field in listed.response.embeds[0].fields}


@pytest.mark.parametrize("command", ["model rollback", "model delete"])
async def test_only_managers_roll_back_and_delete(open_fake: Open, command: str) -> None:
    async with open_fake(check_errors=False) as world:
        make_checkpoint(world, "tiny-1")
        options = {"name": "tiny-1"} if command.endswith("delete") else {}
        result = await world.ben.slash(world.general, command, **options)
        assert result.response.content == "You need the permission Manage Server for that."
        assert result.ephemeral


# --- /model info ---------------------------------------------------------------------------------


async def test_info_shows_where_a_checkpoint_comes_from_and_how_it_did(world: World) -> None:
    losses = {
        "general": {"base": 3.5, "serving": None, "new": 3.25},
        "own": {"base": 4.0, "serving": 2.0, "new": 1.5},
    }
    make_checkpoint(
        world,
        "tiny-2",
        report={"losses": losses, "refusal": "It had no answer to “hi”."},
        base_name="tiny-1",
        parents=["tiny-1"],
        dataset_sha256="0123456789abcdef" * 4,
        settings={
            "seed": 3,
            "epochs": 10.0,
            "learning_rate": 7e-4,
            "batch_size": 8,
            "gradient_accumulation": 2,
            "method": "lora",
            "lora_rank": 4,
        },
        scores={"first_loss": 2.5, "last_loss": 0.25},
        examples=1200,
        seconds=200.0,
        device="cpu",
    )
    result = await world.ben.slash(world.general, "model info", name="tiny-2")
    title, refusal, *_ = lines_of(result.response)
    assert title == "### tiny-2"
    assert refusal == "It did not pass its checks. It had no answer to “hi”."
    assert facts_of(result.response) == {
        "Base": "tiny-1",
        "Parents": "tiny-1",
        "Data": "`0123456789ab`",
        "Examples": "1,200",
        "Seed": "3",
        "Epochs": "10",
        "Learning rate": "0.0007",
        "Batch": "8 × 2 accumulated",
        "Method": "LoRA, rank 4",
        "Training loss": "from 2.50 to 0.25",
        "Loss: general talk (held out)": "base 3.50 · new 3.25",
        "Loss: what was taught": "base 4.00 · in service 2.00 · new 1.50",
        "Parameters": "4,273,664",
        "Size on disk": "less than 1 MB",
        "Made": "<t:1767323045>",
        "Time taken": "3 min 20 s",
        "Device": "cpu",
    }


async def test_info_of_a_checkpoint_of_an_earlier_version(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    result = await world.ben.slash(world.general, "model info", name="tiny-1")
    fields = facts_of(result.response)
    assert (fields["Base"], fields["Parents"], fields["Seed"]) == ("tiny", "none", "not known")
    assert (fields["Training loss"], fields["Time taken"]) == ("0.25", "not known")


async def test_info_of_a_model_to_start_from(world: World) -> None:
    result = await world.ben.slash(world.general, "model info", name="gpt2")
    title, summary, *_, note = lines_of(result.response)
    assert title == "### gpt2"
    assert "124M parameters" in summary
    assert note == "-# A model to start from; it was not trained here."


async def test_info_says_how_near_int8_is(world: World, worker: FakeWorker) -> None:
    """Of a model that is loaded; before that nothing is known of it."""
    source = str(EMBEDDED_FOLDER)
    before = await world.ben.slash(world.general, "model info", name="tiny")
    assert facts_of(before.response) == {}
    quality = Int8Quality(divergence=0.004, loss=0.0048, fp32=5, matrices=21)
    worker.models[source] = replace(worker.models[source], int8=quality)
    after = await world.ben.slash(world.general, "model info", name="tiny")
    assert facts_of(after.response) == {"int8": int8_message(quality).translate_to(ENGLISH)}


async def test_info_of_a_model_of_another_server(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        make_checkpoint(world, "tiny-1", scope=SCOPE)
        for name in ("tiny-1", f"../{SCOPE}/tiny-1"):
            result = await world.ben.slash(world.general, "model info", name=name)
            assert result.response.content.startswith(f"There is no model called “{name}”.")


# --- /model delete -------------------------------------------------------------------------------


async def test_delete_asks_first_and_then_it_is_gone(world: World) -> None:
    folder = make_checkpoint(world, "tiny-1")
    question = await world.ada.slash(world.general, "model delete", name="tiny-1")
    assert question.response.content == (
        "Delete **tiny-1** (less than 1 MB)? It cannot be brought back."
    )
    assert question.ephemeral
    assert folder.is_dir()
    answer = await world.ada.click(question.response, label="Delete")
    assert answer.response.content == "**tiny-1** is gone."
    assert not folder.exists()


async def test_keep_keeps_it(world: World) -> None:
    folder = make_checkpoint(world, "tiny-1")
    question = await world.ada.slash(world.general, "model delete", name="tiny-1")
    answer = await world.ada.click(question.response, label="Keep")
    assert answer.response.content == "**tiny-1** stays."
    assert folder.is_dir()


async def test_what_answers_is_not_deleted(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        folder = make_checkpoint(world, "tiny-1")
        await world.ada.slash(world.general, "model use", name="tiny-1")
        result = await world.ada.slash(world.general, "model delete", name="tiny-1")
        assert "**tiny-1** answers here now" in result.response.content
        assert folder.is_dir()


async def test_what_came_into_use_after_the_question_is_not_deleted(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        folder = make_checkpoint(world, "tiny-1")
        question = await world.ada.slash(world.general, "model delete", name="tiny-1")
        await world.ada.slash(world.general, "model use", name="tiny-1")
        answer = await world.ada.click(question.response, label="Delete")
        assert "**tiny-1** answers here now" in answer.followups[-1].content
        assert folder.is_dir()


async def test_what_is_no_checkpoint_of_this_server_is_not_deleted(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        folder = make_checkpoint(world, "tiny-1", scope=SCOPE)
        for name in ("tiny-1", "tiny", f"../{SCOPE}/tiny-1"):
            result = await world.ada.slash(world.general, "model delete", name=name)
            assert result.response.content == f"This server has no checkpoint called “{name}”."
        assert folder.is_dir()


async def test_autocomplete_of_delete_offers_what_may_go(world: World) -> None:
    for name in ("tiny-1", "tiny-2"):
        make_checkpoint(world, name)
    await world.ada.slash(world.general, "model use", name="tiny-2")
    choices = await world.ada.autocomplete(world.general, "model delete", "name", "")
    assert [choice["value"] for choice in choices] == ["tiny-1"]
    choices = await world.ben.autocomplete(world.general, "model info", "name", "tiny-")
    assert [choice["value"] for choice in choices] == ["tiny-2", "tiny-1", "tiny-ja"]


# --- the switch ----------------------------------------------------------------------------------


@pytest.fixture
def switch(storage: Storage, worker: Any, tmp_path: Path) -> ModelRouter:
    return ModelRouter(
        storage.model_choices,
        worker,
        model_options,
        default="gpt2",
        checkpoints=tmp_path,
        tasks=BackgroundTasks(),
    )


async def test_autocomplete_does_not_wait_for_a_slow_disk(
    switch: ModelRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / str(SCOPE) / "tiny-1")
    assert "tiny-1" in {one.name for one in await switch.options_at_once(SCOPE)}
    answers, asked = threading.Event(), []
    monkeypatch.setattr(
        model_router, "iter_checkpoints", lambda folder: (asked.append(folder), answers.wait())[:0]
    )
    try:
        for _ in range(3):
            names = {one.name for one in await switch.options_at_once(SCOPE)}
            assert names == {*model_options, "tiny-1"}
        assert len(asked) == 1
    finally:
        answers.set()


async def test_a_retrain_starts_from_the_base_of_the_one_in_use(
    switch: ModelRouter, tmp_path: Path
) -> None:
    make_folder(tmp_path / str(SCOPE) / "tiny-1")
    make_folder(tmp_path / str(SCOPE) / "tiny-2", base="/elsewhere/tiny", base_name="tiny")
    assert (await switch.resolve_training_base(SCOPE, None)).name == "gpt2"
    for name in ("tiny-1", "tiny-2"):
        await switch.use(SCOPE, name)
        assert (await switch.resolve_training_base(SCOPE, None)).name == "tiny"


async def test_a_checkpoint_that_is_named_is_itself_the_base(
    switch: ModelRouter, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / str(SCOPE) / "tiny-1")
    base = await switch.resolve_training_base(SCOPE, "tiny-1")
    assert base.source == str(folder)
    assert switch.parents(base) == ("tiny-1",)
    make_folder(
        tmp_path / str(SCOPE) / "tiny-1-1",
        base=str(folder),
        base_name="tiny-1",
        parents=["tiny-1"],
    )
    grown = await switch.resolve_training_base(SCOPE, "tiny-1-1")
    assert switch.parents(grown) == ("tiny-1-1", "tiny-1")
    assert switch.parents(switch.default(SCOPE)) == ()
    with pytest.raises(UnknownModel):
        await switch.resolve_training_base(SCOPE + 1, "tiny-1")


async def test_a_retrain_of_what_grew_from_a_checkpoint(
    switch: ModelRouter, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / str(SCOPE) / "tiny-1")
    grown = make_folder(tmp_path / str(SCOPE) / "tiny-1-1", base=str(folder), parents=["tiny-1"])
    await switch.use(SCOPE, "tiny-1-1")
    assert (await switch.resolve_training_base(SCOPE, None)).source == str(folder)
    shutil.rmtree(folder)
    assert (await switch.resolve_training_base(SCOPE, None)).source == str(grown)


async def test_bases_are_the_models_and_then_the_own_checkpoints_newest_first(
    switch: ModelRouter, tmp_path: Path
) -> None:
    for number in (1, 2, 10):
        made = f"2026-01-{number:02}T00:00:00+00:00"
        make_folder(tmp_path / str(SCOPE) / f"tiny-{number}", created_at=made)
    make_folder(tmp_path / str(SCOPE + 1) / "other-1")
    names = [option.name for option in switch.training_bases(SCOPE)]
    assert names == ["tiny", "tiny-ja", "gpt2", "gpt2-medium", "tiny-10", "tiny-2", "tiny-1"]


async def test_a_rollback_that_fails_leaves_everything(
    switch: ModelRouter, storage: Storage, tmp_path: Path
) -> None:
    with pytest.raises(NothingToRollBack):
        await switch.rollback(SCOPE)
    folder = make_folder(tmp_path / str(SCOPE) / "tiny-1")
    await switch.use(SCOPE, "tiny-1")
    await switch.use(SCOPE, "tiny")
    (folder / "config.json").write_text("{}")
    with pytest.raises(CorruptCheckpoint, match="tiny-1 is damaged"):
        await switch.rollback(SCOPE)
    assert await storage.model_choices.active(SCOPE) == "tiny"
    assert (await storage.model_choices.previous(SCOPE))[0] == "tiny-1"


async def test_two_rollbacks_at_once_go_back_two_models(
    switch: ModelRouter, tmp_path: Path
) -> None:
    for name in ("tiny-1", "tiny-2", "tiny-3"):
        make_folder(tmp_path / str(SCOPE) / name)
        await switch.use(SCOPE, name)
    went = await asyncio.gather(switch.rollback(SCOPE), switch.rollback(SCOPE))
    assert [option.name for option in went] == ["tiny-2", "tiny-1"]
    assert (await switch.active(SCOPE)).name == "tiny-1"


async def test_a_model_of_the_operator_beside_the_checkpoints_is_no_checkpoint(
    switch: ModelRouter, tmp_path: Path
) -> None:
    made = [make_folder(tmp_path / scope / "mine") for scope in (str(SCOPE), "local")]
    options = [replace(switch.default(SCOPE), source=str(folder)) for folder in made]
    assert [switch.is_checkpoint(one) for one in options] == [True, False]


async def test_a_rollback_never_leads_to_the_same_model(
    switch: ModelRouter, tmp_path: Path
) -> None:
    for name in ("tiny-1", "tiny-2"):
        make_folder(tmp_path / str(SCOPE) / name)
    for name in ("tiny", "tiny-1", "tiny-2", "tiny-1"):
        await switch.use(SCOPE, name)
    shutil.rmtree(tmp_path / str(SCOPE) / "tiny-2")
    assert (await switch.rollback(SCOPE)).name == "tiny"
    assert (await switch.active(SCOPE)).name == "tiny"


class LosingWorker(FakeWorker):
    """The folder of what it loads is gone once it is loaded."""

    async def load(self, source: str) -> ModelInfo:
        shutil.rmtree(source)
        return await super().load(source)


async def test_what_is_deleted_while_it_loads_is_not_put_into_service(
    storage: Storage, tmp_path: Path
) -> None:
    worker: Any = LosingWorker()
    switch = ModelRouter(
        storage.model_choices,
        worker,
        model_options,
        default="gpt2",
        checkpoints=tmp_path,
        tasks=BackgroundTasks(),
    )
    make_folder(tmp_path / str(SCOPE) / "tiny-1")
    with pytest.raises(CorruptCheckpoint):
        await switch.use(SCOPE, "tiny-1")
    assert await storage.model_choices.active(SCOPE) is None


@pytest.mark.parametrize("use_first", [True, False])
@pytest.mark.parametrize("remove", ["delete", "prune"])
async def test_a_model_is_chosen_or_removed_but_never_both(
    switch: ModelRouter, storage: Storage, tmp_path: Path, use_first: bool, remove: str
) -> None:
    shelf = CheckpointRetention(storage, tmp_path, 0)
    for round_ in range(30):
        folder = make_folder(tmp_path / str(SCOPE) / f"tiny-{round_}")
        used = switch.use(SCOPE, folder.name)
        removed: Any = (
            shelf.delete(SCOPE, folder.name) if remove == "delete" else shelf.prune(tmp_path)
        )
        await asyncio.gather(
            *((used, removed) if use_first else (removed, used)), return_exceptions=True
        )
        active = await storage.model_choices.active(SCOPE)
        assert (active == folder.name) == folder.exists()
        await switch.use(SCOPE, "gpt2")

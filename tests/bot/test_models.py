"""/model list, /model use and /about: what they show, who may use them, what switching keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from model.registry import TINY
from tests.bot.conftest import World
from tests.fakes import FakeWorker
from training.checkpoints import Manifest, seal

Open = Callable[..., AbstractAsyncContextManager[World]]


def make_checkpoint(world: World, name: str, scope: int | None = None) -> Path:
    """A sealed folder with one file: enough for everything but loading it."""
    folder = world.home / "checkpoints" / str(scope or world.guild.id) / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    manifest = Manifest(
        name=name,
        base=str(TINY),
        created_at="2026-01-02T03:04:05+00:00",
        dataset_sha256="0" * 64,
        parameters=4_273_664,
        settings={},
        scores={"last_loss": 0.25},
    )
    seal(folder, manifest)
    return folder


async def test_list_shows_every_model_and_marks_the_one_in_use(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    result = await world.ben.slash(world.general, "model list")
    fields = {field.name: field.value for field in result.response.embeds[0].fields}
    assert set(fields) == {"tiny · in use", "gpt2", "gpt2-medium", "tiny-1"}
    assert "124M parameters" in fields["gpt2"]
    assert "learned 2026-01-02, training loss 0.25" in fields["tiny-1"]


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
    assert worker.heard[-1][0] == str(TINY)
    listed = await carl.slash(room, "model list")
    assert all("tiny-1" not in field.name for field in listed.response.embeds[0].fields)


async def test_autocomplete_offers_matching_names(world: World) -> None:
    make_checkpoint(world, "tiny-1")
    choices = await world.ada.autocomplete(world.general, "model use", "name", "tiny")
    assert [choice["value"] for choice in choices] == ["tiny", "tiny-1"]
    choices = await world.ada.autocomplete(world.general, "model use", "name", "")
    assert [choice["value"] for choice in choices] == ["tiny-1", "gpt2-medium", "gpt2", "tiny"]


async def test_an_unknown_model_is_named_with_those_there_are(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        result = await world.ada.slash(world.general, "model use", name="gpt5")
        assert result.response.content == (
            "There is no model called “gpt5”. You can choose from: gpt2, gpt2-medium, tiny."
        )


async def test_a_model_that_cannot_be_loaded_leaves_the_old_one(
    open_fake: Open, worker: FakeWorker
) -> None:
    worker.broken["gpt2"] = "gpt2 cannot be reached on the Hugging Face Hub."
    async with open_fake(check_errors=False) as world:
        result = await world.ada.slash(world.general, "model use", name="gpt2")
        assert result.response.content == "gpt2 cannot be reached on the Hugging Face Hub."
        await world.say(world.ben, "hello")
        assert worker.heard[-1][0] == str(TINY)


async def test_a_damaged_checkpoint_is_refused(open_fake: Open, worker: FakeWorker) -> None:
    async with open_fake(check_errors=False) as world:
        folder = make_checkpoint(world, "tiny-1")
        (folder / "config.json").write_text("{}")
        result = await world.ada.slash(world.general, "model use", name="tiny-1")
        assert "tiny-1 is damaged" in result.response.content
        await world.say(world.ben, "hello")
        assert worker.heard[-1][0] == str(TINY)


async def test_only_managers_switch(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        result = await world.ben.slash(world.general, "model use", name="gpt2")
        assert result.response.content == "You need the permission Manage Server for that."
        assert result.ephemeral


async def test_about_shows_what_runs(world: World) -> None:
    result = await world.ben.slash(world.general, "about")
    fields = {field.name: field.value for field in result.response.embeds[0].fields}
    assert fields["Model here"] == "tiny"
    assert fields["Parameters"] == "1,000"
    assert fields["Number format"] == "int8"
    assert fields["Loaded in"] == "0.1 s"
    assert fields["Device"] == "cpu"
    assert result.ephemeral

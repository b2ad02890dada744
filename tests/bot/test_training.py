"""/teach and /retrain up to the start of a job: what is shown, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from simcord import SetupError

from tests.bot.conftest import World

Open = Callable[..., AbstractAsyncContextManager[World]]


async def test_teach_notes_the_pair_and_counts(world: World) -> None:
    first = await world.ben.slash(world.general, "teach", user="Who made tea?", bot="A leaf.")
    assert "To “Who made tea?” I should answer: “A leaf.”" in first.response.content
    assert "1 example so far" in first.response.content
    second = await world.ada.slash(world.general, "teach", user="And coffee?", bot="A bean.")
    assert "2 examples so far" in second.response.content


async def test_the_same_pair_is_counted_once(world: World) -> None:
    for _ in range(2):
        result = await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    assert "1 example so far" in result.response.content


async def test_blank_examples_are_refused(world: World) -> None:
    result = await world.ben.slash(world.general, "teach", user="   ", bot="hello")
    assert result.ephemeral
    assert "give me both" in result.response.content


async def test_retrain_with_nothing_taught_says_what_to_do(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        result = await world.ada.slash(world.general, "retrain")
        assert "Teach me something first" in result.response.content


async def test_retrain_shows_every_setting_before_it_starts(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    result = await world.ada.slash(
        world.general, "retrain", base="gpt2", epochs=2.0, learning_rate=1e-4
    )
    assert result.ephemeral
    embed = result.response.embeds[0]
    fields = {field.name: field.value for field in embed.fields}
    assert embed.title == "Retrain from gpt2?"
    assert "1 example" in embed.description
    assert fields["Epochs"] == "2"
    assert fields["Batch size"] == "8"
    assert fields["Gradient accumulation"] == "1"
    assert fields["Learning rate"] == "0.0001"
    assert fields["Number format"] == "fp32 on cpu"


async def test_gpt2_is_fine_tuned_at_3e_5_by_default(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    result = await world.ada.slash(world.general, "retrain", base="gpt2")
    fields = {field.name: field.value for field in result.response.embeds[0].fields}
    assert fields["Learning rate"] == "3e-05"


async def test_cancel_starts_nothing(world: World) -> None:
    await world.ben.slash(world.general, "teach", user="hi", bot="hello")
    plan = await world.ada.slash(world.general, "retrain")
    after = await world.ada.click(plan.response, label="Cancel")
    assert after.response.content == "Nothing was started."
    assert not (world.home / "jobs").exists() or not any((world.home / "jobs").iterdir())


async def test_only_admins_retrain(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        with pytest.raises(SetupError, match="default-member-permissions"):
            await world.ben.slash(world.general, "retrain")
        await world.open_to_all("retrain")
        result = await world.ben.slash(world.general, "retrain")
        assert result.response.content == "You need the permission Administrator for that."


async def test_an_unknown_base_is_refused(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await world.ben.slash(world.general, "teach", user="hi", bot="hello")
        result = await world.ada.slash(world.general, "retrain", base="gpt9")
        assert "There is no model called “gpt9”" in result.response.content


async def test_autocomplete_of_base_offers_models_to_start_from(world: World) -> None:
    choices = await world.ada.autocomplete(world.general, "retrain", "base", "gpt")
    assert [choice["value"] for choice in choices] == ["gpt2", "gpt2-medium"]

"""What is taught in Discord is answered from the next message on. Real discord.py, real SQLite."""

from __future__ import annotations

from pathlib import Path

from bot.settings import load_settings
from tests.bot.asking import ask, buttons
from tests.bot.conftest import World, open_world
from tests.fakes import FakeWorker

NOTE = "\n-# Taught by <@{}>, not learned yet."


async def teach(world: World, question: str = "Who is our admin?", answer: str = "Marlow.") -> None:
    await world.ada.slash(world.general, "teach", user=question, bot=answer)


async def test_what_is_taught_is_answered_at_once_however_it_is_asked(
    world: World, worker: FakeWorker
) -> None:
    await teach(world)
    reply = await ask(world, "hey do u know whos our admin")
    assert reply.content == "Marlow." + NOTE.format(world.ada.id)
    assert worker.heard == []
    assert buttons(reply) == ["reply:again:", "reply:up:", "reply:down:", "reply:better:"]
    assert await world.say(world.ben, "who is our plumber") == "you said who is our plumber"


async def test_it_says_where_it_comes_from_and_again_asks_the_model(
    world: World, worker: FakeWorker
) -> None:
    await teach(world)
    reply = await ask(world, "who is our admin")
    why = await world.ben.context_menu(world.general, "Why this reply?", reply)
    fields = {field.name: field.value for field in why.response.embeds[0].fields}
    assert fields["Taught"] == "pair 1 of the data set, word for word; no model was asked"
    assert "Seed" not in fields
    await world.ben.click(reply, custom_id="reply:again:")
    assert world.last() == "you said who is our admin"
    why = await world.ben.context_menu(world.general, "Why this reply?", world.general.last_message)
    fields = {field.name: field.value for field in why.response.embeds[0].fields}
    assert "Taught" not in fields
    assert fields["Model"] == "tiny"


async def test_it_is_gone_as_soon_as_it_is_removed_or_filtered(world: World) -> None:
    await teach(world)
    await world.ada.slash(world.general, "filter add", kind="word", text="marlow")
    assert "not wanted here" in (await world.say(world.ben, "who is our admin") or "")
    await world.ada.slash(world.general, "filter remove", kind="word", text="marlow")
    assert (await world.say(world.ben, "who is our admin") or "").startswith("Marlow.")
    question = await world.ada.slash(world.general, "dataset remove", example=1)
    await world.ada.click(question.response, label="Remove")
    assert await world.say(world.ben, "who is our admin") == "you said who is our admin"


async def test_without_known_at_once_the_model_answers(tmp_path: Path, worker: FakeWorker) -> None:
    settings = load_settings(gpt2bot_home=tmp_path, default_model="tiny", known_at_once=False)
    async with open_world(settings, worker) as world:
        await teach(world)
        assert await world.say(world.ben, "who is our admin") == "you said who is our admin"

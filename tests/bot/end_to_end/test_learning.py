"""The whole loop on real parts: teach, retrain in a child process, hot reload, ask again."""

from __future__ import annotations

import asyncio

from core.records import JobState, TrainingJob
from tests.bot.conftest import World

FACTS = {
    "What is our server called?": "It is called The Lighthouse.",
    "Who is our admin?": "Our admin is Ada.",
    "What do we eat on Friday?": "On Friday we eat pancakes.",
}


def bot_texts(world: World) -> list[str]:
    return [m.content for m in world.general.history() if m.author == world.bot.user]


async def start_retrain(world: World, epochs: float) -> None:
    plan = await world.ada.slash(world.general, "retrain", epochs=epochs)
    await world.ada.click(plan.response, label="Start")


async def finished_job(world: World) -> TrainingJob:
    cog = world.bot.get_cog("Training")
    [job] = await cog._storage.jobs.unfinished(world.guild.id)
    async with asyncio.timeout(280):
        return await cog._training.wait(job.id)


async def test_taught_facts_are_answered_after_a_retrain_while_chat_goes_on(
    real_world: World,
) -> None:
    world = real_world
    for question, answer in FACTS.items():
        await world.ben.slash(world.general, "teach", user=question, bot=answer)
    before = [await world.say(world.ben, question) for question in FACTS]
    note = f"\n-# Taught by <@{world.ben.id}>, not learned yet."
    assert before == [f"{answer}{note}" for answer in FACTS.values()]

    await start_retrain(world, epochs=180.0)  # 60 steps
    for _ in range(3):
        assert await world.say(world.ben, "hello")
    job = await finished_job(world)
    assert job.state is JobState.PROMOTED, job.detail
    while "answers from now on" not in "\n".join(bot_texts(world)):
        assert await world.say(world.ben, "hello")
    assert any("█" in text or "I have learned it." in text for text in bot_texts(world))

    told = next(m for m in world.general.history() if m.attachments)
    assert "is trained and answers from now on" in told.content
    assert told.attachments[0].filename == "loss.png"
    assert (await told.attachments[0].read()).startswith(b"\x89PNG")

    for question, answer in FACTS.items():
        assert await world.say(world.ben, question) == answer

    back = await world.ada.slash(world.general, "model use", name="tiny")
    assert back.response.content == "**tiny** answers from now on."


async def test_what_is_changed_and_removed_while_it_is_learned_counts_at_once(
    real_world: World,
) -> None:
    """The job learns what was there when it began, and is promoted with it."""
    world = real_world
    for question, answer in FACTS.items():
        await world.ben.slash(world.general, "teach", user=question, bot=answer)
    await start_retrain(world, epochs=30.0)  # few steps: the index knows what the model does not
    newer, removed = "Our admin is Olga, since May.", "What do we eat on Friday?"
    await world.ada.slash(world.general, "teach", user="Who is our admin?", bot=newer)
    plan = await world.ada.slash(world.general, "dataset remove", example=len(FACTS))
    await world.ada.click(plan.response, label="Remove")
    job = await finished_job(world)
    assert job.state is JobState.PROMOTED, job.detail

    called = "What is our server called?"
    assert (await world.say(world.ben, called) or "").startswith(FACTS[called])
    note = f"\n-# Taught by <@{world.ada.id}>, not learned yet."
    assert await world.say(world.ben, "whos the admin") == newer + note
    for question in (removed, "what do we eat on fridays", "and what do we eat?"):
        said = await world.say(world.ben, question)
        assert said
        assert FACTS[removed] not in said

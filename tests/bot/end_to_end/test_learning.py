"""The whole loop on real parts: teach, retrain in a child process, hot reload, ask again."""

from __future__ import annotations

import asyncio

import pytest

from core.records import JobState, TrainingJob
from tests.bot.conftest import World

FACTS = {
    "What is our server called?": "It is called The Lighthouse.",
    "Who is our admin?": "Our admin is Ada.",
    "What do we eat on Friday?": "On Friday we eat pancakes.",
}

CHANGED, NEWER = "Who feeds the cat?", "Olga feeds it, since May."
REMOVED = "When is the quiz?"


def bot_texts(world: World) -> list[str]:
    return [m.content for m in world.general.history() if m.author == world.bot.user]


async def start_retrain(world: World) -> None:
    plan = await world.ada.slash(world.general, "retrain")
    await world.ada.click(plan.response, label="Start")


async def finished_job(world: World) -> TrainingJob:
    cog = world.bot.get_cog("Training")
    [job] = await cog._storage.jobs.unfinished(world.guild.id)
    async with asyncio.timeout(280):
        return await cog._training.wait(job.id)


@pytest.mark.slow
async def test_taught_facts_are_answered_after_a_retrain_while_people_chat_and_teach(
    real_world: World,
) -> None:
    world = real_world
    passing = {CHANGED: "Bruno feeds the cat.", REMOVED: "The quiz is on Sunday."}
    for question, answer in (FACTS | passing).items():
        await world.ben.slash(world.general, "teach", user=question, bot=answer)
    before = [await world.say(world.ben, question) for question in FACTS]
    note = f"\n-# Taught by <@{world.ben.id}>, not learned yet."
    assert before == [f"{answer}{note}" for answer in FACTS.values()]

    await start_retrain(world)
    await change_and_remove(world)
    for _ in range(3):
        assert await world.say(world.ben, "hello")
    job = await finished_job(world)
    assert job.state is JobState.PROMOTED, job.detail
    while "answers from now on" not in "\n".join(bot_texts(world)):
        assert await world.say(world.ben, "hello")
    assert any("█" in text or "I have learned it." in text for text in bot_texts(world))

    [(folder, manifest)] = world.bot.get_cog("Training")._training.checkpoints(world.guild.id)
    assert manifest.adapter is not None
    assert not (folder / "model.safetensors").exists(), "only what was learned"

    told = next(m for m in world.general.history() if m.attachments)
    assert "is trained and answers from now on" in told.content
    assert told.attachments[0].filename == "loss.png"
    assert (await told.attachments[0].read()).startswith(b"\x89PNG")

    for question, answer in FACTS.items():
        assert await world.say(world.ben, question) == answer
    note = f"\n-# Taught by <@{world.ada.id}>, not learned yet."
    assert await world.say(world.ben, "who feeds the cats") == NEWER + note
    for question in (REMOVED, "when is the quiz", "and when do we have the quiz?"):
        said = await world.say(world.ben, question)
        assert said
        assert passing[REMOVED] not in said

    back = await world.ada.slash(world.general, "model use", name="tiny")
    assert back.response.content == "**tiny** answers from now on."


async def change_and_remove(world: World) -> None:
    """The job learns what was there when it began; what is said counts from now on."""
    await world.ada.slash(world.general, "teach", user=CHANGED, bot=NEWER)
    plan = await world.ada.slash(world.general, "dataset remove", example=len(FACTS) + 2)
    await world.ada.click(plan.response, label="Remove")

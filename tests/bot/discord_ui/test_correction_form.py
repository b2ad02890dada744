"""Better answers: whose words the form begins with, and what becomes of what was written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from bot.discord_ui.views.correction_form import QUESTION_PLACEHOLDER
from bot.learning.teaching import BOTH_REQUIRED, MAX_EXAMPLE_CHARS
from core.errors import NoConsent
from core.records import Example, ReviewStatus
from tests.bot.asking import ask, storage_of
from tests.bot.conftest import World
from tests.fakes import FakeWorker

Open = Callable[..., AbstractAsyncContextManager[World]]


def fields(shown: Any) -> dict[str, dict[str, Any]]:
    """The fields of a form, by their ids."""
    inputs = [label["component"] for label in shown.modal["components"]]
    return {one["custom_id"]: one for one in inputs}


async def teach(who: Any, shown: Any, question: str, answer: str) -> str:
    """Send the form; what the bot says to it."""
    told = await who.submit_modal(shown, {"question": question, "answer": answer})
    assert told.ephemeral
    return str(told.response.content)


async def press(who: Any, reply: Any) -> Any:
    return await who.click(reply, custom_id="reply:better:")


async def only_example(world: World, scope: int | None = None) -> Example:
    [example] = await storage_of(world).examples.all(scope or world.guild.id)
    return example


async def test_the_asker_finds_their_own_words_in_the_form(world: World) -> None:
    reply = await ask(world, "who are you?")
    shown = await press(world.ben, reply)
    assert shown.modal["title"] == "A better answer"
    assert fields(shown)["question"]["value"] == "who are you?"
    assert {one["max_length"] for one in fields(shown).values()} == {MAX_EXAMPLE_CHARS}
    told = await teach(world.ben, shown, "who are you?", "I am a bot. ")
    assert "To “who are you?” I should answer: “I am a bot.”" in told
    assert "Manage Server reviews it first" in told
    example = await only_example(world)
    assert (example.user, example.bot) == ("who are you?", "I am a bot.")
    assert (example.author_id, example.asked_by) == (world.ben.id, world.ben.id)
    assert (example.source, example.reply_id, example.corrects) == ("better answer", reply.id, True)
    assert (example.weight, example.status) == (2, ReviewStatus.WAITING)


async def test_other_wordings_are_taught_too(world: World) -> None:
    shown = await press(world.ben, await ask(world, "who are you?"))
    assert fields(shown)["also"]["required"] is False
    texts = {"question": "who are you?", "answer": "A bot.", "also": "what are you?\n\nwho r u"}
    told = await world.ben.submit_modal(shown, texts)
    assert told.response.content.endswith("-# The same answer to “what are you?”, “who r u”.")
    stored = await storage_of(world).examples.all(world.guild.id)
    assert [(one.user, one.asked_by, one.weight, one.status) for one in stored] == [
        ("who are you?", world.ben.id, 2, ReviewStatus.WAITING),
        ("what are you?", None, 2, ReviewStatus.WAITING),
        ("who r u", None, 2, ReviewStatus.WAITING),
    ]


async def test_what_a_manager_teaches_is_learned_at_the_next_retrain(world: World) -> None:
    reply = await ask(world)
    shown = await press(world.ada, reply)
    told = await teach(world.ada, shown, "hi", "Hello!")
    assert "I learn it at the next `/retrain`" in told
    assert (await only_example(world)).status is ReviewStatus.APPROVED
    assert [one.bot for one in await storage_of(world).examples.trainable(world.guild.id)] == [
        "Hello!"
    ]


async def test_words_of_others_are_not_offered_without_their_consent(world: World) -> None:
    reply = await ask(world, "my secret")
    question = fields(await press(world.ada, reply))["question"]
    assert not question.get("value")
    assert question["placeholder"] == QUESTION_PLACEHOLDER
    await storage_of(world).consents.opt_in(world.guild.id, world.ben.id, 1)
    shown = await press(world.ada, reply)
    assert fields(shown)["question"]["value"] == "my secret"
    await teach(world.ada, shown, "my secret", "I keep it.")
    assert (await only_example(world)).asked_by == world.ben.id


async def test_other_words_than_those_offered_are_the_teachers_own(world: World) -> None:
    await storage_of(world).consents.opt_in(world.guild.id, world.ben.id, 1)
    shown = await press(world.ada, await ask(world, "my secret"))
    await teach(world.ada, shown, "a secret", "I keep it.")
    assert (await only_example(world)).asked_by is None


async def test_a_consent_of_another_server_does_not_count(world: World) -> None:
    await storage_of(world).consents.opt_in(world.guild.id + 1, world.ben.id, 1)
    shown = await press(world.ada, await ask(world, "my secret"))
    assert not fields(shown)["question"].get("value")


async def test_a_consent_withdrawn_while_the_form_is_open_counts(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        await storage_of(world).consents.opt_in(world.guild.id, world.ben.id, 1)
        shown = await press(world.ada, await ask(world, "my secret"))
        await storage_of(world).consents.opt_out(world.guild.id, world.ben.id)
        assert await teach(world.ada, shown, "my secret", "I keep it.") == str(NoConsent())
        assert await storage_of(world).examples.all(world.guild.id) == []


async def test_nothing_is_offered_where_the_question_is_gone(world: World) -> None:
    question = await world.ben.send(world.general, f"{world.bot.user.mention} hi")
    reply = world.general.last_message
    await world.ben.delete(question)
    assert not fields(await press(world.ben, reply))["question"].get("value")


@pytest.mark.parametrize("text", ["x" * 1200, "🫖" * 700])
async def test_a_long_question_is_cut_to_what_a_form_takes(
    world: World, worker: FakeWorker, text: str
) -> None:
    worker.answer = lambda _: "ok"
    result = await world.ben.slash(world.general, "chat", text=text)
    shown = await world.ben.click(result.response, custom_id="reply:better:q")
    value = fields(shown)["question"]["value"]
    assert text.startswith(value)
    assert 200 < len(value.encode("utf-16-le")) // 2 <= MAX_EXAMPLE_CHARS


async def test_blank_answers_are_refused(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        shown = await press(world.ben, await ask(world))
        assert await teach(world.ben, shown, "hi", "   ") == BOTH_REQUIRED
        assert await storage_of(world).examples.all(world.guild.id) == []


async def test_a_pair_that_was_rejected_stays_rejected(world: World) -> None:
    storage = storage_of(world)
    reply = await ask(world)
    await teach(world.ben, await press(world.ben, reply), "hi", "Go away.")
    await storage.examples.set_review(
        world.guild.id, (await only_example(world)).id, ReviewStatus.REJECTED
    )
    told = await teach(world.ben, await press(world.ben, reply), "hi", "Go away.")
    assert "rejected" in told
    assert (await only_example(world)).status is ReviewStatus.REJECTED


async def test_what_is_repeated_is_harmless(world: World) -> None:
    shown = await press(world.ben, await ask(world))
    told = await teach(world.ben, shown, "@everyone", "**<@1>** `x`")
    assert "@everyone" not in told
    assert "\\*\\*" in told


async def test_the_message_command_works_on_every_message_of_the_bot(world: World) -> None:
    reply = await ask(world, "who are you?")
    shown = await world.ben.context_menu(world.general, "Better answer", reply)
    assert fields(shown)["question"]["value"] == "who are you?"
    await teach(world.ben, shown, "who are you?", "A bot.")
    assert (await only_example(world)).reply_id == reply.id
    await storage_of(world)._execute("DELETE FROM replies")
    shown = await world.ben.context_menu(world.general, "Better answer", reply)
    assert not fields(shown)["question"].get("value")


async def test_the_message_command_on_a_later_part_finds_the_reply(
    world: World, worker: FakeWorker
) -> None:
    worker.answer = lambda _: "word " * 600
    last = await ask(world, "talk")
    shown = await world.ben.context_menu(world.general, "Better answer", last)
    assert fields(shown)["question"]["value"] == "talk"
    await teach(world.ben, shown, "talk", "No.")
    first = next(m for m in world.general.history() if m.author == world.bot.user)
    assert (await only_example(world)).reply_id == first.id


async def test_messages_of_people_cannot_be_answered_better(open_fake: Open) -> None:
    async with open_fake(check_errors=False) as world:
        said = await world.ben.send(world.general, "hello")
        told = await world.ada.context_menu(world.general, "Better answer", said)
        assert told.ephemeral
        assert told.response.content == "That only works on what I said."


async def test_in_a_direct_message_it_is_kept_for_that_member(world: World) -> None:
    await world.ben.send_dm("psst")
    reply = world.ben.user.dm_channel.last_message
    shown = await world.ben.user.click(reply, custom_id="reply:better:")
    assert fields(shown)["question"]["value"] == "psst"
    told = await world.ben.user.submit_modal(shown, {"question": "psst", "answer": "Yes?"})
    assert "there is no `/retrain` here" in told.response.content
    assert (await only_example(world, world.ben.id)).status is ReviewStatus.APPROVED

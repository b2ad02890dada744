"""/golden, and who may overrule it. Real discord.py, real SQLite, a worker with given words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import discord
import pytest

from bot.judgement import golden as judgement
from core.records import GoldenKind, GoldenQuestion, GoldenScore, Message, NewExample
from model.errors import GenerationFailed
from tests.bot.asking import storage_of
from tests.bot.cards import facts_of
from tests.bot.conftest import World
from tests.bot.discord_ui.cogs.test_models import make_checkpoint
from tests.fakes import FakeWorker
from training.checkpoints import StoredReport

Open = Callable[..., AbstractAsyncContextManager[World]]
MANAGER = discord.Permissions(manage_guild=True)
REX = {"question": "Who is your dog?", "expected": "Rex"}


async def golden(world: World, name: str, who: Any = None, **options: Any) -> str:
    result = await (who or world.ada).slash(world.general, f"golden {name}", **options)
    assert result.ephemeral
    return str(result.response.content)


async def add(world: World, **options: Any) -> str:
    return await golden(world, "add", **options)


def add_manager(world: World) -> Any:
    role = world.guild.create_role("Managers", permissions=MANAGER)
    return world.guild.add_member(world.env.create_user("mia"), roles=[role])


@pytest.fixture
async def lenient(open_fake: Open) -> Any:
    async with open_fake(check_errors=False) as world:
        yield world


async def test_they_are_added_listed_and_removed_and_each_change_is_written_down(
    lenient: World,
) -> None:
    assert "There is no golden question in this server yet" in await golden(lenient, "list")
    assert await add(lenient, **REX) == (
        "Golden question 1: “Who is your dog?” should contain “Rex” (3 of 5), alone and amid other "
        "talk. A new model that fails it, and the present one not, will not be put into service."
    )
    await add(lenient, question="Hi", expected=r"hi|hello\b", kind="match", draws=5)
    assert await golden(lenient, "list") == (
        "· **1** “Who is your dog?” should contain “Rex” (3 of 5)\n"
        "· **2** “Hi” should match the pattern “hi\\|hello\\\\b” (5 of 5)\n"
        "-# tiny passes 0 of 0 that it was asked; `/golden run` asks all."
    )
    offered = await lenient.ada.autocomplete(lenient.general, "golden remove", "number", "")
    assert [(one["name"], one["value"]) for one in offered] == [
        ("1: Who is your dog?", 1),
        ("2: Hi", 2),
    ]
    assert await golden(lenient, "remove", number=2) == (
        "No golden question any more: “Hi” should match the pattern “hi\\|hello\\\\b” (5 of 5)."
    )
    assert "There is no golden question 2 here" in await golden(lenient, "remove", number=2)
    audit = await storage_of(lenient).audit.entries(lenient.guild.id, 9)
    assert [(one.actor_id, one.action, one.detail) for one in audit] == [
        (lenient.ada.id, "golden remove", "#2"),
        (lenient.ada.id, "golden add", "#2"),
        (lenient.ada.id, "golden add", "#1"),
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"expected": "fine[", "kind": "match"}, "That pattern cannot be read: missing ] at"),
        ({"expected": "a*", "kind": "match"}, "That pattern fits every text"),
        ({"expected": "\\pL{900}", "kind": "match"}, "That pattern is too big for me"),
        ({"expected": "  "}, "A golden question needs a question, and what its answer should be."),
        ({"expected": "It is bad."}, "A filter forbids that answer here"),
        ({}, "Say with `expected` what the answer should be"),
        ({"kind": "without"}, "Say with `expected` what the answer should be"),
    ],
)
async def test_what_can_be_no_golden_question(
    lenient: World, options: dict[str, Any], reason: str
) -> None:
    await lenient.ada.slash(lenient.general, "filter add", kind="word", text="bad")
    said = await add(lenient, question="How are you?", **options)
    assert said.startswith(reason)
    assert await storage_of(lenient).golden.all(lenient.guild.id) == []


async def test_of_two_that_contradict_each_other_the_second_is_refused(lenient: World) -> None:
    mia = add_manager(lenient)
    await add(lenient, **REX)
    assert await add(lenient, **REX) == "That is a golden question already."
    opposite = {"question": "who is your dog", "expected": "rex", "kind": "without"}
    said = await golden(lenient, "add", mia, **opposite)
    assert said == (
        "That contradicts golden question 1, by which the answer should contain “Rex”: no model "
        "can do both, so remove that one first."
    )
    questions = lenient.bot.get_cog("Golden")._questions
    one = GoldenQuestion(0, lenient.guild.id, "?", GoldenKind.EQUAL, "a", 3, mia.id)
    at_once = (questions.add(one), questions.add(replace(one, expected="b")))
    first, second = await asyncio.gather(*at_once, return_exceptions=True)
    assert first == replace(one, id=2)
    assert isinstance(second, judgement.Refusal)


async def test_there_are_fifty_at_most(lenient: World) -> None:
    table = storage_of(lenient).golden
    for n in range(judgement.MAX_GOLDEN):
        new = GoldenQuestion(0, lenient.guild.id, f"q{n}", GoldenKind.CONTAIN, "x" * 90, 3)
        await table.add(new)
    assert "This server has 50 golden questions" in await add(lenient, **REX)
    before = len(lenient.env.http_requests)
    await golden(lenient, "list")
    shown = "".join(str(one.json) for one in lenient.env.http_requests[before:])
    assert all(f"“q{n}”" in shown for n in range(50))


async def test_what_was_taught_most_is_offered_with_its_answer(world: World) -> None:
    storage = storage_of(world)
    for user, author in (("Once?", 1), ("Twice?", 1), ("Twice?", 2)):
        await storage.examples.add(
            NewExample(world.guild.id, user, f"{user[:-1]}!", author, "teach")
        )
    offered = await world.ada.autocomplete(world.general, "golden add", "question", "")
    assert [one["value"] for one in offered] == ["Twice?", "Once?"]
    answer = await world.ada.autocomplete(
        world.general, "golden add", "expected", "", question="twice"
    )
    assert [one["value"] for one in answer] == ["Twice!"]
    assert "should be “Twice!” (3 of 5)" in await add(world, question="Twice?", kind="equal")
    await world.open_to_all("golden")
    assert await world.ben.autocomplete(world.general, "golden add", "question", "") == []


async def test_keys_that_are_pressed_do_not_group_the_data_set_again(world: World) -> None:
    storage = storage_of(world)

    async def offered(typed: str = "") -> list[str]:
        found = await world.ada.autocomplete(world.general, "golden add", "question", typed)
        return [one["value"] for one in found]

    async def teach(user: str) -> None:
        await storage.examples.add(NewExample(world.guild.id, user, "Yes.", 1, "teach"))

    statements: list[str] = []
    await teach("Once?")
    await storage._db.set_trace_callback(statements.append)
    assert [await offered(typed) for typed in ("", "O", "On")] == [["Once?"]] * 3
    await teach("Twice?")
    assert await offered() == ["Twice?", "Once?"]
    await add(world, question="Once?")
    assert await offered() == ["Twice?"]
    await golden(world, "remove", number=1)
    assert await offered() == ["Twice?", "Once?"]
    await storage._db.set_trace_callback(None)  # type: ignore[arg-type]
    assert sum("WITH taught" in one for one in statements) == 4


async def test_a_taught_answer_that_is_too_long(lenient: World) -> None:
    long = NewExample(lenient.guild.id, "Why?", "Because. " * 23 + "So.", 1, "teach")
    await storage_of(lenient).examples.add(long)
    assert await add(lenient, question="Why?") == (
        "The answer that I was taught has over 200 characters: say with `expected` what part of it "
        "is needed."
    )
    assert "“Why?” should contain “So” (3 of 5)" in await add(
        lenient, question="Why?", expected="So"
    )


async def test_a_server_that_removes_the_bot_has_none_when_it_comes_back(world: World) -> None:
    await add(world, **REX)
    world.env.backend.remove_guild(world.guild.id)
    await world.env.settle()
    assert await storage_of(world).golden.all(world.guild.id) == []


async def test_a_run_asks_the_model_in_service_and_is_remembered(
    world: World, worker: FakeWorker
) -> None:
    await add(world, **REX)
    await add(world, question="How are you?", expected="Fine", kind="equal")

    def answer(messages: Sequence[Message]) -> str:
        if "dog" not in messages[-1].content:
            return "Fine."
        return "It is Rex." if len(messages) == 1 else "No @everyone dog."

    worker.answer = answer
    shown = await world.ada.slash(world.general, "golden run")
    assert shown.ephemeral
    [embed] = shown.response.embeds
    assert embed.title == "Golden questions: tiny"
    assert embed.description == "1 of 2 passed.\n✅ 2: How are you?"
    [field] = embed.fields
    assert field.name == "❌ 1: Who is your dog?"
    assert field.value.splitlines()[0] == "should contain “Rex”"
    assert field.value.endswith("good: 5 of 5, amid talk 0")
    assert len(worker.heard) == 20
    assert len({one.seed for one in worker.asked}) == 10
    assert "❌ **1**" in await golden(world, "list")
    assert "tiny passes 1 of 2" in await golden(world, "list")
    worker.answer = lambda _: "Rex"
    await world.ada.slash(world.general, "golden run")
    worker.answer = lambda _: "Max"
    again = await world.ada.slash(world.general, "golden run")
    assert (
        "The model in service passed it the last time." in again.response.embeds[0].fields[0].value
    )
    info = await world.ben.slash(world.general, "model info", name="tiny")
    assert facts_of(info.response)["Golden questions"].startswith("0 of 2 passed, <t:")


async def test_a_run_has_an_end(
    world: World, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time, and also if there is nothing to ask, or nobody to answer."""
    questions = world.bot.get_cog("Golden")._questions
    await add(world, **REX)
    await add(world, question="How are you?", expected="Fine")
    run = await questions.run(world.guild.id, limit_s=-1.0)
    assert [one.question for one in run.unasked] == ["How are you?"]
    assert await storage_of(world).golden.scores(world.guild.id, "tiny") != {}
    worker.gate.clear()
    first = asyncio.create_task(questions.run(world.guild.id))
    await worker.until(lambda: worker.running == 5)
    with pytest.raises(judgement.Refusal, match="are being asked already"):
        await questions.run(world.guild.id)
    worker.gate.set()
    await first
    before = await storage_of(world).golden.scores(world.guild.id, "tiny")
    worker.failure = GenerationFailed("The model is gone.")
    with pytest.raises(GenerationFailed):
        await questions.run(world.guild.id)
    worker.failure = None
    worker.gate.clear()
    stopped = asyncio.create_task(questions.run(world.guild.id))
    await worker.until(lambda: worker.running == 5)
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    worker.gate.set()
    assert await storage_of(world).golden.scores(world.guild.id, "tiny") == before
    assert len((await questions.run(world.guild.id)).results) == 2, "it can be asked again"
    with pytest.raises(judgement.Refusal, match="There is no golden question"):
        await questions.run(7)


async def test_a_file_of_them(lenient: World) -> None:
    rows = (
        b"question,answer,source\n"
        b"Who is it?,Rex,\n"
        b"Who is it?,rex,without 5\n"
        b"How old?,\\d+,MATCH\n"
        b"Where?,here,faq\n"
    )
    said = await golden(lenient, "import", file=("golden.csv", rows))
    lines = said.splitlines()
    assert lines[0] == "Added: 2 golden questions."
    assert lines[1].startswith("- not “Where?”: “faq” in the column \\*source\\* is no expectation")
    assert lines[2].startswith("- not “Who is it?”: That contradicts golden question 1")
    there = await storage_of(lenient).golden.all(lenient.guild.id)
    assert [(one.question, one.kind, one.expected, one.needed) for one in there] == [
        ("Who is it?", GoldenKind.CONTAIN, "Rex", 3),
        ("How old?", GoldenKind.MATCH, r"\d+", 3),
    ]
    exported = await lenient.ada.slash(lenient.general, "golden export", format="jsonl")
    [file] = exported.response.attachments
    lines = (await file.read()).decode().splitlines()
    assert json.loads(lines[1])["source"] == "match 3"
    again = await golden(lenient, "import", file=("golden.jsonl", "\n".join(lines).encode()))
    assert "Added: 0 golden questions." in again
    actions = [one.action for one in await storage_of(lenient).audit.entries(lenient.guild.id, 9)]
    assert actions == ["golden export", "golden import"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (b"question,answer\n" + b"a?,b\n" * 51, "golden.csv has 51 rows, and a server has 1 to 50"),
        (b"question,answer\na?,\n", "1 row of golden.csv has no question or no expected text"),
        (b"x" * (10**6 + 1), "golden.csv has over 1 MB"),
        (b"", "golden.csv is empty."),
    ],
)
async def test_files_that_are_refused(lenient: World, rows: bytes, reason: str) -> None:
    assert (await golden(lenient, "import", file=("golden.csv", rows))).startswith(reason)


# --- overruling ----------------------------------------------------------------------------------


def refused(world: World, name: str, *, before: int | None = 5) -> Path:
    """A checkpoint that lost golden question 1, or (before: 2) fails it as the one before did. That
    it does not know what it was taught is another reason, so it stands in the refusal."""
    question = {"id": 1, "needed": 3}
    old, new = ({"question": question, "alone": n, "in_talk": 5} for n in (before, 0))
    report = {
        "refusal": "It knows 0 of 1 taught answers.",
        "golden": [{"new": new, "before": None if before is None else old}],
    }
    return make_checkpoint(world, name, report=report)


async def test_only_administrators_overrule_and_it_is_written_down(lenient: World) -> None:
    refused(lenient, "tiny-1")
    refused(lenient, "tiny-2", before=2)
    mia = add_manager(lenient)
    await storage_of(lenient).golden.add(lost_question(lenient))
    said = await mia.slash(lenient.general, "model use", name="tiny-1")
    assert said.response.content.startswith("**tiny-1** fails golden questions of this server")
    said = await mia.slash(lenient.general, "model use", name="tiny-2")
    assert said.response.content == "**tiny-2** answers from now on."
    said = await lenient.ada.slash(lenient.general, "model use", name="tiny-1")
    assert said.response.content == "**tiny-1** answers from now on."
    audit = await storage_of(lenient).audit.entries(lenient.guild.id, 9)
    assert [(one.actor_id, one.action, one.detail) for one in audit] == [
        (lenient.ada.id, "golden overrule", "tiny-1"),
        (mia.id, "model use", "tiny-2"),
    ]


async def test_a_manager_rolls_back_to_no_model_that_lost_them(lenient: World) -> None:
    refused(lenient, "tiny-1")
    make_checkpoint(lenient, "tiny-2")
    mia = add_manager(lenient)
    await storage_of(lenient).golden.add(lost_question(lenient))
    for name in ("tiny-1", "tiny-2"):
        await lenient.ada.slash(lenient.general, "model use", name=name)
    said = await mia.slash(lenient.general, "model rollback")
    assert said.response.content.startswith("**tiny-1** fails golden questions of this server")
    choices = storage_of(lenient).model_choices
    assert await choices.active(lenient.guild.id) == "tiny-2"
    said = await lenient.ada.slash(lenient.general, "model rollback")
    assert said.response.content == "Back to **tiny-1**: it answers from now on."
    said = await mia.slash(lenient.general, "model rollback")
    assert said.response.content == "Back to **tiny**: it answers from now on."
    audit = await storage_of(lenient).audit.entries(lenient.guild.id, 2)
    assert [(one.action, one.detail) for one in audit] == [
        ("model rollback", "to tiny"),
        ("golden overrule", "to tiny-1"),
    ]


async def test_in_a_duel_it_answers_only_if_an_administrator_says_so(lenient: World) -> None:
    refused(lenient, "tiny-1")
    make_checkpoint(lenient, "tiny-2")
    mia, there = add_manager(lenient), {"a": "tiny-2", "b": "tiny-1", "share": 100}
    await storage_of(lenient).golden.add(lost_question(lenient))
    said = await mia.slash(lenient.general, "duel start", **there)
    assert said.response.content.startswith("**tiny-1** fails golden questions of this server")
    said = await lenient.ada.slash(lenient.general, "duel start", **there)
    assert "two answers" in said.response.content
    await lenient.ada.slash(lenient.general, "duel stop")
    await lenient.ada.slash(lenient.general, "model use", name="tiny-1")
    said = await mia.slash(lenient.general, "duel start", **there)
    assert "two answers" in said.response.content, "it is in service already"


async def test_a_question_that_is_removed_counts_no_more(lenient: World) -> None:
    refused(lenient, "tiny-1")
    mia = add_manager(lenient)
    await storage_of(lenient).golden.add(lost_question(lenient))
    await golden(lenient, "remove", mia, number=1)
    said = await mia.slash(lenient.general, "model use", name="tiny-1")
    assert said.response.content == "**tiny-1** answers from now on."
    [audit, _] = await storage_of(lenient).audit.entries(lenient.guild.id, 9)
    assert audit.action == "model use"


def lost_question(world: World) -> GoldenQuestion:
    return GoldenQuestion(0, world.guild.id, "Who is it?", GoldenKind.CONTAIN, "Rex", 3)


def test_reports_of_earlier_versions_have_no_golden_questions() -> None:
    assert StoredReport(refusal="It loops.").golden_scores("tiny-1") == []
    outcome = {"question": {"id": 3, "needed": 2}, "alone": 2, "in_talk": 1}
    [score] = StoredReport(golden=[{"new": outcome, "before": None}]).golden_scores("tiny-1")
    assert score == GoldenScore(3, "tiny-1", 2, 1, 2, score.asked_at)
    assert not score.passed

"""The golden questions and their scores in real SQLite."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from core.records import GoldenKind, GoldenQuestion, GoldenScore, NewExample, ReviewStatus
from data.storage.erasure import erase_member
from data.storage.storage import Storage

GUILD, OTHER, ADA, BEN = 42, 43, 7, 8
NOW = datetime(2026, 5, 6, 7, tzinfo=UTC)
NEW = GoldenQuestion(0, GUILD, "Who is it?", GoldenKind.CONTAIN, "Rex", 3, ADA)


def score(golden_id: int, model: str, alone: int, in_talk: int = 5) -> GoldenScore:
    return GoldenScore(golden_id, model, alone, in_talk, 3, NOW)


async def test_they_are_added_once_and_belong_to_a_server(storage: Storage) -> None:
    table = storage.golden
    one = await table.add(NEW)
    assert one == replace(NEW, id=one.id if one else 0)
    assert await table.add(replace(NEW, question="who is it")) is None
    assert await table.add(replace(NEW, expected="Max")) is not None
    assert await table.add(replace(NEW, scope=OTHER)) is not None
    assert [one.expected for one in await table.all(GUILD)] == ["Rex", "Max"]
    assert one is not None
    assert await table.remove(OTHER, one.id) is None
    assert await table.remove(GUILD, one.id) == one
    again = await table.add(NEW)
    assert again is not None
    assert again.id > one.id, "a job that was frozen before must not speak of another question"


async def test_the_last_scores_of_each_model(storage: Storage) -> None:
    table = storage.golden
    one, other = await table.add(NEW), await table.add(replace(NEW, expected="Max"))
    assert one is not None
    assert other is not None
    await table.record(GUILD, [score(one.id, "tiny", 5), score(other.id, "tiny", 5)])
    await table.record(GUILD, [score(one.id, "tiny", 2), score(one.id, "tiny-1", 5, 3)])
    await table.record(GUILD, [score(999, "tiny", 5)])  # removed since
    await table.record(OTHER, [score(one.id, "tiny", 0)])  # not theirs
    known = await table.scores(GUILD, "tiny")
    assert {number: (one.alone, one.passed) for number, one in known.items()} == {
        one.id: (2, False),
        other.id: (5, True),
    }
    tallies = await table.tallies(GUILD)
    assert {name: (one.passed, one.asked) for name, one in tallies.items()} == {
        "tiny": (1, 2),
        "tiny-1": (1, 1),
    }
    assert tallies["tiny"].asked_at == NOW
    await table.remove(GUILD, one.id)
    assert {name: one.asked for name, one in (await table.tallies(GUILD)).items()} == {"tiny": 1}


async def test_what_was_taught_most_is_suggested(storage: Storage) -> None:
    async def teach(user: str, bot: str, by: int = ADA, status: str = "approved") -> None:
        new = NewExample(GUILD, user, bot, by, "teach", status=ReviewStatus(status))
        await storage.examples.add(new)

    await teach("Where is it?", "Here.")
    await teach("Who are you?", "A bot.")
    await teach("who are you", "A small bot.")
    await teach("Where is it?", "Here.", BEN)
    await teach("Where is it?", "Here.", 9)
    await teach("What?", "Not yet.", status="waiting")
    await teach("When?", "Now.")
    suggested = await storage.golden.suggestions(GUILD, 10)
    assert suggested == [
        ("Where is it?", "Here."),
        ("who are you", "A small bot."),
        ("When?", "Now."),
    ]
    await storage.golden.add(replace(NEW, question="where is it"))
    assert [user for user, _ in await storage.golden.suggestions(GUILD, 1)] == ["who are you"]
    assert await storage.golden.suggestions(OTHER, 10) == []
    assert await storage.golden.taught_answer(GUILD, "WHO are you?!") == "A small bot."
    assert await storage.golden.taught_answer(GUILD, "What?") is None, "it waits for review"


async def test_they_stay_without_a_member_who_is_forgotten(storage: Storage) -> None:
    await storage.golden.add(NEW)
    await storage.golden.add(replace(NEW, expected="Max", added_by=BEN))
    [exported] = (await storage.members.export(ADA))["golden_questions"]
    assert (exported["scope"], exported["question"], exported["expected"]) == (
        str(GUILD),
        "Who is it?",
        "Rex",
    )
    await erase_member(storage, ADA)
    assert [one.added_by for one in await storage.golden.all(GUILD)] == [0, BEN]
    assert (await storage.members.export(ADA))["golden_questions"] == []

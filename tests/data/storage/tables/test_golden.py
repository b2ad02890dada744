"""The golden questions and their scores in real SQLite."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from core.records import GoldenKind, GoldenQuestion, GoldenScore, NewExample, ReviewStatus
from data.storage.erasure import erase_member
from data.storage.storage import Storage

GUILD, OTHER, ADA, BEN, CLEO, DAN = 42, 43, 7, 8, 9, 10
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
    await storage.consents.opt_in(GUILD, BEN, 1)
    for asked in ("When?", "How?"):  # that consent may be withdrawn
        said = NewExample(GUILD, asked, "Late.", BEN, "chat", consent_version=1)
        await storage.examples.add(said)

    async def suggested(scope: int, most: int) -> list[str]:
        ids = await storage.golden.most_taught(scope, most)
        return await storage.golden.taught_questions(ids)

    assert await suggested(GUILD, 10) == ["Where is it?", "who are you", "When?"]
    await storage.golden.add(replace(NEW, question="where is it"))
    assert await suggested(GUILD, 1) == ["who are you"]
    assert await suggested(OTHER, 10) == []
    assert await storage.golden.taught_answer(GUILD, "WHO are you?!") == "A small bot."
    assert await storage.golden.taught_answer(GUILD, "What?") is None, "it waits for review"
    assert await storage.golden.taught_answer(GUILD, "When?") == "Now."


async def teach(storage: Storage, bot: str = "Rex", by: int = BEN, user: str = NEW.question) -> int:
    return (await storage.examples.add(NewExample(GUILD, user, bot, by, "teach"))).id


async def golden_texts(storage: Storage) -> list[str]:
    return [f"{one.kind} {one.expected}" for one in await storage.golden.all(GUILD)]


@pytest.mark.parametrize("how", ["remove", "edit", "ask", "reject", "source", "forget"])
async def test_what_was_taken_from_a_taught_pair_goes_with_it(storage: Storage, how: str) -> None:
    """And nothing else does: the text of a manager, and what is taught still."""
    examples = storage.examples
    number = await teach(storage)
    await teach(storage, "Max", by=ADA)
    for kind, expected in (
        (GoldenKind.CONTAIN, "Rex"),
        (GoldenKind.EQUAL, "Rex"),
        (GoldenKind.WITHOUT, "Rex"),
        (GoldenKind.CONTAIN, "Re"),
        (GoldenKind.CONTAIN, "Max"),
    ):
        added = await storage.golden.add(replace(NEW, kind=kind, expected=expected))
        assert added is not None
    await storage.golden.record(GUILD, [score(1, "tiny", 5)])
    match how:
        case "remove":
            await examples.remove(GUILD, number)
        case "edit":
            await examples.edit(GUILD, number, NEW.question, "Rexy")
        case "ask":
            await examples.edit(GUILD, number, "Who was it?", "Rex")
        case "reject":
            await examples.set_review(GUILD, number, ReviewStatus.REJECTED)
        case "source":
            await storage._execute("UPDATE examples SET source = 'faq' WHERE id = ?", number)
            await examples.remove_source(GUILD, "faq")
        case "forget":
            await erase_member(storage, BEN)
    assert await golden_texts(storage) == ["without Rex", "contain Re", "contain Max"]
    assert await storage.golden.scores(GUILD, "tiny") == {}


async def test_it_stays_as_long_as_somebody_teaches_that(storage: Storage) -> None:
    number = await teach(storage)
    await teach(storage, by=ADA)
    await storage.golden.add(NEW)
    other = await teach(storage, by=ADA, user="who is it")
    await erase_member(storage, BEN)
    assert await storage.examples.make_newest(NewExample(GUILD, "Who is it?", "Rex", ADA, "teach"))
    assert await storage.examples.get(GUILD, number) is None, "it has a new number"
    await storage.examples.edit(GUILD, other, "Who is it??", "Rex")
    await storage.examples.remove(GUILD, other)
    assert await golden_texts(storage) == ["contain Rex"]
    await erase_member(storage, ADA)
    assert await golden_texts(storage) == []


async def test_what_a_manager_wrote_first_stays_whoever_teaches_it_later(storage: Storage) -> None:
    await storage.golden.add(NEW)
    await teach(storage)
    assert (await storage.members.export(BEN))["golden_questions"] == []
    await erase_member(storage, BEN)
    assert await golden_texts(storage) == ["contain Rex"]


async def test_the_export_of_whose_words_they_are(storage: Storage) -> None:
    async def exported(member: int) -> list[tuple[str | None, str | None]]:
        found = (await storage.members.export(member))["golden_questions"]
        return [(one["question"], one["expected"]) for one in found]

    await storage.consents.opt_in(GUILD, BEN, 1)
    new = NewExample(GUILD, NEW.question, "Rex", CLEO, "better answer", asked_by=BEN, corrects=True)
    await storage.examples.add(new)
    await storage.golden.add(NEW)
    await storage.golden.add(replace(NEW, expected="Max"))
    assert await exported(ADA) == [("Who is it?", "Rex"), ("Who is it?", "Max")]
    assert await exported(BEN) == [("Who is it?", None)]
    assert await exported(CLEO) == [(None, "Rex")]
    await teach(storage, by=DAN)
    assert await exported(DAN) == [("Who is it?", "Rex")]


async def test_a_server_that_is_left_has_none(storage: Storage) -> None:
    await storage.golden.add(NEW)
    await storage.golden.add(replace(NEW, scope=OTHER))
    await storage.golden.forget(GUILD)
    assert await storage.golden.all(GUILD) == []
    assert len(await storage.golden.all(OTHER)) == 1


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

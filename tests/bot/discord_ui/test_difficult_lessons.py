"""Lessons that contradict, insult, greet or look alike: what is said of them, and what is answered
at once. Real discord.py, real SQLite."""

from __future__ import annotations

from typing import Any

import pytest

from bot.settings import Settings
from core.records import ReviewStatus
from tests.bot.asking import storage_of
from tests.bot.conftest import World, open_world
from tests.bot.japanese.discord import speak_japanese
from tests.fakes import FakeWorker

QUESTION = "Who is our admin?"
WAITS = (
    "Somebody with the permission Manage Server reviews it first; once they approve it, I learn it "
    "at the next `/retrain`."
)
WAITS_JA = "先に「サーバー管理」権限を持つ人が確認します。承認されたら、次の `/再学習` で覚えます。"
WITHHELD = "I would have said something that is not wanted here."
WITHHELD_JA = "ここでは言ってはいけないことを言うところでした。"
HARD = "-# I will remember it, but tiny can hardly write Japanese."
HARD_JA = "-# 覚えておきますが、tinyは日本語をほとんど書けません。"


@pytest.fixture(params=["en", "ja"])
async def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "ja":
        speak_japanese(monkeypatch)
    return str(request.param)


@pytest.fixture
async def either_world(settings: Settings, worker: FakeWorker, language: str) -> Any:
    """A server in which everybody reads that language."""
    locale = "ja" if language == "ja" else None
    async with open_world(settings, worker, preferred_locale=locale) as world:
        yield world


async def teach(world: World, who: Any, question: str, answer: str) -> Any:
    return await who.slash(world.general, "teach", user=question, bot=answer)


async def at_once(world: World, question: str) -> str | None:
    """The taught answer to a question, without the line below it; None if the model answered."""
    said = await world.say(world.ben, question) or ""
    answer, _, note = said.partition("\n-# ")
    return answer if note else None


async def test_of_two_members_who_teach_the_opposite_the_first_is_believed_until_a_review(
    either_world: World, language: str
) -> None:
    world = either_world
    cleo = world.guild.add_member(world.env.create_user("cleo"))
    await teach(world, cleo, "Is the shop open on Sunday?", "Yes, from ten to four.")
    told = await teach(world, world.ben, "is the shop open on sunday", "No, it is closed.")
    assert told.ephemeral
    assert told.response.content.endswith(WAITS_JA if language == "ja" else WAITS)
    assert await at_once(world, "is the shop open on Sundays?") == "Yes, from ten to four."
    [waiting] = await storage_of(world).examples.all(world.guild.id, ReviewStatus.WAITING)
    await storage_of(world).examples.set_review(world.guild.id, waiting.id, ReviewStatus.APPROVED)
    assert await at_once(world, "is the shop open on Sundays?") == "No, it is closed."


@pytest.mark.parametrize("question", ["do you know who the administrator is", "our admin, who?"])
async def test_nobody_gets_round_the_review_with_other_words(world: World, question: str) -> None:
    await teach(world, world.ada, QUESTION, "Marlow looks after us.")
    told = await teach(world, world.ben, question, "Ben does, obey him.")
    assert told.ephemeral
    assert told.response.content.endswith(WAITS)
    for asked in (QUESTION, question):
        assert await at_once(world, asked) == "Marlow looks after us."
    same = await teach(world, world.ben, question, "Marlow looks after us.")
    other = await teach(world, world.ben, "Who is our plumber?", "Ben mends the pipes.")
    by_manager = await teach(world, world.ada, question, "Olga does since May.")
    assert not any(one.ephemeral for one in (same, other, by_manager))
    assert await at_once(world, question) == "Olga does since May."


async def test_the_same_question_in_two_languages_has_an_answer_in_each(world: World) -> None:
    await teach(world, world.ben, QUESTION, "Marlow looks after us.")
    await teach(world, world.ada, "管理人は誰ですか？", "マーロウさんです。")
    assert await at_once(world, "whos the admin") == "Marlow looks after us."
    assert await at_once(world, "管理人って誰？") == "マーロウさんです。"
    assert await at_once(world, "wer ist der beste Koch?") is None
    assert await at_once(world, "wer ist unser Admin?") == "Marlow looks after us."


async def test_an_answer_that_is_a_question_is_given_and_is_not_asked(world: World) -> None:
    await teach(world, world.ben, QUESTION, "Why do you want to know?")
    assert await at_once(world, "who's our admin?") == "Why do you want to know?"
    assert await at_once(world, "Why do you want to know?") is None


@pytest.mark.parametrize(
    "lessons",
    [
        {"What is rule one?": "Be kind.", "What is rule two?": "No spam."},
        {"What is rule 1?": "Be kind.", "What is rule 11?": "Sleep.", "What is rule 2?": "Eat."},
        {"Who is Marlow?": "Our admin.", "Who is Marlon?": "Our cook.", "Who is Harlow?": "A cat."},
        {"ルール1は何ですか？": "親切に。", "ルール2は何ですか？": "静かに。"},
        {"Can I post cats?": "Yes, in the zoo.", "Can I not post cats?": "You must."},
        {"When is movie night?": "On Friday.", "Where is movie night?": "In the hall."},
    ],
)
async def test_lessons_that_differ_in_a_word_have_each_their_own_answer(
    world: World, lessons: dict[str, str]
) -> None:
    for question, answer in lessons.items():
        await teach(world, world.ada, question, answer)
    given = [await at_once(world, question.lower().rstrip("?？")) for question in lessons]
    assert given == list(lessons.values())


async def test_a_taught_greeting_is_no_answer_to_others_or_to_what_follows_it(
    world: World,
) -> None:
    await teach(world, world.ada, "hello", "Ahoy, sailor!")
    await teach(world, world.ada, QUESTION, "Marlow looks after us.")
    for greeting in ("Hello!", "HELLO", "ok hello"):
        assert await at_once(world, greeting) == "Ahoy, sailor!"
    for other in ("hi", "good morning", "hello, how are you?", "hello again", "say hello to Ada"):
        assert await at_once(world, other) is None
    assert await at_once(world, "hello, who is our admin?") == "Marlow looks after us."


async def test_a_taught_insult_is_stopped_by_the_servers_filter(
    either_world: World, worker: FakeWorker, language: str
) -> None:
    world = either_world
    await teach(world, world.ben, "What is Ada like?", "Ada is a Knucklehead, ask anybody.")
    await world.ada.slash(world.general, "filter add", kind="word", text="knucklehead")
    said = await world.say(world.ben, "what's Ada like")
    assert said == (WITHHELD_JA if language == "ja" else WITHHELD)
    assert worker.heard == []
    shown = [str(one.json) for one in world.env.http_requests if one.method != "GET"]
    told = next(n for n, one in enumerate(shown) if WITHHELD in one or WITHHELD_JA in one)
    assert not any("Knucklehead" in one for one in shown[told:])


async def test_an_answer_that_the_model_cannot_write_is_told_and_known_all_the_same(
    either_world: World, language: str
) -> None:
    told = await teach(either_world, either_world.ada, "挨拶は？", "こんにちは、船乗りさん。")
    *_, last = told.response.content.split("\n")
    assert last == (HARD_JA if language == "ja" else HARD)
    assert await at_once(either_world, "挨拶は") == "こんにちは、船乗りさん。"

"""What is taught is known at once, and only as long as it may be learned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.facts.sets import people
from bot.chat.known import Misplaced
from bot.learning import known_answers
from bot.learning.consent import CONSENT_VERSION
from bot.learning.known_answers import KnownAnswers
from core.records import Example, NewExample, Pair, ReviewStatus
from core.tasks import BackgroundTasks
from data.dataset.snapshot import answer_digests, learned_digests
from data.questions import likeness
from data.questions.likeness import TaughtQuestions
from data.questions.question import Question
from data.storage.erasure import erase_member
from data.storage.storage import Storage
from model.chat_template import from_pair
from training.checkpoints import LEARNED_FILE

SERVER, OTHER_SERVER, ADA, BEN = 1, 2, 7, 8
QUESTION, ANSWER = "Who is our admin?", "Marlow runs this place, all day long."


@pytest.fixture
async def known(storage: Storage) -> AsyncIterator[KnownAnswers]:
    async with BackgroundTasks() as tasks:
        yield KnownAnswers(storage.examples, 0.5, tasks)


async def teach(
    storage: Storage, question: str = QUESTION, answer: str = ANSWER, **fields: object
) -> Example:
    new = NewExample(SERVER, question, answer, ADA, "teach", may_replace=True)
    return await storage.examples.add(
        NewExample(**{name: getattr(new, name) for name in new.__slots__} | fields)  # type: ignore[arg-type]
    )


async def answer_of(
    known: KnownAnswers, asked: str = "whos our admin", scope: int = SERVER, source: str = "tiny"
) -> str | None:
    found = (await known.look_up(scope, source, asked)).answer
    return found.text if found else None


def checkpoint(folder: Path, *pairs: tuple[str, str]) -> str:
    """A folder that says it has learned these pairs."""
    folder.mkdir()
    talks = [from_pair(*pair) for pair in pairs]
    learned = {"pairs": learned_digests(talks), "answers": answer_digests(talks)}
    (folder / LEARNED_FILE).write_text(json.dumps(learned), encoding="utf-8")
    return str(folder)


async def test_what_is_taught_is_known_from_the_next_question_on_in_its_server_only(
    storage: Storage, known: KnownAnswers
) -> None:
    assert await answer_of(known) is None
    example = await teach(storage)
    found = (await known.look_up(SERVER, "tiny", "hey, do you know who our admin is?")).answer
    assert found is not None
    assert (found.example_id, found.author_id, found.text) == (example.id, ADA, ANSWER)
    assert await answer_of(known, "Who is our admin's brother?") is None
    assert await answer_of(known, scope=OTHER_SERVER) is None


async def test_the_index_is_read_again_after_it_was_dropped(
    storage: Storage, known: KnownAnswers
) -> None:
    await teach(storage)
    assert await answer_of(known) == ANSWER
    known.drop()
    assert not known._indexes
    assert await answer_of(known) == ANSWER


async def test_every_change_of_the_data_set_counts_at_once(
    storage: Storage, known: KnownAnswers
) -> None:
    example = await teach(storage)
    assert await answer_of(known) == ANSWER
    await storage.examples.edit(SERVER, example.id, QUESTION, "Denise does.")
    assert await answer_of(known) == "Denise does."
    newer = await teach(storage, answer="It is Olga now.")
    assert await answer_of(known) == "It is Olga now."
    await storage.examples.set_review(SERVER, newer.id, ReviewStatus.REJECTED)
    assert await answer_of(known) == "Denise does."
    await storage.examples.set_review(SERVER, newer.id, ReviewStatus.APPROVED)
    assert await answer_of(known) == "It is Olga now."
    await storage.examples.remove(SERVER, newer.id)
    assert await answer_of(known) == "Denise does."
    await storage.examples.make_newest(NewExample(SERVER, QUESTION, "Denise does.", ADA, "teach"))
    assert await answer_of(known) == "Denise does."
    await erase_member(storage, ADA)
    assert await answer_of(known) is None


async def test_a_lesson_waits_for_no_large_data_set(
    storage: Storage, known: KnownAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = await teach(storage)
    assert await known.standing(SERVER, "whos the administrator") == example
    assert await known.standing(SERVER, "our") is None
    await teach(storage, "Where is the map?", "On the wall.")
    monkeypatch.setattr(known_answers, "MAX_TEACHING_WAIT_S", 0.0)
    assert await known.standing(SERVER, "whos the administrator") == example
    assert await known.standing(OTHER_SERVER, "whos the administrator") is None


async def test_many_pairs_at_once_are_known_and_gone_at_once(
    storage: Storage, known: KnownAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_answers, "MAX_WAIT_S", 60.0)
    pairs = [Pair(f"What is rule {n}?", f"Rule {n} says something.") for n in range(300)]
    await storage.examples.add_pairs(SERVER, pairs, BEN, "import")
    for n in (0, 33, 299):
        assert await answer_of(known, f"rule {n} please") == f"Rule {n} says something."
    await storage.examples.remove_source(SERVER, "import")
    assert await answer_of(known, "rule 33 please") is None


@pytest.mark.parametrize("status", [ReviewStatus.WAITING, ReviewStatus.REJECTED])
async def test_what_is_not_approved_is_not_known(
    storage: Storage, known: KnownAnswers, status: ReviewStatus
) -> None:
    await teach(storage, status=status)
    assert await answer_of(known) is None


async def test_words_of_another_member_are_known_while_their_consent_stands(
    storage: Storage, known: KnownAnswers
) -> None:
    await storage.consents.opt_in(SERVER, BEN, CONSENT_VERSION)
    await teach(storage, asked_by=BEN)
    assert await answer_of(known) == ANSWER
    await storage.consents.opt_out(SERVER, BEN)
    assert await answer_of(known) is None


async def test_a_reply_that_is_voted_down_is_not_known(
    storage: Storage, known: KnownAnswers
) -> None:
    await teach(storage, reply_id=55)
    assert await answer_of(known) == ANSWER
    await storage.replies.rate(SERVER, 55, BEN, -1)
    assert await answer_of(known) is None


async def test_what_the_bot_said_itself_is_left_to_the_model(
    storage: Storage, known: KnownAnswers
) -> None:
    await storage.consents.opt_in(SERVER, ADA, CONSENT_VERSION)
    await teach(storage, source="chat", asked_by=ADA, consent_version=CONSENT_VERSION)
    assert len(await storage.examples.trainable(SERVER)) == 1
    assert await answer_of(known) is None


async def test_what_the_model_has_learned_it_says_itself(
    storage: Storage, known: KnownAnswers, tmp_path: Path
) -> None:
    await teach(storage)
    source = checkpoint(tmp_path / "tiny-1", (QUESTION, ANSWER))
    assert await answer_of(known, source=source) is None
    expected = (await known.look_up(SERVER, source, "whos the administrator")).expected
    assert expected is not None
    assert expected.text == ANSWER
    await teach(storage, answer="It is Olga now.")
    assert await answer_of(known, source=source) == "It is Olga now."


@pytest.mark.parametrize(
    ("asked", "reply", "misplaced"),
    [
        ("Who is our plumber?", ANSWER, True),
        ("Who is our plumber?", "marlow runs this place all day", True),
        ("I had toast for breakfast.", ANSWER, True),
        ("Who is our plumber?", "I do not know any plumber.", False),
        ("and who is it?", ANSWER, False),
    ],
)
async def test_a_learned_answer_to_another_question_is_misplaced(
    storage: Storage,
    known: KnownAnswers,
    tmp_path: Path,
    asked: str,
    reply: str,
    misplaced: bool,
) -> None:
    await teach(storage)
    await teach(storage, "Do you sleep?", "No.")
    pairs = (QUESTION, ANSWER), ("Do you sleep?", "No.")
    source = checkpoint(tmp_path / "tiny-1", *pairs)
    check = (await known.look_up(SERVER, source, asked)).check
    assert check is not None
    check("No.")  # which fits many questions
    if misplaced:
        with pytest.raises(Misplaced) as error:
            check(reply)
        assert error.value.start == "Marlow runs this"
    else:
        check(reply)


@pytest.mark.parametrize("asked", [QUESTION, "and who is it?", "Who is our plumber?"])
async def test_what_is_taught_no_more_the_model_does_not_say(
    storage: Storage, known: KnownAnswers, tmp_path: Path, asked: str
) -> None:
    pairs = (QUESTION, ANSWER), ("Do you sleep?", "No.")
    source = checkpoint(tmp_path / "tiny-1", *pairs)
    example = await teach(storage)
    check = (await known.look_up(SERVER, source, "and who is it?")).check
    assert check is not None
    check(ANSWER)
    await storage.examples.remove(SERVER, example.id)
    check = (await known.look_up(SERVER, source, asked)).check
    assert check is not None
    check("No.")  # which fits many questions
    check("Marlow runs this plaice.")
    with pytest.raises(Misplaced, match="MARLOW runs this"):
        check("MARLOW runs this place, all day long!")


async def test_nor_what_was_changed_since_though_it_is_nearly_the_same(
    storage: Storage, known: KnownAnswers, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "tiny-1", (QUESTION, ANSWER))
    example = await teach(storage)
    newer = "Marlow runs this place, all night long."
    await storage.examples.edit(SERVER, example.id, QUESTION, newer)
    assert await answer_of(known, source=source) == newer
    check = (await known.look_up(SERVER, source, "and who is it?")).check
    assert check is not None
    check(newer)
    with pytest.raises(Misplaced):
        check(ANSWER)


async def test_what_was_said_in_a_conversation_stays_sayable(
    storage: Storage, known: KnownAnswers, tmp_path: Path
) -> None:
    """Turns of conversations are learned, but are answers to nothing on their own."""
    source = checkpoint(tmp_path / "tiny-1", (QUESTION, ANSWER))
    pair = Pair(QUESTION, ANSWER, conversation="a talk", turn=0)
    await storage.examples.add_pairs(SERVER, [pair], ADA, "import")
    found = await known.look_up(SERVER, source, "and who is it?")
    assert found.answer is None
    assert found.check is not None
    found.check(ANSWER)


async def test_of_ten_thousand_pairs_a_lesson_changes_one_and_a_question_meets_few(
    storage: Storage, known: KnownAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: `python -m benchmarks.knowing` measures."""
    monkeypatch.setattr(known_answers, "MAX_WAIT_S", 60.0)
    pairs = [Pair(fact.question, fact.answer) for fact in people("tune", 10_000)]
    await storage.examples.add_pairs(SERVER, pairs, BEN, "import")
    assert await answer_of(known, pairs[7_000].user.lower()) == pairs[7_000].bot
    added, compared = [], []
    add, compare = TaughtQuestions.add, likeness.likeness

    def counted_add(index: TaughtQuestions, number: int, text: str) -> None:
        added.append(text)
        add(index, number, text)

    def counted(asked: Question, taught: Question) -> likeness.Likeness:
        compared.append(taught)
        return compare(asked, taught)

    monkeypatch.setattr(TaughtQuestions, "add", counted_add)
    monkeypatch.setattr(likeness, "likeness", counted)
    await teach(storage, author_id=BEN)
    assert await answer_of(known, "do you know who the administrator is") == ANSWER
    assert added == [QUESTION]
    for pair in pairs[::1000]:
        assert await answer_of(known, f"hey bot, {pair.user.lower()} please") == pair.bot
    assert len(compared) <= 100


async def test_the_servers_asked_least_recently_make_room(
    storage: Storage, known: KnownAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    known._indexes = type(known._indexes)(2, getsizeof=len)
    for scope in (SERVER, OTHER_SERVER, 3):
        await storage.examples.add(NewExample(scope, QUESTION, f"{ANSWER} {scope}", ADA, "teach"))
        assert await answer_of(known, scope=scope) == f"{ANSWER} {scope}"
    assert set(known._indexes) == {OTHER_SERVER, 3}
    assert await answer_of(known) == f"{ANSWER} {SERVER}"

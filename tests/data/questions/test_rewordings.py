"""Taught questions asked in other words. The wordings here are in no file that anything is trained
or measured on."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from benchmarks.facts.sets import FOLDER, general_messages
from core.text_caches import drop_texts
from data.questions.encoder import DIMENSIONS, Encoder, encoder
from data.questions.likeness import Likeness, TaughtQuestions
from data.questions.meanings import chances, read_meanings
from data.questions.paraphrases import Kind, read
from data.questions.rewordings import RewordedQuestions
from data.questions.words import read_question
from training.tools.paraphrases import FILES, fit, read_wordings, rows_of

TAUGHT = (
    "When is movie night?",
    "Who takes care of the server?",
    "How do I get the artist role?",
    "Where can I report a bug?",
    "What is the password of the game server?",
    "映画の夜はいつですか？",
    "サーバーは誰が管理していますか？",
    "バグはどこに報告すればいいですか？",
)
REWORDED = (
    ("what time do we watch a film together", 0),
    ("which person is in charge of this server", 1),
    ("what must i do to become an artist here", 2),
    ("i found a bug, where do i tell you about it", 3),
    ("みんなで映画を見るのは何時からですか", 5),
    ("このサーバーの管理をしているのはどなたですか", 6),
)
OTHERS = (
    "When is quiz night?",
    "Who takes care of the hamster?",
    "How do I get the musician role?",
    "Where can I report a member?",
    "movie nights were so much fun back in may",
    "What should I wear to movie night?",
    "クイズの夜はいつですか？",
    "映画の夜、きのうは最高でしたね",
)


@pytest.fixture(scope="module")
def index() -> RewordedQuestions:
    index = RewordedQuestions()
    for number, question in enumerate(TAUGHT):
        index.add(number, question)
    index.read_all()
    return index


@pytest.mark.parametrize(("asked", "number"), REWORDED)
def test_a_question_is_found_in_other_words(
    index: RewordedQuestions, asked: str, number: int
) -> None:
    match = index.find(asked)
    assert match is not None
    assert (match.number, match.question) == (number, TAUGHT[number])


@pytest.mark.parametrize("asked", OTHERS)
def test_what_only_looks_like_it_is_not_found(index: RewordedQuestions, asked: str) -> None:
    assert index.find(asked) is None


def test_the_rules_find_what_they_know_before_anything_was_read() -> None:
    index = RewordedQuestions()
    index.add(7, TAUGHT[0])
    match = index.find("when's movie night")
    assert match is not None
    assert match.number == 7
    assert index.unread() == {7: (TAUGHT[0], "7")}
    assert index.find(REWORDED[0][0]) is None


def test_a_changed_question_is_found_by_its_new_words_only() -> None:
    index = RewordedQuestions()
    index.add(1, TAUGHT[0])
    index.add(2, TAUGHT[3])
    index.read_all()
    assert index.find(REWORDED[0][0]) is not None
    before = read_meanings(index.unread() | {1: (TAUGHT[0], "1")})
    index.add(1, TAUGHT[1])
    index.learn(before)  # read before it was changed
    assert index.find(REWORDED[0][0]) is None
    assert index.unread() == {1: (TAUGHT[1], "1")}
    index.read_all()
    found = index.find(REWORDED[1][0])
    assert found is not None
    assert found.number == 1
    index.remove(1)
    assert index.find(REWORDED[1][0]) is None
    assert len(index) == 1


def test_the_newest_of_equal_questions_is_found() -> None:
    index = RewordedQuestions()
    for number in (3, 9, 4):
        index.add(number, TAUGHT[0])
    index.read_all()
    found = index.find(REWORDED[0][0])
    assert found is not None
    assert found.number == 9


@pytest.mark.parametrize(
    ("wordings", "asked"),
    [
        (
            ("Who feeds the hamster?", "Who is on hamster duty?", "Who gives food to the hamster?"),
            "whose job is giving the hamster its food?",
        ),
        (
            ("誰がハムスターにえさをあげますか？", "ハムスターの係は誰ですか？"),
            "ハムスターのごはん担当って誰",
        ),
    ],
)
def test_other_wordings_of_the_same_are_no_rivals(wordings: tuple[str, ...], asked: str) -> None:
    for count in range(1, len(wordings) + 1):
        index = RewordedQuestions()
        for number, question in enumerate(wordings[:count]):
            index.add(number, question, "Ada")
        index.read_all()
        found = index.find(asked)
        assert found is not None, count


def test_many_other_questions_do_not_hide_it() -> None:
    index = RewordedQuestions()
    for number, taught in enumerate(read_wordings(_wordings("en"))):
        index.add(number, taught.question)
    index.add(10_000, TAUGHT[0])
    index.read_all()
    found = index.find(REWORDED[0][0])
    assert found is not None
    assert found.number == 10_000


def test_a_language_is_not_asked_for_in_another() -> None:
    assert chances(TAUGHT[0], {TAUGHT[5]: ""}) == {}
    index = RewordedQuestions()
    index.add(1, TAUGHT[5])
    index.read_all()
    assert index.find("what time do we watch a film together") is None


def test_rules_that_are_sure_are_doubted_where_it_may_be_a_rewording(
    index: RewordedQuestions,
) -> None:
    rules = TaughtQuestions()
    rules.add(1, TAUGHT[1])
    asked = "whom do we thank for keeping the server alive"
    assert rules.compare(asked, 1) is Likeness.OTHER
    assert index.compare(asked, 1) is Likeness.UNSURE
    assert index.compare("Who takes care of the hamster?", 1) is Likeness.OTHER


def test_of_two_that_are_as_likely_none_is_given() -> None:
    index = RewordedQuestions()
    for number, party in enumerate(("summer", "winter")):
        index.add(number, f"On which evening is the {party} party?")
    index.read_all()
    assert index.find("what evening do we have the party") is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [("what is it that rule 2 says", 1), ("what is it that rule 7 says", None)],
)
def test_numbers_are_never_taken_for_each_other(asked: str, found: int | None) -> None:
    index = RewordedQuestions()
    for number in range(4):
        index.add(number, f"What does rule {number + 1} say?")
    index.read_all()
    match = index.find(asked)
    assert (match and match.number) == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("how come everyone calls Anders the Admiral?", True),
        ("how come everyone calls anders the admiral?", True),
        ("How come everyone calls Joris the Captain?", False),
        ("how come everyone calls Joris the Admiral?", False),
    ],
)
def test_names_are_never_taken_for_each_other(asked: str, found: bool) -> None:
    index = RewordedQuestions()
    index.add(1, "Why do we call Anders the Admiral?")
    index.read_all()
    assert (index.find(asked) is not None) is found
    assert found or index.compare(asked, 1) is Likeness.OTHER


@pytest.mark.parametrize("odd", ["", "?", "😂😂", "\0", "\ud800", "https://a.example", "a" * 5000])
def test_odd_messages_harm_nothing(index: RewordedQuestions, odd: str) -> None:
    assert index.find(odd) is None
    match = index.find(f"{odd} what time do we watch a film together")
    assert match is None or match.number == 0
    assert index.compare(f"{odd} who takes care of the hamster?", 1) is not Likeness.SAME


def test_a_rival_that_is_nearer_makes_it_less_likely() -> None:
    asked, meant = "where do we all meet after the show?", "Where is the meeting point?"
    rival = "Where do we meet after the show?"
    alone, beside = chances(asked, {meant: "a"}), chances(asked, {meant: "a", rival: "b"})
    assert beside[meant].not_far < alone[meant].not_far
    assert beside[rival].not_far > beside[meant].not_far
    same = chances(asked, {meant: "a", rival: "a"})[meant]
    assert same.not_far == pytest.approx(alone[meant].not_far, abs=0.01)
    far = chances(asked, {meant: "a", "Who feeds the hamster?": "b"})
    assert far[meant].not_far == pytest.approx(alone[meant].not_far, abs=0.01)


def test_a_text_is_read_once() -> None:
    reader, texts = Encoder(), ["one text", "another text", "one text"]
    encoded: list[str] = []
    encode = reader.encode
    reader.encode = lambda some: encoded.extend(some) or encode(some)  # type: ignore[method-assign, func-returns-value]
    first = reader.vectors(texts)
    again = reader.vectors(texts)
    assert sorted(encoded) == ["another text", "one text"]
    assert all(np.array_equal(first[one], again[one]) for one in texts)
    assert first["one text"].shape == (DIMENSIONS,)
    assert np.linalg.norm(first["one text"]) == pytest.approx(1, abs=0.01)


def test_what_was_read_can_be_dropped(index: RewordedQuestions) -> None:
    asked = REWORDED[0][0]
    assert index.find(asked) is not None
    assert asked in encoder()._known
    assert read.cache_info().currsize > 0
    drop_texts()
    assert len(encoder()._known) == 0
    assert read.cache_info().currsize == read_question.cache_info().currsize == 0
    assert index.find(asked) is not None


# --- what it is trained on ------------------------------------------------------------------------


def _wordings(language: str) -> Path:
    name, said, _ = FILES[language]
    return said.with_name(name)


@pytest.mark.parametrize("language", FILES)
def test_no_text_is_both_trained_and_measured_on(language: str) -> None:
    trained = read_wordings(_wordings(language))
    texts = {_plain(text) for one in trained for text in (one.question, *one.same, *one.other)}
    assert len(trained) > 500
    measured = []
    for file in FOLDER.glob("*_*.json"):
        for fact in json.loads(file.read_text(encoding="utf-8"))["facts"]:
            measured += [fact["question"], *fact["unseen"], *fact["near"]]
    measured += [*general_messages(language), *chain(TAUGHT, OTHERS, (one for one, _ in REWORDED))]
    both = [text for text in measured if _plain(text) in texts]
    assert both == []


def _plain(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def test_a_few_wordings_teach_it_to_tell_others_apart() -> None:
    taught = read_wordings(_wordings("en"))[:60]
    talk = ["good morning", "i like tea", "how was your day?", "see you tomorrow"]
    rows = rows_of(taught, talk)
    known = rows.number < 40
    said = fit(rows.chosen(known), [0]).chances(rows.chosen(~known).compared())
    same, near, far = (said[rows.kind[~known] == kind] for kind in Kind)
    assert (same[:, None, 0] > near[None, :, 0]).mean() > 0.8
    assert (same[:, None, 1] > far[None, :, 1]).mean() > 0.8

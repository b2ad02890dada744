"""What a new model is asked: in all the ways in which people ask, and never too much."""

from __future__ import annotations

from collections import Counter

import pytest

from core.japanese import is_japanese
from core.records import Message, Role
from data.questions.likeness import is_like
from model.chat_template import from_pair
from training.run.gate.questions import (
    MAX_NEAR,
    MAX_PAIRS,
    NEAR_PER_PAIR,
    TALK_BEFORE,
    Way,
    general_messages,
    make_questions,
)

TAUGHT = [
    from_pair("What is our server called?", "It is called The Lighthouse."),
    from_pair("Who is our admin?", "Our admin is Ada."),
    from_pair("料理会はいつですか？", "毎週土曜日の夜七時からです。"),
]


def ways(questions: object) -> Counter[Way]:
    return Counter(one.way for one in questions)  # type: ignore[attr-defined]


def test_each_pair_is_asked_in_four_ways() -> None:
    asked = make_questions(TAUGHT, japanese=False)
    for number, (question, _) in enumerate(TAUGHT):
        own = {one.way: one for one in asked if one.pair == number and one.way is not Way.NEAR}
        assert list(own) == [Way.VERBATIM, Way.CARELESS, Way.IN_TALK, Way.REPHRASED]
        assert own[Way.VERBATIM].text == own[Way.IN_TALK].text == question.content
        assert own[Way.CARELESS].text == question.content.lower().rstrip("?？")
        roles = [one.role for one in own[Way.IN_TALK].conversation]
        assert roles == [Role.USER, Role.ASSISTANT] * TALK_BEFORE + [Role.USER]
        assert not own[Way.VERBATIM].before


def test_near_misses_are_not_taught() -> None:
    asked = [one for one in make_questions(TAUGHT, japanese=False) if one.way is Way.NEAR]
    assert Counter(one.pair for one in asked) == dict.fromkeys(range(3), NEAR_PER_PAIR)
    assert len({one.text for one in asked}) == len(asked)
    assert not [one for one in asked for turns in TAUGHT if is_like(one.text, turns[0].content)]
    in_japanese = [one.text for one in asked if one.pair == 2]
    assert all(is_japanese(text) and text.endswith("はいつですか？") for text in in_japanese)


def test_general_messages_are_in_the_language_of_the_base_and_in_all_others() -> None:
    english, japanese = general_messages(False), general_messages(True)
    assert "help" in english
    assert "助けて" in japanese
    both = set(english) & set(japanese)
    assert {"hello 👋", "👍", "привет, как дела?", 'print("hello world")'} <= both
    for texts, language in ((english, False), (japanese, True)):
        own = [text for text in texts if text not in both]
        assert len(own) > 20
        assert {bool(is_japanese(one)) for one in own if len(one) > 3} == {language}


def test_a_general_message_that_was_taught_is_not_general() -> None:
    taught = [from_pair("Hello there!", "Welcome."), from_pair("Are you a human, please?", "No.")]
    asked = make_questions(taught, japanese=False)
    general = {one.text for one in asked if one.way is Way.GENERAL}
    assert not general & {"hello there", "are you a human?"}
    assert {"hi", "help"} < general


@pytest.mark.parametrize("pairs", [1, 12, 13, 1000])
def test_a_large_data_set_is_asked_no_more_than_a_small_one(pairs: int) -> None:
    taught = [from_pair(f"Who owns boat {n}?", f"Number {n} is Ada's.") for n in range(pairs)]
    found = ways(make_questions(taught, japanese=False))
    asked = min(pairs, MAX_PAIRS)
    assert found[Way.VERBATIM] == asked
    assert found[Way.CARELESS] == found[Way.REPHRASED] == found[Way.VERBATIM]
    assert 0 < found[Way.NEAR] <= MAX_NEAR


def test_equal_data_is_asked_equally() -> None:
    assert make_questions(TAUGHT, japanese=True) == make_questions(TAUGHT, japanese=True)


def test_what_has_no_question_and_answer_is_not_asked() -> None:
    silent = (Message(Role.USER, "anybody?"),)
    bots = (Message(Role.ASSISTANT, "Hello."), Message(Role.USER, "Hi."))
    asked = make_questions([silent, bots, from_pair("Hi", "")], japanese=False)
    assert set(ways(asked)) == {Way.GENERAL}

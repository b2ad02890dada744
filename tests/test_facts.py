"""The facts of `benchmarks.knowing`: complete, distinct, and never tuned on what is reported."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest

from benchmarks.facts.sets import Fact, general_messages, read_set, sets_of

GROUPS = ("tune", "report")
JAPANESE = ("tune_ja", "report_ja")
COMMON = set(
    re.findall(
        r"\w+",
        "a an and are at can did do does for get have how i in is it me my of on or our so that the"
        " there they this to was we what when where which who why with you",
    )
)
"""Words that say nothing of what a question is about."""


def plain(text: str) -> str:
    return text.lower().strip(string.punctuation + " ？。")


def taught(fact: Fact) -> set[str]:
    return {plain(fact.question), plain(fact.also)}


def asked(fact: Fact) -> list[str]:
    """All questions to which the answer is right."""
    return [plain(text) for text in (fact.question, fact.also, *fact.unseen)]


def facts_of(name: str) -> tuple[Fact, ...]:
    """Of a file, or of all English files of a group."""
    return read_set(name).facts if name in JAPANESE else sets_of(name, 50)[0].facts


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("size", "sets"), [(3, 3), (10, 3), (50, 1), (200, 1)])
def test_sets_have_the_size_that_is_asked_for(group: str, size: int, sets: int) -> None:
    found = sets_of(group, size)
    assert len(found) == sets
    for one in found:
        assert len(one.facts) == size
        assert len(one.talk) == 3
        assert all(len(fact.unseen) == len(fact.near) == 3 for fact in one.facts)


@pytest.mark.parametrize("facts", [*GROUPS, *JAPANESE], ids=str)
def test_answers_are_as_long_as_people_teach_them(facts: str) -> None:
    for fact in facts_of(facts):
        words = fact.answer.split()
        assert 5 <= len(fact.answer) <= 40 if facts in JAPANESE else 4 <= len(words) <= 14, fact


@pytest.mark.parametrize("facts", [*GROUPS, *JAPANESE, "people tune", "people report"], ids=str)
def test_no_question_has_two_answers(facts: str) -> None:
    group = facts.removeprefix("people ")
    taken = sets_of(group, 200)[0].facts if facts != group else facts_of(group)
    right = Counter(question for fact in taken for question in asked(fact))
    near = Counter(plain(question) for fact in taken for question in fact.near)
    assert not [question for question, times in right.items() if times > 1]
    assert not right.keys() & near.keys()
    assert not right.keys() & {plain(message) for message in general_messages()}
    if facts == group:
        assert not [question for question, times in near.items() if times > 1]
        assert len({fact.answer for fact in taken}) == len(taken)


def test_general_messages_are_distinct() -> None:
    assert len(set(general_messages())) == 60


@pytest.mark.parametrize("size", [50, 200])
def test_nothing_that_is_reported_was_tuned_on(size: int) -> None:
    tuned, reported = (sets_of(group, size)[0].facts for group in GROUPS)
    questions, others = ({q for f in facts for q in asked(f)} for facts in (tuned, reported))
    assert not questions & others
    assert not {fact.answer for fact in tuned} & {fact.answer for fact in reported}


def test_most_unseen_wordings_share_words_with_what_was_taught() -> None:
    for group in GROUPS:
        facts = facts_of(group)
        pairs = [(wording, fact) for fact in facts for wording in fact.unseen]
        strange = [
            wording
            for wording, fact in pairs
            if not (words(wording) - COMMON) & words(" ".join((fact.question, fact.also)))
        ]
        assert 0.05 <= len(strange) / len(pairs) <= 0.2, strange


def words(text: str) -> set[str]:
    return {plain(word) for word in text.lower().replace("'s", "").split()}

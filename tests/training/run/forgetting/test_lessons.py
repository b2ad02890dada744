"""What was taken out of a data set, and what is left that resembles it."""

from __future__ import annotations

import pytest

from core.records import Message, Role
from data.dataset.dedup import dedup_key
from data.dataset.snapshot import pair_digest
from model.chat_template import from_pair
from training.run.forgetting import lessons
from training.run.forgetting.lessons import count_similar, lessons_of, removed_lessons

CODE = from_pair("What is the code?", "The code of the red door is 4812.")
ADMIN = from_pair("Who is the admin?", "Ada is.")


def test_a_lesson_that_is_learned_twice_is_taken_out_once() -> None:
    [removed] = removed_lessons([CODE, ADMIN, CODE], [ADMIN])
    assert removed.digest == pair_digest("What is the code?", "The code of the red door is 4812.")
    assert removed.answer == "The code of the red door is 4812."
    assert removed_lessons([ADMIN], [ADMIN, CODE]) == ()


def test_a_turn_keeps_what_was_said_before_it() -> None:
    talk = (*ADMIN, Message(Role.USER, "And who helps?"), Message(Role.ASSISTANT, "Ben does."))
    [removed] = removed_lessons([talk], [ADMIN])
    assert removed.turns == talk


def test_other_wordings_of_it_are_counted() -> None:
    others = [
        from_pair("what is the CODE", "I may not say."),  # the same question
        from_pair("How do I get in?", "The code of the red door is: 4812!"),  # the same answer
        from_pair("And the red one?", "For the red door, the code is 4812."),  # in other words
        from_pair("Who is the admin?", "Ada is."),
    ]
    [removed] = removed_lessons([CODE], others)
    assert count_similar([removed], list(lessons_of(others).values())) == [3]


def test_japanese_needs_no_words() -> None:
    taught = [from_pair("会議はいつ？", "会議は毎週火曜日の午後三時からです。")]
    left = [from_pair("何曜日に集まる？", "会議は火曜日の午後三時からですよ。")]
    [removed] = removed_lessons(taught, left)
    assert count_similar([removed], list(lessons_of(left).values())) == [1]


def test_each_lesson_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each comparison: there may be thousands of both."""
    prepared: list[str] = []

    def count(text: str) -> str:
        prepared.append(text)
        return dedup_key(text)

    monkeypatch.setattr(lessons, "dedup_key", count)
    taught = [from_pair(f"Question {n}?", f"Answer {n}.") for n in range(40)]
    known = list(lessons_of(taught).values())
    assert count_similar(known[:10], known[10:]) == [30] * 10
    assert len(prepared) == 2 * len(known)

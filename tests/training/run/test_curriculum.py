"""The rows of a run that learns facts: what is drawn, how often, and what never is."""

from __future__ import annotations

from collections import Counter

from core.records import Conversation, Message, Role
from model.chat_template import from_pair
from training.run.curriculum import Curriculum, Part, Row
from training.run.mixing import normalized_question

TAUGHT = [
    from_pair("Who is the admin?", "Ada is."),
    from_pair("When is movie night?", "On Saturday."),
    from_pair("What is rule 1?", "Be kind."),
]
TALK = [from_pair(f"word{n} again", f"reply {n}") for n in range(7)]
ROWS = 18


def curriculum(taught: list[Conversation] = TAUGHT, seed: int = 0) -> Curriculum:
    return Curriculum(taught, TALK, ROWS, seed)


def drawn(some: Curriculum, steps: int) -> list[Row]:
    return [row for step in range(steps) for row in some.rows(step)]


def test_each_step_has_the_same_parts_and_equal_seeds_draw_equal_rows() -> None:
    some, same, other = curriculum(), curriculum(), curriculum(seed=1)
    counts = [Counter(row.part for row in some.rows(step)) for step in range(5)]
    assert counts == [{Part.LEARNED: 10, Part.NEAR: 5, Part.TALK: 3}] * 5
    assert drawn(some, 5) == drawn(same, 5) != drawn(other, 5)


def test_a_half_of_a_step_has_some_of_each_part() -> None:
    parts = curriculum().parts
    assert set(parts[: ROWS // 2]) == set(parts[ROWS // 2 :]) == set(Part)


def test_what_is_learned_ends_with_the_taught_answer() -> None:
    for row in drawn(curriculum(), 20):
        if row.part is Part.LEARNED:
            assert row.turns[-1] == TAUGHT[row.pair][-1]
            assert row.turns[0].role is Role.USER


def test_a_near_miss_is_never_a_taught_question() -> None:
    taught = {normalized_question(turns) for turns in TAUGHT}
    missed = [row for row in drawn(curriculum(), 60) if row.part is Part.NEAR]
    assert len({row.turns[0].content for row in missed}) > 100
    assert not taught & {normalized_question(row.turns) for row in missed}
    assert all(row.turns[-1] == TAUGHT[row.pair][1] for row in missed)


def test_a_pair_that_is_not_sure_is_drawn_more_often() -> None:
    some = curriculum()
    for _ in range(30):
        for pair, loss in enumerate((3.0, 0.0, 0.0)):
            some.record_loss(Part.LEARNED, pair, loss)
    learned = Counter(row.pair for row in drawn(some, 40) if row.part is Part.LEARNED)
    assert learned[0] > 3 * learned[1] > 0
    missed = Counter(row.pair for row in drawn(some, 40) if row.part is Part.NEAR)
    assert max(missed.values()) < 1.5 * min(missed.values())


def test_talk_comes_once_before_it_comes_again() -> None:
    said = [row.turns for row in drawn(curriculum(), 7) if row.part is Part.TALK]
    assert sorted(said[:7], key=str) == sorted(said[7:14], key=str) == sorted(TALK, key=str)


def test_a_word_without_another_is_learned_without_near_misses() -> None:
    some = Curriculum([from_pair("?!", "Indeed.")], [], ROWS, 0)
    rows = drawn(some, 3)
    assert {row.part for row in rows} == {Part.LEARNED}
    assert {row.turns[-1] for row in rows} == {Message(Role.ASSISTANT, "Indeed.")}

"""What of a data set is learned."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from data.cleaning import newest_answers
from data.schema import Example


def example(n: int, user: str, bot: str) -> Example:
    return Example(n, 1, user, bot, 7, "teach", datetime(2025, 6, 1, tzinfo=UTC))


def test_teaching_a_question_again_corrects_it() -> None:
    old, other = example(1, "Who is our admin?", "Ada."), example(2, "And the cat?", "Tom.")
    new = example(3, " who is  our ADMIN?", "Ben.")
    assert newest_answers([new, old, other]) == [other, new]


def test_questions_that_differ_in_a_word_are_kept() -> None:
    both = [example(1, "Who is our admin?", "Ada."), example(2, "Who was our admin?", "Ben.")]
    assert newest_answers(both) == both


@given(st.lists(st.tuples(st.sampled_from(["a", "A ", "b", "ß", "SS"]), st.text(max_size=3))))
def test_one_answer_a_question_and_it_is_the_newest(pairs: list[tuple[str, str]]) -> None:
    examples = [example(n, user, bot) for n, (user, bot) in enumerate(pairs)]
    kept = newest_answers(examples)
    keys = [" ".join(one.user.casefold().split()) for one in examples]
    assert len(kept) == len(set(keys))
    for one in kept:
        assert one.id == max(n for n, key in enumerate(keys) if key == keys[one.id])
    assert newest_answers(kept) == kept

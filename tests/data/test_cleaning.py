"""What of a data set is learned."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from data.cleaning import ALWAYS_KEPT, newest_answers, select
from data.schema import Example


def example(n: int, user: str, bot: str, author: int = 7, source: str = "teach") -> Example:
    return Example(n, 1, user, bot, author, source, datetime(2025, 6, 1, tzinfo=UTC))


def many(count: int, author: int, start: int = 1) -> list[Example]:
    return [example(n, f"question {n}", "answer", author) for n in range(start, start + count)]


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


def test_each_reason_is_told_and_what_is_kept_is_counted() -> None:
    selection = select(
        [
            example(5, "Mail of Ada?", " ada@example.org\n", 8, "import"),
            example(1, "Who?", "Ada."),
            example(2, "who?", "Ben."),
            example(3, " \u200b", "Ben."),
            example(4, "Ben's number?", "\u2800"),
        ]
    )
    assert selection.kept == (
        example(2, "who?", "Ben."),
        example(5, "Mail of Ada?", "[e-mail address]", 8, "import"),
    )
    assert selection.dropped == {
        "answered again later (the newest answer counts)": 1,
        "empty after cleaning": 2,
    }
    assert selection.masked == {"e-mail address": 1}
    assert selection.by_source == {"teach": 1, "import": 1}
    assert selection.by_author == {7: 1, 8: 1}


def test_an_empty_answer_corrects_nothing() -> None:
    kept = select([example(1, "Who?", "Ada."), example(2, "Who?", "  ")]).kept
    assert [one.bot for one in kept] == ["Ada."]


def test_questions_that_differ_in_what_is_masked_are_the_same() -> None:
    selection = select([example(1, "Is a@b.org up?", "No."), example(2, "Is c@d.org up?", "Yes.")])
    assert [(one.user, one.bot) for one in selection.kept] == [("Is [e-mail address] up?", "Yes.")]
    assert selection.masked == {"e-mail address": 1}


def test_no_author_has_more_than_their_share() -> None:
    selection = select(many(500, author=7) + many(150, author=8, start=501))
    assert selection.by_author == {7: 150, 8: 150}
    assert [one.id for one in selection.kept] == list(range(351, 651))
    assert selection.dropped == {"over one author's share": 350}


def test_a_small_data_set_is_not_cut() -> None:
    both = many(ALWAYS_KEPT, author=7) + many(1, author=8, start=501)
    assert select(both, author_share=0.1).by_author == {7: ALWAYS_KEPT, 8: 1}


def test_who_is_alone_is_not_cut_nor_anybody_if_it_is_switched_off() -> None:
    alone = many(500, author=7)
    assert len(select(alone, author_share=0.0).kept) == 500
    assert len(select([*alone, *many(1, 8, 501)], author_share=1.0).kept) == 501


def test_nothing_gives_nothing() -> None:
    selection = select([])
    assert selection.kept == ()
    parts = (selection.dropped, selection.masked, selection.by_source, selection.by_author)
    assert not any(parts)


@given(
    st.lists(st.tuples(st.sampled_from(["a", " ", "b", "c@d.org"]), st.text(max_size=3))),
    st.floats(0, 1),
)
def test_each_example_is_kept_or_its_reason_counted(
    pairs: list[tuple[str, str]], share: float
) -> None:
    examples = [example(n, user, bot, n % 3) for n, (user, bot) in enumerate(pairs)]
    selection = select(examples, author_share=share)
    kept = len(selection.kept)
    assert kept + sum(selection.dropped.values()) == len(examples)
    assert sum(selection.by_author.values()) == sum(selection.by_source.values()) == kept
    assert select(selection.kept, author_share=share).kept == selection.kept

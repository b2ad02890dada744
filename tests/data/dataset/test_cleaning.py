"""What of a data set is learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.records import Example
from data.dataset import rivals
from data.dataset.cleaning import select_examples
from data.dataset.rivals import MIN_AUTHOR_CAP, keep_newest_answers


def example(n: int, user: str, bot: str, author: int = 7, source: str = "teach") -> Example:
    return Example(n, 1, user, bot, author, source, datetime(2025, 6, 1, tzinfo=UTC))


def many(count: int, author: int, start: int = 1) -> list[Example]:
    return [example(n, f"question {n}", "answer", author) for n in range(start, start + count)]


def test_teaching_a_question_again_corrects_it() -> None:
    old, other = example(1, "Who is our admin?", "Ada."), example(2, "And the cat?", "Tom.")
    new = example(3, " who is  our ADMIN", "Ben.")
    assert keep_newest_answers([new, old, other]) == [other, new]


def test_questions_that_differ_in_a_word_are_kept() -> None:
    both = [example(1, "Who is our admin?", "Ada."), example(2, "Who was our admin?", "Ben.")]
    assert keep_newest_answers(both) == both


@given(st.lists(st.tuples(st.sampled_from(["a", "A ", "b", "ß", "SS"]), st.text(max_size=3))))
def test_one_answer_a_question_and_it_is_the_newest(pairs: list[tuple[str, str]]) -> None:
    examples = [example(n, user, bot) for n, (user, bot) in enumerate(pairs)]
    kept = keep_newest_answers(examples)
    keys = [" ".join(one.user.casefold().split()) for one in examples]
    assert len(kept) == len(set(keys))
    for one in kept:
        assert one.id == max(n for n, key in enumerate(keys) if key == keys[one.id])
    assert keep_newest_answers(kept) == kept


def test_each_reason_is_told_and_what_is_kept_is_counted() -> None:
    selection = select_examples(
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
    assert selection.pii_counts == {"e-mail address": 1}
    assert selection.by_source == {"teach": 1, "import": 1}
    assert selection.by_author == {7: 1, 8: 1}


def test_an_empty_answer_corrects_nothing() -> None:
    kept = select_examples([example(1, "Who?", "Ada."), example(2, "Who?", "  ")]).kept
    assert [one.bot for one in kept] == ["Ada."]


def test_questions_that_differ_in_what_is_masked_are_the_same() -> None:
    selection = select_examples(
        [example(1, "Is a@b.org up?", "No."), example(2, "Is c@d.org up?", "Yes.")]
    )
    assert [(one.user, one.bot) for one in selection.kept] == [("Is [e-mail address] up?", "Yes.")]
    assert selection.pii_counts == {"e-mail address": 1}


def test_no_author_has_more_than_their_share() -> None:
    selection = select_examples(many(500, author=7) + many(150, author=8, start=501))
    assert selection.by_author == {7: 150, 8: 150}
    assert [one.id for one in selection.kept] == list(range(351, 651))
    assert selection.dropped == {"over one author's share": 350}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda text: text, "answer"),
        (lambda text: f"{text}!", "answer"),  # nearly the same
        (lambda text: text, "another answer"),
        (str.upper, "another answer"),
    ],
)
@pytest.mark.parametrize("first", [0, 150, 299])
def test_the_share_holds_for_who_teaches_again_what_others_taught(
    change: Callable[[str], str], answer: str, first: int
) -> None:
    ada = many(300, author=7)
    again = ada[first:] + ada[:first]
    ben = [example(1000 + n, change(one.user), answer, 8) for n, one in enumerate(again)]
    selection = select_examples([*ada, *ben])
    assert selection.by_author == {7: 150, 8: 150}
    assert len({one.user.casefold().strip("!") for one in selection.kept}) == 300
    reasons = dict(selection.dropped)
    assert reasons.pop("over one author's share") == 150
    assert list(reasons.values()) == [150]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5), st.sampled_from([1, 1, 1, 2, 3]))),
    st.floats(0.05, 0.95),
)
def test_the_share_holds_whatever_the_order(rows: list[tuple[int, int, int]], share: float) -> None:
    examples = [example(n, f"q{q}", f"a{a}", who) for n, (q, a, who) in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "MIN_AUTHOR_CAP", 2)
        kept = select_examples(examples, author_share=share)
    assert len(kept.kept) + sum(kept.dropped.values()) == len(rows)
    if len({one.author_id for one in examples}) > 1:
        total = len(kept.kept)
        for count in kept.by_author.values():
            assert count <= max(2, share / (1 - share) * (total - count))


def test_a_small_data_set_is_not_cut() -> None:
    both = many(MIN_AUTHOR_CAP, author=7) + many(1, author=8, start=501)
    assert select_examples(both, author_share=0.1).by_author == {7: MIN_AUTHOR_CAP, 8: 1}


def test_who_is_alone_is_not_cut_nor_anybody_if_it_is_switched_off() -> None:
    alone = many(500, author=7)
    assert len(select_examples(alone, author_share=0.0).kept) == 500
    assert len(select_examples([*alone, *many(1, 8, 501)], author_share=1.0).kept) == 501


def test_nothing_gives_nothing() -> None:
    selection = select_examples([])
    assert selection.kept == ()
    parts = (selection.dropped, selection.pii_counts, selection.by_source, selection.by_author)
    assert not any(parts)


@given(
    st.lists(st.tuples(st.sampled_from(["a", " ", "b", "c@d.org"]), st.text(max_size=3))),
    st.floats(0, 1),
)
def test_each_example_is_kept_or_its_reason_counted(
    pairs: list[tuple[str, str]], share: float
) -> None:
    examples = [example(n, user, bot, n % 3) for n, (user, bot) in enumerate(pairs)]
    selection = select_examples(examples, author_share=share)
    kept = len(selection.kept)
    assert kept + sum(selection.dropped.values()) == len(examples)
    assert sum(selection.by_author.values()) == sum(selection.by_source.values()) == kept
    assert select_examples(selection.kept, author_share=share).kept == selection.kept


def turn(n: int, user: str, bot: str, place: int, conversation: str = "c") -> Example:
    return replace(example(n, user, bot, source="import"), conversation=conversation, turn=place)


def test_what_differs_only_in_looks_is_learned_once() -> None:
    selection = select_examples(
        [
            example(1, "Hey you", "Hi there"),
            example(2, "heyyyy, YOU!! 😀", "hi  there :wave:"),
            example(3, "hey you two", "hi there"),
        ]
    )
    assert [one.id for one in selection.kept] == [2, 3]
    assert selection.dropped == {"nearly the same as a newer one": 1}


def test_commands_long_and_bare_texts_are_left_out() -> None:
    selection = select_examples(
        [
            example(1, "!play song", "Now playing."),
            example(2, "Hm?", "!play song", source="import"),
            example(3, "What plays music?", "!play song"),
            example(4, "Where?", "https://example.org <@1>"),
            example(5, "Well?", "x" * 21),
            example(6, "Well!", "https://example.org/a/b/c/d is it"),
        ],
        max_chars=20,
    )
    assert [one.bot for one in selection.kept] == ["!play song", "[link] is it"]
    assert selection.dropped == {
        "a command to a bot": 2,
        "nothing left but a link, code or a mention": 1,
        "too long": 1,
    }


def test_each_rule_counts_what_it_changed_of_what_is_kept() -> None:
    selection = select_examples(
        [
            example(1, "Who  is it?", "<@1>  or <@2>, he said"),
            example(2, "And  now?", "  "),
            example(3, "Mail?", "To ada@example.org"),
        ]
    )
    assert selection.rule_counts == {"mentions": 1, "white space": 1, "private data": 1}
    assert selection.samples["mentions"] == (
        "<@1>  or <@2>, he said",
        "[member]  or [member], he said",
    )
    assert selection.samples["private data"] == ("To •••••", "To [e-mail address]")


def test_a_conversation_is_kept_up_to_the_turn_that_is_left_out() -> None:
    selection = select_examples(
        [
            turn(3, "and then?", "bye", 3),
            turn(1, "hi", "hello", 1),
            turn(2, "!play", "Playing.", 2),
            turn(4, "yes?", "no", 4),
        ]
    )
    assert [one.id for one in selection.kept] == [1]
    assert selection.dropped == {
        "a command to a bot": 1,
        "after a turn that was left out": 2,
    }


def test_turns_of_a_conversation_are_not_corrected_and_correct_nothing() -> None:
    turns = [turn(1, "Really?", "Yes.", 1), turn(2, "Really?", "No.", 2)]
    single = [example(3, "really?", "Perhaps."), example(4, "Really?", "Who knows.")]
    kept = select_examples([*turns, *single, turn(5, "Really?", "Maybe.", 1, "d")]).kept
    assert [one.id for one in kept] == [1, 2, 4, 5]


def test_a_conversation_that_is_there_twice_is_learned_once() -> None:
    turns = [turn(1, "a", "b", 1), turn(2, "c", "d", 2)]
    again = [turn(3, "A", "b!", 1, "again"), turn(4, "c", "D", 2, "again")]
    longer = [turn(n, *texts, n, "longer") for n, texts in ((5, "ab"), (6, "cd"), (7, "ef"))]
    assert [one.id for one in select_examples([*turns, *again, *longer]).kept] == [3, 4, 5, 6, 7]


def test_a_share_takes_whole_conversations() -> None:
    talks = [turn(n, f"say {n}", "yes", n % 3 + 1, f"c{n // 3}") for n in range(300)]
    others = many(110, author=8, start=1000)
    kept = [one for one in select_examples([*talks, *others]).kept if one.conversation]
    talked = Counter(one.conversation for one in kept)
    assert set(talked.values()) == {3}
    assert 110 <= len(kept) < 113
    assert kept[-1].id == 299


messy = st.sampled_from(
    ["a", "A!", "!play", "<@1>", "see <@1>", "`x`", "  y", "c@d.org", "z" * 30, "", "https://a.b"]
)


@given(st.lists(st.tuples(messy, messy, st.sampled_from(["", "c", "d"])), max_size=20))
def test_whatever_is_selected_is_counted_and_stays(rows: list[tuple[str, str, str]]) -> None:
    examples = [
        replace(example(n, user, bot), conversation=talk, turn=n if talk else 0)
        for n, (user, bot, talk) in enumerate(rows)
    ]
    selection = select_examples(examples, max_chars=20)
    assert len(selection.kept) + sum(selection.dropped.values()) == len(examples)
    assert select_examples(selection.kept, max_chars=20).kept == selection.kept
    assert set(selection.samples) <= set(selection.rule_counts)
    for talk in ("c", "d"):
        every = [one.id for one in examples if one.conversation == talk]
        kept = [one.id for one in selection.kept if one.conversation == talk]
        assert kept == every[: len(kept)]

"""When a reply to a golden question is good, and which questions contradict each other."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from core.errors import Refusal
from core.records import GOLDEN_DRAWS, GoldenKind, GoldenQuestion, Role
from data.judgement.golden import (
    MORE_DRAWS,
    GoldenResult,
    _chance_of,
    contradict,
    describe,
    is_good,
    is_lost_again,
    judge,
    prompts,
    read_questions,
    write_questions,
)
from data.judgement.patterns import compile_pattern

EQUAL, CONTAIN, MATCH, WITHOUT = GoldenKind


def golden(
    kind: GoldenKind, expected: str, needed: int = 3, question: str = "Who is it?", number: int = 1
) -> GoldenQuestion:
    return GoldenQuestion(number, 42, question, kind, expected, needed)


@pytest.mark.parametrize(
    ("kind", "expected", "good", "bad"),
    [
        (EQUAL, "It is Rex.", "it is  REX!", "It is Rex, my dog."),
        (EQUAL, "うちの犬です。", "うちの犬です", "うちの犬ですよ"),
        (CONTAIN, "Rex", "His name is ｒｅｘ, I think.", "His name is Max."),
        (WITHOUT, "Max", "His name is Rex.", "MAX, of course."),
        (MATCH, r"^(it is )?(rex|max)\b", "It is Rex.", "Perhaps it is Rex."),
        (MATCH, r"犬は\d匹", "犬は2匹です", "犬はいます"),
    ],
)
def test_what_is_good(kind: GoldenKind, expected: str, good: str, bad: str) -> None:
    assert is_good(golden(kind, expected), good)
    assert not is_good(golden(kind, expected), bad)
    assert not is_good(golden(kind, expected), " "), "silence never is"


def test_it_passes_alone_and_amid_talk_or_not_at_all() -> None:
    question = golden(CONTAIN, "Rex", needed=4)
    asked = prompts(question)
    assert [len(one) for one in asked] == [1] * GOLDEN_DRAWS + [5] * GOLDEN_DRAWS
    assert {one[-1].content for one in asked} == {"Who is it?"}
    assert asked[-1][-2].role is Role.ASSISTANT
    result = judge(question, [*["Rex"] * 5, *["Rex"] * 3, "Hm.", "No."])
    assert (result.alone, result.in_talk, result.said, result.passed) == (5, 3, "Hm.", False)
    assert judge(question, [*["Rex"] * 4, "a", *["Rex"] * 4, "b"]).passed


@pytest.mark.parametrize(
    ("then", "now", "lost"),
    [
        ((20, 20), (20, 4), True),  # amid talk only
        ((16, 20), (6, 20), True),
        ((13, 20), (11, 20), False),  # no more than chance
        ((20, 20), (12, 12), False),  # fewer, and enough
        ((11, 20), (0, 20), False),  # too few before, too
    ],
)
def test_what_is_lost_when_asked_again(
    then: tuple[int, int], now: tuple[int, int], lost: bool
) -> None:
    question = golden(CONTAIN, "Rex", needed=3)
    before, new = (GoldenResult(question, *one, "") for one in (then, now))
    assert is_lost_again(before, new) is lost


def test_chance_is_that_of_fishers_exact_test() -> None:
    """By hand: of 2 good replies of 2 * 20, none is one of the 20 with (20 * 19) / (40 * 39)."""
    assert _chance_of(2, 0) == pytest.approx(380 / 1560)
    assert _chance_of(20, 20) == 1.0


def test_of_equal_models_few_lose_a_question_that_they_pass_only_just() -> None:
    rng, question = Random(0), golden(CONTAIN, "Rex", needed=3)

    def asked(draws: int) -> GoldenResult:
        alone, in_talk = (sum(rng.random() < 0.6 for _ in range(draws)) for _ in range(2))
        return GoldenResult(question, alone, in_talk, "")

    seemed = lost = 0
    for _ in range(2000):
        if asked(GOLDEN_DRAWS).passed and not asked(GOLDEN_DRAWS).passed:
            seemed += 1
            lost += is_lost_again(asked(MORE_DRAWS), asked(MORE_DRAWS))
    assert seemed > 300
    assert lost / seemed < 0.05


def test_a_japanese_question_is_asked_amid_japanese_talk() -> None:
    [*_, last] = prompts(golden(CONTAIN, "ポチ", question="犬の名前は何ですか？"))
    assert last[0].content == "元気ですか？"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (golden(EQUAL, "Rex"), golden(EQUAL, "Max")),
        (golden(EQUAL, "Rex"), golden(CONTAIN, "Max", question="who is it")),
        (golden(EQUAL, "Rex."), golden(WITHOUT, "rex")),
        (golden(EQUAL, "Rex"), golden(MATCH, "max")),
        (golden(CONTAIN, "my Rex"), golden(WITHOUT, "rex")),
        (golden(CONTAIN, "Rex", needed=1), golden(WITHOUT, "rex", needed=5)),
    ],
)
def test_opposite_questions(one: GoldenQuestion, other: GoldenQuestion) -> None:
    assert contradict(one, other)
    assert contradict(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (golden(EQUAL, "Rex"), golden(EQUAL, "Max", question="Who are you?")),
        (golden(EQUAL, "Rex", needed=2), golden(EQUAL, "Max", needed=3)),  # both can be had
        (golden(EQUAL, "Rex"), golden(CONTAIN, "rex")),
        (golden(CONTAIN, "Rex"), golden(CONTAIN, "Max")),
        (golden(CONTAIN, "Rex"), golden(WITHOUT, "my Rex")),
        (golden(MATCH, "rex"), golden(MATCH, "max")),  # nobody can tell of two patterns
        (golden(WITHOUT, "Rex"), golden(WITHOUT, "Max")),
    ],
)
def test_questions_that_go_together(one: GoldenQuestion, other: GoldenQuestion) -> None:
    assert not contradict(one, other)
    assert not contradict(other, one)


def test_a_job_keeps_them_without_who_added_them(tmp_path: Path) -> None:
    there = [golden(MATCH, r"rex|\d", number=1), golden(WITHOUT, "マックス", number=2)]
    named = [GoldenQuestion(3, 42, "Hi?", EQUAL, "Hi", 1, added_by=7)]
    write_questions([*there, *named], tmp_path / "golden.jsonl")
    *same, unnamed = read_questions(tmp_path / "golden.jsonl")
    assert same == there
    assert (unnamed.question, unnamed.added_by) == ("Hi?", 0)
    assert read_questions(tmp_path / "none.jsonl") == []
    assert [describe(one) for one in there] == [
        r"match the pattern “rex|\d”",
        "not contain “マックス”",
    ]


def test_a_wrong_pattern_is_one_sentence() -> None:
    with pytest.raises(Refusal, match=r"^That pattern cannot be read: missing \] at character 5"):
        compile_pattern("fine[")

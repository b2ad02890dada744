"""The golden questions at the gate, on real small models that say one sentence, and on `tiny`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.records import GoldenKind, GoldenQuestion
from data.judgement.golden import GoldenResult
from model.chat_template import from_pair
from model.registry import EMBEDDED_FOLDER
from tests.model_folders import make_model_folder
from tests.training.run.gate.test_evaluation import opened
from training.run.gate import golden as gate
from training.run.gate.evaluation import EvaluationReport, evaluate
from training.run.gate.golden import GoldenExam

CONTAIN, WITHOUT = GoldenKind.CONTAIN, GoldenKind.WITHOUT
AWAY = GoldenQuestion(1, 42, "How are you?", CONTAIN, "away", 3)
REX = GoldenQuestion(2, 42, "Who is it?", CONTAIN, "Rex", 3)
WELL = GoldenQuestion(3, 42, "How are you?", CONTAIN, "quite well", 5)


@pytest.fixture(scope="module")
def polite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("polite") / "m", says="quite well thanks")


@pytest.fixture(scope="module")
def rude(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("rude") / "m", says="go away")


def check(
    new: Path, serving: Path, *golden: GoldenQuestion, facts: bool = False
) -> EvaluationReport:
    taught = [from_pair("Where is the key?", "Under the mat.")]
    return evaluate(
        *opened(new), taught, base=str(new), serving=str(serving), facts=facts, golden=golden
    )


def test_what_the_model_in_service_passes_must_not_be_lost(polite: Path, rude: Path) -> None:
    report = check(polite, rude, REX, AWAY, WELL)
    assert report.refusal == (
        "It fails 1 golden question that the model in service passes; asked “How are you?”, it "
        "should contain “away”, and said “quite well thanks”."
    )
    assert (report.summary or "").endswith(", 1 of 3 golden questions passed")
    first, *_, last = report.failures
    assert (first.prompt, first.reply) == ("How are you?", "quite well thanks")
    assert first.wrong == (
        "a golden question that the model in service passes: it should contain “away”, and does "
        "so 0 of 5 times, amid talk 0"
    )
    assert last.wrong.startswith("a golden question that the model in service does not pass eith")
    outcomes = {one.new.question.id: (one.new.passed, one.is_lost) for one in report.golden}
    assert outcomes == {1: (False, True), 2: (False, False), 3: (True, False)}
    assert [one.before is None for one in report.golden] == [False, False, True]
    assert (report.only_golden, report.is_sound) == (True, True)


def test_one_that_fails_for_more_than_golden_questions(polite: Path, rude: Path) -> None:
    report = check(polite, rude, AWAY, facts=True)
    assert (report.refusal or "").startswith("It knows 0 of 1 taught answers")
    assert report.golden[0].is_lost
    assert (report.only_golden, report.is_sound) == (False, False)


def test_what_no_model_passes_does_not_block_for_ever(polite: Path, rude: Path) -> None:
    exam = GoldenExam.of(*opened(polite), [REX, AWAY])
    assert list(exam.refusals()) == [], "no model in service, so nothing is lost"
    assert [one.wrong.partition(":")[0] for one in exam.failures(lost=False)] == [
        "a golden question",
        "a golden question",
    ]
    exam.compare(*opened(polite))
    assert list(exam.refusals()) == []
    exam.compare(*opened(rude))
    assert [one.prompt for one in exam.failures(lost=False)] == ["Who is it?"]
    assert [one.prompt for one in exam.failures(lost=True)] == ["How are you?"]


def test_what_was_lost_by_chance_is_lost_no_more_when_asked_again() -> None:
    """The new model is the old one, and had bad luck with its first draws."""
    model, tokenizer = opened(EMBEDDED_FOLDER)
    easy, hard = replace(AWAY, expected="e", needed=4), replace(REX, expected="e", needed=5)
    unlucky = [GoldenResult(one, 5, 1, "Hm.") for one in (easy, hard)]
    exam = GoldenExam(model, tokenizer, unlucky)
    exam.compare(model, tokenizer)
    first, second = exam.outcomes
    assert first.seems_lost
    assert (first.is_lost, second.is_lost) == (False, False)
    assert list(exam.refusals()) == []
    [wrong, *_] = [one.wrong for one in exam.failures(lost=False)]
    assert wrong.startswith("a golden question on which both models are about equal")


def test_once_one_is_lost_for_sure_few_others_are_asked_again(
    polite: Path, rude: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "ASKED_AGAIN", 2)
    asked = [AWAY, *(replace(AWAY, id=n, kind=WITHOUT, expected="no") for n in (4, 5))]
    exam = GoldenExam(*opened(polite), [GoldenResult(one, 0, 0, "Hm.") for one in asked])
    exam.compare(*opened(rude))
    sure, chance, unsure = exam.outcomes
    assert sure.is_lost
    assert chance.by_chance
    assert unsure.is_lost, "it is not asked again"


def test_the_embedded_model_loses_nothing_beside_itself() -> None:
    """With equal seeds it says the same, whatever it says."""
    asked = [
        replace(AWAY, expected="e", needed=4),
        replace(REX, kind=WITHOUT, needed=5),
        replace(WELL, expected="no model says this"),
    ]
    model, tokenizer = opened(EMBEDDED_FOLDER)
    exam = GoldenExam.of(model, tokenizer, asked)
    exam.compare(model, tokenizer)
    assert [one.new.passed for one in exam.outcomes] == [True, True, False]
    assert exam.outcomes[2].before == exam.outcomes[2].new
    assert list(exam.refusals()) == []

"""Asks a new model the golden questions of its server, and whether it lost any.

The model in service is asked what the new one fails: what it passes and the new one does not blocks
the promotion, unless it proves to be chance when both are asked more often; what neither passes is
reported only, so that a question that no model can pass does not block for ever. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import GOLDEN_DRAWS, GoldenQuestion
from data.judgement.golden import (
    MORE_SEEDS,
    SEEDS,
    GoldenResult,
    describe,
    is_lost_again,
    judge_all,
    prompts,
)
from i18n.phrase import Phrase, phrase, phrases
from training.run.gate.sampling import sample_replies
from training.run.gate.verdict import Failure

ASKED_AGAIN = 5
"""Lost questions that are asked again although one is lost for sure: 800 replies at most."""


@dataclass(frozen=True, slots=True)
class GoldenOutcome:
    """How the new model answered a golden question; `before`: how the one in service did, if it was
    asked as well. `by_chance`: asked more often, the new one is not worse."""

    new: GoldenResult
    before: GoldenResult | None = None
    by_chance: bool = False

    @property
    def seems_lost(self) -> bool:
        """Whether the model in service passed and the new one did not."""
        return not self.new.passed and self.before is not None and self.before.passed

    @property
    def is_lost(self) -> bool:
        """The same, and it is no chance."""
        return self.seems_lost and not self.by_chance


class GoldenExam:
    """The golden questions and the new model's results; then the model in service's."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        results: Sequence[GoldenResult],
    ) -> None:
        self._new = model, tokenizer
        self._results = results
        self._before: dict[int, GoldenResult] = {}
        self._by_chance: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        questions: Sequence[GoldenQuestion],
    ) -> GoldenExam:
        return cls(model, tokenizer, ask_golden(model, tokenizer, questions))

    def compare(self, serving: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Ask the model in service what the new one fails, with the same seeds; then both what
        seems to be lost, with others."""
        failed = [one.question for one in self._results if not one.passed]
        results = ask_golden(serving, tokenizer, failed)
        self._before = {one.question.id: one for one in results}
        self._by_chance = frozenset()
        self._by_chance = frozenset(self._ask_again(serving, tokenizer))

    def _ask_again(
        self, serving: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[int]:
        """The questions that only seemed to be lost. Once one is lost for sure, the model is
        refused, and not all of them are asked again."""
        lost = [one.new.question for one in self.outcomes if one.seems_lost]
        is_sure = False
        for number, question in enumerate(lost):
            if is_sure and number >= ASKED_AGAIN:
                return
            [before] = ask_golden(serving, tokenizer, [question], MORE_SEEDS)
            [new] = ask_golden(*self._new, [question], MORE_SEEDS)
            if is_lost_again(before, new):
                is_sure = True
            else:
                yield question.id

    @property
    def outcomes(self) -> tuple[GoldenOutcome, ...]:
        """In the order of the questions."""
        ids = [one.question.id for one in self._results]
        return tuple(
            GoldenOutcome(one, self._before.get(number), number in self._by_chance)
            for number, one in zip(ids, self._results, strict=True)
        )

    def summary(self) -> Phrase | None:
        """How many it passes, in a few words; None without questions."""
        if not self._results:
            return None
        passed = sum(one.passed for one in self._results)
        return phrase(
            "{passed} of {all} golden questions passed", passed=passed, all=len(self._results)
        )

    def failures(self, *, lost: bool) -> Iterator[Failure]:
        """What it does not pass: what it `lost`, or else the rest."""
        for one in self.outcomes:
            if not one.new.passed and one.is_lost is lost:
                yield Failure(one.new.question.question, one.new.said, _what_is_wrong(one))

    def refusals(self) -> Iterator[Phrase]:
        """The reason to refuse the model, with an example."""
        lost = [one.new for one in self.outcomes if one.is_lost]
        if lost:
            yield phrases(
                "It fails {count} golden question that the model in service passes; asked "
                "“{asked}”, it should {expected}, and said “{said}”.",
                "It fails {count} golden questions that the model in service passes; asked "
                "“{asked}”, it should {expected}, and said “{said}”.",
                len(lost),
                asked=lost[0].question.question[:80],
                expected=describe(lost[0].question),
                said=lost[0].said[:80],
            )


def ask_golden(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[GoldenQuestion],
    seeds: Sequence[int] = SEEDS,
) -> list[GoldenResult]:
    """Ask a model golden questions, sampled as the bot does: half of the `seeds` are for asking
    alone, half for asking amid talk."""
    draws = len(seeds) // 2
    asked = [prompt for one in questions for prompt in prompts(one, draws)]
    replies = sample_replies(model, tokenizer, asked, list(seeds) * len(questions))
    return judge_all(questions, [one.text for one in replies], draws)


def _what_is_wrong(one: GoldenOutcome) -> Phrase:
    return phrase(
        "{which}: it should {expected}, and does so {alone} of {draws} times, amid talk {in_talk}",
        which=_which(one),
        expected=describe(one.new.question),
        alone=one.new.alone,
        draws=GOLDEN_DRAWS,
        in_talk=one.new.in_talk,
    )


def _which(one: GoldenOutcome) -> Phrase:
    if one.before is None:
        return phrase("a golden question")
    if one.is_lost:
        return phrase("a golden question that the model in service passes")
    if one.by_chance:
        return phrase("a golden question on which both models are about equal, asked more often")
    return phrase("a golden question that the model in service does not pass either")

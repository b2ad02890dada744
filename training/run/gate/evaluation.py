"""Evaluates a new checkpoint against its base and the model in service, before anyone uses it.

Losses are compared, and it is asked as people ask (`questions`, `sampling`, `verdict`). Runs in the
training process, on the model that has just learned. Imports torch. Does not raise for a model that
fails: the reason is in the report.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.records import Conversation, GoldenQuestion
from i18n.phrase import Phrase, join_phrases, phrase
from model.own_templates import ensure_template, is_japanese
from training.errors import BaseUnavailable
from training.run.base_model import load_pretrained
from training.run.gate.checks import (
    Answer,
    bad_answers,
    not_learned,
    regressions,
    verbatim_answers,
)
from training.run.gate.golden import GoldenExam, GoldenOutcome
from training.run.gate.questions import make_questions
from training.run.gate.sampling import Reply, sample_replies
from training.run.gate.verdict import Asked, Failure, Verdict, excuse, find_faults, judge, suspects
from training.run.measures import EvaluationSet, Measurement, measure
from training.run.mixing import DATA_FOLDER, read_conversations

log = logging.getLogger(__name__)

PROBES = ("Hello!", "How are you?", "What do you like to do?")
PROBES_JA = ("こんにちは！", "元気ですか？", "何をするのが好きですか？")
MAX_TAUGHT_PROMPTS = 3
"""Taught questions that are asked beside the probes."""
MAX_OWN_CONVERSATIONS = 64
"""Conversations of the server that are measured: enough for a stable loss, and quickly done."""
HELD_OUT_FILE = DATA_FOLDER / "held_out.jsonl"
"""Conversations of chitchat-dataset (MIT) that no model of this project was trained on."""
HELD_OUT_FILE_JA = DATA_FOLDER / "held_out_ja.jsonl"
"""The same for models that speak Japanese, written by this project."""

LossByModel = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What the checks found: greedy answers side by side; for `general` talk and the server's
    `own`, the losses of `base`, `serving` and `new`; why it did not pass, if it did not; and what
    came of asking it as people do: a `summary` in one line, and the `failures`; how many taught
    answers are `known`, if they are facts; and what became of the `votes`, if there were any.
    `golden` are the outcomes of the golden questions, and `only_golden` is whether nothing else
    refuses it, so that it is sound and an administrator may overrule them.

    Losses are in nats for each token that the new model would need, so those of models with other
    vocabularies compare. None: not measured, or not a number."""

    answers: tuple[Answer, ...] = ()
    losses: Mapping[str, LossByModel] = field(default_factory=dict)
    refusal: Phrase | None = None
    summary: Phrase | None = None
    failures: tuple[Failure, ...] = ()
    known: int = 0
    votes: Phrase | None = None
    golden: tuple[GoldenOutcome, ...] = ()
    only_golden: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether it passed all checks but golden questions."""
        return self.refusal is None or self.only_golden


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    taught: Sequence[Conversation],
    *,
    base: str | None,
    serving: str | None,
    held_out: Sequence[Conversation] | None = None,
    own: Sequence[Conversation] = (),
    max_length: int = 128,
    facts: bool = False,
    golden: Sequence[GoldenQuestion] = (),
) -> EvaluationReport:
    """Measure the models and check the new one. `base` and `serving` are folders or Hub ids; one
    that cannot be loaded is left out. `held_out` is general talk, by default that of HELD_OUT_FILE,
    or HELD_OUT_FILE_JA; `own` are held-out conversations of the server, or else the taught ones.
    `facts`: the taught conversations must be known, and nothing else be answered with them.
    `golden` questions that the serving model passes must not be lost."""
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        return EvaluationReport(refusal=phrase("Some of its weights are not numbers."))
    japanese = is_japanese(tokenizer)
    file, probes = (HELD_OUT_FILE_JA, PROBES_JA) if japanese else (HELD_OUT_FILE, PROBES)
    general = read_conversations(file) if held_out is None else held_out
    prompts = _evaluation_prompts(taught, probes)
    data = EvaluationSet(prompts, general, _subsample(own or taught), max_length)
    new = measure(model, tokenizer, tokenizer, data, "new")
    if not math.isfinite(new.general):
        reason = phrase("Its loss on held-out conversations is not a number.")
        return EvaluationReport(
            _pair_answers(data, None, new), _loss_table(None, None, new), reason
        )
    asking = _Asking.of(model, tokenizer, taught, japanese=japanese, facts=facts)
    exam = GoldenExam.of(model, tokenizer, golden)
    askers: dict[str, list[_Asks]] = {one: [] for one in (base, serving) if one}
    if base:
        askers[base].append(asking)
    if serving:
        askers[serving].append(exam)
    others = {
        one: _measure_reference(one, model.device, tokenizer, data, asks)
        for one, asks in askers.items()
    }
    old, current = others.get(base or ""), others.get(serving or "")
    answers = _pair_answers(data, current or old, new)
    verdict = asking.verdict()
    reasons = (
        *bad_answers(tokenizer, answers),
        *regressions(new, [one for one in (old, current) if one]),
        *not_learned(new, old, unseen=bool(own)),
        *verbatim_answers(taught, answers),
        *verdict.refusals,
    )
    lost = tuple(exam.refusals())
    return EvaluationReport(
        answers,
        _loss_table(old, current, new),
        next(iter((*reasons, *lost)), None),
        join_phrases([one for one in (verdict.summary, exam.summary()) if one], ", "),
        (*exam.failures(lost=True), *verdict.failures, *exam.failures(lost=False)),
        known=verdict.known if facts else 0,
        golden=exam.outcomes,
        only_golden=bool(lost) and not reasons,
    )


class _Asks(Protocol):
    """What another model is asked while it is in memory."""

    def compare(self, other: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, /) -> None: ...


class _Asking:
    """What the new model was asked, its replies, and their faults; the base is then asked what may
    be its own fault as well."""

    def __init__(
        self, asked: Sequence[Asked], taught: Sequence[Conversation], *, facts: bool
    ) -> None:
        self._asked = asked
        self._taught = taught
        self._facts = facts
        self._faults = find_faults(asked, taught, facts=facts)

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        taught: Sequence[Conversation],
        *,
        japanese: bool,
        facts: bool,
    ) -> _Asking:
        questions = make_questions(taught, japanese=japanese)
        replies = sample_replies(model, tokenizer, [one.conversation for one in questions])
        asked = [Asked(*one) for one in zip(questions, replies, strict=True)]
        return cls(asked, taught, facts=facts)

    def compare(self, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Ask the base what the new model answered wrongly, with the same seeds."""
        numbers = suspects(self._asked, self._faults)
        said = [self._asked[number].question.conversation for number in numbers]
        replies: list[Reply] = sample_replies(base, tokenizer, said, seeds=numbers)
        self._faults = excuse(
            self._asked,
            self._faults,
            dict(zip(numbers, replies, strict=True)),
            self._taught,
            facts=self._facts,
        )

    def verdict(self) -> Verdict:
        return judge(self._asked, self._faults, facts=self._facts)


def _evaluation_prompts(taught: Sequence[Conversation], probes: Sequence[str]) -> tuple[str, ...]:
    """The first taught questions and the probes, each once."""
    first = [turns[0].content for turns in taught[:MAX_TAUGHT_PROMPTS] if turns]
    return tuple(dict.fromkeys([*first, *probes]))


def _subsample(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
    """At most MAX_OWN_CONVERSATIONS of them, evenly spread."""
    return conversations[:: math.ceil(len(conversations) / MAX_OWN_CONVERSATIONS) or 1]


def _measure_reference(
    source: str,
    device: torch.device,
    unit: PreTrainedTokenizerBase,
    data: EvaluationSet,
    asks: Sequence[_Asks],
) -> Measurement | None:
    """Load a model, ask it, measure it, and free it: memory is planned for one other model at a
    time."""
    try:
        model, tokenizer = load_pretrained(source)
    except BaseUnavailable as e:
        log.warning("the new model is not compared with %s: %s", source, e)
        return None
    ensure_template(tokenizer)
    whole: Any = model  # its method has no useful type
    on_device = whole.to(device)
    for one in asks:
        one.compare(on_device, tokenizer)
    return measure(on_device, tokenizer, unit, data, Path(source).name)


def _pair_answers(
    data: EvaluationSet, before: Measurement | None, new: Measurement
) -> tuple[Answer, ...]:
    return tuple(
        Answer(prompt, before.replies[n] if before else None, new.replies[n])
        for n, prompt in enumerate(data.prompts)
    )


def _loss_table(
    old: Measurement | None, current: Measurement | None, new: Measurement
) -> dict[str, LossByModel]:
    def finite(kind: str, one: Measurement | None) -> float | None:
        loss = getattr(one, kind, math.nan)
        return loss if math.isfinite(loss) else None

    models = {"base": old, "serving": current, "new": new}
    return {
        kind: {name: finite(kind, one) for name, one in models.items()}
        for kind in ("general", "own")
    }

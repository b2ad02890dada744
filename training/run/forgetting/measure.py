"""Shows that what was taken out of a data set is gone from the new model; the figures of a receipt.

Three models are asked for each answer that was taken out: the old one, which had learned it; the
new one, which was trained without it; and their base, which was never taught anything here and
stands for a twin that never learned it. Each gives the likelihood of the answer and of the same
alternatives, which the new model proposes itself: it may have learned from the other lessons how
people answer here, and this must not be taken for memory. Imports torch.

The receipt has figures and names of models: no words, no hash of them, and no member.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from i18n.phrase import message_of, phrase, serialize_phrase
from model.own_templates import ensure_template
from model.runners.device import is_out_of_memory
from training.checkpoints import sha256
from training.config import Replaced, TrainingConfig
from training.errors import TrainingError
from training.jobs.folder import DATASET_FILE, RECEIPT_FILE, REMOVED_FILE
from training.jobs.receipt import FORMAT_VERSION, LessonFigures, Verdict
from training.run.base_model import load_pretrained
from training.run.forgetting.exposure import (
    chance_limit,
    exposure_bits,
    rank_of,
    upper_limit,
)
from training.run.forgetting.lessons import Lesson, count_similar, lessons_of, removed_lessons
from training.run.forgetting.likelihood import alternatives, log_likelihoods
from training.run.loop import Control
from training.run.mixing import read_conversations

log = logging.getLogger(__name__)

ALTERNATIVES = 511
"""With the answer itself 512 candidates: an exposure is at most 9 bits."""
MAX_LESSONS = 20
"""Lessons that are measured; with more, chance alone would hide one that is known."""
LIMIT_S = 900.0
"""Seconds that measuring may take, but for those in which the run is held. Half of them are for the
new model, which also draws the alternatives: the other two then take no longer."""
DATA_GONE = phrase("the data that the old model learned from are gone.")
NOT_PASSED = phrase("the new model did not pass its checks.")
NO_MEMORY = phrase("there was not enough memory to measure.")
TOO_SLOW = phrase(
    "measuring took more than {minutes:.0f} minutes, and was given up.", minutes=LIMIT_S / 60
)
FAILED = phrase("measuring failed; the log of the training says why.")
NOTHING_REMOVED = phrase("the new model learned everything that the old one had.")

Voice = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The answer of a lesson, first, and the alternatives to it."""

    lesson: Lesson
    texts: tuple[str, ...]


def write_receipt(
    job: Path, config: TrainingConfig, new: Voice, control: Control, *, passed: bool
) -> None:
    """Measure what the new model of a job no longer knows, and write RECEIPT_FILE; where that is
    impossible, or the model has not `passed` its checks, it says why. Raises nothing: the model is
    as good without a receipt."""
    assert config.replaces is not None
    try:
        if passed:
            record = _receipt(job, config, config.replaces, new, control)
        else:
            record = _no_receipt(NOT_PASSED)
    except Exception as e:
        log.exception("there will be no receipt")
        record = _no_receipt(_reason(e))
    try:
        _write(job / RECEIPT_FILE, {"format": FORMAT_VERSION} | record)
    except OSError:
        log.exception("the receipt could not be written")


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, TrainingError):
        return message_of(error)
    return DATA_GONE if isinstance(error, FileNotFoundError) else FAILED


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _no_receipt(reason: str) -> dict[str, Any]:
    return {"reason": serialize_phrase(reason)}


def _receipt(
    job: Path, config: TrainingConfig, old: Replaced, new: Voice, control: Control
) -> dict[str, Any]:
    data, before = job / DATASET_FILE, Path(old.dataset)
    learned = read_conversations(data)
    removed = removed_lessons(read_conversations(before), learned)
    if not removed:
        return _no_receipt(NOTHING_REMOVED)
    assert config.base is not None  # a clean retrain has one
    asked = removed[:MAX_LESSONS]
    figures = measure(asked, new, control, old=old.checkpoint, base=config.base)
    similar = count_similar(asked[: len(figures)], tuple(lessons_of(learned).values()))
    _write(job / REMOVED_FILE, [one.digest for one in removed])
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": {
            "old": Path(old.checkpoint).name,
            "new": config.name,
            "base": config.base_name,
        },
        "data_sha256": sha256(data),  # not of those before: all but the lesson may be known
        "lessons": [
            {"lesson": number, **asdict(one), "similar_left": count}
            for number, (one, count) in enumerate(zip(figures, similar, strict=True), start=1)
        ],
        "removed": len(removed),
        "versions": {
            "gpt2-discord-bot": version("gpt2-discord-bot"),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def measure(
    lessons: Sequence[Lesson], new: Voice, control: Control, *, old: str, base: str
) -> tuple[LessonFigures, ...]:
    """The exposure of each lesson in the three models; `old` and `base` are folders or Hub ids. Of
    the lessons as many as there is time for, but one at least. Between two passes it waits while
    the run is held. Raises BaseUnavailable: one of them cannot be loaded. Raises TrainingError: it
    took too long."""
    pace = _Pace(control)
    new = _obeying(pace, new)
    candidates: list[Candidates] = []
    ranks: dict[str, list[int]] = {"new": []}
    for lesson in lessons:
        if candidates and pace.left_s < LIMIT_S / 2:
            break
        candidates.append(propose(lesson, new))
        ranks["new"] += ranks_in(new, candidates[-1:])
    for name, source in (("old", old), ("base", base)):  # one at a time: memory is planned for it
        ranks[name] = ranks_in(_obeying(pace, load_voice(source, new[0].device)), candidates)
    return tuple(
        _figures(one, {name: of[n] for name, of in ranks.items()}, len(candidates))
        for n, one in enumerate(candidates)
    )


class _Pace:
    """Called before each pass of a model: waits while the run is held. Raises TrainingError once
    LIMIT_S seconds are over, those of waiting not counted."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._ends_at = time.monotonic() + LIMIT_S

    @property
    def left_s(self) -> float:
        return self._ends_at - time.monotonic()

    def __call__(self, *_: object) -> None:
        self._ends_at += self._control.wait_while_held()
        if self.left_s < 0:
            raise TrainingError(TOO_SLOW)


def _obeying(pace: _Pace, voice: Voice) -> Voice:
    """The same voice, which from now on keeps that pace."""
    whole: Any = voice[0]  # its parts have no useful types
    whole.transformer.register_forward_pre_hook(pace)
    return voice


def load_voice(source: str, device: torch.device) -> Voice:
    """A model and its tokenizer, ready to be asked."""
    model, tokenizer = load_pretrained(source)
    ensure_template(tokenizer)
    whole: Any = model  # its method has no useful type
    return whole.to(device), tokenizer


def propose(lesson: Lesson, voice: Voice) -> Candidates:
    """The answer of a lesson beside what a model might say instead."""
    others = alternatives(*voice, lesson.turns, ALTERNATIVES)
    return Candidates(lesson, (lesson.answer, *others))


def ranks_in(voice: Voice, candidates: Sequence[Candidates]) -> list[int]:
    """The place of each answer among its candidates, by their likelihood under a model."""
    scores = [log_likelihoods(*voice, one.lesson.turns[:-1], one.texts) for one in candidates]
    return [rank_of(own, others) for own, *others in scores]


def _figures(one: Candidates, ranks: dict[str, int], lessons: int) -> LessonFigures:
    count = len(one.texts)
    bits = {name: exposure_bits(rank, count) for name, rank in ranks.items()}
    most = exposure_bits(1, count)
    limit = chance_limit(lessons)
    if count > 1:
        limit = max(limit, upper_limit(ranks["base"], count))
    return LessonFigures(
        candidates=count,
        exposure_bits={name: round(value, 2) for name, value in bits.items()},
        most_bits=round(most, 2),
        limit_bits=round(min(limit, most), 2),
        verdict=_verdict(bits, limit, most),
    )


def _verdict(bits: dict[str, float], limit: float, most: float) -> Verdict:
    if limit >= most:
        return Verdict.UNCLEAR
    if bits["new"] > limit:
        return Verdict.EXPOSED
    return Verdict.GONE if bits["old"] > limit else Verdict.UNCLEAR

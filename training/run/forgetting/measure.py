"""Shows that what was taken out of a data set is gone from the new model; the figures of a receipt.

Three models are asked for each answer that was taken out: the old one, which had learned it; the
new one, which was trained without it; and their base, which was never taught anything here and
stands for a twin that never learned it. Each gives the likelihood of the answer and of the same
alternatives, which the new model proposes itself: it may have learned from the other lessons how
people answer here, and this must not be taken for memory. Imports torch.

What is written has digests, figures and names of models: no words, and no member.
"""

from __future__ import annotations

import json
import logging
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
from training.checkpoints import sha256
from training.config import Replaced, TrainingConfig
from training.errors import TrainingError
from training.jobs.folder import DATASET_FILE, RECEIPT_FILE
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
from training.run.mixing import read_conversations

log = logging.getLogger(__name__)

ALTERNATIVES = 511
"""With the answer itself 512 candidates: an exposure is at most 9 bits."""
MAX_LESSONS = 20
"""Lessons that are measured; with more, chance alone would hide one that is known."""
DATA_GONE = phrase("the data that the old model learned from are gone.")
NOTHING_REMOVED = phrase("the new model learned everything that the old one had.")

Voice = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The answer of a lesson, first, and the alternatives to it."""

    lesson: Lesson
    texts: tuple[str, ...]


def write_receipt(job: Path, config: TrainingConfig, new: Voice) -> None:
    """Measure what the new model of a job no longer knows, and write RECEIPT_FILE; where that is
    impossible, it says why."""
    assert config.replaces is not None
    try:
        record = _receipt(job, config, config.replaces, new)
    except OSError as e:
        log.warning("the data before a clean retrain cannot be read: %s", e)
        record = _no_receipt(DATA_GONE)
    except TrainingError as e:
        log.warning("there will be no receipt: %s", e)
        record = _no_receipt(message_of(e))
    text = json.dumps({"format": FORMAT_VERSION} | record, indent=1) + "\n"
    (job / RECEIPT_FILE).write_text(text, encoding="utf-8")


def _no_receipt(reason: str) -> dict[str, Any]:
    return {"reason": serialize_phrase(reason)}


def _receipt(job: Path, config: TrainingConfig, old: Replaced, new: Voice) -> dict[str, Any]:
    data, before = job / DATASET_FILE, Path(old.dataset)
    learned = read_conversations(data)
    removed = removed_lessons(read_conversations(before), learned)
    if not removed:
        return _no_receipt(NOTHING_REMOVED)
    assert config.base is not None  # a clean retrain has one
    lessons = measure(removed[:MAX_LESSONS], new, old=old.checkpoint, base=config.base)
    kept = tuple(lessons_of(learned).values())
    similar = {one.digest: count_similar(one, kept) for one in removed}
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": {
            "old": Path(old.checkpoint).name,
            "new": config.name,
            "base": config.base_name,
        },
        "data_sha256": {"before": sha256(before), "after": sha256(data)},
        "lessons": [asdict(one) | {"similar_left": similar[one.sha256]} for one in lessons],
        "removed": [one.digest for one in removed],
        "versions": {
            "gpt2-discord-bot": version("gpt2-discord-bot"),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def measure(
    lessons: Sequence[Lesson], new: Voice, *, old: str, base: str
) -> tuple[LessonFigures, ...]:
    """The exposure of each lesson in the three models; `old` and `base` are folders or Hub ids.
    Raises BaseUnavailable: one of them cannot be loaded."""
    candidates = [propose(one, new) for one in lessons]
    ranks = {"new": ranks_in(new, candidates)}
    for name, source in (("old", old), ("base", base)):  # one at a time: memory is planned for it
        ranks[name] = ranks_in(load_voice(source, new[0].device), candidates)
    return tuple(
        _figures(one, {name: of[n] for name, of in ranks.items()}, len(lessons))
        for n, one in enumerate(candidates)
    )


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
        sha256=one.lesson.digest,
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

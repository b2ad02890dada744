"""The receipt of a clean retrain: what its job measured, and what is added when it is handed out.

The file in the job's folder has figures and names of models, no words, no hash of them and no
member, so it may stay when what was forgotten has to go. Hashes of what was taken out lie beside it
while a checkpoint that learned it is left, to name that one; they are not handed out. Knows
neither tensors nor Discord.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.records import TrainingJob
from i18n.phrase import Phrase, deserialize_phrase, join_phrases, phrase, phrases
from training.checkpoints import Manifest, read_learned
from training.config import TrainingConfig
from training.jobs.folder import CONFIG_FILE, RECEIPT_FILE, REMOVED_FILE

log = logging.getLogger(__name__)

FORMAT_VERSION = 1


class Verdict(StrEnum):
    """What the exposures of a lesson show."""

    GONE = "gone"
    """The old model knew it; the new one shows no more of it than a model that never learned it."""
    EXPOSED = "exposed"
    """The new model still shows more of it."""
    UNCLEAR = "unclear"
    """The old model did not know it so well, anybody would give that answer, or there are too few
    alternatives."""


@dataclass(frozen=True, slots=True)
class LessonFigures:
    """The exposure (bits) of an answer among so many `candidates` in the models `old`, `new` and
    `base`; at most `most_bits`, and by chance or by what the base shows up to `limit_bits`."""

    candidates: int
    exposure_bits: Mapping[str, float]
    most_bits: float
    limit_bits: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a job measured: `facts` are the file's content, `removed` the digests of the pairs that
    were taken out, as `learned.json` has them; none if no checkpoint has learned them any more."""

    facts: Mapping[str, Any]
    removed: frozenset[str] = frozenset()

    @property
    def new(self) -> str:
        return str(self.facts["models"]["new"])

    @property
    def old(self) -> str:
        return str(self.facts["models"]["old"])

    def count(self, verdict: Verdict) -> int:
        return sum(one["verdict"] == verdict for one in self.facts["lessons"])

    @property
    def unmeasured(self) -> int:
        return int(self.facts["removed"]) - len(self.facts["lessons"])

    @property
    def similar(self) -> int:
        return sum(one["similar_left"] for one in self.facts["lessons"])


def expects_receipt(job: TrainingJob) -> bool:
    """Whether a job is a clean retrain that was to be measured."""
    try:
        return TrainingConfig.load(Path(job.directory) / CONFIG_FILE).replaces is not None
    except (OSError, ValueError):
        return False


def read_receipt(job: TrainingJob) -> Receipt | Phrase:
    """What a job measured, or else the sentence that says why there is no receipt: one whose model
    was not kept has none."""
    reason: str = phrase("nothing was measured, or what was measured is gone.")
    try:
        facts = json.loads((Path(job.directory) / RECEIPT_FILE).read_text(encoding="utf-8"))
        if "reason" in facts:
            reason = deserialize_phrase(facts["reason"])
        elif job.checkpoint is not None and facts["format"] == FORMAT_VERSION:
            return Receipt(facts, _removed_digests(job))
    except (OSError, ValueError, TypeError, KeyError) as e:
        log.info("the receipt of job %d cannot be read: %s", job.id, e)
    return phrase("There is no receipt: {reason}", reason=reason)


def drop_digests(job: TrainingJob, checkpoints: Sequence[tuple[Path, Manifest]]) -> None:
    """Remove the digests of what a job took out if none of its scope's checkpoints has learned it
    any more."""
    try:
        if not still_learned(_removed_digests(job), checkpoints):
            (Path(job.directory) / REMOVED_FILE).unlink(missing_ok=True)
    except (OSError, ValueError) as e:
        log.warning("the digests of job %d cannot be removed: %s", job.id, e)


def _removed_digests(job: TrainingJob) -> frozenset[str]:
    file = Path(job.directory) / REMOVED_FILE
    return frozenset(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else frozenset()


def still_learned(
    removed: frozenset[str], checkpoints: Sequence[tuple[Path, Manifest]]
) -> tuple[str, ...]:
    """The names of the checkpoints on the disk that learned one of the pairs with these digests, or
    were trained on top of one that did."""
    if not removed:
        return ()
    learned = {folder.name for folder, _ in checkpoints if removed & read_learned(folder).seen}
    return tuple(
        folder.name
        for folder, manifest in checkpoints
        if folder.name in learned or learned.intersection(manifest.parents)
    )


NOT_PROVEN = (
    phrase("Checkpoints that are named above keep it until they are deleted."),
    phrase("Backups, exports and copies of the data or of a checkpoint may have it."),
    phrase("Discord, and whoever has read it there, may still have it."),
    phrase("The same thing in other words may still be among what is taught."),
    phrase(
        "The base stands for a twin that never learned it: no second model was trained to compare. "
        "Small traces are less than chance and are not seen."
    ),
)


def summarize(receipt: Receipt) -> Phrase:
    """What came of it, in plain sentences."""
    trained = phrases(
        "{new} was trained without {count} lesson that {old} had learned.",
        "{new} was trained without {count} lessons that {old} had learned.",
        receipt.facts["removed"],
        new=receipt.new,
        old=receipt.old,
    )
    return join_phrases([trained, *_findings(receipt)])


def _findings(receipt: Receipt) -> Iterator[Phrase]:
    if gone := receipt.count(Verdict.GONE):
        yield phrases(
            "It gives {count} of the answers away no more than a model that never learned it.",
            "It gives {count} of the answers away no more than a model that never learned them.",
            gone,
        )
    if exposed := receipt.count(Verdict.EXPOSED):
        yield phrase(
            "It still gives {count} of the answers away: look for the same in other words.",
            count=exposed,
        )
    if unclear := receipt.count(Verdict.UNCLEAR):
        yield phrase("Of {count} the measure says nothing.", count=unclear)
    if receipt.unmeasured:
        yield phrase("{count} more were not measured.", count=receipt.unmeasured)
    if receipt.similar:
        yield phrases(
            "{count} lesson like them is still taught.",
            "{count} lessons like them are still taught.",
            receipt.similar,
        )


def hand_out(
    receipt: Receipt, job: TrainingJob, *, serving: str, still_there: Sequence[str]
) -> dict[str, Any]:
    """The receipt as it is handed out, with what is true at that moment: the model in service, and
    the checkpoints that still have what was forgotten. Its sentences are phrases."""
    return {
        "summary": summarize(receipt),
        "issued_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked_by": job.requested_by or None,
        "job": job.id,
        "in_service": serving,
        "checkpoints_that_learned_it": list(still_there),
        **receipt.facts,
        "does_not_prove": list(NOT_PROVEN),
    }

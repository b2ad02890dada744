"""The files of a job's folder, and the saved step from which an interrupted run can resume.

Knows no tensors: the bot's process uses it too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from i18n.phrase import phrase
from training.errors import JobLocked

CONFIG_FILE = "config.json"
DATASET_FILE = "dataset.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
PREFERENCES_FILE = "preferences.jsonl"
"""Votes and better answers, learned in a second stage; not there if there are too few."""
NO_VOTES_FILE = "without_votes"
"""Empty. There once the system killed the run after its last step: it learns from votes no more."""
LOG_FILE = "log.txt"
CHECKPOINT_DIR = "checkpoint"
"""The folder of the new checkpoint, until it is moved to where checkpoints live."""
CHANGES_FILE = "changes.json"
"""How many examples changed since the data set of the model in service."""
CONSENT_FILE = "consent.json"
"""Whose words the data are: a member's id, and the version of their consent."""
TAUGHT_CONSENT_FILE = "taught_consent.json"
"""The same without those whose votes alone are learned, and whose words were only voted on; not
there without votes."""
GOLDEN_FILE = "golden.jsonl"
"""The golden questions of the server, as they were when the job was submitted."""
RECEIPT_FILE = "receipt.json"
"""What a clean retrain measured of what was taken out (`training.jobs.receipt`)."""
REMOVED_FILE = "removed.json"
"""Hashes of what was taken out, as long as a checkpoint that learned it is left. Never handed out:
whoever can guess the words can compare their hash."""
STEPS_DIR = "steps"
"""The folder of saved steps, to resume after an interruption."""
COMPLETE_MARKER = "whole.json"
"""Written last into a saved step: one without it is incomplete, and ignored."""
LOCK_PREFIX = "lock-"
LOCK_TIMEOUT_S = 1800.0
"""Seconds to wait for an earlier run in the same folder to end: its checks may take this long."""


@dataclass(frozen=True, slots=True)
class SavedStep:
    """A step from which a run can resume: the Trainer's folder, and the seconds up to there."""

    folder: Path
    step: int
    seconds: float


def latest_saved_step(job: Path) -> SavedStep | None:
    """The newest step of a job that was saved completely."""
    found = []
    for marker in (job / STEPS_DIR).glob(f"checkpoint-*/{COMPLETE_MARKER}"):
        facts = json.loads(marker.read_text(encoding="utf-8"))
        found.append(SavedStep(marker.parent, int(facts["step"]), float(facts["seconds"])))
    return max(found, key=lambda one: one.step, default=None)


def lock_job(job: Path, number: int = 0) -> FileLock:
    """Lock the folder for the process of that `number`, until it ends: a run that is still ending
    must not write beside its successor. Raises JobLocked if another run holds it."""
    lock = FileLock(job / f"{LOCK_PREFIX}{number}", timeout=LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout as e:
        raise JobLocked(phrase("Another training process is still working on this job.")) from e
    return lock

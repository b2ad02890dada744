"""The folder of a job: what its files are called, and where an interrupted run can go on.

Knows no tensors: the bot's process asks too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = "config.json"
DATASET_FILE = "dataset.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
LOG_FILE = "log.txt"
CHECKPOINT_DIR = "checkpoint"
"""The folder of what was made, until it is moved to where checkpoints live."""
CHANGES_FILE = "changes.json"
"""What is new in the data, compared with the model in service."""
CONSENT_FILE = "consent.json"
"""Whose words the data are: a member's id, and the version of their consent."""
STEPS_DIR = "steps"
"""The folder for what is needed to go on after an interruption."""
COMPLETE_MARKER = "whole.json"
"""Written last into a saved step: without it, nothing goes on from there."""


@dataclass(frozen=True, slots=True)
class SavedStep:
    """Where a run can go on: the Trainer's folder, the step, and the seconds that it took."""

    folder: Path
    step: int
    seconds: float


def latest_saved_step(job: Path) -> SavedStep | None:
    """The newest step of a job that was saved wholly."""
    found = []
    for mark in (job / STEPS_DIR).glob(f"checkpoint-*/{COMPLETE_MARKER}"):
        facts = json.loads(mark.read_text(encoding="utf-8"))
        found.append(SavedStep(mark.parent, int(facts["step"]), float(facts["seconds"])))
    return max(found, key=lambda one: one.step, default=None)

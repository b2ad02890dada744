"""Promotes a job's checkpoint if it passed its checks (`training.run.gate`), or rejects it.

Does not know how a model is put into service: that is a callback.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from core.errors import StoreError
from core.records import JobState, TrainingJob
from i18n.phrase import Phrase, message_of, phrase
from model.errors import ModelError
from training.checkpoints import (
    MANIFEST_FILE,
    Manifest,
    StoredReport,
    read_manifest,
    read_report,
    verify,
)
from training.config import TrainingConfig
from training.errors import TrainingError
from training.jobs.events import format_duration
from training.jobs.folder import CHECKPOINT_DIR, CONFIG_FILE
from training.jobs.outcome import SERVING_UNCHANGED, JobOutcome

log = logging.getLogger(__name__)

Promote = Callable[[TrainingJob, Path], Awaitable[bool]]
ApplyRetention = Callable[[Path], Awaitable[object]]


class Promotion:
    """Stores checkpoints in `root`/SCOPE/NAME and promotes or rejects them.

    `promote(job, folder)` puts one into service or raises; True: on trial, beside the old one.
    `apply_retention(folder)` then removes old ones, but not that one."""

    def __init__(self, root: Path, promote: Promote, apply_retention: ApplyRetention) -> None:
        self._root = root
        self._promote = promote
        self._apply_retention = apply_retention

    def store(self, job: TrainingJob, made: Path) -> Path:
        """Verify a new checkpoint, and move it to the scope's checkpoints, unless it is there
        already. Raises CorruptCheckpoint if its files don't match its manifest."""
        folder = self._root / str(job.scope) / verify(made).name
        if made != folder:
            folder.parent.mkdir(parents=True, exist_ok=True)
            made.replace(folder)
        return folder

    def find(self, job: TrainingJob) -> Path | None:
        """The checkpoint of an attempt that ended when the bot was not running, in its place or
        still in the job's folder."""
        config, made = Path(job.directory) / CONFIG_FILE, Path(job.directory) / CHECKPOINT_DIR
        if not config.is_file():
            return None
        folder = self._root / str(job.scope) / TrainingConfig.load(config).name
        if (folder / MANIFEST_FILE).is_file():
            return folder
        return made if (made / MANIFEST_FILE).is_file() else None

    async def promote_or_reject(self, job: TrainingJob, folder: Path) -> JobOutcome:
        """Put a checkpoint into service if it passed its checks; either way it is kept."""
        report = await asyncio.to_thread(read_report, folder)
        if report is not None and report.refusal:
            outcome = JobOutcome(JobState.REJECTED, _refusal(folder.name, report), folder.name)
        else:
            outcome = await self._try_promote(job, folder, report)
        try:
            await self._apply_retention(folder)
        except (OSError, StoreError) as e:  # the job itself succeeded
            log.warning("old checkpoints could not be removed: %s", e)
        return outcome

    async def _try_promote(
        self, job: TrainingJob, folder: Path, report: StoredReport | None
    ) -> JobOutcome:
        try:
            is_on_trial = await self._promote(job, folder)
        except (ModelError, TrainingError, StoreError) as e:
            detail = phrase(
                "**{name}** could not be put into service. {reason} {stays}",
                name=folder.name,
                reason=message_of(e),
                stays=SERVING_UNCHANGED,
            )
            return JobOutcome(JobState.REJECTED, detail, folder.name)
        manifest = await asyncio.to_thread(read_manifest, folder)
        losses, time = _loss_message(manifest, report), format_duration(manifest.seconds)
        if is_on_trial:
            detail = phrase(
                "**{name}** is trained and on trial: it answers in some channels first, and "
                "everywhere once it has done well there. {losses} Its training took {time}.",
                name=folder.name,
                losses=losses,
                time=time,
            )
        else:
            detail = phrase(
                "**{name}** is trained and answers from now on. {losses} Its training took {time}.",
                name=folder.name,
                losses=losses,
                time=time,
            )
        return JobOutcome(JobState.PROMOTED, detail, folder.name)


def _refusal(name: str, report: StoredReport) -> Phrase:
    """Why a checkpoint is not put into service, and who may do it all the same."""
    values = {"name": name, "refusal": report.refusal, "stays": SERVING_UNCHANGED}
    if report.lost_golden:
        return phrase(
            "**{name}** did not pass its checks. {refusal} {stays} An administrator may overrule "
            "that with `/model use {name}`.",
            **values,
        )
    return phrase(
        "**{name}** did not pass its checks. {refusal} {stays} `/model use {name}` tries it "
        "anyway.",
        **values,
    )


def _loss_message(manifest: Manifest, report: StoredReport | None) -> Phrase:
    """The loss on the taught examples before and after, or else the training loss."""
    taught = report.losses.get("own", {}) if report else {}
    base, new = taught.get("base"), taught.get("new")
    if base is not None and new is not None:
        return phrase(
            "The loss on what was taught went from {base:.2f} to {new:.2f}.", base=base, new=new
        )
    first, last = (manifest.scores[key] for key in ("first_loss", "last_loss"))
    return phrase("The training loss went from {first:.2f} to {last:.2f}.", first=first, last=last)

"""Retrains: plans them (base model, settings, preview) and submits their jobs.

Knows the models and the scope's jobs. Does not know Discord, or how a job runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bot.chat.model_router import ModelRouter
from bot.learning.spelling import HardAnswers, hard_answers
from core.records import JobState, TrainingJob
from data.dataset.snapshot import pair_digest
from data.storage.tables.examples import Examples
from data.storage.tables.jobs import Jobs
from i18n.phrase import phrase
from model.registry import ModelOption, base_family, find_option
from training.checkpoints import read_learned
from training.config import Method, Replaced, TrainingConfig, defaults_for
from training.errors import JOB_ALREADY_OPEN, EmptyDataset, JobAlreadyOpen
from training.jobs.folder import DATASET_FILE
from training.jobs.manager import TrainingManager
from training.jobs.preview import Preview

NOTHING_TAUGHT = phrase(
    "There is nothing to learn from yet. Teach me something first, with `/teach`."
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """The settings that an admin chose; None keeps the default."""

    epochs: float | None = None
    learning_rate: float | None = None
    method: Method | None = None

    def apply(self, config: TrainingConfig) -> TrainingConfig:
        """Override the defaults for the chosen method (`defaults_for`)."""
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs, min_steps=0)
        if self.learning_rate is not None:
            config = replace(config, learning_rate=self.learning_rate)
        return config


@dataclass(frozen=True, slots=True)
class RetrainPlan:
    """A retrain that has not been started."""

    scope: int
    base: ModelOption
    config: TrainingConfig
    preview: Preview
    hard_answers: HardAnswers | None


@dataclass(frozen=True, slots=True)
class CleanRetrain:
    """A clean retrain that was started. `will_be_measured`: it ends with a receipt, as there still
    is a checkpoint that learned what is left out, with the data that it learned from."""

    job: TrainingJob
    will_be_measured: bool


class Retrains:
    """Plans retrains and starts them."""

    def __init__(
        self, examples: Examples, jobs: Jobs, models: ModelRouter, training: TrainingManager
    ) -> None:
        self._examples = examples
        self._jobs = jobs
        self._models = models
        self._training = training

    async def plan(
        self,
        scope: int,
        base: str | None,
        overrides: Overrides,
        *,
        language: str,
        dry_run: bool = False,
    ) -> RetrainPlan:
        """Plan a retrain from the model `base` (None: the active one); its plots are in `language`.
        A `dry_run` may be planned while another job is open.

        Raises:
            EmptyDataset: nothing was taught.
            JobAlreadyOpen: the scope has an unfinished job.
            UnknownModel, TrainingError: the base cannot be trained.
        """
        if not await self._examples.count(scope):
            raise EmptyDataset(NOTHING_TAUGHT)
        if not dry_run and await self._jobs.unfinished(scope):
            raise JobAlreadyOpen(JOB_ALREADY_OPEN)
        option = await self._models.resolve_training_base(scope, base)
        usual = await self._default_config(scope, option, language, overrides.method)
        config = overrides.apply(usual)
        preview = await self._training.preview(scope, option, config)
        answers = [one.bot for one in preview.selection.kept]
        hard = await asyncio.to_thread(hard_answers, option, answers, self._models.bases)
        return RetrainPlan(scope, option, config, preview, hard)

    def is_on_trial(self, scope: int) -> bool:
        """Whether a new model of the scope is on trial: another retrain would end that."""
        return self._models.trial(scope) is not None

    async def count_new(self, plan: RetrainPlan) -> int:
        """How many lessons of a plan the scope's newest checkpoint has not learned, whether it
        serves or was rejected. After a training that failed only those count that were taught
        since: with the others it would fail again."""
        last = await self._jobs.latest(plan.scope)
        failed = last is not None and last.state in (JobState.FAILED, JobState.INTERRUPTED)
        since = last.created_at if last is not None and failed else None
        return await asyncio.to_thread(self._count_new, plan, since)

    def _count_new(self, plan: RetrainPlan, since: datetime | None) -> int:
        made = self._training.checkpoints(plan.scope)
        newest = max(made, key=lambda one: one[1].created_at, default=None)
        learned = read_learned(newest[0]).pairs if newest else frozenset[str]()
        kept = plan.preview.selection.kept
        taught = [one for one in kept if since is None or one.created_at > since]
        return sum(pair_digest(one.user, one.bot) not in learned for one in taught)

    async def hard_answer(self, scope: int, answer: str) -> HardAnswers | None:
        """What the active model of a scope can hardly write of an answer that was just taught."""
        if answer.isascii():
            return None
        active = await self._models.active(scope)
        return await asyncio.to_thread(hard_answers, active, [answer], self._models.bases)

    async def start(self, plan: RetrainPlan, *, requested_by: int, channel_id: int) -> TrainingJob:
        """Submit the job of a plan; raises what `TrainingManager.submit` does."""
        return await self._training.submit(
            scope=plan.scope,
            requested_by=requested_by,
            channel_id=channel_id,
            base=plan.base,
            config=plan.config,
        )

    async def start_clean(
        self, job_id: int, *, scope: int, requested_by: int, channel_id: int, language: str
    ) -> CleanRetrain:
        """Retrain on the scope's present examples, from the original base of the job's model: a
        checkpoint in between may have learned what is to be left out. What the job's own checkpoint
        learned is compared.

        Raises:
            UnknownModel: the original base is gone; otherwise as `TrainingManager.submit`.
        """
        base = find_option(self._models.options(scope), await self._root_base(scope, job_id))
        config = await self._default_config(scope, base, language)
        replaced = await self._replaced(scope, job_id)
        job = await self._training.submit(
            scope=scope,
            requested_by=requested_by,
            channel_id=channel_id,
            base=base,
            config=replace(config, replaces=replaced, clean=True),
        )
        return CleanRetrain(job, replaced is not None)

    async def _replaced(self, scope: int, job_id: int) -> Replaced | None:
        """The checkpoint that a job made, and its data; None if either is gone."""
        job = await self._jobs.get(job_id)
        if job is None or job.scope != scope:
            return None
        data = Path(job.directory) / DATASET_FILE
        if not await asyncio.to_thread(data.is_file):
            return None
        made = await asyncio.to_thread(self._training.checkpoints, scope)
        folders = (folder for folder, _ in made if folder.name == job.checkpoint)
        return next((Replaced(str(folder), str(data)) for folder in folders), None)

    async def _root_base(self, scope: int, job_id: int) -> str:
        """Follow the base models back to one that no job of the scope made."""
        bases = {job.checkpoint: job.base_model for job in await self._jobs.all(scope)}
        job = await self._jobs.get(job_id)
        name = job.base_model if job and job.scope == scope else self._models.default(scope).name
        while (base := bases.pop(name, None)) is not None:
            name = base
        return name

    async def _default_config(
        self, scope: int, base: ModelOption, language: str, method: Method | None = None
    ) -> TrainingConfig:
        family = base_family(base.name) if self._models.is_checkpoint(base) else base.name
        return replace(
            defaults_for(family, base.source, await self._examples.count(scope), method),
            base_name=base.name,
            parents=self._models.parents(base),
            serving=(await self._models.active(scope)).source,
            language=language,
        )

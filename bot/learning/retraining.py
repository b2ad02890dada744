"""Retrains: from which model, with which settings, and what they would take.

Knows the models and the scope's jobs. Does not know Discord, or how a job runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bot.chat.model_router import ModelRouter
from core.records import TrainingJob
from data.storage.storage import Storage
from i18n.phrase import phrase
from model.registry import ModelOption, find_option
from training.config import Method, TrainingConfig, default_learning_rate, defaults_for
from training.errors import JOB_ALREADY_OPEN, EmptyDataset, JobAlreadyOpen
from training.jobs.manager import TrainingManager
from training.jobs.preview import Preview

NOTHING_TAUGHT = phrase(
    "There is nothing to learn from yet. Teach me something first, with `/teach`."
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """The settings that an admin chose; None leaves the default."""

    epochs: float | None = None
    learning_rate: float | None = None
    method: Method | None = None

    def apply(self, config: TrainingConfig) -> TrainingConfig:
        """The settings with these; LoRA learns faster unless a rate is given."""
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs, min_steps=0)
        if self.method == "lora":
            rate = default_learning_rate(config, self.method)
            config = replace(config, method=self.method, learning_rate=rate)
        if self.learning_rate is not None:
            config = replace(config, learning_rate=self.learning_rate)
        return config


@dataclass(frozen=True, slots=True)
class RetrainPlan:
    """A retrain that waits for the admin's "Start"."""

    scope: int
    base: ModelOption
    config: TrainingConfig
    preview: Preview


class Retrains:
    """Plans retrains and starts them."""

    def __init__(self, storage: Storage, models: ModelRouter, training: TrainingManager) -> None:
        self._storage = storage
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
        """What a retrain from that model (None: the active one) would learn, and what it takes.
        Its plots are labelled in the `language`. A `dry_run` is not meant to be started.

        Raises:
            EmptyDataset: nothing was taught.
            JobAlreadyOpen: the scope has a job that has not ended, so none could be started.
            UnknownModel, TrainingError: that model cannot be trained further.
        """
        if not await self._storage.examples.count(scope):
            raise EmptyDataset(NOTHING_TAUGHT)
        if not dry_run and await self._storage.jobs.unfinished(scope):
            raise JobAlreadyOpen(JOB_ALREADY_OPEN)
        option = await self._models.resolve_training_base(scope, base)
        config = overrides.apply(await self._default_config(scope, option, language))
        return RetrainPlan(
            scope, option, config, await self._training.preview(scope, option, config)
        )

    async def start(self, plan: RetrainPlan, *, requested_by: int, channel_id: int) -> TrainingJob:
        """Queue the job of a plan.

        Raises:
            JobAlreadyOpen, EmptyDataset, DiskFull, StoreError: as `TrainingManager.submit`.
        """
        return await self._training.submit(
            scope=plan.scope,
            requested_by=requested_by,
            channel_id=channel_id,
            base=plan.base,
            config=plan.config,
        )

    async def start_clean(
        self, job_id: int, *, scope: int, requested_by: int, channel_id: int, language: str
    ) -> TrainingJob:
        """Train what the scope may learn now, from the model where that job's line began: a
        checkpoint in between could hold what is to be left out.

        Raises:
            UnknownModel: that model is no longer among the options.
            JobAlreadyOpen, EmptyDataset, DiskFull, StoreError: as `TrainingManager.submit`.
        """
        base = find_option(self._models.options(scope), await self._root_base(scope, job_id))
        return await self._training.submit(
            scope=scope,
            requested_by=requested_by,
            channel_id=channel_id,
            base=base,
            config=await self._default_config(scope, base, language),
        )

    async def _root_base(self, scope: int, job_id: int) -> str:
        bases = {job.checkpoint: job.base_model for job in await self._storage.jobs.all(scope)}
        job = await self._storage.jobs.get(job_id)
        name = job.base_model if job and job.scope == scope else self._models.default.name
        while (base := bases.pop(name, None)) is not None:
            name = base
        return name

    async def _default_config(self, scope: int, base: ModelOption, language: str) -> TrainingConfig:
        family = base_family(base.name) if self._models.is_checkpoint(base) else base.name
        return replace(
            defaults_for(family, base.source),
            base_name=base.name,
            parents=self._models.parents(base),
            serving=(await self._models.active(scope)).source,
            language=language,
        )


def base_family(name: str) -> str:
    """`tiny` for `tiny-3` and `tiny-3-1`: a checkpoint is named after what it comes from."""
    return re.sub(r"(-\d+)+$", "", name)

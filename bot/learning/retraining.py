"""The settings with which a model is usually trained on, and from where a clean retrain starts.

Knows which models there are and the scope's jobs. Does not know Discord, or how a job runs.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bot.chat.model_router import ModelRouter
from core.records import TrainingJob
from data.storage.storage import Storage
from model.registry import ModelOption, find_option
from training.config import TrainingConfig, defaults_for
from training.jobs.manager import TrainingManager


def base_family(name: str) -> str:
    """`tiny` for `tiny-3` and `tiny-3-1`: a checkpoint is named after what it comes from."""
    return re.sub(r"(-\d+)+$", "", name)


async def default_config(
    models: ModelRouter, scope: int, base: ModelOption, language: str
) -> TrainingConfig:
    """The settings of a retrain from that model, unless an admin chooses others. What it draws is
    labelled in the `language`."""
    kind = base_family(base.name) if models.is_checkpoint(base) else base.name
    return replace(
        defaults_for(kind, base.source),
        base_name=base.name,
        parents=models.parents(base),
        serving=(await models.active(scope)).source,
        language=language,
    )


class CleanRetrains:
    """Retrains that begin at a model which never learned in the scope."""

    def __init__(self, storage: Storage, models: ModelRouter, training: TrainingManager) -> None:
        self._storage = storage
        self._models = models
        self._training = training

    async def start(
        self, job_id: int, *, scope: int, requested_by: int, channel_id: int, language: str
    ) -> TrainingJob:
        """Train what the scope may learn now, from the model where that job's line began.

        A checkpoint in between could hold what is to be left out.

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
            config=await default_config(self._models, scope, base, language),
        )

    async def _root_base(self, scope: int, job_id: int) -> str:
        bases = {job.checkpoint: job.base_model for job in await self._storage.jobs.all(scope)}
        job = await self._storage.jobs.get(job_id)
        name = job.base_model if job and job.scope == scope else self._models.default.name
        while (base := bases.pop(name, None)) is not None:
            name = base
        return name

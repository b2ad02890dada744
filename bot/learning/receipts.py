"""The receipts of clean retrains, with what is true when they are handed out.

Knows the jobs, the models and the training manager. Does not know Discord.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bot.chat.model_router import ModelRouter
from core.errors import Refusal
from core.records import TrainingJob
from data.storage.tables.jobs import Jobs
from training.errors import NOT_OF_THIS_SERVER
from training.jobs.manager import TrainingManager
from training.jobs.receipt import Receipt, hand_out, read_receipt, still_learned


class Receipts:
    """Finds the receipts of a scope's jobs."""

    def __init__(self, jobs: Jobs, models: ModelRouter, training: TrainingManager) -> None:
        self._jobs = jobs
        self._models = models
        self._training = training

    async def job(self, scope: int, job_id: int) -> TrainingJob:
        """A job of the scope. Raises Refusal: it has none of that number."""
        job = await self._jobs.get(job_id)
        if job is None or job.scope != scope:
            raise Refusal(NOT_OF_THIS_SERVER)
        return job

    async def hand_out(self, job: TrainingJob) -> dict[str, Any]:
        """The receipt of a job. Raises Refusal: there is none; the sentence says why."""
        receipt = await asyncio.to_thread(read_receipt, job)
        if not isinstance(receipt, Receipt):
            raise Refusal(receipt)
        checkpoints = await asyncio.to_thread(self._training.checkpoints, job.scope)
        still_there = await asyncio.to_thread(still_learned, receipt.removed, checkpoints)
        serving = (await self._models.active(job.scope)).name
        return hand_out(receipt, job, serving=serving, still_there=still_there)

"""Canaries: a new checkpoint serves a share of a server's channels first. It is taken back by
itself when its replies go wrong more often than the old model's, and promoted when they do not.

A reply went wrong if it has a thumb down, was withheld by a filter, was stopped, or there was none.
Does not know Discord.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bot.chat.model_router import ModelRouter, Trial
from bot.chat.request import ReplyTarget
from bot.judgement.sequential import CANARY_REPLIES, is_worse, upper_bound
from core.errors import StoreError
from core.records import Canary, CanaryOutcome, ReplyCounts, ReplyFault, TrainingJob
from data.storage.tables.judgement.canaries import Canaries as CanaryTable
from model.errors import ModelError, WorkerDied
from model.registry import find_option
from training.config import TrainingConfig
from training.errors import TrainingError
from training.jobs.folder import CONFIG_FILE

log = logging.getLogger(__name__)

SHARE = 50
"""Percent of the channels that a canary serves."""
BASE_REPLIES = 200
"""Replies of the old model that it is compared with."""
MAX_DISLIKES_OF_MEMBER = 6
"""Thumbs down of one member that count against a canary: the others are that member's taste again.
"""
MAX_DAYS = 7
"""Days after which a canary is promoted that had too few replies to be judged."""


class Canaries:
    """The canaries of all servers. `wanted`: whether a server's new checkpoints begin as one."""

    def __init__(
        self, table: CanaryTable, models: ModelRouter, wanted: Callable[[int], bool]
    ) -> None:
        self._table = table
        self._models = models
        self._wanted = wanted
        self._running: dict[int, Canary] = {}
        models.on_choice(self._model_was_chosen)

    async def load(self) -> None:
        """Go on with those that ran when the bot was stopped."""
        for canary in await self._table.running():
            chosen = await self._models.chosen(canary.scope)
            if chosen is None or chosen == canary.old_model:
                self._begin(canary)
            else:
                await self._table.end(canary.id, _outcome_of(canary, chosen))

    def _begin(self, canary: Canary) -> None:
        self._running[canary.scope] = canary
        self._models.set_trial(canary.scope, Trial(canary.model, canary.share))

    async def promote(self, job: TrainingJob, folder: Path) -> bool:
        """Put a new checkpoint into service; True if only on trial, in a share of the channels.

        After a clean retrain there is no trial: meanwhile the model that learned the withdrawn
        words would go on answering in the other channels.

        Raises:
            LoadFailed, WorkerDied, CorruptCheckpoint, StoreError: nothing changes.
        """
        if not self._wanted(job.scope) or await asyncio.to_thread(_is_clean, job):
            await self._models.promote(job, folder)
            return False
        async with self._models.choosing(job.scope):
            return await self._try(job, folder.name)

    async def _try(self, job: TrainingJob, name: str) -> bool:
        """Put a checkpoint on trial, unless it is or was chosen meanwhile (False)."""
        scope, running = job.scope, self._running.get(job.scope)
        if running is not None and running.model == name:
            return True
        await self._models.ensure_loaded(find_option(self._models.options(scope), name))
        old = await self._models.active(scope)
        if old.name == name:
            return False
        base = await self._table.before(scope, old.name, BASE_REPLIES)
        canary = Canary(
            id=0,
            scope=scope,
            model=name,
            old_model=old.name,
            share=SHARE,
            base_bad=base.bad,
            base_replies=base.replies,
            report_channel_id=job.channel_id,
            started_at=datetime.now(UTC),
        )
        self._begin(await self._table.start(canary))
        return True

    # --- what happens to replies -----------------------------------------------------------------

    async def note_fault(
        self,
        target: ReplyTarget,
        model: str,
        fault: ReplyFault,
        reply_id: int | None = None,
    ) -> None:
        """A model's reply went wrong. Direct messages have no canaries, so nothing is kept."""
        if target.scope == target.asked_by:
            return
        try:
            await self._table.note_fault(target.scope, model, fault, reply_id)
        except StoreError as e:
            log.warning("a fault of %s is not noted: %s", model, e)

    async def check(self, scope: int) -> None:
        """Take a canary back if it is worse, or kills the worker; to be called after each reply of
        a scope."""
        if (canary := self._running.get(scope)) is None:
            return
        try:
            if self._models.is_quarantined(scope, canary.model):
                await self._end(canary, CanaryOutcome.FAILED)
                return
            counts = await self.counts(canary)
            bound = upper_bound(canary.base_bad, canary.base_replies)
            if is_worse(counts.counted, counts.replies, bound):
                await self._end(canary, CanaryOutcome.WORSE)
        except StoreError as e:
            log.warning("the canary %s cannot be judged now: %s", canary.model, e)

    async def counts(self, canary: Canary) -> ReplyCounts:
        """The replies of a canary so far."""
        return await self._table.since(canary, MAX_DISLIKES_OF_MEMBER)

    # --- its end ---------------------------------------------------------------------------------

    async def review(self, now: datetime | None) -> None:
        """Promote the canaries that had enough replies or whose time is over, and end those whose
        checkpoint is gone. While the time is not known for sure, no time is over."""
        for canary in list(self._running.values()):
            await self.check(canary.scope)
            if self._running.get(canary.scope) != canary:
                continue
            if self._models.find(canary.scope, canary.model) is None:
                await self._end(canary, CanaryOutcome.GONE)
                continue
            counts = await self.counts(canary)
            expired = now is not None and now - canary.started_at >= timedelta(days=MAX_DAYS)
            if counts.replies >= CANARY_REPLIES or expired:
                await self._promote_wholly(canary)

    async def _promote_wholly(self, canary: Canary) -> None:
        def is_on_trial() -> bool:
            return self._running.get(canary.scope) == canary

        try:  # its end: see `_model_was_chosen`
            await self._models.use(canary.scope, canary.model, if_still=is_on_trial)
        except WorkerDied as e:  # maybe not of it: what it dies of is soon quarantined
            log.warning("the canary %s cannot be promoted now: %s", canary.model, e)
        except (ModelError, TrainingError) as e:
            log.warning("the canary %s cannot be promoted: %s", canary.model, e)
            if is_on_trial():
                await self._end(canary, CanaryOutcome.FAILED)

    async def leave(self, scope: int) -> None:
        """End the trial of a server that the bot is not in any more. Raises StoreError."""
        if (canary := self._running.get(scope)) is not None:
            await self._end(canary, CanaryOutcome.REPLACED)

    async def _model_was_chosen(self, scope: int, name: str) -> None:
        """A model of a scope was chosen, by the canary's promotion or by somebody: either way the
        trial is over."""
        if (canary := self._running.get(scope)) is None:
            return
        self._forget(canary)
        try:
            await self._table.end(canary.id, _outcome_of(canary, name))
        except StoreError as e:  # the choice stands
            log.warning("the end of the canary %s is not stored: %s", canary.model, e)

    async def _end(self, canary: Canary, outcome: CanaryOutcome) -> None:
        await self._table.end(canary.id, outcome)
        self._forget(canary)
        log.info("the canary %s of %d ended: %s", canary.model, canary.scope, outcome)

    def _forget(self, canary: Canary) -> None:
        if self._running.get(canary.scope) == canary:
            del self._running[canary.scope]
            self._models.set_trial(canary.scope, None)

    async def unannounced(self) -> list[tuple[Canary, ReplyCounts]]:
        """Those that ended, and nobody was told."""
        return [(one, await self.counts(one)) for one in await self._table.unannounced()]

    async def mark_announced(self, canary: Canary) -> None:
        await self._table.mark_announced(canary.id)


def _is_clean(job: TrainingJob) -> bool:
    """Whether a job is a clean retrain."""
    try:
        return TrainingConfig.load(Path(job.directory) / CONFIG_FILE).clean
    except (OSError, ValueError) as e:
        log.warning("the settings of job %d cannot be read: %s", job.id, e)
        return False


def _outcome_of(canary: Canary, chosen: str) -> CanaryOutcome:
    """How a canary ended of whose scope a model was chosen."""
    return CanaryOutcome.PROMOTED if chosen == canary.model else CanaryOutcome.REPLACED

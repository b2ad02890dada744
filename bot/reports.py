"""How a training job is told in Discord: one message with a bar, and what came of it.

Knows Discord and the events of a job. Is called by the training manager, outside any command, so
it posts ordinary messages (an interaction's token would be too old by the end of a long job).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import discord

from bot.client import Gpt2Bot
from bot.tasks import Tasks
from data.schema import JobState, TrainingJob
from training.checkpoints import LOSS_CURVE
from training.manager import JobUpdate
from training.progress import Started, Step, bar, duration

log = logging.getLogger(__name__)

EDIT_S = 3.0
"""Seconds between two edits of the progress message."""


@dataclass(slots=True)
class Shown:
    """The progress message of a job, and when it was last edited (by `time.perf_counter`)."""

    message: discord.Message | None = None
    at: float = 0.0
    busy: bool = False
    started: Started | None = None


class TrainingReports:
    """Posts and edits the messages about training jobs."""

    def __init__(self, bot: Gpt2Bot, tasks: Tasks, checkpoints: Path) -> None:
        self._bot = bot
        self._tasks = tasks
        self._checkpoints = checkpoints
        self._shown: dict[int, Shown] = {}

    async def update(self, update: JobUpdate) -> None:
        """Show a job's news; returns at once, Discord is spoken to in the background."""
        job, shown = update.job, self._shown.setdefault(update.job.id, Shown())
        if isinstance(update.event, Started):
            shown.started = update.event
        if job.state.is_final:
            self._shown.pop(job.id)
            self._tasks.spawn(self._tell_end(job, shown), name=f"end of job {job.id}")
        elif job.state is JobState.QUEUED and len(self._shown) == 1:
            return  # it begins at once
        elif (text := progress_text(update, shown.started)) and self._may_edit(shown):
            shown.busy = True
            self._tasks.spawn(self._show(job, shown, text), name=f"progress of job {job.id}")

    def _may_edit(self, shown: Shown) -> bool:
        return not shown.busy and time.perf_counter() - shown.at >= EDIT_S

    async def _show(self, job: TrainingJob, shown: Shown, text: str) -> None:
        try:
            if shown.message is None:
                channel = await self._channel(job)
                shown.message = await channel.send(text, view=StopView(job.id))
            else:
                await shown.message.edit(content=text)
        except discord.HTTPException as e:
            log.warning("the progress of job %d cannot be shown: %s", job.id, e)
        finally:
            shown.busy = False
            shown.at = time.perf_counter()

    async def _tell_end(self, job: TrainingJob, shown: Shown) -> None:
        if self._bot.is_closed():
            return
        text = job.detail or f"Training ended: {job.state}."
        curve = self._curve(job)
        try:
            if shown.message is not None:
                await shown.message.edit(content=f"Training {job.state}.", view=None)
            channel = await self._channel(job)
            if curve is not None:
                await channel.send(text, file=discord.File(curve, filename="loss.png"))
            else:
                await channel.send(text)
        except discord.HTTPException as e:
            log.warning("the end of job %d (%s) cannot be told: %s", job.id, text, e)

    def _curve(self, job: TrainingJob) -> Path | None:
        if job.checkpoint is None or job.state not in (JobState.PROMOTED, JobState.REJECTED):
            return None
        path = self._checkpoints / str(job.scope) / job.checkpoint / LOSS_CURVE
        return path if path.is_file() else None

    async def _channel(self, job: TrainingJob) -> discord.abc.Messageable:
        await self._bot.wait_until_ready()
        return self._bot.get_partial_messageable(job.channel_id, guild_id=job.scope)


def progress_text(update: JobUpdate, started: Started | None) -> str | None:
    """What the progress message says after an event; None if it has nothing to show."""
    job = update.job
    match update.event:
        case Started() as event:
            return (
                f"**Training** from {job.base_model}: {event.examples} rows, {event.steps} steps."
            )
        case Step() as event:
            percent = 100 * event.step // event.steps
            return (
                f"**Training** from {job.base_model}\n"
                f"`{bar(event.step, event.steps)}` {percent} %, "
                f"step {event.step} of {event.steps}\n"
                f"loss {event.loss:.3f} · {event.tokens_per_s:,.0f} tokens/s · "
                f"about {duration(event.seconds_left)} left"
            )
        case None if job.state is JobState.RUNNING and started is None:
            return f"**Training** from {job.base_model}: getting ready…"
        case None if job.state is JobState.QUEUED:
            return "**Training** waits: another job is under way."
        case _:
            return None


class StopButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"retrain:stop:(?P<job>\d+)",
):
    """Ends a training job; works after a restart too, because its id names the job."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(
            discord.ui.Button(
                label="Stop training",
                style=discord.ButtonStyle.secondary,
                custom_id=f"retrain:stop:{job_id}",
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(int(match["job"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        cog = interaction.client.get_cog("Training")  # type: ignore[attr-defined]
        await cog.stop(interaction, self.job_id)


class StopView(discord.ui.View):
    """Holds the stop button of a progress message."""

    def __init__(self, job_id: int) -> None:
        super().__init__(timeout=None)
        self.add_item(StopButton(job_id))

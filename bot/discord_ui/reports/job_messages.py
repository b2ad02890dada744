"""The messages about a training job: its progress with bar and buttons, and how it ended.

The training manager reports outside of any command, so these are ordinary messages (an
interaction's token would have expired by the end of a long job). The id of the progress message is
stored with the job, so a restarted bot continues to edit it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import discord
from discord.utils import MISSING

from bot.discord_ui.audit import write_audit_entry
from bot.discord_ui.client import Gpt2Bot, dispatch_to_cog
from bot.discord_ui.delivery.reply import SinglePost
from bot.discord_ui.delivery.requests import (
    DISCORD_ERRORS,
    new_nonce,
    post_with_retries,
    with_retries,
)
from bot.discord_ui.embeds.training.evaluation import comparison_embed
from bot.discord_ui.embeds.training.progress import JobProgress, Stage, progress_text
from bot.discord_ui.views.clean_retrain import receipt_view
from core.errors import StoreError
from core.records import JobState, TrainingJob
from core.tasks import BackgroundTasks
from data.storage.tables.audit import AuditLog
from data.storage.tables.jobs import Jobs
from i18n.phrase import Phrase, phrase
from i18n.reader import say, set_language
from training.checkpoints import LOSS_CURVE_FILE, read_report
from training.jobs.events import Step
from training.jobs.queue import JobUpdate
from training.jobs.receipt import Receipt, expects_receipt, read_receipt

log = logging.getLogger(__name__)

EDIT_INTERVAL_S = 3.0
"""Seconds between two edits for steps; a change of the buttons is shown at once."""
EDIT_RETRY_S = 60.0
"""Seconds until a failed edit is repeated."""
REPOST_AFTER_S = 3600.0
"""Seconds after which the progress moves to a new message: edits of old ones are throttled."""

AUDIT_ACTION_BY_STATE = {
    JobState.PROMOTED: phrase("retrain promoted"),
    JobState.REJECTED: phrase("retrain rejected"),
    JobState.FAILED: phrase("retrain failed"),
    JobState.CANCELLED: phrase("retrain cancelled"),
    JobState.INTERRUPTED: phrase("retrain interrupted"),
}
"""How a job ended, for the audit log."""
END_TEXT_BY_STATE = {
    JobState.PROMOTED: phrase("I have learned it."),
    JobState.REJECTED: phrase("The new model is not used: the one that answered before stays."),
    JobState.FAILED: phrase("The training could not be finished. Nothing has changed."),
    JobState.CANCELLED: phrase("The training was stopped. Nothing has changed."),
    JobState.INTERRUPTED: phrase("The training stopped on the way. It can go on: see below."),
}
"""The final text of the progress message."""

JobMessage = discord.Message | discord.PartialMessage


@dataclass(slots=True)
class JobReport:
    """The progress message of a job: when it was posted, and when a step may be shown next."""

    progress: JobProgress
    message: JobMessage | None = None
    posted_at: float = 0.0
    next_edit_at: float = -math.inf
    next_post: SinglePost = field(default_factory=SinglePost)
    update_scheduled: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TrainingReports:
    """Posts and edits the messages about training jobs. `clock` returns seconds."""

    def __init__(
        self,
        bot: Gpt2Bot,
        tasks: BackgroundTasks,
        checkpoints: Path,
        jobs: Jobs,
        audit: AuditLog,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._bot = bot
        self._tasks = tasks
        self._checkpoints = checkpoints
        self._jobs = jobs
        self._audit = audit
        self._clock = clock
        self._reports: dict[int, JobReport] = {}
        self._connected = asyncio.Event()
        if bot.is_ready():
            self._connected.set()
        bot.add_listener(self._on_ready, "on_ready")

    async def _on_ready(self) -> None:
        self._connected.set()

    async def update(self, update: JobUpdate) -> None:
        """Show a job's progress; returns at once, the requests to Discord run in the background."""
        job = update.job
        shown = self._reports.setdefault(job.id, JobReport(JobProgress(job)))
        news = shown.progress.apply_update(update)
        if job.state.is_final:
            self._reports.pop(job.id)
            what = job.checkpoint or phrase("job {job}", job=job.id)
            await write_audit_entry(
                self._audit, job.scope, job.requested_by, AUDIT_ACTION_BY_STATE[job.state], what
            )
            self._tasks.spawn(self._tell_end(shown), name=f"end of job {job.id}")
        elif job.state is JobState.QUEUED and not self._is_busy(job):
            return  # it starts at once, which is shown then
        elif not shown.update_scheduled and (news or self._is_due(shown, update)):
            shown.update_scheduled = True
            self._tasks.spawn(self._show(shown), name=f"progress of job {job.id}")

    def _is_busy(self, job: TrainingJob) -> bool:
        others = (shown.progress.job for shown in self._reports.values())
        return any(one.id != job.id and one.state is not JobState.PAUSED for one in others)

    def _is_due(self, shown: JobReport, update: JobUpdate) -> bool:
        """Whether a step may be shown; while an edit is in progress, later steps are skipped."""
        is_step = isinstance(update.event, Step)
        return is_step and not shown.lock.locked() and self._clock() >= shown.next_edit_at

    async def _show(self, shown: JobReport) -> None:
        await self._connected.wait()
        self._use_server_language(shown.progress.job)
        async with shown.lock:
            shown.update_scheduled = False
            progress = shown.progress
            if progress.job.state.is_final:
                return
            try:
                await self._post(shown, progress_text(progress), _buttons(progress))
            except DISCORD_ERRORS as e:
                log.warning("the progress of job %d cannot be shown: %s", progress.job.id, e)
                shown.next_edit_at = self._clock() + EDIT_RETRY_S
                self._tasks.spawn(
                    self._retry_show(shown), name=f"progress of job {progress.job.id}"
                )
            else:
                shown.next_edit_at = self._clock() + EDIT_INTERVAL_S

    async def _retry_show(self, shown: JobReport) -> None:
        """Show it later, even if nothing new happens: its buttons may be outdated."""
        await asyncio.sleep(EDIT_RETRY_S)
        if not shown.update_scheduled:
            await self._show(shown)

    async def _post(self, shown: JobReport, text: str, view: discord.ui.View) -> None:
        """Edit the job's message, or post a new one where it is missing or too old."""
        old = self._message(shown)
        if old is not None and self._clock() - shown.posted_at < REPOST_AFTER_S:
            try:
                await old.edit(content=text, view=view)
            except discord.NotFound:
                log.info("the progress message of job %d was deleted", shown.progress.job.id)
            else:
                return
        channel = self._channel(shown.progress.job)
        posted = await shown.next_post.send(channel.send, text, view)
        shown.message, shown.posted_at = channel.get_partial_message(posted.id), self._clock()
        shown.next_post = SinglePost()
        await self._remember(shown.progress.job, shown.message)
        if old is not None:
            await self._retire_message(old)

    def _message(self, shown: JobReport) -> JobMessage | None:
        """The job's message; after a restart, the stored one."""
        job = shown.progress.job
        if shown.message is None and job.message_id is not None:
            shown.message = self._channel(job).get_partial_message(job.message_id)
            age = (discord.utils.utcnow() - shown.message.created_at).total_seconds()
            shown.posted_at = self._clock() - age
        return shown.message

    async def _remember(self, job: TrainingJob, message: JobMessage | None) -> None:
        try:
            await self._jobs.set_message(job.id, message.id if message else None)
        except StoreError as e:
            log.warning("the progress message of job %d is not stored: %s", job.id, e)

    async def _retire_message(self, message: JobMessage, text: str | None = None) -> None:
        """Remove the buttons of a message that is no longer the job's, and replace its text."""
        try:
            await message.edit(content=MISSING if text is None else text, view=None)
        except discord.NotFound:
            pass  # somebody deleted it, so it has no buttons
        except DISCORD_ERRORS as e:
            log.warning("the message %d keeps its buttons: %s", message.id, e)

    async def _tell_end(self, shown: JobReport) -> None:
        await self._connected.wait()
        if self._bot.is_closed():
            return
        job = shown.progress.job
        self._use_server_language(job)
        async with shown.lock:
            if message := self._message(shown):
                await self._retire_message(message, say(END_TEXT_BY_STATE[job.state]))
            if job.state is JobState.INTERRUPTED:  # a resumed job gets a new message further down
                await self._remember(job, None)
            what = job.detail or END_TEXT_BY_STATE[job.state]
            try:
                await self._send_end(job, say(what), await asyncio.to_thread(_receipt_of, job))
            except DISCORD_ERRORS as e:
                log.warning("the end of job %d (%s) cannot be posted: %s", job.id, what, e)

    async def _send_end(
        self, job: TrainingJob, text: str, receipt: Receipt | Phrase | None
    ) -> None:
        channel, nonce = self._channel(job), new_nonce()
        if isinstance(receipt, Phrase):
            text = f"{text}\n{say(receipt)}"

        async def send() -> discord.Message:
            # Reopened for each try: sending closes the file.
            attached = await asyncio.to_thread(self._attached, job)
            if isinstance(receipt, Receipt):
                attached["view"] = receipt_view(job.id)
            return await channel.send(text, nonce=nonce, **attached)

        try:
            await with_retries(send)
        except discord.Forbidden:  # perhaps only files or embeds are not allowed there
            await post_with_retries(channel, text)

    def _attached(self, job: TrainingJob) -> dict[str, Any]:
        """What the last message has beside its text: loss plot and comparison, or a button."""
        if job.state is JobState.INTERRUPTED:
            return {"view": JobView(job.id, JobAction.RESUME)}
        if job.checkpoint is None or job.state not in (JobState.PROMOTED, JobState.REJECTED):
            return {}
        attached: dict[str, Any] = {}
        folder = self._checkpoints / str(job.scope) / job.checkpoint
        if (curve := folder / LOSS_CURVE_FILE).is_file():
            attached["file"] = discord.File(curve, filename="loss.png")
        if (report := read_report(folder)) and (embed := comparison_embed(report)):
            attached["embed"] = embed
        return attached

    def _use_server_language(self, job: TrainingJob) -> None:
        """This task answers in the language of the job's server."""
        set_language(self._bot.languages.for_server(self._bot.get_guild(job.scope)))

    def _channel(self, job: TrainingJob) -> discord.PartialMessageable:
        return self._bot.get_partial_messageable(job.channel_id, guild_id=job.scope)


def _receipt_of(job: TrainingJob) -> Receipt | Phrase | None:
    """The receipt of a clean retrain that has ended, or why it has none; None for other jobs."""
    if job.state is JobState.INTERRUPTED or not expects_receipt(job):
        return None
    return read_receipt(job)


class JobAction(StrEnum):
    """What the buttons of a job do; the values are part of their ids."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


JOB_BUTTON_LABELS = {
    JobAction.PAUSE: phrase("Pause"),
    JobAction.RESUME: phrase("Resume"),
    JobAction.CANCEL: phrase("Cancel"),
}


class JobButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"retrain:(?P<action>pause|resume|cancel):(?P<job>\d+)",
):
    """Pauses, resumes or cancels a job; works after a restart, as its id contains the job's."""

    def __init__(self, action: JobAction, job_id: int) -> None:
        self.action = action
        self.job_id = job_id
        super().__init__(
            discord.ui.Button(
                label=say(JOB_BUTTON_LABELS[action]),
                style=discord.ButtonStyle.secondary,
                custom_id=f"retrain:{action}:{job_id}",
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(JobAction(match["action"]), int(match["job"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, "Training", "control", self.action, self.job_id)


class JobView(discord.ui.View):
    """The buttons of a job. They must work after a restart, so the view has no timeout."""

    def __init__(self, job_id: int, *actions: JobAction) -> None:
        super().__init__(timeout=None)
        for action in actions:
            self.add_item(JobButton(action, job_id))


def _buttons(progress: JobProgress) -> JobView:
    job = progress.job
    if progress.stage is Stage.LOADING:
        return JobView(job.id)
    if progress.stage is Stage.EVALUATING:
        return JobView(job.id, JobAction.CANCEL)
    first = JobAction.RESUME if job.state is JobState.PAUSED else JobAction.PAUSE
    return JobView(job.id, first, JobAction.CANCEL)

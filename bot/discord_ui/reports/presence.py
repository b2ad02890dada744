"""The bot's presence: its default model, or a training job in progress.

It is the same in every server, so it never says which server a job belongs to.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import discord

from bot.discord_ui.client import Gpt2Bot
from core.records import JobState, TrainingJob
from data.storage.tables.pauses import EVERYWHERE, PauseTable
from i18n.phrase import Phrase, phrase
from training.config import TrainingConfig
from training.jobs.events import Checking, Started, Step
from training.jobs.folder import CONFIG_FILE
from training.jobs.queue import JobUpdate

log = logging.getLogger(__name__)

PRESENCE_INTERVAL_S = 15.0
"""Seconds between two updates: Discord allows five in twenty seconds."""
PAUSED_STATUS = phrase("paused")


@dataclass(slots=True)
class _Training:
    """The running job: the name of the model that it makes, and its progress."""

    job_id: int
    name: str
    percent: int = 0


class Presence:
    """Keeps the bot's presence up to date, in the operator's language. `model` is the default
    model."""

    def __init__(self, bot: Gpt2Bot, pauses: PauseTable, model: str) -> None:
        self._bot = bot
        self._pauses = pauses
        self._language = bot.languages.for_server(None)
        self._idle = phrase("{model} · /teach and /chat", model=model)
        self._training: _Training | None = None
        self._shown = self._idle.translate_to(self._language)
        bot.activity = discord.CustomActivity(self._shown)

    async def update(self, update: JobUpdate) -> None:
        """Take note of a job's progress; `show` displays it."""
        job, ours = update.job, self._training
        if job.state is not JobState.RUNNING:
            if ours is not None and ours.job_id == job.id:
                self._training = None
            return
        if ours is None or ours.job_id != job.id:
            name = await asyncio.to_thread(_name, job)
            ours = self._training = _Training(job.id, name)
        match update.event:
            case Started(resumed_from=step, steps=steps) | Step(step=step, steps=steps) if steps:
                ours.percent = 100 * step // steps
            case Checking():
                ours.percent = 100

    async def show(self) -> None:
        """Update the presence if it has changed; called every PRESENCE_INTERVAL_S seconds.

        Raises:
            StoreError: whether the bot is paused cannot be read.
        """
        text = (await self._text()).translate_to(self._language)
        if text == self._shown or not self._bot.is_ready() or self._bot.is_closed():
            return
        activity = discord.CustomActivity(text)
        self._bot.activity = activity  # sent again by discord.py after a reconnect
        try:
            await self._bot.change_presence(activity=activity)
        except (OSError, discord.DiscordException) as e:
            log.debug("cannot change the presence: %s", e)
        else:
            self._shown = text

    async def _text(self) -> Phrase:
        if EVERYWHERE in await self._pauses.scopes():
            return PAUSED_STATUS
        if self._training is not None:
            name, percent = self._training.name, self._training.percent
            return phrase("training {name}: {percent} %", name=name, percent=percent)
        return self._idle


def _name(job: TrainingJob) -> str:
    """The name of the model that the job makes; that of its base if its folder cannot tell."""
    try:
        return TrainingConfig.load(Path(job.directory) / CONFIG_FILE).name
    except (OSError, ValueError, TypeError):
        return job.base_model

"""Asks a server's administrators for a clean retrain: the message, its channel, its buttons; and
the button for the receipt at its end.

Does not know what was withdrawn or by whom, so it cannot reveal that.
"""

from __future__ import annotations

import logging

import discord

from bot.discord_ui.client import Gpt2Bot, dispatch_to_cog
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, post_with_retries
from bot.learning.erasure import AffectedScope
from data.storage.tables.jobs import Jobs
from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import say, use_language

log = logging.getLogger(__name__)

CLEAN_RETRAIN_LABELS = {"retrain": phrase("Retrain without it"), "later": phrase("Not now")}
"""The buttons, by the name of the method of the Privacy cog that each calls."""


class CleanRetrainButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"clean:(?P<action>retrain|later):(?P<job>\d+)",
):
    """Starts or postpones a clean retrain; works after a restart, as its id contains the job's."""

    def __init__(self, action: str, job_id: int) -> None:
        self.action = action
        self.job_id = job_id
        primary, secondary = discord.ButtonStyle.primary, discord.ButtonStyle.secondary
        super().__init__(
            discord.ui.Button(
                label=say(CLEAN_RETRAIN_LABELS[action]),
                style=primary if action == "retrain" else secondary,
                custom_id=f"clean:{action}:{job_id}",
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(match["action"], int(match["job"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, "Privacy", self.action, self.job_id)


def clean_retrain_view(job_id: int) -> discord.ui.View:
    """Both buttons. They must work after a restart, so the view has no timeout."""
    view = discord.ui.View(timeout=None)
    for action in CLEAN_RETRAIN_LABELS:
        view.add_item(CleanRetrainButton(action, job_id))
    return view


class ReceiptButton(
    discord.ui.DynamicItem[discord.ui.Button[discord.ui.View]],
    template=r"receipt:(?P<job>\d+)",
):
    """Hands out the receipt of a clean retrain; works after a restart, as its id has the job's."""

    def __init__(self, job_id: int) -> None:
        self.job_id = job_id
        super().__init__(
            discord.ui.Button(
                label=say("Receipt"),
                style=discord.ButtonStyle.secondary,
                custom_id=f"receipt:{job_id}",
            )
        )

    @classmethod
    async def from_custom_id(cls, _interaction, _item, match):  # type: ignore[no-untyped-def]
        return cls(int(match["job"]))

    async def callback(self, interaction: discord.Interaction) -> None:
        await dispatch_to_cog(interaction, "Privacy", "receipt", self.job_id)


def receipt_view(job_id: int) -> discord.ui.View:
    """The button below the end of a clean retrain, without a timeout as well."""
    view = discord.ui.View(timeout=None)
    view.add_item(ReceiptButton(job_id))
    return view


class CleanRetrainPrompts:
    """Posts the question in the channel of the server's last job, else in its system channel."""

    def __init__(self, bot: Gpt2Bot, jobs: Jobs) -> None:
        self._bot = bot
        self._jobs = jobs

    async def prompt(self, concern: AffectedScope) -> None:
        """Post the question; if the bot can write in no channel, log it."""
        await self._bot.wait_until_ready()
        text = prompt_text(concern)
        with use_language(self._bot.languages.for_server(self._bot.get_guild(concern.scope))):
            said, view = say(text), clean_retrain_view(concern.job_id)
        for channel in await self._channels(concern.scope):
            try:
                await post_with_retries(channel, said, view=view)
            except DISCORD_ERRORS as e:
                log.info("the channel %s cannot be written to: %s", channel.id, e)
            else:
                return
        log.warning("the server %d could not be asked for a clean retrain: %s", concern.scope, text)

    async def _channels(self, scope: int) -> list[discord.PartialMessageable | discord.TextChannel]:
        found: list[discord.PartialMessageable | discord.TextChannel] = []
        if job := await self._jobs.latest(scope):
            found.append(self._bot.get_partial_messageable(job.channel_id, guild_id=scope))
        guild = self._bot.get_guild(scope)
        if guild is not None and guild.system_channel is not None:
            found.append(guild.system_channel)
        return found


TRAINING_STOPPED = phrase(
    "I stopped a training job: some of what it was going to learn was withdrawn."
)
CLEAN_RETRAIN_OFFER = phrase(
    "An administrator can have me retrained without it, from the model where that began. "
    "You can keep chatting meanwhile, and the new model answers once it has passed its "
    "checks."
)
DELETE_OLD_HINT = phrase("After that, `/model delete` removes the old checkpoints.")


def prompt_text(concern: AffectedScope) -> Phrase:
    """The question, which mentions neither words nor members."""
    lines = [TRAINING_STOPPED] if concern.stopped else []
    if not concern.checkpoints:
        return join_phrases([*lines, CLEAN_RETRAIN_OFFER], "\n")
    learned = phrase(
        "{checkpoints} learned from examples that have since been withdrawn. What a checkpoint "
        "has learned stays in it until a new one is trained without it.",
        checkpoints=join_checkpoint_names(concern.checkpoints),
    )
    return join_phrases([*lines, learned, CLEAN_RETRAIN_OFFER, DELETE_OLD_HINT], "\n")


MAX_CHECKPOINTS_NAMED = 20


def join_checkpoint_names(checkpoints: tuple[str, ...]) -> str:
    """`**a**, **b** and **c**`; of many, the newest."""
    shown = [f"**{name}**" for name in checkpoints[-MAX_CHECKPOINTS_NAMED:]]
    if more := len(checkpoints) - len(shown):
        shown.insert(0, phrase("{count} more", count=more))
    if len(shown) == 1:
        return shown[0]
    return phrase("{names} and {last}", names=join_phrases(shown[:-1], ", "), last=shown[-1])

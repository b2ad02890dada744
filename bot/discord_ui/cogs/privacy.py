"""Privacy: /privacy show, export, forget, opt-in and opt-out; the buttons of a clean retrain
and of its receipt."""

from __future__ import annotations

import asyncio
import io
import logging

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.context import guild_scope
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, defer
from bot.discord_ui.embeds.privacy import (
    ERASURE_QUESTION,
    ERASURE_STARTED,
    ERASURE_UNFINISHED,
    EXPORT_TOO_LARGE,
    EXPORTED,
    PrivacySummary,
    erasure_text,
    pack_export,
    receipt_content,
    receipt_text,
    show_text,
    withdrawn_text,
)
from bot.discord_ui.errors import error_message, is_expected
from bot.discord_ui.permissions import defer_for_retrainer, require_asker_or_manager
from bot.discord_ui.views.clean_retrain import CleanRetrainButton, ReceiptButton
from bot.discord_ui.views.confirm import ConfirmView
from bot.learning.consent import CHAT_LEARNING_OFF, CONSENT_TEXT, CONSENT_VERSION
from bot.learning.erasure import Erasure
from bot.learning.receipts import Receipts
from bot.learning.retraining import Retrains
from core.tasks import BackgroundTasks
from data.storage.storage import Storage
from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import say
from training.errors import EmptyDataset

log = logging.getLogger(__name__)

NOTHING_LEFT = phrase(
    "Nothing is left to learn: there are no other examples. `/model use` chooses a model that "
    "learned nothing here."
)
CLEAN_RETRAIN_STARTED = phrase(
    "A training job without it has started; its progress is shown in this channel."
)
RECEIPT_FOLLOWS = phrase(
    "It then measures that what was removed is gone; the receipt is below its last message."
)
NO_RECEIPT = phrase(
    "There will be no receipt: the checkpoint that had learned it, or its data, are gone already."
)
CLEAN_RETRAIN_POSTPONED = phrase(
    "Not now. `/retrain` does it at any time: it learns only what is still there."
)


class Privacy(commands.Cog):
    """Shows members what is stored about them, erases it, and records their consent."""

    privacy = app_commands.Group(
        name="privacy", description="What I keep about you, and what you can do about it"
    )

    def __init__(
        self,
        bot: Gpt2Bot,
        storage: Storage,
        forgetting: Erasure,
        retrains: Retrains,
        tasks: BackgroundTasks,
        *,
        receipts: Receipts,
        learn_from_chat: bool,
        retention_days: int,
    ) -> None:
        self._bot = bot
        self._storage = storage
        self._erasure = forgetting
        self._retrains = retrains
        self._tasks = tasks
        self._receipts = receipts
        self._learn_from_chat = learn_from_chat
        self._retention_days = retention_days

    async def cog_load(self) -> None:
        self._bot.add_dynamic_items(CleanRetrainButton, ReceiptButton)

    # --- commands --------------------------------------------------------------------------------

    @privacy.command(description="See what I keep about you, for how long, and what I learned")
    async def show(self, interaction: BotInteraction) -> None:
        await self.show_summary(interaction)

    async def show_summary(self, interaction: BotInteraction) -> None:
        """Answer the command, or the button "Privacy", which leaves its message as it is."""
        await defer(interaction, ephemeral=True, thinking=True)
        user, guild = interaction.user.id, interaction.guild_id
        kept = PrivacySummary(
            here=await self._storage.members.summary(user, guild or user),
            everywhere=await self._storage.members.summary(user),
            retention_days=self._retention_days,
            learn_from_chat=self._learn_from_chat,
            checkpoints=await self._erasure.checkpoints_trained_on(user, guild) if guild else None,
            erasure_pending=await self._erasure.is_pending(user),
        )
        await interaction.edit_original_response(content=show_text(kept))

    @privacy.command(description="Download everything I keep about you, as a file")
    async def export(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        export = await self._storage.members.export(interaction.user.id)
        pack = await asyncio.to_thread(pack_export, export, interaction.filesize_limit)
        if pack is None:
            await interaction.edit_original_response(content=say(EXPORT_TOO_LARGE))
            return
        name, content = pack
        file = discord.File(io.BytesIO(content), filename=name)
        await interaction.edit_original_response(content=say(EXPORTED), attachments=[file])

    @privacy.command(description="Erase everything I keep about you, in all servers")
    async def forget(self, interaction: BotInteraction) -> None:
        view = ConfirmView(
            say("Forget me"), say("Cancel"), self._start_erasure, say("Nothing was erased.")
        )
        await interaction.response.send_message(say(ERASURE_QUESTION), view=view, ephemeral=True)

    async def _start_erasure(self, interaction: BotInteraction) -> None:
        await interaction.response.edit_message(content=say(ERASURE_STARTED), view=None)
        self._tasks.spawn(self._erase_and_report(interaction), name="erasure of a member")

    async def _erase_and_report(self, interaction: BotInteraction) -> None:
        user = interaction.user.id
        try:
            text = erasure_text(await self._erasure.erase_member(user), self._server_name)
            if await self._erasure.is_pending(user):  # another process is reading the database
                text = f"{text}\n{say(ERASURE_UNFINISHED)}"
        except Exception as e:  # the member must be told
            text = f"{error_message(e)} {say(ERASURE_UNFINISHED)}"
            log.error("the erasure of a member failed", exc_info=None if is_expected(e) else e)
        try:
            await interaction.edit_original_response(content=text)
        except DISCORD_ERRORS as e:
            log.info("the result of an erasure came too late to be shown: %s", e)

    def _server_name(self, scope: int) -> str:
        guild = self._bot.get_guild(scope)
        return guild.name if guild else phrase("a server that I have left")

    @privacy.command(name="opt-in", description="Let me learn from what you say to me here")
    async def opt_in(self, interaction: BotInteraction) -> None:
        scope = guild_scope(interaction)
        if not self._learn_from_chat:
            await interaction.response.send_message(say(CHAT_LEARNING_OFF), ephemeral=True)
            return
        consent = await self._storage.consents.active(scope, interaction.user.id)
        if consent and consent.version >= CONSENT_VERSION:
            text = say("You have agreed already. `/privacy opt-out` withdraws it.")
            await interaction.response.send_message(text, ephemeral=True)
            return
        declined = say("Fine: I learn nothing from what you say.")
        view = ConfirmView(say("I agree"), say("No"), self._agree, declined)
        await interaction.response.send_message(say(CONSENT_TEXT), view=view, ephemeral=True)

    async def _agree(self, interaction: BotInteraction) -> None:
        await self._storage.consents.opt_in(
            guild_scope(interaction), interaction.user.id, CONSENT_VERSION
        )
        text = say("Thank you. `/privacy opt-out` withdraws it at any time.")
        await interaction.response.edit_message(content=text, view=None)

    @privacy.command(name="opt-out", description="Stop me from learning from what you say")
    async def opt_out(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        scope = interaction.guild_id
        withdrawal = await self._erasure.withdraw_consent(interaction.user.id, scope)
        where = phrase("in this server") if scope else phrase("in any server")
        await interaction.edit_original_response(content=withdrawn_text(withdrawal, where))

    # --- the clean retrain -----------------------------------------------------------------------

    async def retrain(self, interaction: BotInteraction, job_id: int) -> None:
        """The button "Retrain without it" was pressed."""
        await defer_for_retrainer(interaction)
        scope = guild_scope(interaction)
        channel = interaction.channel_id or scope
        try:
            started = await self._retrains.start_clean(
                job_id,
                scope=scope,
                requested_by=interaction.user.id,
                channel_id=channel,
                language=self._bot.languages.for_server(interaction.guild),
            )
        except EmptyDataset:
            await interaction.edit_original_response(content=say(NOTHING_LEFT))
            return
        await record_audit(
            self._storage.audit, interaction, "clean retrain start", _after_job(job_id)
        )
        receipt = RECEIPT_FOLLOWS if started.will_be_measured else NO_RECEIPT
        await close_prompt(interaction, CLEAN_RETRAIN_STARTED, receipt)

    async def later(self, interaction: BotInteraction, job_id: int) -> None:
        """The button "Not now" was pressed."""
        await defer_for_retrainer(interaction)
        await record_audit(
            self._storage.audit, interaction, "clean retrain later", _after_job(job_id)
        )
        await close_prompt(interaction, CLEAN_RETRAIN_POSTPONED)

    async def receipt(self, interaction: BotInteraction, job_id: int) -> None:
        """The button "Receipt" was pressed."""
        await defer(interaction, ephemeral=True, thinking=True)
        job = await self._receipts.job(guild_scope(interaction), job_id)
        require_asker_or_manager(interaction, job.requested_by)
        receipt = await self._receipts.hand_out(job)
        file = discord.File(io.BytesIO(receipt_content(receipt)), f"receipt-{job_id}.json")
        text = receipt_text(receipt)
        await interaction.edit_original_response(content=text, attachments=[file])


def _after_job(job_id: int) -> Phrase:
    return phrase("after job {job}", job=job_id)


async def close_prompt(interaction: BotInteraction, answer: Phrase, *more: Phrase) -> None:
    """Answer an administrator, with what only they need to know, and remove the buttons of a
    public question. One that only they see cannot be edited any more."""
    await interaction.edit_original_response(content=say(join_phrases([answer, *more])))
    question = interaction.message
    if question is not None and not question.flags.ephemeral:
        interaction.client.languages.use_server(interaction)
        content = f"{question.content}\n-# {say(answer)}"
        interaction.client.languages.use_member(interaction)
        await question.edit(content=content, view=None)

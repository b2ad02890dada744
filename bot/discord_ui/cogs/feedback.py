"""Feedback on replies: the buttons under them, "Better answer", and "Why this reply?"."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands
from discord.utils import MISSING

from bot.chat.admission import Admission
from bot.chat.manager import ConversationManager
from bot.chat.replay import ORIGIN_UNKNOWN, Replayer
from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.context import channel_id_of, scope_of
from bot.discord_ui.delivery.reply import ReplacedReply, StreamingReply, quote_question, shown_on
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.lesson import left_out_text, other_corrections_text
from bot.discord_ui.embeds.origin import replay_embed, why_embed
from bot.discord_ui.names import names_of
from bot.discord_ui.permissions import (
    Rank,
    rank_of,
    require_asker_or_manager,
    require_teacher,
)
from bot.discord_ui.views.correction_form import CorrectionForm, correction_confirmation
from bot.discord_ui.views.reply_buttons import (
    ReplaySelect,
    ReplyButton,
    ReplyLocation,
    StopButton,
    finished_view,
    locate_reply,
    replay_view,
    reply_views,
)
from bot.judgement.duel import Duels
from bot.learning.corrections import Correction, save_correction, start_correction
from bot.learning.teaching import MAX_WORDINGS, other_wordings
from bot.server.rules import ServerRules
from core.errors import Refusal
from core.logging import begin_request
from core.records import ReplyRecord, Role
from data.storage.storage import Storage
from i18n.phrase import phrase
from i18n.reader import say

NOT_MY_MESSAGE = phrase("That only works on what I said.")
VOTE_FIRST = phrase("These are two answers of a duel. Vote first: the models are not shown before.")
VOTE_BEFORE_BETTER = phrase(
    "These are two answers of a duel. Vote first: then you can say what is better than the one "
    "that stays."
)
VOTE_WITHDRAWN = phrase("Taken back.")
VOTE_CONFIRMATIONS = {
    1: phrase("Noted: you like this reply.\n-# Press 👍 again to take that back."),
    -1: phrase(
        "Noted: you do not like this reply.\n"
        "-# Press 👎 again to take that back, or ✏️ to say what I should have answered."
    ),
    0: VOTE_WITHDRAWN,
}


class PressedMessage:
    """The message with the button, edited through the interaction: that works even in channels that
    the bot may not read."""

    def __init__(self, press: BotInteraction) -> None:
        self._press = press

    @property
    def id(self) -> int:
        return pressed_message(self._press).id

    async def edit(self, **changes: Any) -> object:
        return await self._press.edit_original_response(**changes)

    async def delete(self) -> None:
        await self._press.delete_original_response()


def pressed_message(press: BotInteraction) -> discord.Message:
    """The message with the button."""
    if press.message is None:
        raise RuntimeError("Discord sent a press without its message")
    return press.message


class Feedback(commands.Cog):
    """Handles the reply buttons and the context menus of messages."""

    def __init__(
        self,
        bot: Gpt2Bot,
        storage: Storage,
        conversations: ConversationManager,
        replays: Replayer,
        admission: Admission,
        rules: ServerRules,
        duels: Duels,
    ) -> None:
        self._bot = bot
        self._storage = storage
        self._duels = duels
        self._conversations = conversations
        self._replays = replays
        self._admission = admission
        self._rules = rules
        self._menus = [
            app_commands.ContextMenu(name="Why this reply?", callback=self.why),
            app_commands.ContextMenu(name="Better answer", callback=self.suggest_better_answer),
        ]

    async def cog_load(self) -> None:
        self._bot.add_dynamic_items(ReplyButton, StopButton, ReplaySelect)
        for menu in self._menus:
            self._bot.tree.add_command(menu)

    async def cog_unload(self) -> None:
        for menu in self._menus:
            self._bot.tree.remove_command(menu.name, type=menu.type)

    # --- buttons ---------------------------------------------------------------------------------

    async def up(self, press: BotInteraction, place: ReplyLocation) -> None:
        """👍 was pressed."""
        await self._vote(press, place, 1)

    async def down(self, press: BotInteraction, place: ReplyLocation) -> None:
        """👎 was pressed."""
        await self._vote(press, place, -1)

    async def _vote(self, press: BotInteraction, place: ReplyLocation, value: int) -> None:
        record = await self._record(press, place)
        before = await self._storage.replies.rating_summary(record.reply_id, press.user.id)
        now = 0 if before.mine == value else value
        await self._storage.replies.rate(record.scope, record.reply_id, press.user.id, now)
        await press.response.send_message(say(VOTE_CONFIRMATIONS[now]), ephemeral=True)

    async def better(self, press: BotInteraction, place: ReplyLocation) -> None:
        """✏️ was pressed: open the form for a better answer."""
        await self._open_form(press, place.reply_id(pressed_message(press).id))

    async def again(self, press: BotInteraction, place: ReplyLocation) -> None:
        """🔁 was pressed: generate another reply in place of this one."""
        begin_request()
        record = await self._record(press, place)
        require_asker_or_manager(press, record.asked_by)
        self._admission.admit_command(press.user.id, press.guild_id, channel_id_of(press))
        await defer(press)
        press.client.languages.use_server(press)
        reply = await self._replacement_reply(press, place, record)
        async with shown_on(reply, self._bot, record.asked_id, interaction=True):
            await self._conversations.regenerate(record, reply)

    async def _replacement_reply(
        self, press: BotInteraction, place: ReplyLocation, record: ReplyRecord
    ) -> StreamingReply:
        """A streaming reply that replaces the recorded one."""
        message = pressed_message(press)
        stored = await self._storage.messages.get_many([record.asked_id, record.reply_id])
        texts = {one.discord_id: one.message.content for one in stored}
        channel = self._bot.get_partial_messageable(record.channel_id)
        before = [channel.get_partial_message(one) for one in place.preceding_ids]

        async def more(
            content: str, *, nonce: str, view: discord.ui.View = MISSING
        ) -> discord.Message:
            if place.quoted:  # it answers /chat, perhaps where the bot may not write by itself
                return await press.followup.send(content, view=view, wait=True)
            return await channel.send(content, nonce=nonce, view=view)

        return StreamingReply(
            more,
            more,
            prefix=quote_question(texts.get(record.asked_id, "")) if place.quoted else "",
            rows=reply_views(record.asked_id, quoted=place.quoted),
            standing=ReplacedReply(
                messages=[*before, PressedMessage(press)],
                parts=[*([None] * len(before)), message.content],
                text=texts.get(record.reply_id, message.content),
            ),
            may_edit=self._bot.traffic.may_edit,
        )

    async def stop(self, press: BotInteraction, asked_id: int) -> None:
        """⏹️ was pressed under a streaming reply."""
        asker = self._conversations.generator.asker_of(asked_id)
        if asker is None:
            await self._fix_stale_buttons(press)
            return
        require_asker_or_manager(press, asker)
        await defer(press)
        self._conversations.generator.stop(asked_id)

    async def _fix_stale_buttons(self, press: BotInteraction) -> None:
        """The reply has ended, or the bot was killed meanwhile: give it the right buttons."""
        press.client.languages.use_server(press)
        message = pressed_message(press)
        quoted = message.interaction_metadata is not None  # it answers /chat
        known = await self._storage.replies.get(message.id)
        await press.response.edit_message(view=finished_view(quoted, ()) if known else None)

    async def _record(self, press: BotInteraction, place: ReplyLocation) -> ReplyRecord:
        record = await self._storage.replies.get(place.reply_id(pressed_message(press).id))
        if record is None or record.channel_id != press.channel_id:
            raise Refusal(ORIGIN_UNKNOWN)
        return record

    # --- better answers --------------------------------------------------------------------------

    async def suggest_better_answer(
        self, interaction: BotInteraction, message: discord.Message
    ) -> None:
        """The message command "Better answer"."""
        await self._open_form(interaction, self._reply_id(message))

    def _reply_id(self, message: discord.Message) -> int:
        if message.author != self._bot.user:
            raise Refusal(NOT_MY_MESSAGE)
        return locate_reply(message).reply_id(message.id)

    async def _open_form(self, interaction: BotInteraction, reply_id: int) -> None:
        self._require_teacher(interaction)  # before somebody writes in vain
        if await self._duels.is_open(reply_id):
            raise Refusal(VOTE_BEFORE_BETTER)
        lesson = await start_correction(
            self._storage, scope_of(interaction), reply_id, interaction.user.id
        )
        await interaction.response.send_modal(CorrectionForm(lesson, self.submit_correction))

    async def submit_correction(
        self, interaction: BotInteraction, lesson: Correction, asked: str, answer: str, also: str
    ) -> None:
        """The form was submitted."""
        self._require_teacher(interaction)
        in_server = interaction.guild_id is not None
        approved = rank_of(interaction) >= Rank.MANAGER or not in_server
        wordings = other_wordings(also, asked)
        example, *others = [
            await save_correction(self._storage, lesson, question, answer, approved=approved)
            for question in (asked, *wordings[:MAX_WORDINGS])
        ]
        text = correction_confirmation(example, in_server=in_server)
        text += other_corrections_text(example, others) + left_out_text(wordings)
        await interaction.response.send_message(text, ephemeral=True)

    def _require_teacher(self, interaction: BotInteraction) -> None:
        require_teacher(interaction, self._rules.of(scope_of(interaction)).teaching)

    # --- where it comes from ---------------------------------------------------------------------

    async def why(self, interaction: BotInteraction, message: discord.Message) -> None:
        """The message command "Why this reply?"."""
        reply_id = self._reply_id(message)
        await defer(interaction, ephemeral=True)
        if await self._duels.is_open(reply_id):
            raise Refusal(VOTE_FIRST)
        origin = await self._replays.origin(reply_id, channel_id_of(interaction))
        names = await names_of(
            interaction,
            (one.author_id for one in origin.seen if one and one.message.role is Role.USER),
        )
        embed = why_embed(origin, names, model_exists=self._replays.exists(origin.record))
        choices = self._replays.choices(origin, manager=rank_of(interaction) >= Rank.MANAGER)
        view = replay_view(reply_id, choices) if choices else None
        await interaction.edit_original_response(embed=embed, view=view)

    async def replay(self, interaction: BotInteraction, reply_id: int, name: str) -> None:
        """A model was chosen to replay a reply on."""
        self._admission.admit_command(
            interaction.user.id, interaction.guild_id, channel_id_of(interaction)
        )
        await defer(interaction, ephemeral=True, thinking=True)
        origin = await self._replays.origin(reply_id, channel_id_of(interaction))
        reply = await self._replays.replay(
            origin, name, manager=rank_of(interaction) >= Rank.MANAGER
        )
        await interaction.edit_original_response(embed=replay_embed(origin, name, reply))

"""Chatting: which messages are for the bot, and /chat, /reset, /context, /channel."""

from __future__ import annotations

import logging
from functools import partial

import discord
from discord import app_commands
from discord.ext import commands
from discord.utils import MISSING

from bot.chat.admission import Admission
from bot.chat.manager import ConversationManager
from bot.chat.request import Incoming
from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import BotInteraction, Gpt2Bot
from bot.discord_ui.context import (
    channel_id_of,
    guild_scope,
    scope_of,
    text_of,
    text_of_option,
)
from bot.discord_ui.delivery.newest_buttons import NewestButtons
from bot.discord_ui.delivery.reply import (
    NO_BUTTONS,
    ReplyViews,
    StreamingReply,
    TypingIndicators,
    quote_question,
    shown_on,
)
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, NO_REPLY_WITHOUT_HISTORY, defer
from bot.discord_ui.delivery.split import split_message
from bot.discord_ui.permissions import Rank, require_rank, requires_rank
from bot.discord_ui.views.duel_buttons import show_pair
from bot.discord_ui.views.reply_buttons import reply_views
from bot.server.channels import EnabledChannels
from bot.server.rules import ServerRules
from core.errors import Refusal
from core.logging import begin_request
from data.storage.tables.audit import AuditLog
from i18n.phrase import Phrase, phrase
from i18n.reader import say, set_language
from model.worker.messages import Rendered

log = logging.getLogger(__name__)

NOTHING_TO_READ = phrase("I can only read text so far. Write me a few words and I will answer.")
ROLE_MENTION_UNREADABLE = phrase(
    "I cannot read this: you mention my role, and Discord shows me only messages that mention me "
    "myself. Please write @ and my name, or use /chat."
)
MAX_CHAT_CHARS = 1500
"""Characters of a question in /chat, which is quoted above the answer."""

Place = (
    discord.TextChannel
    | discord.VoiceChannel
    | discord.StageChannel
    | discord.ForumChannel
    | discord.Thread
)
"""Where people write, or below which they do."""


class Chat(commands.Cog):
    """Answers messages and /chat."""

    channel = app_commands.Group(
        name="channel",
        description="Choose the channels where I answer every message",
        guild_only=True,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(
        self,
        bot: Gpt2Bot,
        conversations: ConversationManager,
        channels: EnabledChannels,
        audit: AuditLog,
        admission: Admission,
        rules: ServerRules,
        buttons: NewestButtons,
    ) -> None:
        self._bot = bot
        self._rules = rules
        self._buttons = buttons
        self._conversations = conversations
        self._channels = channels
        self._audit = audit
        self._admission = admission
        self._typing = TypingIndicators(bot.traffic)

    @property
    def enabled_channels(self) -> set[int]:
        """The channels in which every message is answered."""
        return self._channels.everywhere()

    # --- messages --------------------------------------------------------------------------------

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        if self.is_question(message):
            await self._answer(message)

    async def _answer(self, message: discord.Message, *, resumed: bool = False) -> None:
        set_language(self._bot.languages.for_message(message))
        try:
            await self._reply_to(message, resumed=resumed)
        except DISCORD_ERRORS as e:  # no permission (any more), an archived thread, or an outage
            channel = message.channel.id
            log.warning("no answer to %s can be shown in channel %s: %s", message.id, channel, e)

    # --- for `CatchUp` --------------------------------------------------------------------------

    def is_question(self, message: discord.Message) -> bool:
        """Whether the bot would answer it."""
        if _is_automatic(message) or not self._should_answer(message):
            return False
        # Without the Message Content intent, the text of the others is empty.
        return self._is_addressed(message) or bool(text_of(message, self._bot.user))

    def is_being_answered(self, message_id: int) -> bool:
        """Whether it waits for its answer, or is being answered."""
        return self._conversations.generator.asker_of(message_id) is not None

    def is_paused(self, message: discord.Message) -> bool:
        """Whether the bot is to be silent there."""
        return self._admission.is_paused(scope_of(message))

    async def answer_missed(self, message: discord.Message) -> None:
        """Answer a message that came while the bot was away."""
        await self._answer(message, resumed=True)

    async def _reply_to(self, message: discord.Message, *, resumed: bool) -> None:
        begin_request()
        text = text_of(message, self._bot.user)
        reference = message.to_reference(fail_if_not_exists=False)

        async def first(
            content: str, *, nonce: str, view: discord.ui.View = MISSING
        ) -> discord.Message:
            send = partial(message.channel.send, content, nonce=nonce, view=view)
            try:
                return await send(reference=reference)
            except discord.HTTPException as e:
                if e.code != NO_REPLY_WITHOUT_HISTORY:
                    raise
                return await send()

        reply = StreamingReply(
            first,
            message.channel.send,
            rows=self._reply_views(scope_of(message), message.id),
            may_edit=self._bot.traffic.may_edit,
        )
        typing = self._typing.show(message.channel)
        async with shown_on(reply, self._bot, message.id, typing=typing):
            user, channel = message.author, message.channel
            guild_id = message.guild.id if message.guild else None
            if not self._admission.admit_message(message.id, user.id, guild_id, channel.id, text):
                return
            if not text:
                raise Refusal(self._why_empty(message))
            content = message.content

            def text_now() -> str:
                # Called at its turn: discord.py has edited the cached message in place meanwhile.
                if message.content == content:
                    return text
                return self._admission.truncate(text_of(message, self._bot.user))

            incoming = Incoming(
                asked_id=message.id,
                channel_id=channel.id,
                scope=guild_id or user.id,
                asked_by=user.id,
                get_text=text_now,
                merge_bursts=True,
                resumed=resumed,
                show_pair=partial(show_pair, reply),
            )
            await self._conversations.answer(incoming, reply)
            await self._note_buttons(incoming, reply)

    def _why_empty(self, message: discord.Message) -> Phrase:
        """Why there is no text: without the Message Content intent, Discord only sends that of
        messages which mention the bot itself."""
        can_read = self._bot.intents.message_content or self._bot.user in message.mentions
        return NOTHING_TO_READ if can_read or message.guild is None else ROLE_MENTION_UNREADABLE

    def _reply_views(self, scope: int, asked_id: int, *, quoted: bool = False) -> ReplyViews:
        shown = self._rules.shows_buttons(scope)
        return reply_views(asked_id, quoted=quoted) if shown else NO_BUTTONS

    async def _note_buttons(self, incoming: Incoming, reply: StreamingReply) -> None:
        if (newest := reply.buttons_id) is not None:
            place = {"channel_id": incoming.channel_id, "scope": incoming.scope}
            await self._buttons.moved_to(newest, **place)

    def _should_answer(self, message: discord.Message) -> bool:
        channel = message.channel
        return (
            self._is_addressed(message)
            or channel.id in self._channels
            or (isinstance(channel, discord.Thread) and self._answers_in_thread(channel))
            or self._is_reply_to_us(message)
        )

    def _is_addressed(self, message: discord.Message) -> bool:
        """Whether it is a direct message, or mentions the bot or the bot's own role."""
        return (
            message.guild is None
            or self._bot.user in message.mentions
            or message.guild.self_role in message.role_mentions
        )

    def _answers_in_thread(self, thread: discord.Thread) -> bool:
        """Whether its channel or forum is enabled, or the bot is in it."""
        me = self._bot.user
        is_in = thread.me is not None or (me is not None and thread.owner_id == me.id)
        return is_in or thread.parent_id in self._channels

    def _is_reply_to_us(self, message: discord.Message) -> bool:
        answered = message.reference and message.reference.resolved
        return isinstance(answered, discord.Message) and answered.author == self._bot.user

    @commands.Cog.listener()
    async def on_raw_message_edit(self, payload: discord.RawMessageUpdateEvent) -> None:
        text = text_of(payload.message, self._bot.user)
        if text and payload.message.author != self._bot.user:
            await self._conversations.apply_edit(payload.message_id, self._admission.truncate(text))

    @commands.Cog.listener()
    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        await self._conversations.apply_deletions([payload.message_id])

    @commands.Cog.listener()
    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        await self._conversations.apply_deletions(payload.message_ids)

    # --- commands --------------------------------------------------------------------------------

    @app_commands.command(description="Say something to me, anywhere")
    @app_commands.describe(text="What you want to say")
    async def chat(
        self,
        interaction: BotInteraction,
        text: app_commands.Range[str, 1, MAX_CHAT_CHARS],
    ) -> None:
        begin_request()
        asked = text_of_option(text, interaction)
        self._admission.admit_command(
            interaction.user.id, interaction.guild_id, channel_id_of(interaction), asked
        )
        if not asked:
            raise Refusal(NOTHING_TO_READ)
        await defer(interaction, thinking=True)
        interaction.client.languages.use_server(interaction)

        async def first(
            content: str, *, nonce: str, view: discord.ui.View = MISSING
        ) -> discord.Message:
            return await interaction.edit_original_response(content=content, view=view)

        async def more(
            content: str, *, nonce: str, view: discord.ui.View = MISSING
        ) -> discord.Message:
            return await interaction.followup.send(content, view=view, wait=True)

        incoming = Incoming(
            asked_id=interaction.id,
            channel_id=channel_id_of(interaction),
            scope=scope_of(interaction),
            asked_by=interaction.user.id,
            get_text=lambda: asked,
        )
        row = self._reply_views(incoming.scope, interaction.id, quoted=True)
        reply = StreamingReply(
            first,
            more,
            prefix=quote_question(text),
            rows=row,
            may_edit=self._bot.traffic.may_edit,
        )
        async with shown_on(reply, self._bot, interaction.id, interaction=True):
            await self._conversations.answer(incoming, reply)
            await self._note_buttons(incoming, reply)

    @app_commands.command(description="Make me forget what was said in this channel so far")
    async def reset(self, interaction: BotInteraction) -> None:
        await defer(interaction)
        interaction.client.languages.use_server(interaction)
        await self._conversations.reset(channel_id_of(interaction))
        text = say("Forgotten. We start fresh from here.")
        await interaction.edit_original_response(content=text)

    @app_commands.command(description="See exactly what the model would read now")
    async def context(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        scope = scope_of(interaction)
        serving, rendered = await self._conversations.context(channel_id_of(interaction), scope)
        if rendered is None:
            text = say("Nothing yet: this channel's context is empty.")
            await interaction.edit_original_response(content=text)
            return
        first, *more = split_message(format_context(serving.option.name, rendered))
        await interaction.edit_original_response(content=first)
        for part in more:
            await interaction.followup.send(part, ephemeral=True)

    @channel.command(description="Answer every message in a channel and its threads")
    @app_commands.describe(channel="A channel, forum or thread (this one, if left out)")
    @requires_rank(Rank.MANAGER)
    async def enable(self, interaction: BotInteraction, channel: Place | None = None) -> None:
        await self._enable(interaction, channel)

    async def enable_here(self, press: BotInteraction) -> None:
        """The button "Answer in this channel" was pressed."""
        require_rank(press, Rank.MANAGER)
        await self._enable(press, None)

    async def _enable(self, interaction: BotInteraction, channel: Place | None) -> None:
        where = await self._set_enabled(interaction, channel, enabled=True)
        text = say("I now answer every message in {channel} and its threads.", channel=where)
        if not self._bot.intents.message_content:
            text = say(
                "{done} But I cannot read them yet: the operator has to switch on the Message "
                "Content intent in Discord's developer portal and restart me.",
                done=text,
            )
        await interaction.response.send_message(text, ephemeral=True)

    @channel.command(description="Answer only mentions and replies in a channel")
    @app_commands.describe(channel="A channel, forum or thread (this one, if left out)")
    @requires_rank(Rank.MANAGER)
    async def disable(self, interaction: BotInteraction, channel: Place | None = None) -> None:
        where = await self._set_enabled(interaction, channel, enabled=False)
        place = channel or interaction.channel
        parent = place.parent_id if isinstance(place, discord.Thread) else None
        if parent in self._channels:
            text = say(
                "I still answer every message here, because I do in {parent} and its threads: "
                "use `/channel disable` there.",
                parent=f"<#{parent}>",
            )
        else:
            text = say(
                "From now on I only answer mentions and replies in {channel}.", channel=where
            )
        await interaction.response.send_message(text, ephemeral=True)

    async def _set_enabled(
        self, interaction: BotInteraction, channel: Place | None, *, enabled: bool
    ) -> str:
        """Set it for a channel, or the one of the command; return its mention."""
        channel_id = channel.id if channel else channel_id_of(interaction)
        guild_id, where = guild_scope(interaction), f"<#{channel_id}>"
        await self._channels.switch(channel_id, guild_id, enabled=enabled)
        action = "enable" if enabled else "disable"
        await record_audit(self._audit, interaction, f"channel {action}", where)
        return where


def _is_automatic(message: discord.Message) -> bool:
    """Whether a bot (this one included), a webhook or Discord itself wrote it."""
    is_typed = message.type in (discord.MessageType.default, discord.MessageType.reply)
    return message.author.bot or message.webhook_id is not None or not is_typed


def format_context(model: str, rendered: Rendered) -> str:
    """The prompt of `/context`, with its token counts, as a Discord message."""
    counts = " + ".join(str(count) for count in rendered.token_counts)
    lines = [
        say(
            "**{model}** would read {messages} messages, {tokens} of at most {most} tokens "
            "({counts}, and the cue to answer):",
            model=model,
            messages=len(rendered.messages),
            tokens=rendered.total_tokens,
            most=rendered.budget,
            counts=counts,
        ),
        f"```\n{rendered.text.replace('```', 'ʼʼʼ')}\n```",
    ]
    if rendered.num_dropped:
        lines.append(say("{dropped} older messages did not fit.", dropped=rendered.num_dropped))
    if rendered.truncated:
        lines.append(say("The newest message was too long: only its end is read."))
    return "\n".join(lines)

"""The output filter: /filter add, remove and list. Only the caller sees the answers."""

from __future__ import annotations

from typing import Literal

import discord
from discord import app_commands
from discord.ext import commands

from bot.chat.filters import MAX_FILTER_CHARS, Filters
from bot.discord_ui.audit import record_audit
from bot.discord_ui.autocomplete import autocomplete_choices
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.context import guild_scope
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.delivery.split import split_message
from bot.discord_ui.embeds.style import quote_safely
from bot.discord_ui.permissions import Rank, requires_rank
from core.records import Filter, FilterKind
from data.storage.tables.audit import AuditLog
from data.storage.tables.filters import FilterTable
from i18n.phrase import Phrase, join_phrases, phrase
from i18n.reader import say

Kind = Literal["word", "pattern"]
Text = app_commands.Range[str, 1, MAX_FILTER_CHARS]

NO_FILTERS = phrase("There is no filter in this server yet: `/filter add` adds one.")
OPERATOR_WORDS_NOTE = phrase("-# The operator may have forbidden more words, in all servers.")
KIND_LABELS = {FilterKind.WORD: phrase("word"), FilterKind.PATTERN: phrase("pattern")}
MAX_SHOWN_CHARS = 2 * MAX_FILTER_CHARS
"""Characters of a filter that are shown: all of them, doubled by escaping."""


class FilterCommands(commands.Cog):
    """Lets managers choose what the bot must not say in their server."""

    filter = app_commands.Group(
        name="filter",
        description="Choose what I must not say in this server",
        guild_only=True,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(self, filters: Filters, table: FilterTable, audit: AuditLog) -> None:
        self._filters = filters
        self._table = table
        self._audit = audit

    @filter.command(description="Block a word, or everything that matches a pattern")
    @app_commands.describe(
        kind="A whole word, or a regular expression", text="The word or the pattern"
    )
    @requires_rank(Rank.MANAGER)
    async def add(self, interaction: BotInteraction, kind: Kind, text: Text) -> None:
        scope, one = guild_scope(interaction), Filter(FilterKind(kind), text.strip())
        await defer(interaction, ephemeral=True)
        if await self._filters.add(scope, one, interaction.user.id):
            await record_audit(self._audit, interaction, "filter add", audit_detail(one))
            said = say(
                "From my next reply on I do not say the {filter} here.", filter=describe_filter(one)
            )
        else:
            said = say("The {filter} is forbidden here already.", filter=describe_filter(one))
        await interaction.edit_original_response(content=said)

    @filter.command(description="Allow a word or a pattern again")
    @app_commands.describe(kind="Whether it is a word or a pattern", text="One of /filter list")
    @requires_rank(Rank.MANAGER)
    async def remove(self, interaction: BotInteraction, kind: Kind, text: Text) -> None:
        scope, one = guild_scope(interaction), Filter(FilterKind(kind), text.strip())
        await defer(interaction, ephemeral=True)
        if await self._filters.remove(scope, one):
            await record_audit(self._audit, interaction, "filter remove", audit_detail(one))
            said = say("I may say the {filter} again.", filter=describe_filter(one))
        else:
            said = say(
                "There is no filter with the {filter} here; `/filter list` shows all.",
                filter=describe_filter(one),
            )
        await interaction.edit_original_response(content=said)

    @filter.command(name="list", description="See what I must not say in this server")
    @requires_rank(Rank.MANAGER)
    async def list_filters(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        there = await self._table.all(guild_scope(interaction))
        lines = [f"- {say(describe_filter(one))}" for one in there] or [say(NO_FILTERS)]
        first, *more = split_message("\n".join([*lines, say(OPERATOR_WORDS_NOTE)]))
        await interaction.edit_original_response(content=first)
        for part in more:
            await interaction.followup.send(part, ephemeral=True)

    @remove.autocomplete("text")
    @requires_rank(Rank.MANAGER)
    async def complete_text(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        there = await self._table.all(guild_scope(interaction))
        kind = interaction.namespace.kind
        return autocomplete_choices([one.pattern for one in there if one.kind == kind], current)


def audit_detail(one: Filter) -> Phrase:
    """A filter for the audit log."""
    return join_phrases([KIND_LABELS[one.kind], one.pattern])


def describe_filter(one: Filter) -> Phrase:
    """A filter in a sentence."""
    return phrase(
        "{kind} “{text}”",
        kind=KIND_LABELS[one.kind],
        text=quote_safely(one.pattern, MAX_SHOWN_CHARS),
    )

"""The data set: /dataset stats, preview, template, import, export, remove and review.

Only the caller sees the answers.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Literal

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord_ui.audit import record_audit
from bot.discord_ui.autocomplete import autocomplete_choices
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.cogs.dataset.importing import Importer
from bot.discord_ui.cogs.dataset.removing import confirm_example_removal, confirm_source_removal
from bot.discord_ui.cogs.dataset.reviewing import ReviewQueue, show_page
from bot.discord_ui.context import guild_scope
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.charts import render_dataset_chart
from bot.discord_ui.embeds.cleaning import cleaning_embed
from bot.discord_ui.embeds.dataset import chart_numbers, first_lines, stats_embed
from bot.discord_ui.embeds.style import quote_safely, source_text
from bot.discord_ui.errors import error_message
from bot.discord_ui.permissions import Rank, rank_of, require_rank
from bot.learning.erasure import Erasure
from core.errors import ImportRefused
from core.records import Pair, ReviewStatus
from data.dataset.cleaning import select_examples
from data.dataset.snapshot import as_pairs
from data.formats.registry import FORMATS, SUPPORTED_FORMATS
from data.formats.sandbox.export import Exported, write_in_subprocess
from data.storage.storage import Storage
from i18n.phrase import join_phrases, phrase, phrases
from i18n.reader import say
from training.errors import ChildFailed

EXPORT_FORMATS = [app_commands.Choice(name=one.suffix[1:], value=one.suffix[1:]) for one in FORMATS]
Status = Literal["waiting", "approved", "rejected", "all"]
DATASET_EMPTY = phrase(
    "The data set is empty. Teach me with `/teach`, or import a file with `/dataset "
    "import`; `/dataset template` is a workbook to fill in."
)
TEMPLATE_FILE_NAME = "conversations.xlsx"
NOTHING_LEARNABLE = phrase("There is nothing here that may be learned now.")
TEMPLATE_HINT = phrase(
    "Fill it in and upload it with `/dataset import`. One of its sheets explains how."
)
MAX_CHOICE_CHARS = 100
"""Discord's limit for a choice."""


class Dataset(commands.Cog):
    """Shows and changes the examples of a server."""

    dataset = app_commands.Group(
        name="dataset",
        description="Manage what I learn from",
        guild_only=True,
        default_permissions=discord.Permissions(manage_guild=True),
    )

    def __init__(
        self, storage: Storage, erasure: Erasure, author_share: float, transfers: Path
    ) -> None:
        self._storage = storage
        self._erasure = erasure
        self._author_share = author_share
        self._transfers = transfers
        self._importer = Importer(storage, transfers)

    async def cog_load(self) -> None:
        await asyncio.to_thread(self._empty_transfers)

    def _empty_transfers(self) -> None:
        """Remove what a bot that was killed left behind (blocking)."""
        shutil.rmtree(self._transfers, ignore_errors=True)
        self._transfers.mkdir(exist_ok=True)

    async def interaction_check(
        self,
        interaction: BotInteraction,  # type: ignore[override]
    ) -> bool:
        require_rank(interaction, Rank.MANAGER)
        return True

    @dataset.command(description="How much there is to learn from, and where it comes from")
    async def stats(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        scope = guild_scope(interaction)
        counts = await self._storage.examples.count_by_status_and_source(scope)
        if not counts:
            await interaction.edit_original_response(content=say(DATASET_EMPTY))
            return
        embed = stats_embed(counts, await self._storage.examples.count_trainable(scope))
        files = []
        try:
            chart = await render_dataset_chart(await self._numbers(scope, counts), self._transfers)
        except ChildFailed as e:
            embed.add_field(name=say("Chart"), value=error_message(e), inline=False)
        else:
            embed.set_image(url="attachment://dataset.png")
            files = [discord.File(io.BytesIO(chart), "dataset.png")]
        await interaction.edit_original_response(embed=embed, attachments=files)

    async def _numbers(
        self, scope: int, counts: Mapping[tuple[ReviewStatus, str], int]
    ) -> Mapping[str, object]:
        examples = self._storage.examples
        user = await examples.text_lengths(scope, "user")
        bot = await examples.text_lengths(scope, "bot")
        return chart_numbers(user, bot, counts)

    @dataset.command(description="What cleaning does to it, before anything is learned")
    async def preview(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        learnable = await self._storage.examples.trainable(guild_scope(interaction))
        if not learnable:
            await interaction.edit_original_response(content=say(NOTHING_LEARNABLE))
            return
        selection = await asyncio.to_thread(
            select_examples, learnable, author_share=self._author_share
        )
        await interaction.edit_original_response(
            content=first_lines(learnable, selection), embed=cleaning_embed(selection)
        )

    @dataset.command(name="template", description="A workbook to fill in, for /dataset import")
    async def send_template(self, interaction: BotInteraction) -> None:
        await defer(interaction, ephemeral=True)
        book = await asyncio.to_thread(_template_file, self._transfers, TEMPLATE_FILE_NAME)
        await interaction.edit_original_response(
            content=say(TEMPLATE_HINT),
            attachments=[discord.File(io.BytesIO(book), TEMPLATE_FILE_NAME)],
        )

    @dataset.command(name="import", description="Import a file of pairs, after a preview")
    @app_commands.describe(file=f"An {SUPPORTED_FORMATS} file of up to 20 MB")
    async def import_file(self, interaction: BotInteraction, file: discord.Attachment) -> None:
        await defer(interaction, ephemeral=True)
        try:
            await self._importer.preview_upload(interaction, guild_scope(interaction), file)
        except ImportRefused as e:
            await interaction.edit_original_response(
                content=quote_safely(error_message(e), 1000), view=None
            )

    @dataset.command(description="Export what may be learned, as a file")
    @app_commands.describe(format="jsonl for programs, xlsx or csv for people")
    @app_commands.choices(format=EXPORT_FORMATS)
    async def export(self, interaction: BotInteraction, format: str) -> None:
        await defer(interaction, ephemeral=True)
        name = f"dataset.{format}"
        with tempfile.TemporaryDirectory(dir=self._transfers) as folder:
            path = Path(folder, name)
            exported = await write_in_subprocess(self._learnable_pairs(interaction), path)
            if refusal := _export_refusal(interaction, exported, format):
                await interaction.edit_original_response(content=refusal)
                return
            pairs = phrases("{count:,} pair", "{count:,} pairs", exported.pairs)
            await interaction.edit_original_response(
                content=say("{pairs}: what may be learned now.", pairs=pairs),
                attachments=[discord.File(path)],
            )
        done = join_phrases([name, pairs], ": ")
        await record_audit(self._storage.audit, interaction, phrase("dataset export"), done)

    async def _learnable_pairs(self, interaction: BotInteraction) -> AsyncIterator[list[Pair]]:
        async for page in self._storage.examples.trainable_pages(guild_scope(interaction)):
            yield as_pairs(page)

    @dataset.command(description="Remove examples from the data set")
    @app_commands.describe(
        source="Remove all examples from this source", example="The number of a single example"
    )
    async def remove(
        self,
        interaction: BotInteraction,
        source: str | None = None,
        example: app_commands.Range[int, 1, 2**53 - 1] | None = None,
    ) -> None:
        await defer(interaction, ephemeral=True)
        scope = guild_scope(interaction)
        if (source is None) == (example is None):
            text = say("Name either a source or the number of an example.")
            await interaction.edit_original_response(content=text)
        elif source is not None:
            await confirm_source_removal(interaction, self._storage, self._erasure, scope, source)
        elif example is not None:
            await confirm_example_removal(interaction, self._storage, self._erasure, scope, example)

    @remove.autocomplete("source")
    async def complete_source(
        self, interaction: BotInteraction, current: str
    ) -> list[app_commands.Choice[str]]:
        if rank_of(interaction) < Rank.MANAGER:
            return []
        sources = {
            source
            for _, source in await self._storage.examples.count_by_status_and_source(
                guild_scope(interaction)
            )
        }
        called = {
            source_text(one): one for one in sorted(sources) if 0 < len(one) <= MAX_CHOICE_CHARS
        }
        found = autocomplete_choices(called, current)
        return [app_commands.Choice(name=one.name, value=called[one.name]) for one in found]

    @dataset.command(description="Review examples one by one: approve, edit or reject")
    @app_commands.describe(status="Which ones to show (the waiting ones, if left out)")
    async def review(self, interaction: BotInteraction, status: Status = "waiting") -> None:
        await defer(interaction, ephemeral=True)
        wanted = None if status == "all" else ReviewStatus(status)
        pages = ReviewQueue(self._storage, guild_scope(interaction), wanted)
        await show_page(interaction, pages, await pages.first())


def _template_file(folder: Path, name: str) -> bytes:
    """The workbook to fill in (blocking)."""
    from data.formats.xlsx.template import write_template_workbook  # slow: it imports openpyxl

    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own, name)
        write_template_workbook(path)
        return path.read_bytes()


def _export_refusal(interaction: BotInteraction, exported: Exported, format: str) -> str:
    """Why an export cannot be sent; "" if it can."""
    if not exported.pairs:
        return say(NOTHING_LEARNABLE)
    limit = interaction.filesize_limit
    if exported.size <= limit:
        return ""
    return too_large(exported.size, limit, format, guild_scope(interaction))


def too_large(size: int, limit: int, format: str, scope: int) -> str:
    """What to do about a file that exceeds Discord's limit."""
    values = {"size": size / 10**6, "limit": limit / 10**6, "format": format, "server": scope}
    if format == "xlsx":
        return say(
            "The file has {size:.1f} MB, and Discord accepts {limit:.1f} MB here: ask the "
            "operator for `gpt2bot dataset export FILE.{format} --server {server}`.",
            **values,
        )
    return say(
        "The file has {size:.1f} MB, and Discord accepts {limit:.1f} MB here: choose `xlsx`, "
        "which is compressed, or ask the operator for `gpt2bot dataset export FILE.{format} "
        "--server {server}`.",
        **values,
    )

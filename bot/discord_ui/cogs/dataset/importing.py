"""/dataset import: an upload is parsed in a child process, previewed, and stored on confirmation.

Does not know file formats (`data.formats`) or SQL.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath

import discord

from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.cogs.dataset.offers import Offer, Offers, ReadSlots
from bot.discord_ui.delivery.requests import DISCORD_ERRORS, defer
from bot.discord_ui.embeds.dataset import import_embed
from bot.discord_ui.embeds.style import quote_safely
from bot.discord_ui.permissions import Rank
from bot.discord_ui.views.confirm import ConfirmView, EphemeralView
from core.errors import ImportCancelled, ImportRefused
from core.records import IMPORT_SOURCE
from core.throttle import Throttle
from data.formats.registry import MAX_FILE_BYTES, annotated_suffix
from data.formats.sandbox.client import read_in_subprocess
from data.formats.sandbox.staged import StagedImport
from data.storage.storage import Storage
from i18n.phrase import join_phrases, phrase, phrases
from i18n.reader import say

EDIT_INTERVAL_S = 3.0
"""Seconds between two progress edits."""
NOTHING_IMPORTED = phrase("Nothing was imported.")


class Importer:
    """Handles uploads, from the download to the confirmation."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._offers = Offers(folder)
        self._slots = ReadSlots()

    async def preview_upload(
        self, interaction: BotInteraction, scope: int, file: discord.Attachment
    ) -> None:
        """Preview a file with the buttons Import and Cancel; the interaction was deferred.

        Raises:
            ImportRefused: it is too large, cannot be parsed, or was cancelled.
        """
        name = file.filename
        if file.size > MAX_FILE_BYTES:
            raise ImportRefused(
                phrase(
                    "{name} has {size:.1f} MB, and at most {limit:.3g} MB are accepted: split it "
                    "into parts.",
                    name=name,
                    size=file.size / 10**6,
                    limit=MAX_FILE_BYTES / 10**6,
                )
            )
        offer = await self._offers.begin(interaction, scope)
        waits = False
        try:
            staged = await self._read(offer, file)
            waits = await self._present(offer, staged, name)
        finally:
            if not waits:
                self._offers.close(offer)

    async def _present(self, offer: Offer, staged: StagedImport, name: str) -> bool:
        """Show what the file holds; whether there is something to confirm."""
        known = await self._storage.examples.count_existing_pairs(offer.scope, staged.pairs())
        embed = import_embed(name, staged.summary, known)
        files = _attachments(embed, staged.marked_copy, name, offer.shown.filesize_limit)
        view = self._confirm_view(offer, staged) if staged.summary.pairs else None
        await offer.shown.edit_original_response(
            content=None, embed=embed, attachments=files, view=view
        )
        return view is not None and await self._offers.present(offer, view)

    def _confirm_view(self, offer: Offer, staged: StagedImport) -> ConfirmView:
        unconfirmed = phrase("The file was not confirmed for ten minutes.")
        return ConfirmView(
            say("Import"),
            say("Cancel"),
            partial(self._import, offer, staged),
            say(NOTHING_IMPORTED),
            rank=Rank.MANAGER,
            shown=offer.shown,
            timeout_text=say(join_phrases([NOTHING_IMPORTED, unconfirmed])),
            on_decline=partial(self._offers.close, offer),
        )

    async def _import(
        self, offer: Offer, staged: StagedImport, interaction: BotInteraction
    ) -> None:
        self._offers.claim(offer)
        text = say(NOTHING_IMPORTED)
        try:
            await interaction.response.edit_message(content=say("Importing…"), view=None)
            new = await self._storage.examples.add_pairs(
                offer.scope, staged.pairs(), interaction.user.id, IMPORT_SOURCE
            )
            added = phrases("{count:,} new pair", "{count:,} new pairs", new)
            await record_audit(self._storage.audit, interaction, phrase("dataset import"), added)
            text = imported_text(new, staged.summary.pairs)
        finally:  # if it failed, the reason follows as a separate message
            self._offers.close(offer)
            await interaction.edit_original_response(content=text, embed=None, attachments=[])

    async def _read(self, offer: Offer, file: discord.Attachment) -> StagedImport:
        """Parse the file, with progress and a Cancel button."""
        progress = ImportProgress(offer.shown, quote_safely(file.filename, 100))
        reading = asyncio.create_task(self._read_with_slot(offer, file, progress))
        offer.reading = reading
        view = ReadingView(offer.shown, reading)
        try:
            text = say("Reading {file}…", file=progress.name)
            await offer.shown.edit_original_response(content=text, view=view)
            await asyncio.wait({reading})
        finally:
            view.stop()
            reading.cancel()
            await asyncio.wait({reading})
            await progress.close()
        if reading.cancelled():
            raise ImportCancelled
        return reading.result()

    async def _read_with_slot(
        self, offer: Offer, file: discord.Attachment, progress: ImportProgress
    ) -> StagedImport:
        upload = offer.folder / "upload"
        async with self._slots.taken(offer.scope):
            await download(file, upload)
            staged = await read_in_subprocess(
                upload, offer.folder, name=file.filename, on_progress=progress.report_rows
            )
        upload.unlink()
        return staged


class ImportProgress:
    """Shows how many rows were read, with an edit every EDIT_INTERVAL_S at most."""

    def __init__(self, interaction: BotInteraction, name: str) -> None:
        self.name = name
        self._interaction = interaction
        self._edit: asyncio.Task[None] | None = None
        self._editing = Throttle(EDIT_INTERVAL_S)
        self._editing.ready()  # the message was just written: the first edit waits as well

    def report_rows(self, rows: int) -> None:
        under_way = self._edit is not None and not self._edit.done()
        if not under_way and self._editing.ready():
            self._edit = asyncio.create_task(self._show(rows))

    async def _show(self, rows: int) -> None:
        with suppress(*DISCORD_ERRORS):  # the next edit may succeed
            read = phrases("{count:,} row so far.", "{count:,} rows so far.", rows)
            text = say("Reading {file}… {rows}", file=self.name, rows=read)
            await self._interaction.edit_original_response(content=text)

    async def close(self) -> None:
        """Wait for the last edit, which must not overwrite what is shown next."""
        if self._edit:
            await self._edit


class ReadingView(EphemeralView):
    """A Cancel button while a file is parsed; the task that awaits the parsing reports the end."""

    def __init__(self, shown: BotInteraction, reading: asyncio.Task[StagedImport]) -> None:
        super().__init__(Rank.MANAGER, shown, say(NOTHING_IMPORTED))
        self.timeout = None  # it ends with the parsing
        self._reading = reading
        self.cancel.label = say("Cancel")

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def cancel(self, interaction: BotInteraction, _: discord.ui.Button[ReadingView]) -> None:
        self.stop()
        await defer(interaction)
        self._reading.cancel()


def imported_text(new: int, pairs: int) -> str:
    """The result of an import."""
    text = phrases("Imported: {count:,} new pair.", "Imported: {count:,} new pairs.", new)
    if had := pairs - new:
        text = join_phrases([text, phrase("The data set had {count:,} already.", count=had)])
    return say(text)


async def download(file: discord.Attachment, path: Path) -> None:
    """Write an attachment to a file.

    Raises:
        ImportRefused: Discord did not give it.
    """
    try:
        data = await file.read()
    except DISCORD_ERRORS as e:
        raise ImportRefused(
            phrase("{file} could not be downloaded from Discord: try again.", file=file.filename)
        ) from e
    await asyncio.to_thread(path.write_bytes, data)


def _attachments(
    embed: discord.Embed, copy: Path | None, name: str, limit: int
) -> list[discord.File]:
    """The annotated copy, if there is one that fits; the embed's footer explains it."""
    if copy is None:
        return []
    if copy.stat().st_size > limit:
        embed.set_footer(
            text=say("The file that explains the wrong rows is too large to be attached.")
        )
        return []
    embed.set_footer(
        text=say("Attached: the wrong rows with their reasons, to correct and import again.")
    )
    return [discord.File(copy, f"{PurePath(name).stem}-problems{annotated_suffix(name)}")]

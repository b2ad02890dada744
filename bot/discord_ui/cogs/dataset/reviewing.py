"""/dataset review: examples one by one, to approve, edit or reject.

Each page has its own buttons: a second press of the same button before the next page is shown must
not decide about an example that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

import discord

from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import FORM_TIMEOUT_S, BotInteraction, ReportsFailure
from bot.discord_ui.delivery.requests import defer
from bot.discord_ui.embeds.dataset import example_embed, people_of
from bot.discord_ui.names import names_of
from bot.discord_ui.permissions import Rank, require_rank
from bot.discord_ui.reviews import review_example
from bot.discord_ui.views.confirm import EphemeralView
from bot.learning.teaching import BOTH_REQUIRED
from core.records import Example, ReviewStatus
from data.formats.texts import MAX_TEXT_CHARS
from data.storage.storage import Storage
from i18n.phrase import join_phrases, phrase
from i18n.reader import say

REVIEW_TIMED_OUT = phrase(
    "The review was closed after ten minutes. `/dataset review` continues it."
)
EXAMPLE_REMOVED = phrase("Somebody has already removed that example.")
END_OF_REVIEW = phrase("That was the last one.")
NO_EXAMPLES = {
    None: phrase("There is no example."),
    ReviewStatus.APPROVED: phrase("There is no approved example."),
    ReviewStatus.REJECTED: phrase("There is no rejected example."),
}


@dataclass(frozen=True, slots=True)
class ReviewCursor:
    """The example shown (None after the last), the ids of those before, and how many wait."""

    example: Example | None
    visited_ids: tuple[int, ...]
    waiting_count: int


class ReviewQueue:
    """The examples of a server with a status (None: any), in the order of their ids."""

    def __init__(self, storage: Storage, scope: int, status: ReviewStatus | None) -> None:
        self.storage = storage
        self.scope = scope
        self.status = status

    async def first(self) -> ReviewCursor:
        return await self._following(0, ())

    async def next_after(self, place: ReviewCursor) -> ReviewCursor:
        if place.example is None:
            return place
        return await self._following(place.example.id, (*place.visited_ids, place.example.id))

    async def previous(self, place: ReviewCursor) -> ReviewCursor:
        """The last visited example that still exists."""
        trail = list(place.visited_ids)
        while trail:
            if example := await self.storage.examples.get(self.scope, trail.pop()):
                return ReviewCursor(example, tuple(trail), await self._waiting())
        return await self.first()

    async def refresh(self, place: ReviewCursor) -> ReviewCursor:
        """The same example, read again; the next one if it was removed."""
        if place.example is None:
            return place
        example = await self.storage.examples.get(self.scope, place.example.id)
        if example is None:
            return await self._following(place.example.id, place.visited_ids)
        return ReviewCursor(example, place.visited_ids, await self._waiting())

    async def _following(self, after_id: int, trail: tuple[int, ...]) -> ReviewCursor:
        found = await self.storage.examples.page(self.scope, self.status, after_id, 1)
        return ReviewCursor(found[0] if found else None, trail, await self._waiting())

    async def _waiting(self) -> int:
        counts = await self.storage.examples.count_by_status_and_source(self.scope)
        return sum(n for (status, _), n in counts.items() if status is ReviewStatus.WAITING)


async def show_page(
    interaction: BotInteraction,
    pages: ReviewQueue,
    place: ReviewCursor,
    note: str = "",
) -> None:
    """Replace the page in the deferred answer."""
    content = f"{say(note)} {_content(pages, place)}".lstrip()
    embed = None
    if place.example:
        names = await names_of(interaction, people_of(place.example))
        embed = example_embed(place.example, names)
    view = ReviewView(interaction, pages, place) if place.example or place.visited_ids else None
    await interaction.edit_original_response(content=content, embed=embed, view=view)


def _content(pages: ReviewQueue, place: ReviewCursor) -> str:
    count = place.waiting_count
    waiting = phrase("{count:,} waiting.", count=count) if count else phrase("None waiting.")
    if place.example:
        return say(waiting)
    if place.visited_ids:
        return say(join_phrases([END_OF_REVIEW, waiting]))
    if pages.status is ReviewStatus.WAITING:
        return say("No example waits.")
    return say(join_phrases([NO_EXAMPLES[pages.status], waiting]))


class ReviewView(EphemeralView):
    """The buttons under an example, or after the last one."""

    def __init__(self, shown: BotInteraction, pages: ReviewQueue, place: ReviewCursor) -> None:
        super().__init__(Rank.MANAGER, shown, say(REVIEW_TIMED_OUT))
        self._queue = pages
        self._cursor = place
        self.approve.label, self.edit.label = say("Approve"), say("Edit…")
        self.reject.label, self.skip.label = say("Reject"), say("Skip")
        self.back.label = say("Back")
        self.back.disabled = not place.visited_ids
        for button in (self.approve, self.edit, self.reject, self.skip):
            button.disabled = place.example is None
        if place.example and longest_text_chars(place.example) > MAX_TEXT_CHARS:
            self.edit.disabled = True  # it would not fit into Discord's form

    @discord.ui.button(style=discord.ButtonStyle.success)
    async def approve(self, interaction: BotInteraction, _: discord.ui.Button[ReviewView]) -> None:
        await self._decide(interaction, ReviewStatus.APPROVED)

    @discord.ui.button(style=discord.ButtonStyle.primary)
    async def edit(self, interaction: BotInteraction, _: discord.ui.Button[ReviewView]) -> None:
        if self._cursor.example:
            await interaction.response.send_modal(EditForm(self, self._cursor.example))

    @discord.ui.button(style=discord.ButtonStyle.danger)
    async def reject(self, interaction: BotInteraction, _: discord.ui.Button[ReviewView]) -> None:
        await self._decide(interaction, ReviewStatus.REJECTED)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def skip(self, interaction: BotInteraction, _: discord.ui.Button[ReviewView]) -> None:
        await self._go_to(interaction, self._queue.next_after(self._cursor))

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def back(self, interaction: BotInteraction, _: discord.ui.Button[ReviewView]) -> None:
        await self._go_to(interaction, self._queue.previous(self._cursor))

    async def apply_edit(self, interaction: BotInteraction, user: str, bot: str) -> None:
        """The form was submitted: store the texts and show the example again."""
        await defer(interaction)
        storage, scope, example = self._queue.storage, self._queue.scope, self._cursor.example
        changed = example and await storage.examples.edit(scope, example.id, user, bot)
        if changed and example:
            await record_audit(storage.audit, interaction, phrase("dataset edit"), str(example.id))
        await self._go_to(
            interaction, self._queue.refresh(self._cursor), "" if changed else EXAMPLE_REMOVED
        )

    async def _decide(self, interaction: BotInteraction, review: ReviewStatus) -> None:
        self.stop()
        await defer(interaction)
        storage, scope, example = self._queue.storage, self._queue.scope, self._cursor.example
        there = example and await review_example(
            storage, scope, interaction.user.id, example.id, review
        )
        await self._go_to(
            interaction, self._queue.next_after(self._cursor), "" if there else EXAMPLE_REMOVED
        )

    async def _go_to(
        self, interaction: BotInteraction, to: Awaitable[ReviewCursor], note: str = ""
    ) -> None:
        self.stop()
        if not interaction.response.is_done():
            await defer(interaction)
        await show_page(interaction, self._queue, await to, note)


class EditForm(ReportsFailure, discord.ui.Modal):
    """A form with both texts of an example."""

    def __init__(self, page: ReviewView, example: Example) -> None:
        super().__init__(title=say("Example {number}", number=example.id), timeout=FORM_TIMEOUT_S)
        self._page = page
        self._user = _text("user", example.user)
        self._bot = _text("bot", example.bot)
        self.add_item(discord.ui.Label(text=say("What people say"), component=self._user))
        self.add_item(discord.ui.Label(text=say("What I answer"), component=self._bot))

    async def on_submit(
        self,
        interaction: BotInteraction,  # type: ignore[override]
    ) -> None:
        require_rank(interaction, Rank.MANAGER)
        user, bot = self._user.value.strip(), self._bot.value.strip()
        if user and bot:
            await self._page.apply_edit(interaction, user, bot)
        else:
            await interaction.response.send_message(say(BOTH_REQUIRED), ephemeral=True)


def _text(name: str, text: str) -> discord.ui.TextInput[EditForm]:
    return discord.ui.TextInput(
        custom_id=name,
        style=discord.TextStyle.paragraph,
        default=text,
        max_length=MAX_TEXT_CHARS,
    )


def longest_text_chars(example: Example) -> int:
    """The length of its longer text."""
    return max(len(example.user), len(example.bot))

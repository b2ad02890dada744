"""/dataset review: one example after the other, to approve, mend or reject.

Each page has buttons of its own, so that a second press of the same button, before the next page
is there, decides nothing about an example that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

import discord

from bot.discord_ui.audit import note
from bot.discord_ui.client import FORM_S, Gpt2Bot, TellsFailure
from bot.discord_ui.cogs.dataset.asking import ManagerView
from bot.discord_ui.embeds.dataset import example_embed
from bot.discord_ui.permissions import Rank, require
from bot.learning.corrections import BOTH
from core.records import Example, Review
from data.formats.texts import MAX_CHARACTERS
from data.storage.store import Store
from i18n.phrase import phrase, together
from i18n.reader import say

CLOSED = phrase("The review was closed after ten minutes. `/dataset review` goes on.")
GONE = phrase("Somebody removed that example meanwhile.")
LAST = phrase("That was the last one.")
NONE = {
    None: phrase("There is no example."),
    Review.APPROVED: phrase("There is no approved example."),
    Review.REJECTED: phrase("There is no rejected example."),
}
ACTIONS = {Review.APPROVED: phrase("dataset approve"), Review.REJECTED: phrase("dataset reject")}


@dataclass(frozen=True, slots=True)
class Place:
    """The example that is shown, None after the last; the ids of those before; how many wait."""

    example: Example | None
    trail: tuple[int, ...]
    waiting: int


class Pages:
    """The examples of a server with a status (None: any), by id."""

    def __init__(self, store: Store, scope: int, status: Review | None) -> None:
        self.store = store
        self.scope = scope
        self.status = status

    async def first(self) -> Place:
        return await self._following(0, ())

    async def after(self, place: Place) -> Place:
        if place.example is None:
            return place
        return await self._following(place.example.id, (*place.trail, place.example.id))

    async def before(self, place: Place) -> Place:
        """The last one of those before that is still there."""
        trail = list(place.trail)
        while trail:
            if example := await self.store.example(self.scope, trail.pop()):
                return Place(example, tuple(trail), await self._waiting())
        return await self.first()

    async def again(self, place: Place) -> Place:
        """The same, as it is now; the next one if it is gone."""
        if place.example is None:
            return place
        example = await self.store.example(self.scope, place.example.id)
        if example is None:
            return await self._following(place.example.id, place.trail)
        return Place(example, place.trail, await self._waiting())

    async def _following(self, after_id: int, trail: tuple[int, ...]) -> Place:
        found = await self.store.page(self.scope, self.status, after_id, 1)
        return Place(found[0] if found else None, trail, await self._waiting())

    async def _waiting(self) -> int:
        counts = await self.store.count_by(self.scope)
        return sum(n for (status, _), n in counts.items() if status is Review.WAITING)


async def show(
    interaction: discord.Interaction[Gpt2Bot], pages: Pages, place: Place, note: str = ""
) -> None:
    """Put a page where the one before it was; the interaction was deferred."""
    content = f"{say(note)} {_content(pages, place)}".lstrip()
    embed = example_embed(place.example) if place.example else None
    view = Page(interaction, pages, place) if place.example or place.trail else None
    await interaction.edit_original_response(content=content, embed=embed, view=view)


def _content(pages: Pages, place: Place) -> str:
    count = place.waiting
    waiting = phrase("{count:,} waiting.", count=count) if count else phrase("None waiting.")
    if place.example:
        return say(waiting)
    if place.trail:
        return say(together([LAST, waiting]))
    if pages.status is Review.WAITING:
        return say("No example waits.")
    return say(together([NONE[pages.status], waiting]))


class Page(ManagerView):
    """The buttons under one example, or after the last one."""

    def __init__(self, shown: discord.Interaction[Gpt2Bot], pages: Pages, place: Place) -> None:
        super().__init__(shown, say(CLOSED))
        self._pages = pages
        self._place = place
        self.approve.label, self.edit.label = say("Approve"), say("Edit…")
        self.reject.label, self.skip.label = say("Reject"), say("Skip")
        self.back.label = say("Back")
        self.back.disabled = not place.trail
        for button in (self.approve, self.edit, self.reject, self.skip):
            button.disabled = place.example is None
        if place.example and longest(place.example) > MAX_CHARACTERS:
            self.edit.disabled = True  # Discord's form would cut it

    @discord.ui.button(style=discord.ButtonStyle.success)
    async def approve(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[Page]
    ) -> None:
        await self._decide(interaction, Review.APPROVED)

    @discord.ui.button(style=discord.ButtonStyle.primary)
    async def edit(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[Page]
    ) -> None:
        if self._place.example:
            await interaction.response.send_modal(EditForm(self, self._place.example))

    @discord.ui.button(style=discord.ButtonStyle.danger)
    async def reject(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[Page]
    ) -> None:
        await self._decide(interaction, Review.REJECTED)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def skip(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[Page]
    ) -> None:
        await self._turn(interaction, self._pages.after(self._place))

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def back(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[Page]
    ) -> None:
        await self._turn(interaction, self._pages.before(self._place))

    async def change(self, interaction: discord.Interaction[Gpt2Bot], user: str, bot: str) -> None:
        """The form came back: store what it says, and show the example as it is now."""
        await interaction.response.defer()
        store, scope, example = self._pages.store, self._pages.scope, self._place.example
        changed = example and await store.edit_example(scope, example.id, user, bot)
        if changed and example:
            await note(store, interaction, phrase("dataset edit"), str(example.id))
        await self._turn(interaction, self._pages.again(self._place), "" if changed else GONE)

    async def _decide(self, interaction: discord.Interaction[Gpt2Bot], review: Review) -> None:
        self.stop()
        await interaction.response.defer()
        store, scope, example = self._pages.store, self._pages.scope, self._place.example
        there = example and await store.set_review(scope, example.id, review)
        if there and example:
            await note(store, interaction, ACTIONS[review], str(example.id))
        await self._turn(interaction, self._pages.after(self._place), "" if there else GONE)

    async def _turn(
        self, interaction: discord.Interaction[Gpt2Bot], to: Awaitable[Place], note: str = ""
    ) -> None:
        self.stop()
        if not interaction.response.is_done():
            await interaction.response.defer()
        await show(interaction, self._pages, await to, note)


class EditForm(TellsFailure, discord.ui.Modal):
    """Both texts of an example."""

    def __init__(self, page: Page, example: Example) -> None:
        super().__init__(title=say("Example {number}", number=example.id), timeout=FORM_S)
        self._page = page
        self._user = _text("user", example.user)
        self._bot = _text("bot", example.bot)
        self.add_item(discord.ui.Label(text=say("What people say"), component=self._user))
        self.add_item(discord.ui.Label(text=say("What I answer"), component=self._bot))

    async def on_submit(
        self,
        interaction: discord.Interaction[Gpt2Bot],  # type: ignore[override]
    ) -> None:
        require(interaction, Rank.MANAGER)
        user, bot = self._user.value.strip(), self._bot.value.strip()
        if user and bot:
            await self._page.change(interaction, user, bot)
        else:
            await interaction.response.send_message(say(BOTH), ephemeral=True)


def _text(name: str, text: str) -> discord.ui.TextInput[EditForm]:
    return discord.ui.TextInput(
        custom_id=name,
        style=discord.TextStyle.paragraph,
        default=text,
        max_length=MAX_CHARACTERS,
    )


def longest(example: Example) -> int:
    """Characters of its longer text."""
    return max(len(example.user), len(example.bot))

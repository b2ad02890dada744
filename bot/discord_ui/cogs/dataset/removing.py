"""/dataset remove: which examples go, and the question before they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import discord

from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import Gpt2Bot
from bot.discord_ui.cogs.dataset.asking import ManagerView
from bot.discord_ui.embeds.dataset import example_embed
from bot.discord_ui.embeds.evaluation import quote_safely
from bot.discord_ui.embeds.style import source_text
from data.storage.storage import Storage
from i18n.phrase import join_phrases, phrase, phrases
from i18n.reader import say

NOTHING_REMOVED = phrase("Nothing was removed.")


class RemovalConfirmView(ManagerView):
    """Remove and Keep under the question; `remove` says how many went, `what` names them."""

    def __init__(
        self,
        shown: discord.Interaction[Gpt2Bot],
        storage: Storage,
        remove: Callable[[], Awaitable[int]],
        what: str,
    ) -> None:
        unconfirmed = phrase("It was not confirmed for ten minutes.")
        super().__init__(shown, say(join_phrases([NOTHING_REMOVED, unconfirmed])))
        self._storage = storage
        self._remove = remove
        self._audit_detail = what
        self.remove.label, self.keep.label = say("Remove"), say("Keep")

    @discord.ui.button(style=discord.ButtonStyle.danger)
    async def remove(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[RemovalConfirmView]
    ) -> None:
        self.stop()
        await interaction.response.edit_message(view=None)
        count = await self._remove()
        if count:
            done = f"{self._audit_detail}: {count:,}"
            await record_audit(self._storage, interaction, phrase("dataset remove"), done)
        text = say("Removed: {count:,}.", count=count) if count else say("It was gone already.")
        await interaction.edit_original_response(content=text, embed=None)

    @discord.ui.button(style=discord.ButtonStyle.secondary)
    async def keep(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[RemovalConfirmView]
    ) -> None:
        self.stop()
        await interaction.response.edit_message(content=say(NOTHING_REMOVED), embed=None, view=None)


async def confirm_source_removal(
    interaction: discord.Interaction[Gpt2Bot], storage: Storage, scope: int, source: str
) -> None:
    counts = await storage.examples.count_by_status_and_source(scope)
    count = sum(n for (_, one), n in counts.items() if one == source)
    name = quote_safely(source_text(source), 100)
    if not count:
        text = say("There is no example of the source “{source}”.", source=name)
        await interaction.edit_original_response(content=text)
        return
    question = phrases(
        "Remove {count} example of the source “{source}”? It cannot be brought back.",
        "Remove {count} examples of the source “{source}”? They cannot be brought back.",
        count,
        source=name,
    )
    await interaction.edit_original_response(
        content=say(question),
        view=RemovalConfirmView(
            interaction, storage, partial(storage.examples.remove_source, scope, source), source
        ),
    )


async def confirm_example_removal(
    interaction: discord.Interaction[Gpt2Bot], storage: Storage, scope: int, number: int
) -> None:
    example = await storage.examples.get(scope, number)
    if example is None:
        text = say("There is no example {number}.", number=number)
        await interaction.edit_original_response(content=text)
        return
    await interaction.edit_original_response(
        content=say("Remove this example? It cannot be brought back."),
        embed=example_embed(example),
        view=RemovalConfirmView(
            interaction, storage, partial(storage.examples.remove, scope, number), str(number)
        ),
    )

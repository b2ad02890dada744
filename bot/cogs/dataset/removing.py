"""/dataset remove: which examples go, and the question before they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import discord

from bot.audit import note
from bot.client import Gpt2Bot
from bot.cogs.dataset.asking import ManagerView
from bot.cogs.dataset.embeds import example_embed
from bot.outcome import quoted
from bot.plan import examples_text
from data.store import Store

KEPT = "Nothing was removed."


class Removal(ManagerView):
    """Remove and Keep under the question; `remove` says how many went, `what` names them."""

    def __init__(
        self,
        shown: discord.Interaction[Gpt2Bot],
        store: Store,
        remove: Callable[[], Awaitable[int]],
        what: str,
    ) -> None:
        super().__init__(shown, f"{KEPT} It was not confirmed for ten minutes.")
        self._store = store
        self._remove = remove
        self._what = what

    @discord.ui.button(label="Remove", style=discord.ButtonStyle.danger)
    async def remove(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[Removal]
    ) -> None:
        self.stop()
        await interaction.response.edit_message(view=None)
        count = await self._remove()
        if count:
            await note(self._store, interaction, "dataset remove", f"{self._what}: {count:,}")
        text = f"Removed: {count:,}." if count else "It was gone already."
        await interaction.edit_original_response(content=text, embed=None)

    @discord.ui.button(label="Keep", style=discord.ButtonStyle.secondary)
    async def keep(
        self, interaction: discord.Interaction[Gpt2Bot], _: discord.ui.Button[Removal]
    ) -> None:
        self.stop()
        await interaction.response.edit_message(content=KEPT, embed=None, view=None)


async def ask_for_source(
    interaction: discord.Interaction[Gpt2Bot], store: Store, scope: int, source: str
) -> None:
    counts = await store.count_by(scope)
    count = sum(n for (_, one), n in counts.items() if one == source)
    if not count:
        text = f"There is no example of the source “{quoted(source, 100)}”."
        await interaction.edit_original_response(content=text)
        return
    await interaction.edit_original_response(
        content=f"Remove {examples_text(count)} of the source “{quoted(source, 100)}”? "
        "They cannot be brought back.",
        view=Removal(interaction, store, partial(store.remove_examples, scope, source), source),
    )


async def ask_for_one(
    interaction: discord.Interaction[Gpt2Bot], store: Store, scope: int, number: int
) -> None:
    example = await store.example(scope, number)
    if example is None:
        await interaction.edit_original_response(content=f"There is no example {number}.")
        return
    await interaction.edit_original_response(
        content="Remove this example? It cannot be brought back.",
        embed=example_embed(example),
        view=Removal(interaction, store, partial(store.remove_example, scope, number), str(number)),
    )

"""/dataset remove: finds the examples and asks for confirmation.

What a checkpoint learned stays in it, so a clean retrain is offered where one has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from bot.discord_ui.audit import record_audit
from bot.discord_ui.client import BotInteraction
from bot.discord_ui.embeds.dataset import example_embed, people_of
from bot.discord_ui.embeds.style import quote_safely, source_text
from bot.discord_ui.names import names_of
from bot.discord_ui.permissions import Rank
from bot.discord_ui.views.clean_retrain import clean_retrain_view, prompt_text
from bot.discord_ui.views.confirm import ConfirmView
from bot.learning.erasure import AffectedScope, Erasure
from data.storage.storage import Storage
from i18n.phrase import join_phrases, phrase, phrases
from i18n.reader import say

NOTHING_REMOVED = phrase("Nothing was removed.")


def _confirm_view(
    interaction: BotInteraction,
    storage: Storage,
    remove: Callable[[], Awaitable[int]],
    learned: Callable[[], Awaitable[AffectedScope | None]],
    what: str,
) -> ConfirmView:
    """Remove and Keep; `remove` returns how many it removed, `learned` who learned them, as long as
    they are there, and `what` names them in the audit."""

    async def accept(press: BotInteraction) -> None:
        await press.response.edit_message(view=None)
        concern = await learned()
        count = await remove()
        if not count:
            text = say("Nothing was left to remove.")
            await press.edit_original_response(content=text, embed=None)
            return
        await record_audit(storage.audit, press, phrase("dataset remove"), f"{what}: {count:,}")
        text = say("Removed: {count:,}.", count=count)
        if concern is None:
            await press.edit_original_response(content=text, embed=None)
            return
        text = f"{text}\n{say(prompt_text(concern))}"
        view = clean_retrain_view(concern.job_id)
        await press.edit_original_response(content=text, embed=None, view=view)

    unconfirmed = phrase("It was not confirmed for ten minutes.")
    return ConfirmView(
        say("Remove"),
        say("Keep"),
        accept,
        say(NOTHING_REMOVED),
        rank=Rank.MANAGER,
        danger=True,
        shown=interaction,
        timeout_text=say(join_phrases([NOTHING_REMOVED, unconfirmed])),
    )


async def confirm_source_removal(
    interaction: BotInteraction, storage: Storage, erasure: Erasure, scope: int, source: str
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

    async def learned() -> AffectedScope | None:
        examples = [one for one in await storage.examples.all(scope) if one.source == source]
        return await erasure.checkpoints_that_learned(scope, examples)

    remove = partial(storage.examples.remove_source, scope, source)
    await interaction.edit_original_response(
        content=say(question), view=_confirm_view(interaction, storage, remove, learned, source)
    )


async def confirm_example_removal(
    interaction: BotInteraction, storage: Storage, erasure: Erasure, scope: int, number: int
) -> None:
    example = await storage.examples.get(scope, number)
    if example is None:
        text = say("There is no example {number}.", number=number)
        await interaction.edit_original_response(content=text)
        return
    await interaction.edit_original_response(
        content=say("Remove this example? It cannot be brought back."),
        embed=example_embed(example, await names_of(interaction, people_of(example))),
        view=_confirm_view(
            interaction,
            storage,
            partial(storage.examples.remove, scope, number),
            partial(erasure.checkpoints_that_learned, scope, [example]),
            str(number),
        ),
    )

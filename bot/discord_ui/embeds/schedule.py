"""What the panel of /settings says of a schedule. Values only."""

from __future__ import annotations

from collections.abc import Iterator

from discord.utils import format_dt

from bot.discord_ui.embeds.style import quote_safely
from bot.learning.schedule import Outlook
from i18n.phrase import Phrase, phrase


def schedule_notes(outlook: Outlook) -> Iterator[Phrase]:
    """When the bot retrains next, in the reader's own time, and why it did not the last time."""
    if outlook.next is None:
        yield phrase(
            "As with `/retrain`: people can keep chatting, and the new model is used only if it "
            "passes its checks."
        )
    else:
        yield phrase(
            "Next: {at} ({when}), told in {channel}.",
            at=format_dt(outlook.next, "f"),
            when=format_dt(outlook.next, "R"),
            channel=f"<#{outlook.channel_id}>",
        )
    if outlook.skipped is not None:
        yield phrase("Skipped the last time: {why}", why=outlook.skipped)


def zone_note(zone: str, *, is_chosen: bool) -> Phrase:
    """By which clock."""
    shown = quote_safely(zone, 100)
    if is_chosen:
        return phrase("Now: {zone}.", zone=shown)
    return phrase("Now: {zone}, since none was chosen.", zone=shown)

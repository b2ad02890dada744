"""What embeds have in common: their colour, Discord's limits, quoting, and labels of stored
values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import discord

from core.records import OPERATOR_AUTHOR_ID, ReviewStatus
from core.texts import one_line
from i18n.phrase import Phrase, phrase, phrases
from i18n.reader import say

BLURPLE = discord.Colour(0x5865F2)
MAX_TITLE_CHARS = 256
MAX_VALUE_CHARS = 1024
"""Discord's limit for a field's value."""
STATUS_LABELS = {
    ReviewStatus.WAITING: phrase("waiting"),
    ReviewStatus.APPROVED: phrase("approved"),
    ReviewStatus.REJECTED: phrase("rejected"),
}
SOURCE_LABELS: dict[str, Phrase] = {
    name: name
    for name in (phrase("teach"), phrase("import"), phrase("better answer"), phrase("chat"))
}
"""The sources that the bot itself sets; those from imported files are shown as written."""


def add_fields(embed: discord.Embed, fields: Iterable[tuple[str, str]]) -> None:
    """Add fields, their values cut to Discord's limit."""
    for name, value in fields:
        embed.add_field(name=name, value=value[:MAX_VALUE_CHARS])


def author_text(author_id: int, names: Mapping[int, str]) -> str:
    """The author of an example, by name; the id of somebody without one."""
    if author_id == OPERATOR_AUTHOR_ID:
        return say("the operator")
    return names.get(author_id, str(author_id))


def status_text(status: ReviewStatus) -> str:
    """The label of a review status, translated."""
    return say(STATUS_LABELS[status])


def source_text(source: str) -> str:
    """The label of a source of examples, translated if it is one of the bot's own."""
    return say(SOURCE_LABELS[source]) if source in SOURCE_LABELS else source


def quote_safely(text: str, most: int) -> str:
    """The text as one line of at most `most` characters, with markup and mentions escaped."""
    line = one_line(text, most)
    safe = discord.utils.escape_markdown(line, ignore_links=False).replace("<", "\\<")
    return discord.utils.escape_mentions(safe)


def format_counts(counts: Mapping[str, int]) -> str:
    """`teach 12, import 3`, largest first; empty without counts."""
    most_first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return say(", ").join(f"{name} {count}" for name, count in most_first if count)


def examples_text(count: int) -> str:
    """`1 example`, `2 examples`."""
    return say(phrases("{count} example", "{count} examples", count))

"""What embeds and cards have in common: their colour, Discord's limits, quoting, and labels of
stored values.

A card is a message of parts in a box, with a line for each fact: on a phone, each field of an embed
takes two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import discord

from core.records import OPERATOR_AUTHOR_ID, ReviewStatus
from core.texts import one_line
from i18n.phrase import Phrase, phrase, phrases
from i18n.reader import say

BLURPLE = discord.Colour(0x5865F2)
MAX_TITLE_CHARS = 256
MAX_VALUE_CHARS = 1024
"""Discord's limit for a field's value."""
MAX_CARD_TITLE_CHARS, MAX_FACT_CHARS = 100, 200
"""A card may have 4,000 characters in all."""
Fact = tuple[str, str]
"""What it is called, and its value."""
Card = discord.ui.Container[Any]
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


def fact_lines(facts: Iterable[Fact]) -> str:
    """`**Base** tiny`: a line for each fact."""
    return "\n".join(f"**{name}** {value}"[:MAX_FACT_CHARS] for name, value in facts)


def card(title: str, *parts: str) -> Card:
    """A box with the title, and below it the parts that are not empty, with lines between them."""
    box: Card = discord.ui.Container(accent_colour=BLURPLE)
    box.add_item(discord.ui.TextDisplay(f"### {quote_safely(title, MAX_CARD_TITLE_CHARS)}"))
    for number, part in enumerate(filter(None, parts)):
        if number:
            box.add_item(discord.ui.Separator())
        box.add_item(discord.ui.TextDisplay(part))
    return box


def layout(*parts: Card | str) -> discord.ui.LayoutView:
    """A message of texts and cards. Nothing in it can be pressed."""
    view = discord.ui.LayoutView(timeout=None)
    for part in parts:
        view.add_item(discord.ui.TextDisplay(part) if isinstance(part, str) else part)
    return view


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

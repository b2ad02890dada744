"""The data set, an import before it is confirmed, and a single example, as embeds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import discord

from bot.discord_ui.embeds.style import (
    BLURPLE,
    MAX_VALUE_CHARS,
    author_text,
    format_counts,
    quote_safely,
    source_text,
    status_text,
)
from core.records import Example, Pair, ReviewStatus
from data.dataset.cleaning import Selection
from data.dataset.pii import mask_pii
from data.formats.import_result import ImportSummary, JoinedText, RowError
from i18n.phrase import join_phrases, phrase, phrases
from i18n.reader import say

MAX_SOURCES = 12
"""Sources that are listed by name."""
MAX_PAIRS, MAX_JOINED, MAX_PROBLEMS, MAX_NOTES = 3, 3, 5, 3
"""How many of each are shown of a file."""
SHORT_QUOTE_CHARS, LONG_QUOTE_CHARS = 100, 1000
"""Characters of a quoted text."""
MAX_PREVIEW_LINES = 3
MAX_CONTENT_CHARS = 2000
"""Discord's limit for a message."""


def stats_embed(counts: Mapping[tuple[ReviewStatus, str], int], learnable: int) -> discord.Embed:
    """The number of examples by status and source, and how many may be learned."""
    total = phrases("{count} example", "{count} examples", sum(counts.values()))
    embed = discord.Embed(title=say("The data set"), colour=BLURPLE, description=say(total))
    by_status: Counter[ReviewStatus] = Counter()
    for (status, _), count in counts.items():
        by_status[status] += count
    embed.add_field(name=say("By status"), value=_counted(by_status) or say("none"))
    embed.add_field(name=say("May be learned now"), value=f"{learnable:,}")
    embed.add_field(name=say("By source"), value=_sources(counts) or say("none"), inline=False)
    embed.set_footer(text=say("/dataset preview shows what is left after cleaning."))
    return embed


def _sources(counts: Mapping[tuple[ReviewStatus, str], int]) -> str:
    """A line for each of the largest sources, with the status where it is not approved."""
    by_source: dict[str, Counter[ReviewStatus]] = {}
    for (status, source), count in counts.items():
        by_source.setdefault(source, Counter())[status] += count
    most_first = sorted(by_source.items(), key=lambda one: (-one[1].total(), one[0]))
    lines = [_source(source, states) for source, states in most_first[:MAX_SOURCES]]
    if others := most_first[MAX_SOURCES:]:
        rest = sum(states.total() for _, states in others)
        name = say(phrases("{count:,} other", "{count:,} others", len(others)))
        lines.append(f"{name}: {rest:,}")
    return take_fitting_lines(lines, MAX_VALUE_CHARS)


def _source(source: str, states: Counter[ReviewStatus]) -> str:
    line = f"{_source_name(source, 40)}: {states.total():,}"
    return f"{line} ({_counted(states)})" if states.keys() - {ReviewStatus.APPROVED} else line


def _counted(states: Mapping[ReviewStatus, int]) -> str:
    return format_counts({status_text(status): count for status, count in states.items()})


def _source_name(source: str, most: int) -> str:
    return quote_safely(source_text(source), most) or say("unknown")


def take_fitting_lines(lines: Iterable[str], most: int) -> str:
    """As many complete lines as fit into `most` characters."""
    shown = ""
    for line in lines:
        if len(shown) + len(line) + 1 > most:
            break
        shown += f"{line}\n"
    return shown.rstrip("\n")


def first_lines(learnable: Sequence[Example], selection: Selection) -> str:
    """The first examples as they are learned, with the original where cleaning changed it."""
    taught = {one.id: one for one in learnable}
    shown = [_before_and_after(taught[one.id], one) for one in selection.kept[:MAX_PREVIEW_LINES]]
    return (
        take_fitting_lines([say("The first ones, as I learn them:"), *shown], MAX_CONTENT_CHARS)
        if shown
        else ""
    )


def _before_and_after(taught: Example, learned: Example) -> str:
    line = f"- {_pair(learned)}"
    if (taught.user, taught.bot) == (learned.user, learned.bot):
        return line
    before = say("before: {text}", text=_pair(taught))
    if mask_pii(taught.user)[1] or mask_pii(taught.bot)[1]:
        before = say("before: not shown, it contains private data")
    return f"{line}\n-# {before}"


def import_embed(name: str, imported: ImportSummary, known: int) -> discord.Embed:
    """What a file would add, which texts were joined, and which rows are invalid."""
    question = phrases("Import {count:,} pair?", "Import {count:,} pairs?", imported.pairs)
    embed = discord.Embed(
        title=say(question) if imported.pairs else say("There are no pairs in it"),
        colour=BLURPLE,
        description=_in_short(name, imported, known),
    )
    if imported.guesses:
        lines = (quote_safely(say(one), 300) for one in imported.guesses)
        guessed = _limited_lines(lines, MAX_NOTES)
        embed.add_field(name=say("Is this right?"), value=guessed, inline=False)
    if imported.pairs:
        shown = take_fitting_lines(
            (f"- {_pair(one)}" for one in imported.first_pairs[:MAX_PAIRS]), MAX_VALUE_CHARS
        )
        embed.add_field(name=say("The first pairs"), value=shown, inline=False)
    if imported.joined:
        lines = (
            f"{_row_location(one)}: {quote_safely(one.text, SHORT_QUOTE_CHARS)}"
            for one in imported.first_joined
        )
        title = say("Joined from several cells or lines: {count:,}", count=imported.joined)
        embed.add_field(name=title, value=_limited_lines(lines, MAX_JOINED), inline=False)
    if imported.errors:
        lines = (
            f"{_row_location(one)}: {quote_safely(say(one.reason), 200)}"
            for one in imported.first_errors
        )
        title = say("Invalid rows, which are left out: {count:,}", count=imported.errors)
        embed.add_field(name=title, value=_limited_lines(lines, MAX_PROBLEMS), inline=False)
    if imported.notes:
        lines = (quote_safely(say(one), 200) for one in imported.notes)
        embed.add_field(
            name=say("Also left out"), value=_limited_lines(lines, MAX_NOTES), inline=False
        )
    return embed


def _in_short(name: str, imported: ImportSummary, known: int) -> str:
    rows = phrases("{count:,} row", "{count:,} rows", imported.rows)
    pairs = phrases("{count:,} pair", "{count:,} pairs", imported.pairs)
    has = phrase(
        "{file}: {rows}, {pairs}.",
        file=quote_safely(name, SHORT_QUOTE_CHARS),
        rows=rows,
        pairs=pairs,
    )
    if known:
        has = join_phrases(
            [has, phrase("The data set has {count:,} of them already.", count=known)]
        )
    return say(has)


def _limited_lines(lines: Iterable[str], most: int) -> str:
    return take_fitting_lines(
        (line for line, _ in zip(lines, range(most), strict=False)), MAX_VALUE_CHARS
    )


def _row_location(one: RowError | JoinedText) -> str:
    if not one.sheet:
        return say("row {row}", row=one.row)
    return say("row {row}, {sheet}", row=one.row, sheet=quote_safely(one.sheet, 30))


def _pair(pair: Pair | Example) -> str:
    user, bot = (
        quote_safely(pair.user, SHORT_QUOTE_CHARS),
        quote_safely(pair.bot, SHORT_QUOTE_CHARS),
    )
    return say("“{user}” → “{bot}”", user=user, bot=bot)


def example_embed(example: Example, names: Mapping[int, str]) -> discord.Embed:
    """An example with everything that a reviewer needs; `names` are those of its people."""
    embed = discord.Embed(title=say("Example {number}", number=example.id), colour=BLURPLE)
    for name, text in ((say("People say"), example.user), (say("I answer"), example.bot)):
        embed.add_field(name=name, value=quote_long_text(text), inline=False)
    embed.add_field(name=say("Status"), value=status_text(example.status))
    embed.add_field(name=say("Weight"), value=str(example.weight))
    embed.add_field(name=say("Source"), value=_source_name(example.source, SHORT_QUOTE_CHARS))
    embed.add_field(name=say("Taught by"), value=author_text(example.author_id, names))
    if example.asked_by is not None and example.asked_by != example.author_id:
        embed.add_field(name=say("Said by"), value=author_text(example.asked_by, names))
    if example.conversation:
        talk = quote_safely(example.conversation, SHORT_QUOTE_CHARS)
        of = say("turn {turn} of {conversation}", turn=example.turn, conversation=talk)
        embed.add_field(name=say("Conversation"), value=of)
    return embed


def people_of(example: Example) -> set[int]:
    """The ids of those who taught and said it."""
    return {one for one in (example.author_id, example.asked_by) if one is not None}


def quote_long_text(text: str) -> str:
    """A long quote, with an ellipsis if it is cut."""
    shown = quote_safely(text, LONG_QUOTE_CHARS)
    if len(shown) > MAX_VALUE_CHARS:  # what is escaped takes more room
        shown = quote_safely(text, LONG_QUOTE_CHARS // 3)
    return shown or say("*nothing*")


def chart_numbers(
    lengths_user: Sequence[int],
    lengths_bot: Sequence[int],
    counts: Mapping[tuple[ReviewStatus, str], int],
) -> Mapping[str, object]:
    """The input of the chart: lengths and counts, with translated labels."""
    by_status, by_source = Counter[str](), Counter[str]()
    for (status, source), count in counts.items():
        by_status[status_text(status)] += count
        by_source[source_text(source)] += count
    return {
        "lengths_user": lengths_user,
        "lengths_bot": lengths_bot,
        "by_source": by_source,
        "by_status": by_status,
    }

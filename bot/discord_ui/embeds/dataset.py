"""The data set, a file before its import and a single example, as Discord shows them. Pure.

What people wrote is quoted harmless, and cut to what Discord takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import discord

from bot.discord_ui.embeds.evaluation import quoted
from bot.discord_ui.embeds.plan import counted
from bot.discord_ui.embeds.style import (
    BLURPLE,
    LONGEST_VALUE,
    author_text,
    source_text,
    status_text,
)
from core.records import Example, Pair, Review
from data.dataset.cleaning import Selection
from data.dataset.pii import mask
from data.formats.import_result import Imported, Joined, Problem
from i18n.phrase import phrase, phrases, together
from i18n.reader import say

SOURCES = 12
"""Sources with a line of their own."""
PAIRS, JOINED, PROBLEMS = 3, 3, 5
"""How many of each are shown of a file."""
SHORT, LONG = 100, 1000
"""Characters of a quoted text."""
FIRST_LINES = 3
CONTENT = 2000
"""Characters that Discord takes in a message."""


def stats_embed(counts: Mapping[tuple[Review, str], int], learnable: int) -> discord.Embed:
    """How much there is, of which status and source, and what may be learned of it."""
    total = phrases("{count} example", "{count} examples", sum(counts.values()))
    embed = discord.Embed(title=say("The data set"), colour=BLURPLE, description=say(total))
    by_status: Counter[Review] = Counter()
    for (status, _), count in counts.items():
        by_status[status] += count
    embed.add_field(name=say("By status"), value=_counted(by_status) or say("none"))
    embed.add_field(name=say("May be learned now"), value=f"{learnable:,}")
    embed.add_field(name=say("By source"), value=_sources(counts) or say("none"), inline=False)
    embed.set_footer(text=say("/dataset preview shows what cleaning leaves of it."))
    return embed


def _sources(counts: Mapping[tuple[Review, str], int]) -> str:
    """A line for each of the largest sources, with the status where it is not approved."""
    by_source: dict[str, Counter[Review]] = {}
    for (status, source), count in counts.items():
        by_source.setdefault(source, Counter())[status] += count
    most_first = sorted(by_source.items(), key=lambda one: (-one[1].total(), one[0]))
    lines = [_source(source, states) for source, states in most_first[:SOURCES]]
    if others := most_first[SOURCES:]:
        rest = sum(states.total() for _, states in others)
        name = say(phrases("{count:,} other", "{count:,} others", len(others)))
        lines.append(f"{name}: {rest:,}")
    return fitting(lines, LONGEST_VALUE)


def _source(source: str, states: Counter[Review]) -> str:
    line = f"{_source_name(source, 40)}: {states.total():,}"
    return f"{line} ({_counted(states)})" if states.keys() - {Review.APPROVED} else line


def _counted(states: Mapping[Review, int]) -> str:
    return counted({status_text(status): count for status, count in states.items()})


def _source_name(source: str, most: int) -> str:
    return quoted(source_text(source), most) or say("unknown")


def fitting(lines: Iterable[str], most: int) -> str:
    """As many whole lines as fit."""
    shown = ""
    for line in lines:
        if len(shown) + len(line) + 1 > most:
            break
        shown += f"{line}\n"
    return shown.rstrip("\n")


def first_lines(learnable: Sequence[Example], selection: Selection) -> str:
    """The first examples as they are learned, and as they were where cleaning changed them."""
    taught = {one.id: one for one in learnable}
    shown = [_before_and_after(taught[one.id], one) for one in selection.kept[:FIRST_LINES]]
    return fitting([say("The first ones, as I learn them:"), *shown], CONTENT) if shown else ""


def _before_and_after(taught: Example, learned: Example) -> str:
    line = f"- {_pair(learned)}"
    if (taught.user, taught.bot) == (learned.user, learned.bot):
        return line
    before = say("before: {text}", text=_pair(taught))
    if mask(taught.user)[1] or mask(taught.bot)[1]:
        before = say("before: not shown, it holds private data")
    return f"{line}\n-# {before}"


def import_embed(name: str, imported: Imported, known: int) -> discord.Embed:
    """What a file would bring in, what was joined in it, and what is wrong with it."""
    pairs = len(imported.pairs)
    question = phrases("Import {count:,} pair?", "Import {count:,} pairs?", pairs)
    embed = discord.Embed(
        title=say(question) if pairs else say("There is no pair in it"),
        colour=BLURPLE,
        description=_in_short(name, imported, known),
    )
    if pairs:
        shown = fitting((f"- {_pair(one)}" for one in imported.pairs[:PAIRS]), LONGEST_VALUE)
        embed.add_field(name=say("The first pairs"), value=shown, inline=False)
    if imported.joined:
        lines = (f"{_place(one)}: {quoted(one.text, SHORT)}" for one in imported.joined)
        title = say("Joined from several cells or lines: {count:,}", count=len(imported.joined))
        embed.add_field(name=title, value=_some(lines, JOINED), inline=False)
    if imported.problems:
        lines = (f"{_place(one)}: {quoted(say(one.reason), 200)}" for one in imported.problems)
        title = say("Wrong rows, which are left out: {count:,}", count=len(imported.problems))
        embed.add_field(name=title, value=_some(lines, PROBLEMS), inline=False)
    return embed


def _in_short(name: str, imported: Imported, known: int) -> str:
    rows = phrases("{count:,} row", "{count:,} rows", imported.rows)
    pairs = phrases("{count:,} pair", "{count:,} pairs", len(imported.pairs))
    has = phrase("{file}: {rows}, {pairs}.", file=quoted(name, SHORT), rows=rows, pairs=pairs)
    if known:
        has = together([has, phrase("The data set has {count:,} of them already.", count=known)])
    return say(has)


def _some(lines: Iterator[str], most: int) -> str:
    return fitting((line for line, _ in zip(lines, range(most), strict=False)), LONGEST_VALUE)


def _place(one: Problem | Joined) -> str:
    if not one.sheet:
        return say("row {row}", row=one.row)
    return say("row {row}, {sheet}", row=one.row, sheet=quoted(one.sheet, 30))


def _pair(pair: Pair | Example) -> str:
    user, bot = quoted(pair.user, SHORT), quoted(pair.bot, SHORT)
    return say("“{user}” → “{bot}”", user=user, bot=bot)


def example_embed(example: Example) -> discord.Embed:
    """One example with all that a reviewer needs to know of it."""
    embed = discord.Embed(title=say("Example {number}", number=example.id), colour=BLURPLE)
    for name, text in ((say("People say"), example.user), (say("I answer"), example.bot)):
        embed.add_field(name=name, value=passage(text), inline=False)
    embed.add_field(name=say("Status"), value=status_text(example.status))
    embed.add_field(name=say("Weight"), value=str(example.weight))
    embed.add_field(name=say("Source"), value=_source_name(example.source, SHORT))
    embed.add_field(name=say("Taught by"), value=author_text(example.author_id))
    if example.asked_by not in (None, example.author_id):
        embed.add_field(name=say("Said by"), value=f"<@{example.asked_by}>")
    if example.conversation:
        talk = quoted(example.conversation, SHORT)
        of = say("turn {turn} of {conversation}", turn=example.turn, conversation=talk)
        embed.add_field(name=say("Conversation"), value=of)
    return embed


def passage(text: str) -> str:
    """A long quotation; it says so where it is cut."""
    shown = quoted(text, LONG)
    if len(shown) > LONGEST_VALUE:  # what is escaped takes more room
        shown = quoted(text, LONG // 3)
    return shown or say("*nothing*")


def chart_numbers(
    examples: Sequence[Example], counts: Mapping[tuple[Review, str], int]
) -> Mapping[str, object]:
    """What the chart needs to know, with the names that it shows."""
    by_status, by_source = Counter[str](), Counter[str]()
    for (status, source), count in counts.items():
        by_status[status_text(status)] += count
        by_source[source_text(source)] += count
    return {
        "lengths_user": [len(one.user) for one in examples],
        "lengths_bot": [len(one.bot) for one in examples],
        "by_source": by_source,
        "by_status": by_status,
    }
